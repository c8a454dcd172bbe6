package main

import (
	"io"
	"strings"

	"github.com/bootrace/bootrace/tracer/timeline"
)

// format is a file format of `bootrace export`.
type format struct {
	name  string
	usage string // for whom or what, a few words
	// binary is set where it is not for a terminal.
	binary bool
	write  func(io.Writer, *timeline.Timeline) error
}

// formats lists all of them, in the order in which help names them. A new one
// is a package under exporters and a line here.
func formats() []format {
	return []format{
		{name: "json", usage: "for programs, as `show --format json`", write: exportJSON},
	}
}

func exportJSON(w io.Writer, tl *timeline.Timeline) error { return writeJSON(w, tl) }

// formatNamed returns the format of that name.
func formatNamed(name string) (format, error) {
	var names []string
	for _, f := range formats() {
		if f.name == name {
			return f, nil
		}
		names = append(names, f.name)
	}
	return format{}, usageError("export: format %q is not known: use one of %s", name, strings.Join(names, ", "))
}

// formatList names the formats for the help of --format.
func formatList() string {
	var list []string
	for _, f := range formats() {
		list = append(list, f.name+" ("+f.usage+")")
	}
	return strings.Join(list, ", ")
}
