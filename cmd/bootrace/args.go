package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// earlierBoot is an argument, not a flag: the boot before this one, and so on.
var earlierBoot = regexp.MustCompile(`^-[0-9]+$`)

// arrange puts a command's flags before its arguments, where the flag package
// looks for them, and marks where the arguments begin: `show FILE --all` and
// `show -1` mean what they seem to mean.
func arrange(commands []*cli.Command, args []string) []string {
	if len(args) < 3 {
		return args
	}
	i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[1]) })
	if i < 0 {
		return args
	}
	flags, rest := split(commands[i], args[2:])
	arranged := slices.Concat(args[:2], flags)
	if len(rest) > 0 {
		arranged = append(append(arranged, "--"), rest...)
	}
	return arranged
}

// split tells the flags of c, with their values, from its arguments. Where the
// arguments are another program's command line, all that follows the first
// belongs to that.
func split(c *cli.Command, args []string) (flags, rest []string) {
	foreign := strings.HasPrefix(c.ArgsUsage, "--")
	for len(args) > 0 {
		arg := args[0]
		switch {
		case arg == "--":
			return flags, append(rest, args[1:]...)
		case len(arg) < 2 || arg[0] != '-' || earlierBoot.MatchString(arg):
			if foreign {
				return flags, args
			}
			rest, args = append(rest, arg), args[1:]
		default:
			n := 1
			if takesValue(c, arg) {
				if n = 2; len(args) < n {
					return append(flags, arg), nil // the flag package says what is wrong
				}
			}
			flags, args = append(flags, args[:n]...), args[n:]
		}
	}
	return flags, rest
}

// takesValue reports whether the next argument is the value of the flag arg.
func takesValue(c *cli.Command, arg string) bool {
	name := strings.TrimLeft(arg, "-") // with =VALUE it is no flag's name
	for _, f := range c.Flags {
		doc, ok := f.(cli.DocGenerationFlag)
		if ok && doc.TakesValue() && slices.Contains(f.Names(), name) {
			return true
		}
	}
	return false
}
