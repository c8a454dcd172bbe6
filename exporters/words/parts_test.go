package words

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/timeline"
	"github.com/bootrace/bootrace/tracer/timeline/histories"
)

// Each {part} of a template is known to what tells it. One that is misspelt is never
// known, and takes the [...] around it away, whole sentences at times.
func TestParts(t *testing.T) {
	names := partNames(t)
	ofFinding := slices.Concat(names["says"], names["saysInside"], names["saysLast"], []string{"what", "state"}) // see textOf
	ofCause := slices.Concat(names["saysCause"], names["saysInside"], names["saysLVM"], names["saysLast"])
	part := regexp.MustCompile(`\{([^}]*)\}`)
	check := func(what string, known []string, templates ...string) {
		for _, template := range templates {
			for _, p := range part.FindAllStringSubmatch(template, -1) {
				if !slices.Contains(known, p[1]) {
					t.Errorf("%s: nothing says {%s}", what, p[1])
				}
			}
		}
	}
	for name, k := range kinds {
		check(name, ofFinding, k.text)
	}
	for _, k := range []kind{wouldHoldInside, noFile, suspended, inVain, refused, unknown} {
		check(k.one, ofFinding, k.text)
	}
	for of, list := range states {
		for state, text := range list {
			check(of.String()+" "+state, ofFinding, text)
		}
	}
	check("Brief", ofFinding, briefText, unusedText, unseenText, shareText)
	for name, c := range causes {
		check(name, ofCause, c.text, c.risk, c.looked, c.unopened, c.dropped)
	}
	for name, c := range cures {
		check(name, ofCause, c.text)
	}
	for _, list := range []map[string]string{settingTexts, inferredTexts} {
		for name, text := range list {
			check(name, ofCause, text)
		}
	}
	for name, text := range delays {
		check(name, names["saysStep"], text)
	}
	check("unknownDelay", names["saysStep"], unknownDelay)
}

// partNames has the strings that each function of this package tells apart in its cases,
// by the function's name.
func partNames(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string][]string{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				clause, ok := n.(*ast.CaseClause)
				if !ok {
					return true
				}
				for _, of := range clause.List {
					if lit, ok := of.(*ast.BasicLit); ok && lit.Kind == token.STRING {
						s, err := strconv.Unquote(lit.Value)
						if err != nil {
							t.Fatal(err)
						}
						names[f.Name.Name] = append(names[f.Name.Name], s)
					}
				}
				return true
			})
		}
	}
	return names
}

// What is no more than a risk is told as one, in each boot that the timeline's tests have.
func TestRisks(t *testing.T) {
	files, err := filepath.Glob("../../tracer/timeline/testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, file := range files {
		h, err := histories.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		tl := timeline.Build(timeline.Boot{ID: "b", Current: true}, timeline.Options{}, slices.Values(h.Events))
		for _, v := range tl.Verdicts {
			for _, c := range v.Causes {
				if c.Outcome != timeline.OutcomeAtRisk {
					continue
				}
				told[c.Kind] = true
				if text := causeText(v, c); !strings.HasPrefix(text, "at risk") {
					t.Errorf("%s: %s is a risk, and told as %q", filepath.Base(file), c.Kind, text)
				}
			}
		}
	}
	for _, kind := range []string{timeline.CauseTooLate, timeline.CausePulled, timeline.CauseRolledBack, timeline.CauseHibernated} {
		if !told[kind] {
			t.Errorf("no boot has %s as a risk", kind)
		}
	}
}
