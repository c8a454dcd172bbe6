package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/service"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// completeCommand is what the shells' completion runs: it prints what the last of the
// words may become, one a line, with a tab and what that is. Nothing means a file.
func completeCommand() *cli.Command {
	return &cli.Command{
		Name:      "complete",
		Usage:     "what a command line that is being typed can go on with; the shells' completion runs this",
		ArgsUsage: "-- WORD...",
		Hidden:    true,
		Action: func(c *cli.Context) error {
			line := completion{c: c, words: c.Args().Slice()}
			if len(line.words) == 0 {
				line.words = []string{""}
			}
			for _, o := range line.options() {
				if strings.HasPrefix(o.text, line.current()) {
					writeOption(c.App.Writer, o)
				}
			}
			return nil
		},
	}
}

func writeOption(w io.Writer, o option) {
	fmt.Fprintf(w, "%s\t%s\n", words.Clean(o.text), words.Clean(o.what))
}

// option is one thing that can stand at a place, and what it is.
type option struct{ text, what string }

// completion is a command line that is being typed, without the program's name; the
// last word is the one to complete.
type completion struct {
	c     *cli.Context
	words []string
}

func (l *completion) current() string { return l.words[len(l.words)-1] }

func (l *completion) options() []option {
	if len(l.words) == 1 {
		return commandOptions(l.c.App)
	}
	command := l.c.App.Command(l.words[0])
	if command == nil {
		return nil
	}
	if command.Name == "help" {
		return commandOptions(l.c.App)
	}
	before := l.words[len(l.words)-2]
	if strings.HasPrefix(before, "-") && takesValue(command, before) {
		return l.values(command, strings.TrimLeft(before, "-"))
	}
	if current := l.current(); strings.HasPrefix(current, "-") && current != "-" && !earlierBoot.MatchString(current) {
		return flagOptions(command)
	}
	switch {
	case strings.Contains(command.ArgsUsage, "BOOT"):
		return l.boots()
	case strings.Contains(command.ArgsUsage, "GUEST"):
		return l.guests()
	}
	return nil
}

func commandOptions(app *cli.App) []option {
	var list []option
	for _, c := range app.VisibleCommands() {
		list = append(list, option{c.Name, c.Usage})
	}
	return list
}

func flagOptions(c *cli.Command) []option {
	list := []option{{"--help", "what it does and takes"}}
	for _, f := range c.Flags {
		what := ""
		if doc, ok := f.(cli.DocGenerationFlag); ok {
			what = strings.ReplaceAll(doc.GetUsage(), "`", "")
		}
		list = append(list, option{typed(f.Names()[0]), what})
	}
	return list
}

// values are those of a flag; nothing where it takes a file, or anything.
func (l *completion) values(command *cli.Command, flag string) []option {
	pick := func(values ...string) (list []option) {
		for _, v := range values {
			list = append(list, option{v, ""})
		}
		return list
	}
	switch flag {
	case "format":
		if command.Name != "export" {
			return pick("text", "json")
		}
		var list []option
		for _, f := range formats() {
			list = append(list, option{f.name, f.usage})
		}
		return list
	case "guest":
		return l.guests()
	case "kind":
		return pick(timeline.FindingKinds()...)
	case "color":
		return pick("auto", "always", "never")
	case "time":
		return pick("boot", "wall")
	case "mode":
		return pick("trace", "enforce")
	case "probes":
		return pick("auto", "ebpf", "tracefs", "none")
	case "on-timeout":
		return pick("allow", "deny")
	case "inspect":
		return pick("on", "off")
	case "identity", "filesystem":
		return pick("warn", "hold", "deny")
	}
	return nil
}

// boots are the recorded ones, by their place and by their id. Who may not look has
// none.
func (l *completion) boots() []option {
	store := l.store()
	list, err := store.List()
	if err != nil {
		return nil
	}
	var places, ids []option
	for i := range list {
		b := &list[i]
		what := b.Header.HostName
		if !b.Start.IsZero() {
			what = strings.TrimSpace(what + " " + b.Start.Local().Format(time.DateTime))
		}
		place := i
		if store.Current != "" && !list[0].Current {
			place++ // this boot is not recorded
		}
		places = append(places, option{strconv.Itoa(-place), what})
		ids = append(ids, option{words.ShortID(b.ID), what})
	}
	return slices.Concat(places, ids)
}

// guests are those that this boot's record has.
func (l *completion) guests() []option {
	store := l.store()
	boot, err := store.Find("0")
	if err != nil {
		return nil
	}
	tl, err := buildTimeline(&boot, config.Default().NearMiss)
	if err != nil {
		return nil
	}
	var list []option
	for _, g := range tl.Guests {
		if o := (option{g.Name, g.Identity}); g.Name != "" && !slices.Contains(list, o) {
			list = append(list, o)
		}
	}
	return list
}

// store is where the command will look for boots.
func (l *completion) store() *bootlog.Store {
	for i, w := range l.words[:len(l.words)-1] {
		if dir, ok := strings.CutPrefix(w, "--state-dir="); ok {
			return &bootlog.Store{Dirs: []string{dir}, Current: bootlog.CurrentBootID()}
		}
		if w == "--state-dir" {
			return &bootlog.Store{Dirs: []string{l.words[i+1]}, Current: bootlog.CurrentBootID()}
		}
	}
	return &bootlog.Store{Dirs: []string{service.StateDir, service.RunDir}, Current: bootlog.CurrentBootID()}
}
