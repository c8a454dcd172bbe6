package timeline

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// word is how findings, causes and the like are written.
var word = regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)

// TestReadme checks that the README's tables have every finding, cause, setting,
// cure and outcome that there is: they are what programs read in JSON.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	aside := regexp.MustCompile(`\([^)]*\)`)
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || cells[0] != "" {
			continue
		}
		for i, cell := range cells[:len(cells)-1] {
			for name := range strings.SplitSeq(strings.NewReplacer(" and ", ",", " with ", ",").Replace(aside.ReplaceAllString(cell, "")), ",") {
				if name = strings.TrimSpace(name); i <= 2 && word.MatchString(name) {
					listed[name] = true
				}
			}
		}
	}
	found := 0
	for name, value := range constants(t) {
		if !listed[value] {
			t.Errorf("README.md has no row of a table for %s (%s)", value, name)
		}
		found++
	}
	if found < 100 {
		t.Errorf("only %d constants were found: the test looks in the wrong place", found)
	}
}

// constants are the texts of the package's findings, causes, settings, cures and
// outcomes, by the constants' names.
func constants(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	group := regexp.MustCompile(`^(Cause|Setting|Cure|Outcome)[A-Z]`)
	out := map[string]string{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		finding := strings.HasPrefix(file, "finding_")
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, name := range spec.Names {
				if !name.IsExported() || i >= len(spec.Values) || !finding && !group.MatchString(name.Name) {
					continue
				}
				lit, ok := spec.Values[i].(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					continue
				}
				value, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				if word.MatchString(value) { // others are sentences
					out[name.Name] = value
				}
			}
			return true
		})
	}
	return out
}
