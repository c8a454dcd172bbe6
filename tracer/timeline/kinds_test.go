package timeline

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// Every finding and every cause that has a name has a decision, and some history tells
// each finding: whoever adds one and forgets the rest reads here what is missing.
func TestKinds(t *testing.T) {
	told := map[string]bool{}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range buildOf(parse(t, section(archive, "events"))).Findings {
			told[f.Kind] = true
			if findingKinds()[f.Kind] == nil {
				t.Errorf("%s: a rule reports a finding %s, and no rule has that among its kinds", file, f.Kind)
			}
		}
	}
	vocabulary := regexp.MustCompile(`^(Setting|Cure|Outcome)[A-Z]`)
	findings := 0
	for name, kind := range constants(t) {
		switch {
		case strings.HasPrefix(name, "Cause"):
			if k := causeKinds[kind]; k == nil || k.cures == nil {
				t.Errorf("%s: no causeKind with cures is made of it", name)
			}
		case !vocabulary.MatchString(name):
			findings++
			if k := findingKinds()[kind]; k == nil || k.outcome == nil || k.cause == nil {
				t.Errorf("%s: no rule has it among its kinds, with an outcome and a cause", name)
			}
			if !told[kind] {
				t.Errorf("%s: no history under testdata has such a finding", name)
			}
		}
	}
	if findings != len(findingKinds()) {
		t.Errorf("%d constants are kinds of findings, and the rules have %d", findings, len(findingKinds()))
	}
}

// A finding of which nothing is decided is no failure, and nothing is fine because of it.
func TestUnknownKind(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/missing.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range buildOf(parse(t, section(archive, "events"))).Findings {
		f.Kind, f.Withheld = "later", ""
		c := new(record).explain(f)
		if f.Failed() || c == nil || c.Outcome != OutcomeUnknown || !slices.Equal(c.remedies(), []string{CureLookInside}) {
			t.Errorf("%+v", c)
		}
	}
}
