package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is kept is what holds again, without tokens, for root alone; what is wrong does
// not take its place.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := Kept(dir); err == nil {
		t.Error("nothing was kept")
	}
	write("# password hunter2\nmode: enforce\nexport:\n  endpoint: http://x:4318 # hunter2\n  headers: {authorization: Bearer hunter2}\nkeep-boots: 7 # or hunter2\nenforce:\n  deadline: 33s\n  binaries: [/usr/bin/kvm]\n")
	if err := Keep(path, dir); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(dir, KeptName)
	text, err := os.ReadFile(kept)
	if err != nil || strings.Contains(string(text), "hunter2") || strings.Contains(string(text), "4318") {
		t.Errorf("kept:\n%s, %v", text, err)
	}
	if info, err := os.Stat(kept); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode: %v, %v", info, err)
	}
	write("mode: ludicrous\n")
	if err := Keep(path, dir); err == nil {
		t.Error("a wrong one was kept")
	}
	c, at, err := Kept(dir)
	if err != nil || at.IsZero() || c.Mode != Enforcing || c.KeepBoots != 7 || c.Enforce.Deadline.Seconds() != 33 || len(c.Enforce.Binaries) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	write("")
	if err := Keep(path, dir); err != nil {
		t.Fatal(err)
	}
	if c, _, err := Kept(dir); err != nil || c.Mode != Trace {
		t.Errorf("of an empty file: %+v, %v", c, err)
	}
	if err := os.Remove(kept); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, kept); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Kept(dir); err == nil {
		t.Error("a link was followed")
	}
}

// A token in the wrong place is not repeated in the error, which goes into the record.
func TestErrorsWithoutTokens(t *testing.T) {
	_, err := Parse([]byte("export:\n  headers: hunter2\n"))
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "line 2: want names with values") {
		t.Errorf("%v", err)
	}
}

func FuzzKeep(f *testing.F) {
	f.Add([]byte("mode: enforce\nexport:\n  headers: {a: b}\n"))
	f.Add([]byte("&a mode: trace\n*a : x\n"))
	f.Add([]byte("&0:"))
	f.Add([]byte("--- # x\nexport: {}\nexport: {}\n...\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			return
		}
		kept, err := withoutExport(data)
		if err != nil {
			return // it is not kept then, which is told
		}
		again, err := Parse(kept)
		if err != nil || again.Mode != c.Mode || again.KeepBoots != c.KeepBoots || again.Enforce.Deadline != c.Enforce.Deadline || again.Export.Endpoint != "" {
			t.Errorf("kept as %q: %v", kept, err)
		}
	})
}
