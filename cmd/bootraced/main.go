// Command bootraced is the service alone: `bootrace run`, and what the
// initramfs starts. It has none of what only reads and sends records, nor the
// command line of people, so that it is less than half as large, and ready
// sooner: a boot waits for it.
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

	"github.com/bootrace/bootrace/cmd/internal/serve"
	"github.com/bootrace/bootrace/cmd/internal/version"
)

// The exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "bootrace: "+strings.Join(strings.Fields(err.Error()), " "))
	if usage := (*serve.UsageError)(nil); errors.As(err, &usage) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailed)
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	switch command {
	case "run":
		return serve.Run(ctx, version.String(), args, os.Stderr)
	case "early":
		return serve.Early(ctx, version.String())
	case "--version":
		_, err := fmt.Fprintln(stdout, "bootraced "+version.String())
		return err
	}
	return &serve.UsageError{Err: fmt.Errorf("bootraced has the commands run and early, not %q: `bootrace --help` has the others", command)}
}
