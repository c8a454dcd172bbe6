package main

import (
	"flag"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/cmd/internal/serve"
	"github.com/bootrace/bootrace/cmd/internal/version"
)

// runCommand is the service; package serve has its flags.
func runCommand() *cli.Command {
	set := serve.FlagSet()
	return &cli.Command{
		Name:  "run",
		Usage: "trace this host, in the foreground (systemd runs this)",
		Flags: flagsOf(set),
		Action: func(c *cli.Context) error {
			return serve.Run(c.Context, version.String(), given(c, set), c.App.ErrWriter)
		},
	}
}

func flagsOf(set *flag.FlagSet) []cli.Flag {
	var flags []cli.Flag
	set.VisitAll(func(f *flag.Flag) {
		if isBool(f) {
			flags = append(flags, &cli.BoolFlag{Name: f.Name, Usage: f.Usage})
			return
		}
		flags = append(flags, &cli.GenericFlag{Name: f.Name, Usage: f.Usage, Value: f.Value})
	})
	return flags
}

func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// given returns the flags that were given, as arguments.
func given(c *cli.Context, set *flag.FlagSet) []string {
	var args []string
	set.VisitAll(func(f *flag.Flag) {
		switch {
		case !c.IsSet(f.Name):
		case isBool(f):
			args = append(args, fmt.Sprintf("-%s=%t", f.Name, c.Bool(f.Name)))
		default:
			args = append(args, fmt.Sprintf("-%s=%s", f.Name, f.Value))
		}
	})
	return args
}
