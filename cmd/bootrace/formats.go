package main

import (
	"io"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/chrome"
	"github.com/bootrace/bootrace/exporters/html"
	"github.com/bootrace/bootrace/exporters/json"
	"github.com/bootrace/bootrace/exporters/otlp"
	"github.com/bootrace/bootrace/exporters/perfetto"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// format is a file format of `bootrace export`.
type format struct {
	name  string
	usage string // for whom or what, a few words
	// endings are those of the files that hold it: `-o boot.html` asks for a page.
	endings []string
	// binary is set where it is not for a terminal.
	binary bool
	// write writes the boot as it stands; stands, set instead of it, writes how
	// it stood over time.
	write  func(io.Writer, *timeline.Timeline) error
	stands func(io.Writer, iter.Seq2[timeline.Stand, error]) error
}

// formats lists all of them, in the order in which help names them. A new one
// is a package under exporters and a line here.
func formats() []format {
	return []format{
		{name: formatOTLP, usage: "OpenTelemetry's JSON lines, as Jaeger's upload takes them", endings: []string{".jsonl", ".otlp"}, stands: exportOTLP},
		{name: "json", usage: "for programs, as show --format json", endings: []string{".json"}, write: json.Write},
		{name: formatHTML, usage: "a page for a browser, in one file", endings: []string{".html", ".htm"}, write: html.Write},
		{name: "perfetto", usage: "for ui.perfetto.dev", endings: []string{".pftrace", ".perfetto-trace"}, binary: true, write: perfetto.Write},
		{name: "chrome", usage: "Chrome's trace events, for any trace viewer", endings: []string{".trace"}, write: chrome.Write},
	}
}

// formatHTML is the one that several boots can have together.
const formatHTML = "html"

// formatOTLP is the one that can be sent, too.
const formatOTLP = "otlp"

func exportOTLP(w io.Writer, stands iter.Seq2[timeline.Stand, error]) error {
	return otlp.WriteJSON(w, otlp.EncodeAll(stands))
}

// chooseFormat returns the format that the flags ask for: by its name, else by the
// ending of the file to write, else the first.
func chooseFormat(c *cli.Context) (format, error) {
	path := c.Path("output")
	ending := strings.ToLower(filepath.Ext(path))
	if c.IsSet("format") || ending == "" {
		return formatNamed(c.String("format"))
	}
	var known []string
	for _, f := range formats() {
		if slices.Contains(f.endings, ending) {
			return f, nil
		}
		known = append(known, f.endings[0])
	}
	return format{}, usageError("export: which format %s is to have is not known by its ending: end it in %s, or give --format", path, strings.Join(known, ", "))
}

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
