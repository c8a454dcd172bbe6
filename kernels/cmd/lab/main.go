// Command lab plays a scenario in a virtual machine: see package lab. Its exit
// status is that of the last script that failed, 0 where none did, and 125
// where the lab itself did.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/bootrace/bootrace/kernels"
	"github.com/bootrace/bootrace/kernels/lab"
)

// labFailed tells a failure of the lab from one of a script, as env(1) does.
const labFailed = 125

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	status, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		status = labFailed
	}
	os.Exit(status)
}

func run(ctx context.Context, args []string) (int, error) {
	o := lab.Options{Progress: os.Stderr}
	flags := flag.NewFlagSet("lab", flag.ExitOnError)
	flags.StringVar(&o.Scenario, "scenario", "", "`folder` with boot1.sh, boot2.sh, ...")
	flags.StringVar(&o.Out, "out", "", "`folder` for results")
	flags.StringVar(&o.Kernel, "kernel", kernels.Default, "kernel to boot")
	flags.StringVar(&o.Append, "append", "", "addition to the kernel's command `line`")
	flags.StringVar(&o.Mirror, "mirror", "", "`address` of a Debian archive (default: the one this machine's apt uses)")
	flags.DurationVar(&o.Timeout, "timeout", 0, "limit for the machine (default 15m for each boot)")
	flags.IntVar(&o.Memory, "memory", 0, "machine's memory in MiB (default 1536)")
	flags.BoolVar(&o.Counted, "counted", false, "let the machine's clock count instructions, to compare times")
	flags.BoolVar(&o.Mitigations, "mitigations", false, "leave the kernel's mitigations on, to measure what something costs")
	flags.IntVar(&o.Boots, "boots", 0, "boots to play (default all)")
	after := commands{}
	flags.Var(after, "after", "shell `N:COMMAND` to run when boot N's script has ended")
	without := flags.Bool("without", false, "leave bootrace out of the machine")
	packages := flags.String("packages", "", "further Debian `packages` of the machine")
	vars := flags.String("install", "", "`variables` for make install, as in INITRAMFS=no")
	_ = flags.Parse(args) // it exits by itself
	if o.Scenario == "" || o.Out == "" || flags.NArg() > 0 {
		return 0, fmt.Errorf("usage: make lab SCENARIO=FOLDER OUT=FOLDER [KERNEL=%s]; flags: lab -help", kernels.Default)
	}
	o.Packages = strings.Fields(*packages)
	if !*without {
		repo, err := lab.Repo(".")
		if err != nil {
			return 0, err
		}
		o.Install = lab.MakeInstall(repo, strings.Fields(*vars)...)
	}
	var failed error
	o.After = func(b lab.Boot) {
		if command, ok := after[b.N]; ok && b.Status == 0 {
			failed = errors.Join(failed, shell(ctx, command))
		}
	}
	result, err := lab.Run(ctx, o)
	if err = errors.Join(err, failed); err != nil {
		return 0, err
	}
	report(result, o.Out)
	return result.Status(), nil
}

// commands are the shell's, by the boot that they are run after.
type commands map[int]string

func (commands) String() string { return "" }

func (c commands) Set(text string) error {
	boot, command, ok := strings.Cut(text, ":")
	n, err := strconv.Atoi(boot)
	if !ok || err != nil || n < 1 {
		return errors.New("write the boot's number, a colon and a command, as in 2:'ls build'")
	}
	c[n] = command
	return nil
}

// shell runs a command while the machine goes on, and shows what it says.
func shell(ctx context.Context, command string) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w", command, err)
	}
	return nil
}

func report(r lab.Result, out string) {
	for _, b := range r.Boots {
		fmt.Fprintf(os.Stderr, "boot %d: %s after %.1f s, status %d\n", b.N, b.State, b.Up.Seconds(), b.Status)
	}
	fmt.Fprintf(os.Stderr, "image %v, machine %v; results in %s\n", r.Built.Round(time.Second), r.Ran.Round(time.Second), out)
}
