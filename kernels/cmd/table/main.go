// Command table puts the table of the supported kernels into a Markdown file,
// between two marks.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/bootrace/bootrace/kernels"
)

const (
	begin = "<!-- made by go generate: begin -->\n"
	end   = "<!-- made by go generate: end -->\n"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name one file, not %d", len(args))
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the table: put %q and %q into it", args[0], begin, end)
	}
	return os.WriteFile(args[0], []byte(head+begin+kernels.Table()+end+tail), 0o644)
}
