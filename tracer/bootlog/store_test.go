package bootlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
)

func bootID(n int) string { return fmt.Sprintf("%08x-1111-4000-8000-%012x", 0xa0+n, n) }

// record writes a log of n events of a boot that began at hour o'clock,
// without a clock reading for a negative hour.
func record(tb testing.TB, dir, id string, hour, n int) string {
	tb.Helper()
	list := opens(n)
	if hour >= 0 {
		start := time.Date(2026, 3, 1, hour, 0, 0, 0, time.UTC)
		list[n-1] = event.Event{ID: uint64(n), At: 9e9, Kind: event.Clock, Clock: &event.ClockInfo{WallOffset: start.UnixNano(), Trusted: true}}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(dir, id+plainSuffix)
	if err := os.WriteFile(path, logText(tb, header(id), list), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// threeBoots has boots 1 to 3 in the order of time; 3 is the running one and
// still in the volatile folder.
func threeBoots(tb testing.TB) *Store {
	tb.Helper()
	root := tb.TempDir()
	s := &Store{Dirs: []string{filepath.Join(root, "var"), filepath.Join(root, "run"), filepath.Join(root, "no")}, Current: bootID(3)}
	record(tb, s.Dirs[0], bootID(2), 5, 10)
	record(tb, s.Dirs[0], bootID(1), 4, 700) // the clock reading is far from the start
	record(tb, s.Dirs[1], bootID(3), -1, 3)
	for _, name := range []string{"notes.txt", "x.jsonl", bootID(9) + ".jsonl.zst.old"} {
		if err := os.WriteFile(filepath.Join(s.Dirs[0], name), []byte("x"), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

func ids(boots []Boot) []string {
	var list []string
	for _, b := range boots {
		list = append(list, b.ID)
	}
	return list
}

func list(tb testing.TB, s *Store) []Boot {
	tb.Helper()
	boots, err := s.List()
	if err != nil {
		tb.Fatal(err)
	}
	return boots
}

func TestList(t *testing.T) {
	s := threeBoots(t)
	boots := list(t, s)
	if diff := cmp.Diff([]string{bootID(3), bootID(2), bootID(1)}, ids(boots)); diff != "" {
		t.Fatal(diff)
	}
	if b := boots[0]; !b.Current || b.Compressed || b.Events != 3 || !b.Start.IsZero() || b.Header.Host.Name != "kvm7" || b.Err != nil {
		t.Errorf("the running boot: %+v", b)
	}
	if b := boots[2]; b.Current || b.Events != 700 || b.Start.UTC().Hour() != 4 || b.Size < 100_000 {
		t.Errorf("the oldest boot: %+v", b)
	}
	check(t, os.WriteFile(filepath.Join(s.Dirs[0], bootID(4)+plainSuffix), nil, 0o600))
	if b := list(t, s)[1]; b.ID != bootID(4) || !errors.Is(b.Err, ErrEmpty) {
		t.Errorf("an empty log: %+v", b)
	}
}

func TestListTwoFiles(t *testing.T) {
	s := threeBoots(t)
	all := opens(8)
	check(t, os.WriteFile(filepath.Join(s.Dirs[0], bootID(3)+plainSuffix), logText(t, header(bootID(3)), all[:5]), 0o600))
	check(t, os.WriteFile(filepath.Join(s.Dirs[1], bootID(3)+plainSuffix), logText(t, header(bootID(3)), all[3:]), 0o600))
	b := list(t, s)[0]
	if b.Events != 8 || len(b.Paths) != 2 {
		t.Errorf("%+v", b)
	}
	wantEvents(t, read(t, b.Paths[0], b.Paths[1:]...).events, all)
	if _, err := Open(b.Paths[0], filepath.Join(s.Dirs[0], bootID(2)+plainSuffix)); err == nil {
		t.Error("two boots were opened as one")
	}
}

func TestFind(t *testing.T) {
	s := threeBoots(t)
	path := filepath.Join(s.Dirs[0], bootID(1)+plainSuffix)
	for ref, want := range map[string]int{
		"0": 3, "-1": 2, "-2": 1,
		bootID(2): 2, "000000a2": 2, "000000A1-11": 1, "000000a3111140": 3, path: 1,
	} {
		if b, err := s.Find(ref); err != nil || b.ID != bootID(want) {
			t.Errorf("%s: got %s, %v, want %s", ref, b.ID, err, bootID(want))
		}
	}
	t.Chdir(s.Dirs[0])
	if b, err := s.Find(filepath.Base(path)); err != nil || b.ID != bootID(1) {
		t.Errorf("a file here: %s, %v", b.ID, err)
	}
	for ref, want := range map[string]string{
		"-3":           `no boot "-3" among the 3 recorded: see ` + "`bootrace boots`",
		"f00":          `no boot "f00" among the 3 recorded`,
		"":             `no boot ""`,
		"-":            `no boot "-"`,
		"0000":         `"0000" can be boot ` + bootID(3) + " or " + bootID(2) + " or " + bootID(1),
		"./no.jsonl":   "no such file",
		"/etc/../etc/": "it is a folder",
	} {
		if b, err := s.Find(ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %s, %v, want an error with %q", ref, b.ID, err, want)
		}
	}
}

func TestFindPlaces(t *testing.T) {
	s := threeBoots(t)
	s.Current = bootID(7) // not recorded
	var unknown *UnknownBootError
	if _, err := s.Find("0"); !errors.As(err, &unknown) || !unknown.Unrecorded || unknown.Recorded != 3 {
		t.Errorf("got %v", err)
	}
	if b, err := s.Find("-1"); err != nil || b.ID != bootID(3) {
		t.Errorf("got %s, %v", b.ID, err)
	}
	s.Current = "" // another host's folder
	if b, err := s.Find("0"); err != nil || b.ID != bootID(3) {
		t.Errorf("got %s, %v", b.ID, err)
	}
	empty := &Store{Dirs: []string{t.TempDir(), filepath.Join(t.TempDir(), "no")}}
	for _, ref := range []string{"0", "abc", "-1"} {
		if _, err := empty.Find(ref); !errors.Is(err, ErrNoBoots) {
			t.Errorf("%s: got %v", ref, err)
		}
	}
}

const unreadableDir = "BOOTLOG_TEST_UNREADABLE_DIR"

func TestListUnreadable(t *testing.T) {
	dir := os.Getenv(unreadableDir)
	if dir == "" && os.Getuid() == 0 {
		asNobody(t) // root may read everything
		return
	}
	if dir == "" {
		dir = t.TempDir()
		check(t, os.Chmod(dir, 0))
	}
	_, err := (&Store{Dirs: []string{dir}}).List()
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "run as root") {
		t.Errorf("got %v", err)
	}
}

// asNobody runs the calling test again as a user without rights.
func asNobody(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	check(t, os.Mkdir(dir, 0o700))
	for d := filepath.Dir(dir); strings.HasPrefix(d, os.TempDir()) && d != os.TempDir(); d = filepath.Dir(d) {
		check(t, os.Chmod(d, 0o755))
	}
	self, err := os.ReadFile("/proc/self/exe")
	check(t, err)
	program := filepath.Join(filepath.Dir(dir), "test")
	check(t, os.WriteFile(program, self, 0o755))
	c := exec.Command(program, "-test.run", "^"+t.Name()+"$")
	c.Env = append(os.Environ(), unreadableDir+"="+dir)
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// A log that is packed between the listing and the reading is found all the same.
func TestOpenPackedMeanwhile(t *testing.T) {
	s := threeBoots(t)
	boots, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for i := range boots {
		b := &boots[i]
		if b.Current {
			continue
		}
		plain, err := os.ReadFile(b.Paths[0])
		if err != nil {
			t.Fatal(err)
		}
		packed := strings.TrimSuffix(b.Paths[0], plainSuffix) + zstdSuffix
		if err := errors.Join(os.WriteFile(packed, compressed(t, plain), 0o600), os.Remove(b.Paths[0])); err != nil {
			t.Fatal(err)
		}
		log, err := b.Open()
		if err != nil {
			t.Fatal(err)
		}
		if log.Header().BootID != b.ID {
			t.Errorf("boot %s opens as %s", b.ID, log.Header().BootID)
		}
		log.Close()
		if err := os.Remove(packed); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Open(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a log that is gone: %v", err)
		}
	}
}

func TestRotate(t *testing.T) {
	s := threeBoots(t)
	record(t, s.Dirs[0], bootID(4), 3, 5)
	before := make(map[string][]event.Event)
	for _, b := range list(t, s) {
		before[b.ID] = read(t, b.Paths[0]).events
	}
	check(t, os.WriteFile(filepath.Join(s.Dirs[0], bootID(1)+zstdSuffix+tempSuffix), []byte("x"), 0o600))
	mine := filepath.Join(s.Dirs[0], s.Current+plainSuffix+tempSuffix)
	check(t, os.WriteFile(mine, []byte("x"), 0o600))

	check(t, s.Rotate(t.Context(), Limits{}))
	boots := list(t, s)
	if diff := cmp.Diff([]string{bootID(3), bootID(2), bootID(1), bootID(4)}, ids(boots)); diff != "" {
		t.Fatal(diff)
	}
	for i, b := range boots {
		if b.Compressed != (i > 0) || b.Events != uint64(len(before[b.ID])) || len(b.Paths) != 1 || i > 0 && b.Start.IsZero() {
			t.Errorf("%+v", b)
		}
		wantEvents(t, read(t, b.Paths[0]).events, before[b.ID])
	}
	if temps, _ := filepath.Glob(filepath.Join(s.Dirs[0], "*"+tempSuffix)); !slices.Equal(temps, []string{mine}) {
		t.Errorf("left %v", temps)
	}

	check(t, s.Rotate(t.Context(), Limits{Boots: 3}))
	if diff := cmp.Diff([]string{bootID(3), bootID(2), bootID(1)}, ids(list(t, s))); diff != "" {
		t.Errorf("by number: %s", diff)
	}
	check(t, s.Rotate(t.Context(), Limits{Bytes: 1}))
	if diff := cmp.Diff([]string{bootID(3)}, ids(list(t, s))); diff != "" {
		t.Errorf("by size: %s", diff)
	}
}

// Thin removes what Rotate would, and compresses nothing.
func TestThin(t *testing.T) {
	s := threeBoots(t)
	record(t, s.Dirs[0], bootID(4), 3, 5)
	for _, step := range []struct {
		limits Limits
		want   []string
	}{
		{Limits{}, []string{bootID(3), bootID(2), bootID(1), bootID(4)}},
		{Limits{Boots: 3}, []string{bootID(3), bootID(2), bootID(1)}},
		{Limits{Bytes: 1}, []string{bootID(3)}},
	} {
		check(t, s.Thin(step.limits))
		boots := list(t, s)
		if diff := cmp.Diff(step.want, ids(boots)); diff != "" {
			t.Errorf("%+v: %s", step.limits, diff)
		}
		for _, b := range boots {
			if b.Compressed {
				t.Errorf("%+v: %s was compressed", step.limits, b.ID)
			}
		}
	}
}

// A damaged log is compressed as it is.
func TestRotateKeepsDamage(t *testing.T) {
	s := &Store{Dirs: []string{t.TempDir()}, Current: bootID(3)}
	path := record(t, s.Dirs[0], bootID(1), 4, 100)
	text, err := os.ReadFile(path)
	check(t, err)
	text = append(append(text[:3000:3000], make([]byte, 500)...), text[3500:len(text)-7]...)
	check(t, os.WriteFile(path, text, 0o600))
	before := read(t, path)
	check(t, s.Rotate(t.Context(), Limits{}))
	after := read(t, list(t, s)[0].Paths[0])
	wantEvents(t, after.events, before.events)
	if len(before.damage) != 2 || len(after.damage) != 2 || after.damage[0].Offset != before.damage[0].Offset {
		t.Errorf("damage %+v became %+v", before.damage, after.damage)
	}
}

// A log that cannot be read is neither touched nor in the way.
func TestRotateUnreadable(t *testing.T) {
	s := threeBoots(t)
	path := filepath.Join(s.Dirs[0], bootID(5)+plainSuffix)
	check(t, os.WriteFile(path, []byte("hello\n"), 0o600))
	check(t, s.Rotate(t.Context(), Limits{}))
	if text, err := os.ReadFile(path); err != nil || string(text) != "hello\n" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestRotateLeavesWritten(t *testing.T) {
	f := newFolders(t)
	w := newWriter(t, f.options(nil))
	appendAll(w, opens(5))
	check(t, w.MoveTo(t.Context(), f.durable))
	s := &Store{Dirs: []string{f.durable}} // does not know that this boot runs
	check(t, s.Rotate(t.Context(), Limits{}))
	appendAll(w, opens(10)[5:])
	check(t, w.Close())
	wantEvents(t, f.read(t).events, opens(10))
}

// The power fails at each operation. No boot is lost but those that were to be
// removed, and the next call ends the work.
func TestRotatePowerFailsAnywhere(t *testing.T) {
	limits := Limits{Boots: 3}
	build := func() (*Store, map[string][]event.Event) {
		s := threeBoots(t)
		record(t, s.Dirs[0], bootID(4), 3, 5)
		kept := make(map[string][]event.Event)
		for _, b := range list(t, s)[:3] {
			kept[b.ID] = read(t, b.Paths[0]).events
		}
		return s, kept
	}
	verify := func(n int, s *Store, kept map[string][]event.Event) {
		t.Helper()
		found := 0
		for _, b := range list(t, s) {
			if want, ok := kept[b.ID]; ok {
				found++
				wantEvents(t, read(t, b.Paths[0], b.Paths[1:]...).events, want)
			}
		}
		if found != len(kept) {
			t.Fatalf("failure %d: %d of %d boots are left", n, found, len(kept))
		}
	}
	s, _ := build()
	whole := newFaultyDisk(-1)
	check(t, s.rotate(t.Context(), limits, whole))
	for n := range whole.used {
		s, kept := build()
		if err := s.rotate(t.Context(), limits, newFaultyDisk(n)); err == nil {
			t.Fatalf("failure %d went unnoticed", n)
		}
		verify(n, s, kept)
		check(t, s.Rotate(t.Context(), limits))
		check(t, s.Rotate(t.Context(), limits))
		verify(n, s, kept)
		entries, err := os.ReadDir(s.Dirs[0])
		check(t, err)
		if len(entries) != 2+3 { // two boots, and what was not ours
			t.Fatalf("failure %d left %v", n, entries)
		}
	}
}

func TestRotateStops(t *testing.T) {
	s := threeBoots(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Rotate(ctx, Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkList(b *testing.B) {
	s := &Store{Dirs: []string{b.TempDir()}}
	for i := range 30 {
		record(b, s.Dirs[0], bootID(i), i%24, 20_000)
	}
	check(b, s.Rotate(b.Context(), Limits{}))
	b.ReportAllocs()
	for b.Loop() {
		list(b, s)
	}
}
