package main

import (
	"flag"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/xrash/smetrics"
)

func helpCommand() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "what a command does and takes",
		ArgsUsage: "[COMMAND]",
		Action: func(c *cli.Context) error {
			switch c.NArg() {
			case 0:
				return cli.ShowAppHelp(c)
			case 1:
			default:
				return usageError("help takes one command, got %q too", c.Args().Get(1))
			}
			name := c.Args().First()
			if c.App.Command(name) == nil {
				return unknownCommand(c.App, name)
			}
			return cli.ShowCommandHelp(c.Lineage()[len(c.Lineage())-2], name)
		},
	}
}

func unknownCommand(app *cli.App, name string) error {
	var names []string
	for _, c := range app.VisibleCommands() {
		names = append(names, c.Name)
	}
	return usageError("unknown command %q%s: `bootrace --help` lists them", name, didYouMean(name, names, ""))
}

// didYouMean names what is meant where that is clear: a slip of one or two letters.
func didYouMean(word string, known []string, before string) string {
	best, least := "", min(2, max(len(word)-2, 0))+1
	for _, k := range known {
		if d := smetrics.WagnerFischer(word, k, 1, 1, 1); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return ": did you mean " + before + best + "?"
}

// What the flag package says of wrong flags.
var (
	flagUnknown = regexp.MustCompile(`^flag provided but not defined: -+(.+)$`)
	flagLacks   = regexp.MustCompile(`^flag needs an argument: -+(.+)$`)
	flagWrong   = regexp.MustCompile(`^(?s)invalid (?:boolean )?value "(.*)" for (?:flag )?-+(\S+): (.*)$`)
)

// flagError is what a wrong flag is told as: the flag as it is typed, and what would
// be right.
func flagError(flags []cli.Flag, message string) string {
	if m := flagUnknown.FindStringSubmatch(message); m != nil {
		var names []string
		for _, f := range flags {
			if name := f.Names()[0]; len(name) > 1 {
				names = append(names, name)
			}
		}
		return "unknown flag " + typed(m[1]) + didYouMean(m[1], names, "--")
	}
	if m := flagLacks.FindStringSubmatch(message); m != nil {
		return typed(m[1]) + " needs a value"
	}
	m := flagWrong.FindStringSubmatch(message)
	if m == nil {
		return message
	}
	value, name, why := m[1], m[2], m[3]
	if want := wanted(flagNamed(flags, name), value); want != "" {
		why = want
	}
	return fmt.Sprintf("%s %s: %s", typed(name), value, why)
}

// typed is a flag as people type it.
func typed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

func flagNamed(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		for _, n := range f.Names() {
			if n == name {
				return f
			}
		}
	}
	return nil
}

// wanted says what a flag of that type takes, in place of a wrong value.
func wanted(f cli.Flag, value string) string {
	var sample any
	switch f := f.(type) {
	case *cli.DurationFlag:
		sample = f.Value
	case *cli.IntFlag:
		sample = f.Value
	case *cli.BoolFlag:
		sample = f.Value
	case *cli.GenericFlag:
		if g, ok := f.Value.(flag.Getter); ok {
			sample = g.Get()
		}
	}
	switch sample.(type) {
	case time.Duration:
		if _, err := strconv.ParseFloat(value, 64); err == nil {
			return "a duration needs a unit, such as " + value + "s"
		}
		return "want a duration, such as 80s, 1m30s or 500ms"
	case int:
		return "want a whole number"
	case bool:
		return "want true or false, or nothing"
	}
	return ""
}
