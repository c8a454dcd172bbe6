// Package config reads /etc/bootrace/config.yaml and its drop-ins in config.d: strict
// YAML, every key optional, the same names as the flags of `bootrace run`.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"go.yaml.in/yaml/v3"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/guest"
)

// Path is where an installed bootrace looks.
const Path = "/etc/bootrace/config.yaml"

// Config is what an operator can decide.
type Config struct {
	// Mode is trace or enforce.
	Mode Mode `yaml:"mode"`
	// NearMiss is the margin below which a use that went well is reported.
	NearMiss time.Duration `yaml:"near-miss"`
	// AskLVMAfter is how long after somebody looked for a volume in vain LVM is
	// asked what it knows of it; 0: never.
	AskLVMAfter time.Duration `yaml:"ask-lvm-after"`
	// GuestBinaries are the names of the programs that run guests; one that
	// ends in "-" stands for all that begin with it. At most 15 bytes count,
	// the length of a task's comm. At most bpf.MaxGuestNames of them.
	GuestBinaries []string `yaml:"guest-binaries"`
	// Probes is how the kernel is watched.
	Probes Probes `yaml:"probes"`
	// KeepBoots and KeepSize limit the recorded boots together.
	KeepBoots int  `yaml:"keep-boots"`
	KeepSize  Size `yaml:"keep-size"`
	// MaxLogSize limits the log of one boot.
	MaxLogSize Size `yaml:"max-log-size"`
	// Inspect is whether the disks of guests are looked into.
	Inspect Inspect `yaml:"inspect"`
	// Enforce is what enforce mode does; trace mode does nothing of it.
	Enforce Enforce `yaml:"enforce"`
	// Export is where timelines are sent.
	Export Export `yaml:"export"`
	// Metrics is where metrics go.
	Metrics Metrics `yaml:"metrics"`
}

// Mode is what bootrace does besides looking.
type Mode string

// The modes.
const (
	Trace     Mode = "trace"   // record, and change nothing
	Enforcing Mode = "enforce" // and hold the starts of guests until their disks are ready
)

// Set checks and sets the mode; it makes Mode a flag.
func (m *Mode) Set(s string) error { return choose(m, s, "mode", Trace, Enforcing) }

func (m *Mode) String() string { return string(*m) }

// UnmarshalYAML checks the mode.
func (m *Mode) UnmarshalYAML(n *yaml.Node) error { return setNode(m, n) }

// Inspect is whether the disks of guests are looked into.
type Inspect string

// The values of Inspect.
const (
	InspectOn  Inspect = "on"
	InspectOff Inspect = "off"
)

// Set checks and sets it; it makes Inspect a flag.
func (i *Inspect) Set(s string) error { return choose(i, s, "inspect", InspectOn, InspectOff) }

func (i *Inspect) String() string { return string(*i) }

// UnmarshalYAML checks it. To YAML, on and off can be words of their own.
func (i *Inspect) UnmarshalYAML(n *yaml.Node) error { return setNode(i, n) }

// Probes is how the kernel is watched.
type Probes string

// The values of Probes are those of probe.Choice.
const (
	ProbesAuto    Probes = "auto"
	ProbesEBPF    Probes = "ebpf"
	ProbesTracefs Probes = "tracefs"
	ProbesNone    Probes = "none"
)

// Set checks and sets the probes; it makes Probes a flag.
func (p *Probes) Set(s string) error {
	all := []Probes{ProbesAuto, ProbesEBPF, ProbesTracefs, ProbesNone}
	if !slices.Contains(all, Probes(s)) {
		return fmt.Errorf("probes %q: use one of %q", s, all)
	}
	*p = Probes(s)
	return nil
}

func (p *Probes) String() string { return string(*p) }

// UnmarshalYAML checks the probes.
func (p *Probes) UnmarshalYAML(n *yaml.Node) error {
	if err := p.Set(n.Value); err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	return nil
}

// Size is a number of bytes, written like 64MiB.
type Size int64

// Set parses s; it makes Size a flag.
func (s *Size) Set(text string) error {
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 || n > 1<<62 {
		return fmt.Errorf("size %q: want a number and a unit, such as 64MiB", text)
	}
	*s = Size(n)
	return nil
}

func (s *Size) String() string { return strings.ReplaceAll(humanize.IBytes(uint64(*s)), " ", "") }

// MarshalYAML is the size as it is written: exactly, also where that is no round number.
func (s Size) MarshalYAML() (any, error) {
	text, again := s.String(), Size(0)
	if err := again.Set(text); err == nil && again == s {
		return text, nil
	}
	return int64(s), nil
}

// UnmarshalYAML parses the size.
func (s *Size) UnmarshalYAML(n *yaml.Node) error { return setNode(s, n) }

// Default returns what holds where the file says nothing; the installed file
// spells out the same.
func Default() Config {
	return Config{
		Mode:          Trace,
		NearMiss:      time.Second,
		AskLVMAfter:   30 * time.Second,
		GuestBinaries: guest.Programs(),
		Probes:        ProbesAuto,
		KeepBoots:     30,
		KeepSize:      256 << 20,
		MaxLogSize:    64 << 20,
		Inspect:       InspectOn,
		Enforce:       defaultEnforce(),
		Export:        defaultExport(),
		Metrics:       defaultMetrics(),
	}
}

// minLogSize holds the log of an ordinary boot.
const minLogSize Size = 1 << 20

// Parse decodes a configuration over the defaults. A key that is not known is
// an error with its line.
func Parse(data []byte) (Config, error) {
	c := Default()
	if err := decode(data, &c); err != nil {
		return Config{}, err
	}
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// decode is strict: a key that is not known is an error.
func decode(data []byte, c *Config) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return oneLine(err)
	}
	return nil
}

// Validate checks what the types don't.
func (c *Config) Validate() error {
	switch {
	case c.NearMiss < 0:
		return fmt.Errorf("near-miss %s: can't be negative", c.NearMiss)
	case c.AskLVMAfter < 0:
		return fmt.Errorf("ask-lvm-after %s: can't be negative; 0 turns it off", c.AskLVMAfter)
	case len(c.GuestBinaries) == 0:
		return errors.New("guest-binaries: name at least one program")
	case c.KeepBoots < 1:
		return fmt.Errorf("keep-boots %d: keep at least 1", c.KeepBoots)
	case c.MaxLogSize < minLogSize:
		return fmt.Errorf("max-log-size %s: a boot needs at least %s", &c.MaxLogSize, new(minLogSize))
	}
	if n := len(c.GuestBinaries); n > bpf.MaxGuestNames {
		return fmt.Errorf("guest-binaries: %d names, and the probes can compare with %d", n, bpf.MaxGuestNames)
	}
	for _, name := range c.GuestBinaries {
		if name == "" || strings.Contains(name, "/") {
			return fmt.Errorf("guest-binaries: %q is not the name of a program (no path, not empty)", name)
		}
	}
	if err := c.Enforce.validate(); err != nil {
		return err
	}
	if err := c.Export.validate(); err != nil {
		return err
	}
	return c.Metrics.validate()
}

var unknownField = regexp.MustCompile(` not found in type config\.[A-Za-z]+`)

// wrongType is what the decoder says of a value that its key can't have.
var wrongType = regexp.MustCompile("^(line [0-9]+): cannot unmarshal !!(\\w+) `(.*)` into (.*)$")

// rightForm says of such a value what would be right, and not its type in Go.
func rightForm(problem string) string {
	m := wrongType.FindStringSubmatch(problem)
	if m == nil {
		return problem
	}
	var want string
	switch kind := m[4]; {
	case kind == "time.Duration" && (m[2] == "int" || m[2] == "float"):
		want = "a duration needs a unit, such as " + m[3] + "s"
	case kind == "time.Duration":
		want = "want a duration, such as 80s, 1m30s or 500ms"
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"):
		want = "want a whole number"
	case kind == "bool":
		want = "want true or false"
	case strings.HasPrefix(kind, "[]"):
		want = "want a list, such as [a, b]"
	case strings.HasPrefix(kind, "map["), kind == "config.Headers":
		return m[1] + ": want names with values, such as {name: value}" // the value can be a token
	default:
		return problem
	}
	return m[1] + ": " + m[3] + ": " + want
}

// oneLine folds the YAML library's several lines into one.
func oneLine(err error) error {
	var te *yaml.TypeError
	if !errors.As(err, &te) {
		return err
	}
	parts := make([]string, len(te.Errors))
	for i, e := range te.Errors {
		parts[i] = rightForm(unknownField.ReplaceAllString(e, " is not known"))
	}
	return errors.New(strings.Join(parts, "; "))
}
