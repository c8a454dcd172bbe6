package serve

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/service"
)

// flags are those of one run. Others are keys of the configuration.
type flags struct {
	args          []string
	config        string
	stateDir      string
	volatileFirst bool
}

// UsageError says which flag can't be used, and why.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// FlagSet returns the flags of Run, with their defaults.
func FlagSet() *flag.FlagSet {
	cfg := config.Default()
	return flagSet(new(flags), &cfg)
}

// flagSet returns flags that go to f and over cfg.
func flagSet(f *flags, cfg *config.Config) *flag.FlagSet {
	set := flag.NewFlagSet("run", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.config, "config", config.Path, "read this `FILE`")
	set.Var(&cfg.Mode, "mode", "trace: record, change nothing; enforce: and hold starts of guests until their disks are ready")
	set.Var(&list{to: &cfg.GuestBinaries}, "guest-binaries", "programs that run guests; one that ends in - stands for all that begin so")
	set.Var(&cfg.Probes, "probes", "auto, ebpf, tracefs or none: how the kernel is watched")
	set.Var(&cfg.MaxLogSize, "max-log-size", "limit of one boot's log")
	set.IntVar(&cfg.KeepBoots, "keep-boots", cfg.KeepBoots, "recorded boots to keep")
	set.Var(&cfg.KeepSize, "keep-size", "and their size together")
	set.DurationVar(&cfg.Enforce.Deadline, "deadline", cfg.Enforce.Deadline, "end a hold after this")
	set.Var(&cfg.Enforce.OnTimeout, "on-timeout", "and then allow or deny the start")
	set.Var(&cfg.Enforce.Identity, "identity", "of disks that a guest did not last run on: warn, hold, or deny its start")
	set.Var(&cfg.Enforce.Filesystem, "filesystem", "of disks inside which something is cut off or missing: warn, hold, or deny its start")
	set.Var(&cfg.Inspect, "inspect", "whether to look into the disks of guests: on, off")
	set.Var(&cfg.Enforce.Activate, "activate", "volumes that a held guest waits for: never, or \"after 30s\"")
	set.Var(&list{to: &cfg.Enforce.Binaries}, "binaries", "paths, or patterns, of the programs whose starts are held")
	set.StringVar(&f.stateDir, "state-dir", service.StateDir, "keep the logs in this `FOLDER`")
	set.BoolVar(&f.volatileFirst, "volatile-first", false, "log to "+service.RunDir+" until /var can be written")
	return set
}

// parse checks args. Their values of keys are taken each time that the
// configuration is read.
func parse(args []string) (*flags, error) {
	f, cfg := &flags{args: args}, config.Default()
	set := flagSet(f, &cfg)
	if err := set.Parse(args); err != nil {
		return nil, &UsageError{err}
	}
	if set.NArg() > 0 {
		return nil, &UsageError{fmt.Errorf("run: no argument is known: %q", set.Arg(0))}
	}
	return f, nil
}

// configuration is the file's, with the flags that were given over it.
func (f *flags) configuration() (config.Config, error) {
	cfg, err := config.Load(f.config)
	if err != nil {
		return cfg, err
	}
	if err := flagSet(new(flags), &cfg).Parse(f.args); err != nil {
		return cfg, err
	}
	return cfg, cfg.Validate()
}

// fallback is what holds where the host's own file is wrong: the defaults, in
// trace mode, with the flags over them. A boot is recorded all the same. Who names
// a file that is wrong is told so instead, and so is who gives wrong flags: nil, or
// an error.
func (f *flags) fallback() (*config.Config, error) {
	_, err := f.configuration()
	if err != nil && f.config != config.Path {
		return nil, err
	}
	cfg := config.Default()
	if err := flagSet(new(flags), &cfg).Parse(f.args); err != nil {
		return nil, err
	}
	if err != nil {
		cfg.Mode = config.Trace
	}
	return &cfg, cfg.Validate()
}

// kept is the last good configuration that was kept in dir, with the flags over it.
func (f *flags) kept(dir string) (config.Config, time.Time, error) {
	cfg, when, err := config.Kept(dir)
	if err != nil {
		return cfg, when, err
	}
	if err := flagSet(new(flags), &cfg).Parse(f.args); err != nil {
		return cfg, when, err
	}
	return cfg, when, cfg.Validate()
}

// list is a flag of several values: with commas between them, or given again.
// They take the place of those that were there.
type list struct {
	to    *[]string
	given bool
}

func (l *list) Set(text string) error {
	if !l.given {
		l.given, *l.to = true, nil
	}
	*l.to = slices.Concat(*l.to, strings.Split(text, ","))
	return nil
}

func (l *list) String() string {
	if l.to == nil {
		return ""
	}
	return strings.Join(*l.to, ",")
}
