package udev

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
)

// store writes a record as udev does: under another name, then renamed.
func store(t *testing.T, dir, name string) {
	t.Helper()
	temp := filepath.Join(dir, ".#"+name+"0123456789abcdef")
	if err := os.WriteFile(temp, []byte("I:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func TestStores(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, database)
	s, err := openStores(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	expect := func(step string, want ...event.Dev) {
		t.Helper()
		got, err := s.read()
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", step, got, err, want)
		}
	}
	if err := s.want(true); err != nil {
		t.Fatal(err)
	}
	expect("udev has not run yet")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	expect("its folder is there")
	for _, name := range []string{"b253:0", "c4:64", "n2", "+pci:0000:00:08.0", "b253:16", "bxx:1"} {
		store(t, dir, name)
	}
	expect("records", event.Dev{Major: 253}, event.Dev{Major: 253, Minor: 16})
	if err := os.Remove(filepath.Join(dir, "b253:0")); err != nil {
		t.Fatal(err)
	}
	expect("a record removed")
	if err := s.want(false); err != nil {
		t.Fatal(err)
	}
	store(t, dir, "b253:1")
	expect("nobody asks")
	if err := s.want(true); err != nil {
		t.Fatal(err)
	}
	store(t, dir, "b253:2")
	expect("somebody asks again", event.Dev{Major: 253, Minor: 2})
	for i := range 400 { // more than one read takes
		store(t, dir, "b8:"+strconv.Itoa(i))
	}
	if got, err := s.read(); err != nil || len(got) != 400 {
		t.Errorf("%d records, %v", len(got), err)
	}
}
