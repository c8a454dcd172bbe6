// Command bootraced is the service alone: `bootrace run`, and what the
// initramfs starts. It has none of what only reads and sends records, so that it
// is half as large, and ready sooner: a boot waits for it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/cmd/internal/serve"
)

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := &cli.App{
		Name:           "bootraced",
		Usage:          "the service of bootrace",
		Version:        version,
		ExitErrHandler: func(*cli.Context, error) {},
		Commands:       []*cli.Command{serve.Run(version), serve.Early(version)},
	}
	if err := app.RunContext(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "bootrace: "+strings.Join(strings.Fields(err.Error()), " "))
		os.Exit(1)
	}
}
