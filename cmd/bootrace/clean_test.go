package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// hostileName begins a terminal's control sequence in three ways, erases,
// changes the direction of what follows, and carries text that nobody sees.
const hostileName = "a\x1b[2Jb\u009b2Jc\x7fd\u202egpj\u202ce\u200bf\U000e0041\U000e007fg\u2028"

// hostileLog is a recorded boot with a race, whose guest has that name, and a
// volume of that name. Its JSON holds as much of it raw as JSON allows.
func hostileLog(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/logs/race.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	name := strings.ReplaceAll(hostileName, "\x1b", `\u001b`)
	path := filepath.Join(t.TempDir(), "hostile.jsonl")
	if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte("web-a"), []byte(name)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Whoever names a guest or a volume has no word in the terminal, or the browser,
// of whoever reads about it; and programs get the very name.
func TestOutputIsClean(t *testing.T) {
	log := hostileLog(t)
	commands := map[string][]string{
		"show":          {"show", "--all", log},
		"show json":     {"show", "--format", "json", log},
		"races":         {"races", log},
		"races json":    {"races", "--format", "json", log},
		"diff":          {"diff", log, "testdata/logs/clean.jsonl"},
		"diff json":     {"diff", "--format", "json", log, "testdata/logs/clean.jsonl"},
		"metrics":       {"metrics", log},
		"explain":       {"explain", "--", "/usr/bin/qemu-system-x86_64", "-name", hostileName, "-drive", "file=/dev/vg0/" + hostileName},
		"explain json":  {"explain", "--format", "json", "--", "/usr/bin/qemu-system-x86_64", "-name", hostileName},
		"unknown guest": {"races", "--guest", hostileName, log},
		"unknown file":  {"races", "/nowhere/" + hostileName},
		"unknown flag":  {"races", "--" + hostileName},
	}
	for _, f := range formats() {
		if !f.binary {
			commands["export "+f.name] = []string{"export", "--format", f.name, log}
		}
	}
	for what, args := range commands {
		t.Run(what, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			run(t.Context(), append([]string{"bootrace"}, args...), &stdout, &stderr)
			if stdout.Len() == 0 && stderr.Len() == 0 {
				t.Fatal("it says nothing")
			}
			for _, out := range []string{stdout.String(), stderr.String()} {
				for i, r := range out {
					if r == utf8.RuneError || !unicode.IsPrint(r) && r != '\n' && r != '\t' && (what != "export html" || r != '\u00a0') {
						t.Fatalf("it prints %U: %q", r, out[max(i-40, 0):min(i+40, len(out))])
					}
				}
			}
			if strings.HasSuffix(what, "json") {
				var v any
				if err := json.Unmarshal(stdout.Bytes(), &v); err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(flat(v), hostileName) {
					t.Error("the name is not in it as it is")
				}
			}
		})
	}
}

// flat is all texts of a JSON document.
func flat(v any) string {
	var b strings.Builder
	switch v := v.(type) {
	case string:
		b.WriteString(v + "\n")
	case []any:
		for _, e := range v {
			b.WriteString(flat(e))
		}
	case map[string]any:
		for _, e := range v {
			b.WriteString(flat(e))
		}
	}
	return b.String()
}
