package memory

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
)

func on(names ...string) []event.MemoryDisk {
	var disks []event.MemoryDisk
	for _, name := range names {
		disks = append(disks, event.MemoryDisk{Path: "/dev/vg/" + name, UUID: uuid("vg", name), Name: "vg-" + name, Size: 10})
	}
	return disks
}

// boot opens the memory as one boot does, and lets it remember.
func boot(t *testing.T, dir, id string) *Store {
	t.Helper()
	s := NewStore(id)
	if err := s.Open(dir); err != nil {
		t.Fatal(err)
	}
	return s
}

func save(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
}

func TestStoreOverBoots(t *testing.T) {
	dir := t.TempDir()
	for n, step := range []struct {
		runs         []event.MemoryDisk
		last, before []event.MemoryDisk // at the guest's start
	}{
		{runs: on("a")},
		{runs: on("wrong"), last: on("a")},
		{runs: on("wrong"), last: on("wrong"), before: on("a")},
		{runs: on("wrong"), last: on("wrong"), before: on("a")},
		{runs: on("a"), last: on("wrong"), before: on("a")},
		{runs: nil, last: on("a"), before: on("wrong")}, // it never came up
		{runs: on("a", "b"), last: on("a"), before: on("wrong")},
	} {
		s := boot(t, dir, fmt.Sprint(n))
		// Its second start in the same boot is judged as the first.
		for range 2 {
			m := s.Last("name:vm")
			if m == nil {
				m = &event.MemoryInfo{}
			}
			if diff := cmp.Diff(step.last, m.Disks); diff != "" {
				t.Errorf("boot %d: last: %s", n, diff)
			}
			if diff := cmp.Diff(step.before, m.Before); diff != "" {
				t.Errorf("boot %d: before: %s", n, diff)
			}
			s.Remember("name:vm", step.runs)
			save(t, s)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, FileName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// Guests start before the state folder is there.
func TestStoreLate(t *testing.T) {
	dir := t.TempDir()
	s := boot(t, dir, "one")
	s.Remember("name:vm", on("a"))
	save(t, s)

	s = NewStore("two")
	if s.Last("name:vm") != nil || !s.Remember("name:vm", on("b")) {
		t.Error("a memory from nowhere")
	}
	save(t, s) // nowhere to save to, and no error
	if err := s.Open(dir); err != nil {
		t.Fatal(err)
	}
	if m := s.Last("name:vm"); m == nil || m.Boot != "one" {
		t.Errorf("got %+v", m)
	}
	save(t, s)
	if m := boot(t, dir, "three").Last("name:vm"); m == nil || m.Boot != "two" {
		t.Errorf("got %+v", m)
	}

	// The folder goes, and comes again.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.Remember("name:vm", on("c"))
	save(t, s)
	if m := boot(t, dir, "three").Last("name:vm"); m.Disks[0].Name != "vg-b" {
		t.Error("written to a folder that is gone")
	}
	if err := s.Open(dir); err != nil {
		t.Fatal(err)
	}
	save(t, s)
	m := boot(t, dir, "three").Last("name:vm")
	if m.Disks[0].Name != "vg-c" || m.Before[0].Name != "vg-a" {
		t.Errorf("got %+v", m)
	}
}

// A service that is restarted within a boot knows what it remembered.
func TestStoreRestart(t *testing.T) {
	dir := t.TempDir()
	s := boot(t, dir, "one")
	s.Remember("name:vm", on("a"))
	save(t, s)
	s = boot(t, dir, "one")
	if s.Last("name:vm") != nil {
		t.Error("this boot's run counts as an earlier one")
	}
	if s.Remember("name:vm", on("a")) {
		t.Error("what is known is news")
	}
}

func TestStoreBounds(t *testing.T) {
	dir := t.TempDir()
	s := boot(t, dir, "one")
	for n := range maxGuests + 10 {
		s.Remember(fmt.Sprintf("name:%d", n), on("a"))
	}
	long := on("a")
	long[0].Serial, long[0].Table = strings.Repeat("s", maxName+1), make([]string, maxTable+1)
	many := append(long, event.MemoryDisk{Path: strings.Repeat("p", maxPath+1), Name: "x"})
	for range 2 * maxDisks {
		many = append(many, on("a")...)
	}
	s.Remember("name:long", many)
	s.Remember(strings.Repeat("n", maxName+1), on("a"))
	save(t, s)
	s = boot(t, dir, "two")
	if len(s.guests) != maxGuests {
		t.Errorf("%d guests", len(s.guests))
	}
	if s.Last("name:0") != nil || s.Last(fmt.Sprintf("name:%d", maxGuests)) == nil {
		t.Error("not the oldest was forgotten")
	}
	m := s.Last("name:long")
	if len(m.Disks) != maxDisks-1 || m.Disks[0].Serial != "" || m.Disks[0].Table != nil {
		t.Errorf("%d disks, the first %+v", len(m.Disks), m.Disks[0])
	}
}

func TestStoreDamaged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	good := boot(t, dir, "one")
	good.Remember("name:a", on("a"))
	good.Remember("name:b", on("b"))
	save(t, good)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		text []byte
		want string
		a, b bool
	}{
		"empty":            {nil, "", false, false},
		"no header":        {[]byte("{}\n"), "header", false, false},
		"cut":              {whole[:len(whole)-20], "1 lines", true, false},
		"a line of noise":  {bytes.Replace(whole, []byte(`{"id"`), []byte(`{id`), 1), "1 lines", false, true},
		"NULs at the end":  {append(bytes.Clone(whole), make([]byte, 100)...), "1 lines", true, true},
		"a line too long":  {append(bytes.Clone(whole), bytes.Repeat([]byte("x"), maxLine+1)...), "too long", true, true},
		"an unknown field": {bytes.ReplaceAll(whole, []byte(`"guest"`), []byte(`"later":1,"guest"`)), "", true, true},
	} {
		if err := os.WriteFile(path, tc.text, 0o600); err != nil {
			t.Fatal(err)
		}
		s := NewStore("two")
		err := s.Open(dir)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v", name, err)
		}
		if (s.Last("name:a") != nil) != tc.a || (s.Last("name:b") != nil) != tc.b {
			t.Errorf("%s: not what can be read", name)
		}
		s.Remember("name:c", on("c"))
		save(t, s)
	}
}

// What a later version wrote stays as it is.
func TestStoreLaterVersion(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(path, []byte("{\"bootrace_memory\":2}\nnews\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := NewStore("one")
	var later *VersionError
	if err := s.Open(dir); !errors.As(err, &later) {
		t.Errorf("got %v", err)
	}
	s.Remember("name:a", on("a"))
	save(t, s)
	if text, _ := os.ReadFile(path); !strings.Contains(string(text), "news") {
		t.Error("overwritten")
	}
}

func TestStoreCannotWrite(t *testing.T) {
	dir := t.TempDir()
	s := boot(t, dir, "one")
	s.Remember("name:a", on("a"))
	if err := os.Mkdir(filepath.Join(dir, FileName+".tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if s.Save() == nil {
		t.Error("no error")
	}
	if err := os.RemoveAll(filepath.Join(dir, FileName+".tmp")); err != nil {
		t.Fatal(err)
	}
	save(t, s) // tried again
	if boot(t, dir, "two").Last("name:a") == nil {
		t.Error("lost")
	}
}

func FuzzRead(f *testing.F) {
	s := NewStore("one")
	s.Remember("name:a", on("a", "b"))
	f.Add(s.text())
	f.Add([]byte("{\"bootrace_memory\":1}\n{\"memory\":{\"guest\":\"x\"}}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, _ := read(bytes.NewReader(text), "memory")
		for i := range list {
			if list[i].Guest == "" {
				t.Error("a guest without an identity")
			}
			Compare(&list[i], on("a"), func(*event.MemoryDisk) bool { return false })
		}
	})
}
