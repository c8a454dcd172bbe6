package memory

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// A boot on a wrong disk does not make it the right one.
func TestStoreOverBoots(t *testing.T) {
	small := on("a")
	small[0].Size = 9
	grown := on("a")
	grown[0].Size = 12
	elsewhere := on("b")
	elsewhere[0].Path = "/dev/vg/a"
	for name, steps := range map[string][]struct {
		runs, last, since []event.MemoryDisk // last and since: at the guest's start
		alarms            string
	}{
		"wrong twice, then right": {
			{runs: on("a")},
			{runs: elsewhere, last: on("a"), alarms: "substituted"},
			{runs: elsewhere, last: on("a"), since: elsewhere, alarms: "substituted"},
			{runs: nil, last: on("a"), since: elsewhere}, // it never came up
			{runs: on("a"), last: on("a"), since: elsewhere},
			{runs: on("a"), last: on("a")},
		},
		"shrunk, and given its size back": {
			{runs: on("a")},
			{runs: small, last: on("a"), alarms: "shrunk"},
			{runs: small, last: on("a"), since: small, alarms: "shrunk"},
			{runs: on("a"), last: on("a"), since: small},
			{runs: on("a"), last: on("a")},
		},
		"grown, then as it was": {
			{runs: on("a")},
			{runs: grown, last: on("a")},
			{runs: on("a"), last: grown, alarms: "shrunk"},
			{runs: grown, last: grown, since: on("a")},
		},
		"one of two is wrong, and the other is unplugged": {
			{runs: on("a", "c")},
			{runs: append(slices.Clone(elsewhere), on("c")...), last: on("a", "c"), alarms: "substituted"},
			{runs: elsewhere, last: on("a", "c"), since: append(slices.Clone(elsewhere), on("c")...), alarms: "substituted"},
			{runs: on("a"), last: on("a"), since: elsewhere},
		},
		"a second disk": {
			{runs: on("a")},
			{runs: on("a", "b"), last: on("a")},
			{runs: on("a", "b"), last: on("a", "b")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for n, step := range steps {
				s := boot(t, dir, fmt.Sprint(n))
				m := s.Last("name:vm")
				if m == nil {
					m = &event.MemoryInfo{}
				}
				if diff := cmp.Diff(step.last, m.Disks); diff != "" {
					t.Errorf("boot %d: last: %s", n, diff)
				}
				if diff := cmp.Diff(step.since, m.Since); diff != "" {
					t.Errorf("boot %d: since: %s", n, diff)
				}
				for range 2 { // its second start in the same boot is judged as the first
					if got := kinds(Compare(s.Last("name:vm"), step.runs, certainly)); got != step.alarms && m.Guest != "" {
						t.Errorf("boot %d: %q, want %q", n, got, step.alarms)
					}
					s.Remember("name:vm", "vm", step.runs)
					save(t, s)
				}
			}
			if info, err := os.Stat(filepath.Join(dir, FileName)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
		})
	}
}

func kinds(changes []Change) string {
	var list []string
	for _, c := range changes {
		list = append(list, string(c.Kind))
	}
	return strings.Join(list, " ")
}

// An operator makes the new disk the right one, or one of several.
func TestAccept(t *testing.T) {
	dir := t.TempDir()
	right := on("a", "b")
	wrong := on("x", "y")
	wrong[0].Path, wrong[1].Path, wrong[1].Size = "/dev/vg/a", "/dev/vg/b", 5
	s := boot(t, dir, "one")
	s.Remember("uuid:1", "vm", right)
	if _, err := s.Accept("vm", ""); err == nil {
		t.Error("accepted what it should run on")
	}
	save(t, s)
	s = boot(t, dir, "two")
	s.Remember("uuid:1", "vm", wrong)
	save(t, s)
	s = boot(t, dir, "three")
	for guest, disk := range map[string]string{"nobody": "", "vm": "/dev/vg/c", "": ""} {
		if _, err := s.Accept(guest, disk); err == nil {
			t.Errorf("accepted disk %q of guest %q", disk, guest)
		}
	}
	got, err := s.Accept("vm", "/dev/vg/b")
	want := []Accepted{{"uuid:1", "vm", "two", []Kind{Substituted, Shrunk}, right[1], wrong[1]}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	save(t, s)
	s = boot(t, dir, "four")
	if got := kinds(Compare(s.Last("uuid:1"), wrong, certainly)); got != "substituted" {
		t.Errorf("with one of two accepted: %q", got)
	}
	if _, err := s.Accept("1", ""); err != nil {
		t.Error(err)
	}
	if got := kinds(Compare(s.Last("uuid:1"), wrong, certainly)); got != "" {
		t.Errorf("with both accepted: %q", got)
	}
	if got := kinds(Compare(s.Last("uuid:1"), right, certainly)); got != "substituted substituted" {
		t.Errorf("what was right once, after another was accepted: %q", got)
	}
	s.Remember("uuid:2", "vm", right)
	if _, err := s.Accept("vm", ""); err == nil || !strings.Contains(err.Error(), "uuid:2") {
		t.Errorf("two of that name: %v", err)
	}
}

// A start that was not allowed can be accepted although the guest never ran.
func TestAcceptSeen(t *testing.T) {
	s := boot(t, t.TempDir(), "one")
	s.Remember("name:vm", "vm", on("a"))
	wrong := on("b")
	wrong[0].Path = "/dev/vg/a"
	s.Saw("name:new", "new", wrong)
	s.Saw("name:vm", "vm", wrong)
	s.Saw("name:vm", "vm", on("a")) // the next start, by hand
	if _, err := s.Accept("vm", ""); err != nil {
		t.Error(err)
	}
	if m := s.Last("name:new"); m != nil {
		t.Error("a start that was kept back is what the guest should run on")
	}
}

// What an older program remembered keeps comparing: what the guest ran on last
// is right, and what it ran on before that is, too.
func TestStoreOldVersion(t *testing.T) {
	dir := t.TempDir()
	line := func(boot string, disks []event.MemoryDisk) string {
		e := event.Event{Kind: event.Memory, Memory: &event.MemoryInfo{Guest: "name:vm", Boot: boot, Disks: disks}}
		return string(e.AppendJSON(nil)) + "\n"
	}
	wrong := on("b")
	wrong[0].Path = "/dev/vg/a"
	crypt := []event.MemoryDisk{{Path: "/dev/mapper/c", Name: "c", Table: []string{"0 8 crypt aes REDACTED 0 8:0 0"}}}
	for name, tc := range map[string]struct {
		text       string
		now        []event.MemoryDisk
		want, boot string
	}{
		"the same":           {line("one", on("a")), on("a"), "", "one"},
		"another":            {line("one", on("a")), wrong, "substituted", "one"},
		"back":               {line("two", wrong) + line("one", on("a")), on("a"), "", "two"},
		"this boot's":        {line("now", wrong) + line("one", on("a")), wrong, "substituted", "one"},
		"another word":       {line("one", crypt), []event.MemoryDisk{{Path: "/dev/mapper/c", Name: "c", Table: []string{"0 8 crypt aes [redacted] 0 8:16 0"}}}, "", "one"},
		"a key in its table": {line("one", []event.MemoryDisk{{Path: "/dev/mapper/c", Name: "c", Table: []string{"0 8 inlinecrypt aes 00ff 0 8:0 0"}}}), on("a"), "", "one"},
	} {
		if err := os.WriteFile(filepath.Join(dir, FileName), []byte("{\"bootrace_memory\":1}\n"+tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := boot(t, dir, "now")
		last := s.Last("name:vm")
		if got := kinds(Compare(last, tc.now, certainly)); got != tc.want || last.Boot != tc.boot {
			t.Errorf("%s: %q since boot %q", name, got, last.Boot)
		}
		if text := s.text(); strings.Contains(string(text), "00ff") || !strings.HasPrefix(string(text), "{\"bootrace_memory\":2}") {
			t.Errorf("%s: written as %s", name, text)
		}
	}
}

// Guests start before the state folder is there.
func TestStoreLate(t *testing.T) {
	dir := t.TempDir()
	s := boot(t, dir, "one")
	s.Remember("name:vm", "vm", on("a"))
	save(t, s)

	s = NewStore("two")
	if s.Last("name:vm") != nil || !s.Remember("name:vm", "vm", on("b")) {
		t.Error("a memory from nowhere")
	}
	save(t, s) // nowhere to save to, and no error
	if err := s.Open(dir); err != nil {
		t.Fatal(err)
	}
	if m := s.Last("name:vm"); m == nil || m.Disks[0].Name != "vg-b" {
		t.Errorf("got %+v", m) // another path: the guest was given another disk
	}
	save(t, s)
	if m := boot(t, dir, "three").Last("name:vm"); m == nil || m.Boot != "two" {
		t.Errorf("got %+v", m)
	}

	// The folder goes, and comes again.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.Remember("name:vm", "vm", on("c"))
	save(t, s)
	if m := boot(t, dir, "three").Last("name:vm"); m.Disks[0].Name != "vg-b" {
		t.Error("written to a folder that is gone")
	}
	if err := s.Open(dir); err != nil {
		t.Fatal(err)
	}
	save(t, s)
	if m := boot(t, dir, "three").Last("name:vm"); m.Disks[0].Name != "vg-c" {
		t.Errorf("got %+v", m)
	}
}

// A service that is restarted within a boot knows what it remembered.
func TestStoreRestart(t *testing.T) {
	dir := t.TempDir()
	s := boot(t, dir, "one")
	s.Remember("name:vm", "vm", on("a"))
	save(t, s)
	s = boot(t, dir, "one")
	if s.Last("name:vm") == nil {
		t.Error("the first start says what the second should run on")
	}
	if s.Remember("name:vm", "vm", on("a")) {
		t.Error("what is known is news")
	}
}

func TestStoreBounds(t *testing.T) {
	dir := t.TempDir()
	s := boot(t, dir, "one")
	for n := range maxGuests + 10 {
		s.Remember(fmt.Sprintf("name:%d", n), "", on("a"))
	}
	long := on("a")
	long[0].Serial, long[0].Table = strings.Repeat("s", maxName+1), make([]string, maxTable+1)
	many := append(long, event.MemoryDisk{Path: strings.Repeat("p", maxPath+1), Name: "x"})
	for range 2 * maxDisks {
		many = append(many, on("a")...)
	}
	s.Remember("name:long", "long", many)
	s.Remember(strings.Repeat("n", maxName+1), "", on("a"))
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
	good.Remember("name:a", "a", on("a"))
	good.Remember("name:b", "b", on("b"))
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
		s.Remember("name:c", "c", on("c"))
		save(t, s)
	}
}

// What a later version wrote stays as it is.
func TestStoreLaterVersion(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(path, []byte("{\"bootrace_memory\":3}\nnews\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := NewStore("one")
	var later *VersionError
	if err := s.Open(dir); !errors.As(err, &later) {
		t.Errorf("got %v", err)
	}
	s.Remember("name:a", "a", on("a"))
	save(t, s)
	if text, _ := os.ReadFile(path); !strings.Contains(string(text), "news") {
		t.Error("overwritten")
	}
}

func TestStoreCannotWrite(t *testing.T) {
	dir := t.TempDir()
	s := boot(t, dir, "one")
	s.Remember("name:a", "a", on("a"))
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
	s.Remember("name:a", "a", on("a", "b"))
	f.Add(s.text())
	f.Add([]byte("{\"bootrace_memory\":1}\n{\"memory\":{\"guest\":\"x\",\"boot_id\":\"two\",\"disks\":[{\"path\":\"/x\"}]}}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, _ := read(bytes.NewReader(text), "memory", "two")
		s := NewStore("two")
		for i := range c.guests {
			m := &c.guests[i]
			if m.Guest == "" {
				t.Error("a guest without an identity")
			}
			Compare(m, on("a"), func(*event.MemoryDisk) bool { return false })
			s.load(m)
			s.Remember(m.Guest, m.Name, on("a"))
			s.Accept(m.Guest, "")
		}
		if _, err := read(bytes.NewReader(s.text()), "memory", "three"); err != nil && len(s.guests) > 0 {
			t.Errorf("what was written can't be read: %v", err)
		}
	})
}
