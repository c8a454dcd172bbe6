package packaging

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/timeline"
)

// outline is what two languages of one README have in common: not a word of prose.
type outline struct {
	Headings []int      // their levels
	Commands []string   // in the order in which they are told, without comments
	Tables   [][]string // of each row what is code or a number in its first cell
	Links    []string
	Code     []string // what stands in backquotes, in paragraphs and tables, sorted
}

var (
	command  = regexp.MustCompile(`^    ((?:sudo |make |bootrace |echo |systemctl |update-initramfs).*)$`)
	comment  = regexp.MustCompile(`\s+# .*$`)
	code     = regexp.MustCompile("`([^`]+)`")
	link     = regexp.MustCompile(`\]\(([^)]+)\)`)
	number   = regexp.MustCompile(`^[0-9]+$`)
	otherOne = regexp.MustCompile(`^README(\.zh-CN)?\.md$`)
)

func outlineOf(t *testing.T, file string) outline {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var o outline
	inTable := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, " \n")
		if m := command.FindStringSubmatch(line); m != nil {
			o.Commands = append(o.Commands, comment.ReplaceAllString(m[1], ""))
		}
		if level := len(line) - len(strings.TrimLeft(line, "#")); level > 0 {
			o.Headings = append(o.Headings, level)
		}
		row := strings.HasPrefix(line, "|")
		if row && !inTable {
			o.Tables = append(o.Tables, nil)
		}
		if inTable = row; row {
			last := len(o.Tables) - 1
			o.Tables[last] = append(o.Tables[last], nameOf(strings.SplitN(line, "|", 3)[1]))
		}
		for _, m := range link.FindAllStringSubmatch(line, -1) {
			if !otherOne.MatchString(m[1]) {
				o.Links = append(o.Links, m[1])
			}
		}
	}
	prose := regexp.MustCompile(`(?m)^    .*$`).ReplaceAllString(string(text), "")
	for _, m := range code.FindAllStringSubmatch(prose, -1) {
		o.Code = append(o.Code, strings.Join(strings.Fields(m[1]), " "))
	}
	slices.Sort(o.Code)
	o.Code = slices.Compact(o.Code)
	slices.Sort(o.Links)
	return o
}

// nameOf is what a row is about, as far as that is the same in all languages.
func nameOf(cell string) string {
	var names []string
	for _, m := range code.FindAllStringSubmatch(cell, -1) {
		names = append(names, m[1])
	}
	for _, part := range strings.FieldsFunc(cell, func(r rune) bool { return r == ',' || r == ' ' }) {
		if number.MatchString(part) || slices.Contains(timeline.FindingKinds(), part) {
			names = append(names, part)
		}
	}
	return strings.Join(names, " ")
}

// The Chinese README has the same headings, commands, tables, links and names as the
// English one: whoever changes one changes the other. What the sentences say, a person
// has to compare.
func TestReadmeChinese(t *testing.T) {
	english, chinese := outlineOf(t, "../README.md"), outlineOf(t, "../README.zh-CN.md")
	if len(english.Commands) < 15 || len(english.Tables) < 6 {
		t.Fatalf("too little was found: %+v", english)
	}
	if diff := cmp.Diff(english, chinese); diff != "" {
		t.Errorf("README.zh-CN.md is not in step with README.md (-README +README.zh-CN):\n%s", diff)
	}
}

// Each kind of finding has a row in both.
func TestReadmeKinds(t *testing.T) {
	for _, file := range []string{"../README.md", "../README.zh-CN.md"} {
		var rows []string
		for _, table := range outlineOf(t, file).Tables {
			for _, row := range table {
				rows = append(rows, strings.Fields(row)...)
			}
		}
		for _, kind := range timeline.FindingKinds() {
			if !slices.Contains(rows, kind) {
				t.Errorf("%s has no row for %s", file, kind)
			}
		}
	}
}
