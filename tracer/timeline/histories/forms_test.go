package histories

import (
	"go/doc/comment"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// The package comment has each kind with all words that are read, and no other.
func TestForms(t *testing.T) {
	before := map[string]string{
		"member": "0 image disk=/a", "remembered": "0 memory guest=a", "kept": "0 memory guest=a\n0 remembered path=/a", "layer": "0 inside /a",
	}
	told := map[string]bool{}
	for _, form := range forms(t) {
		kind, _, _ := strings.Cut(form, " ")
		told[kind] = true
		var p Writer
		for line := range strings.Lines(before[kind]) {
			if err := p.Line(line); err != nil {
				t.Fatal(err)
			}
		}
		w := split("1 " + strings.NewReplacer("[", "", "]", "").Replace(form))
		if err := p.read(w); err != nil {
			t.Errorf("%s: %v", form, err)
		}
		for _, key := range slices.Sorted(maps.Keys(w.asked)) {
			if _, ok := w.keys[key]; !ok {
				t.Errorf("%s: %s= is read, too", form, key)
			}
		}
	}
	for kind := range usedKinds(t) {
		if !told[kind] && !(strings.HasPrefix(kind, "dm_") && told["dm_create"]) {
			t.Errorf("the package comment has no line for %s", kind)
		}
	}
}

// usedKinds are the kinds of all events that the timeline's own tests are written with.
func usedKinds(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("../testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories: %v", err)
	}
	kinds := map[string]bool{}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(archive.Files[0].Data)) {
			if words := strings.Fields(line); len(words) > 1 && words[0][0] != '#' {
				kinds[words[1]] = true
			}
		}
	}
	return kinds
}

// forms returns the lines of the section "Kinds".
func forms(t *testing.T) (lines []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for _, block := range new(comment.Parser).Parse(file.Doc.Text()).Content {
		switch b := block.(type) {
		case *comment.Heading:
			inside = true
		case *comment.Code:
			if inside {
				lines = append(lines, strings.FieldsFunc(b.Text, func(r rune) bool { return r == '\n' })...)
			}
		}
	}
	return lines
}
