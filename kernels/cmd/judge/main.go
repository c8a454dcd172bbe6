// Command judge judges a boot that somebody wrote down, in the form of package
// histories, as `bootrace races` judges one that was recorded.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/bootrace/bootrace/exporters/json"
	"github.com/bootrace/bootrace/exporters/text"
	"github.com/bootrace/bootrace/tracer/timeline"
	"github.com/bootrace/bootrace/tracer/timeline/histories"
)

func main() {
	format := flag.String("format", "text", "text for people, json for programs")
	show := flag.Bool("show", false, "draw the timeline, too")
	flag.Parse()
	if err := run(os.Stdout, flag.Args(), *format, *show); err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, args []string, format string, show bool) error {
	if len(args) != 1 {
		return fmt.Errorf("name one history, not %d", len(args))
	}
	if format != "text" && format != "json" {
		return fmt.Errorf("format %q is not known: use text or json", format)
	}
	h, err := histories.Load(args[0])
	if err != nil {
		return err
	}
	// A history that ends without a mark just stops: nothing is missing then.
	boot := timeline.Boot{ID: "history", Current: true}
	tl := timeline.Build(boot, timeline.Options{}, slices.Values(h.Events))
	if format == "json" {
		return json.Encode(w, tl)
	}
	opts := text.Options{Width: 120}
	if h.Says != "" {
		if _, err := fmt.Fprintf(w, "%s\n\n", h.Says); err != nil {
			return err
		}
	}
	if show {
		if err := text.Show(w, tl, opts); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	return text.Races(w, tl, opts)
}
