package spool

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const boot = "0d2b306f-ab2c-4bb8-904f-64eca438565f"

func open(t *testing.T, dir string, limit int64) *Spool {
	t.Helper()
	s, err := Open(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Entries come out in the order in which they went in, over restarts.
func TestOrder(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"first", "second", "third"} {
		if err := open(t, dir, 1<<20).Add(boot, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir, 1<<20)
	var got []string
	for _, e := range s.Entries() {
		data, err := s.Read(e)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(data))
		if err := s.Done(e); err != nil || e.Boot != boot {
			t.Errorf("boot %s, %v", e.Boot, err)
		}
	}
	if strings.Join(got, " ") != "first second third" {
		t.Errorf("got %q", got)
	}
	if n, bytes := s.Depth(); n != 0 || bytes != 0 {
		t.Errorf("%d entries of %d bytes are left", n, bytes)
	}
}

// The spool stays within its limit, and has room again once something is sent.
func TestFull(t *testing.T) {
	s := open(t, t.TempDir(), 10)
	if err := s.Add(boot, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(boot, make([]byte, 6)); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	if err := s.Done(s.Entries()[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(boot, make([]byte, 6)); err != nil {
		t.Error(err)
	}
}

// A disk without room leaves nothing half written.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<20)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(boot, []byte("x")); err == nil || !strings.Contains(err.Error(), "write to the spool") {
		t.Errorf("got %v", err)
	}
	if n, _ := s.Depth(); n != 0 {
		t.Errorf("%d entries", n)
	}
}

// What a crash left half written is no entry, and goes; foreign files stay.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"000000000001-" + boot + ".otlp.tmp", "notes.txt", "1-" + boot + ".otlp"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir, 1<<20)
	if n, _ := s.Depth(); n != 0 {
		t.Errorf("%d entries", n)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("%d files are left, %v", len(files), err)
	}
}

// What is set aside is kept, but not without end.
func TestRefuse(t *testing.T) {
	s := open(t, t.TempDir(), 1<<20)
	for range mostRefused + 3 {
		if err := s.Add(boot, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := s.Refuse(s.Entries()[0]); err != nil {
			t.Fatal(err)
		}
	}
	if n, bytes := s.Depth(); n != 0 || bytes != 0 || s.Refused() != mostRefused {
		t.Errorf("%d entries, %d set aside", n, s.Refused())
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("000000000001-" + boot + ".otlp")
	f.Fuzz(func(t *testing.T, name string) {
		if e, ok := parseName(name); ok && e.name() != name {
			t.Errorf("%q is read as %q", name, e.name())
		}
	})
}
