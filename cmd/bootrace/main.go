// Command bootrace records what happens between LVM, udev and qemu while a
// virtualization host boots, and says which guests opened their logical volume
// before it was there.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/cmd/internal/version"
	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/repair"
	"github.com/bootrace/bootrace/tracer/twin/rehearse"
)

func main() {
	if repair.Machine() {
		repair.Init()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if rehearse.IsStandin(os.Args) { // in a twin, where a hypervisor was
		if err := rehearse.Standin(ctx, os.Args); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
			os.Exit(exitFailed)
		}
		os.Exit(exitDone)
	}
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

// run is the program; it returns the exit status. What it prints is clean,
// whoever wrote the names in it (words.Cleaner).
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	stdout, stderr = words.TextWriter(stdout), words.TextWriter(stderr)
	app := newApp(stdout, stderr)
	err := app.RunContext(ctx, arrange(app.Commands, args))
	var status *exitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &status):
		if status.error != nil {
			fmt.Fprintln(stderr, "bootrace: "+oneLine(err))
		}
		return status.status
	case errors.Is(err, syscall.EPIPE):
		return exitDone // the reader, such as head, had enough
	default:
		fmt.Fprintln(stderr, "bootrace: "+oneLine(err))
		return exitFailed
	}
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}

func newApp(stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:    "bootrace",
		Usage:   "trace LVM, udev and guests while a virtualization host boots",
		Version: version.String(),
		Description: "BOOT names a recorded boot: a boot id, the beginning of one, 0 for this boot,\n" +
			"-1 for the one before, a log file (packed with zstd, gzip or xz, too), a report\n" +
			"(FILE is the latest boot in it, FILE:-1 the one before), or - for a log from\n" +
			"standard input.",
		Reader:          os.Stdin,
		Writer:          stdout,
		ErrWriter:       stderr,
		HideHelpCommand: true,
		Flags:           []cli.Flag{cli.HelpFlag},     // cli leaves it out where a command is called help
		ExitErrHandler:  func(*cli.Context, error) {}, // run decides
		OnUsageError:    onUsageError,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return unknownCommand(c.App, c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		Commands: withUsageErrors(
			withoutArgs(runCommand()), bootsCommand(), showCommand(), racesCommand(), diffCommand(), exportCommand(), metricsCommand(), deliverCommand(),
			explainCommand(), inspectCommand(), repairCommand(), waitCommand(), statusCommand(), releaseCommand(), acceptCommand(), checkCommand(), configCommand(),
			reportCommand(), captureCommand(), rehearseCommand(), eventsCommand(), versionCommand(), helpCommand(), completeCommand(), manualCommand(), relinquishCommand(), libvirtHookCommand(),
		),
	}
}

// withUsageErrors makes wrong flags of each command exit with exitUsage and
// one line, instead of the whole help.
func withUsageErrors(commands ...*cli.Command) []*cli.Command {
	for _, c := range commands {
		c.OnUsageError = onUsageError
		c.HideHelpCommand = true
	}
	return commands
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	help, flags := "bootrace --help", c.App.Flags
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != c.App.Name {
		help, flags = "bootrace "+c.Command.Name+" --help", c.Command.Flags
	}
	return usageError("%s: see `%s`", flagError(flags, err.Error()), help)
}

// withoutArgs is noArgs for a command whose action does not call it.
func withoutArgs(c *cli.Command) *cli.Command {
	c.Before = noArgs
	return c
}

// noArgs refuses arguments of a command that takes none.
func noArgs(c *cli.Context) error {
	if c.Args().Present() {
		return usageError("%s takes no argument, got %q", c.Command.Name, c.Args().First())
	}
	return nil
}
