package bootlog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

const bootA = "0a1b2c3d-0000-4000-8000-00000000000a"

func header(id string) Header {
	return Header{Version: event.Version, BootID: id, HostName: "kvm7", Kernel: "6.1.0-40-amd64", Machine: "x86_64", Program: "1.0", Started: 4_000_000_000}
}

// opens are n events with ids from 1.
func opens(n int) []event.Event {
	list := make([]event.Event, n)
	for i := range list {
		list[i] = openEvent(i + 1)
	}
	return list
}

func openEvent(id int) event.Event {
	at := event.Time(5_000_000_000 + id*1000)
	return event.Event{
		ID: uint64(id), At: at, From: at - 500, Kind: event.Open, Src: "ebpf",
		Proc: &event.Proc{PID: 2000 + id%300, PPID: 1, Comm: "qemu-system-x86"},
		Open: &event.OpenInfo{
			Path: fmt.Sprintf("/dev/vgdata/73bd7f2a-9779-46d6-885d-%012d", id%500), Flags: 0x8800,
			Dev: &event.Dev{Major: 253, Minor: uint32(id % 500)}, Type: "block", Size: 10 << 30,
		},
	}
}

func logText(tb testing.TB, h Header, events []event.Event) []byte {
	tb.Helper()
	text, err := h.line()
	if err != nil {
		tb.Fatal(err)
	}
	for i := range events {
		text = append(events[i].AppendJSON(text), '\n')
	}
	return text
}

func writeFile(tb testing.TB, name string, text []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

type reading struct {
	header Header
	events []event.Event // without the losses
	losses []event.Event
	damage []Damage
}

func read(tb testing.TB, path string, more ...string) reading {
	tb.Helper()
	l, err := Open(path, more...)
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	var r reading
	for e, err := range l.Events() {
		if err != nil {
			tb.Fatal(err)
		}
		if e.ID == 0 {
			r.losses = append(r.losses, e)
		} else {
			r.events = append(r.events, e)
		}
	}
	r.header, r.damage = l.Header(), l.Damage()
	return r
}

func wantEvents(tb testing.TB, got, want []event.Event) {
	tb.Helper()
	// cmp is slow with thousands of events; it tells what differs.
	if len(want) == 0 && len(got) == 0 || reflect.DeepEqual(want, got) {
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Fatalf("events (-want +got):\n%.2000s", diff)
	}
}

func compressed(tb testing.TB, text []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	if err != nil {
		tb.Fatal(err)
	}
	_, _ = z.Write(text)
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func TestOpen(t *testing.T) {
	// More than a chunk, so that the order of the workers is tested.
	events := opens(20_000)
	text := logText(t, header(bootA), events)
	for name, content := range map[string][]byte{"plain": text, "zstd": compressed(t, text), "no last line break": text[:len(text)-1]} {
		t.Run(name, func(t *testing.T) {
			got := read(t, writeFile(t, "copied.log", content))
			wantEvents(t, got.events, events)
			if len(got.losses)+len(got.damage) > 0 {
				t.Errorf("losses %v, damage %v", got.losses, got.damage)
			}
			if got.header.BootID != bootA || got.header.Host.Name != "kvm7" {
				t.Errorf("header %+v", got.header)
			}
		})
	}
}

func TestHeaderFolds(t *testing.T) {
	list := []event.Event{
		{ID: 1, Kind: event.Source, Source: &event.SourceInfo{Name: "ebpf", State: "attached", Abilities: []event.Ability{{Name: "dm"}, {Name: "open", OK: true}}}},
		{ID: 2, Kind: event.Clock, Clock: &event.ClockInfo{WallOffset: 1}},
		{ID: 3, Kind: event.Clock, Clock: &event.ClockInfo{WallOffset: 2, Trusted: true}},
		{ID: 4, Kind: event.Clock, Clock: &event.ClockInfo{WallOffset: 3, Trusted: true}},
		{ID: 5, Kind: event.Host, Host: &event.HostInfo{Name: "kvm7.example", OS: "Debian"}},
		{ID: 6, Kind: event.Source, Source: &event.SourceInfo{Name: "udev", State: "attached"}},
		{ID: 7, Kind: event.Source, Source: &event.SourceInfo{Name: "ebpf", State: "upgraded", Abilities: []event.Ability{{Name: "dm", OK: true}, {Name: "exec", OK: true}}}},
	}
	path := writeFile(t, "log", logText(t, header(bootA), list))
	want := header(bootA)
	want.Wall = &event.ClockInfo{WallOffset: 3, Trusted: true} // the last trusted one
	want.Host = event.HostInfo{Name: "kvm7.example", OS: "Debian"}
	want.Sources = []event.SourceInfo{
		{Name: "ebpf", State: "upgraded", Abilities: []event.Ability{{Name: "dm", OK: true}, {Name: "open", OK: true}, {Name: "exec", OK: true}}},
		{Name: "udev", State: "attached"},
	}
	if diff := cmp.Diff(want, read(t, path).header); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if diff := cmp.Diff(want, l.Header()); diff != "" {
		t.Errorf("before the events are read (-want +got):\n%s", diff)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		path string
		want string
	}{
		"missing":       {filepath.Join(dir, "no.jsonl"), "no such file"},
		"folder":        {dir, "it is a folder: name a log file"},
		"pipe":          {pipe, "not a regular file"},
		"empty":         {writeFile(t, "log", nil), "the log is empty"},
		"torn header":   {writeFile(t, "log", []byte(`{"bootrace_log":1,"boo`)), "its header is torn"},
		"other program": {writeFile(t, "log", []byte("Nov 23 13:00:00 kvm7 kernel: hello\n")), "not the header of a boot log"},
		"other JSON":    {writeFile(t, "log", []byte("{\"a\":1}\n{\"b\":2}\n")), "not the header of a boot log"},
		"no header":     {writeFile(t, "log", logText(t, header(bootA), opens(2))[len(logText(t, header(bootA), nil)):]), "not the header of a boot log"},
		"zeros":         {writeFile(t, "log", make([]byte, 1<<20)), "not the header of a boot log"},
		"newer":         {writeFile(t, "log", []byte(`{"bootrace_log":7,"boot_id":["x"]}`+"\n")), "it has version 7, this program reads up to version 1: use a newer bootrace"},
		"broken zstd":   {writeFile(t, "log", append([]byte{0x28, 0xb5, 0x2f, 0xfd}, "nonsense"...)), "open boot log"},
	} {
		_, err := Open(tt.path)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.path) {
			t.Errorf("%s: got error %v, want one with %q and the path", name, err, tt.want)
		}
	}
	_, err := Open(writeFile(t, "log", []byte(`{"bootrace_log":7}`+"\n")))
	if version := new(VersionError); !errors.As(err, &version) || version.Log != 7 || version.Program != event.Version {
		t.Errorf("got %v", err)
	}
}

// A log that was cut anywhere opens and has lost at most the line that was cut.
func TestCutAnywhere(t *testing.T) {
	events := opens(4)
	head := len(logText(t, header(bootA), nil))
	text := logText(t, header(bootA), events)
	for cut := head; cut <= len(text); cut++ {
		whole := bytes.Count(text[head:cut], []byte("\n"))
		torn := text[cut-1] != '\n'
		if torn && cut < len(text) && text[cut] == '\n' {
			whole, torn = whole+1, false // only the line break is missing
		}
		got := read(t, writeFile(t, "log", text[:cut]))
		wantEvents(t, got.events, events[:whole])
		if torn != (len(got.losses) == 1) || torn != (len(got.damage) == 1) {
			t.Fatalf("cut at %d: losses %v, damage %v", cut, got.losses, got.damage)
		}
	}
}

func TestDamage(t *testing.T) {
	events := opens(9)
	text := logText(t, header(bootA), events)
	lines := bytes.SplitAfter(text, []byte("\n")) // lines[i] is event i
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	start := func(i int) int64 { return int64(len(join(lines[:i]...))) }
	size := func(from, to int) int64 { return start(to+1) - start(from) }
	zeros := make([]byte, 5000)
	long := append(bytes.Repeat([]byte("x"), 9<<20), '\n')
	type loss struct {
		after, count uint64
	}
	for name, tt := range map[string]struct {
		text   []byte
		gone   []int // ids
		losses []loss
		damage []Damage
	}{
		"zeros over two events": {
			join(join(lines[:3]...), make([]byte, size(3, 4)-1), []byte("\n"), join(lines[5:]...)), []int{3, 4},
			[]loss{{2, 2}}, []Damage{{Offset: start(3), Bytes: size(3, 4)}},
		},
		"zeros without a line end swallow what is before them": {
			join(join(lines[:3]...), zeros, lines[3][10:], join(lines[4:]...)), []int{3},
			[]loss{{2, 1}}, []Damage{{Offset: start(3), Bytes: 5000 + size(3, 3) - 10}},
		},
		"an event behind a torn one": {
			join(join(lines[:3]...), lines[3][:20], join(lines[4:]...)), []int{3},
			[]loss{{2, 1}}, []Damage{{Offset: start(3), Bytes: 20}},
		},
		"zeros before an event": {
			join(join(lines[:3]...), zeros, join(lines[3:]...)), nil,
			nil, []Damage{{Offset: start(3), Bytes: 5000}},
		},
		"zeros at the end": {
			join(text, zeros), nil, []loss{{9, 0}}, []Damage{{Offset: start(10), Bytes: 5000}},
		},
		"garbage": {
			join(join(lines[:3]...), []byte("\xff\xfe\n\n{}\n{\"id\":5}\n"), join(lines[3:]...)), nil,
			nil, []Damage{{Offset: start(3), Bytes: 3}, {Offset: start(3) + 4, Bytes: 12}},
		},
		"a line that is too long": {
			join(join(lines[:3]...), long, join(lines[4:]...)), []int{3},
			[]loss{{2, 1}}, []Damage{{Offset: start(3), Bytes: 9<<20 + 1}},
		},
		"events taken out": {
			join(lines[0], lines[3], join(lines[6:]...)), []int{1, 2, 4, 5},
			[]loss{{0, 2}, {3, 2}}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var want []event.Event
			for _, e := range events {
				if !slices.Contains(tt.gone, int(e.ID)) {
					want = append(want, e)
				}
			}
			path := writeFile(t, "log", tt.text)
			got := read(t, path)
			wantEvents(t, got.events, want)
			for i := range got.damage {
				if got.damage[i].Path != path || got.damage[i].Why == "" {
					t.Errorf("damage %+v", got.damage[i])
				}
				got.damage[i].Path, got.damage[i].Why = "", ""
			}
			if diff := cmp.Diff(tt.damage, got.damage); diff != "" {
				t.Errorf("damage (-want +got):\n%s", diff)
			}
			if len(got.losses) != len(tt.losses) {
				t.Fatalf("losses %+v", got.losses)
			}
			for i, l := range got.losses {
				var after event.Time
				if id := tt.losses[i].after; id > 0 {
					after = events[id-1].At
				}
				if l.Kind != event.Loss || l.Loss.Count != tt.losses[i].count || l.Earliest() != after && after != 0 || l.Loss.Why == "" {
					t.Errorf("loss %+v %+v, want after %d", l, l.Loss, after)
				}
			}
		})
	}
}

func TestCompressedCut(t *testing.T) {
	events := opens(30_000)
	whole := compressed(t, logText(t, header(bootA), events))
	got := read(t, writeFile(t, "log", whole[:len(whole)*2/3]))
	if len(got.events) == 0 || len(got.events) >= len(events) {
		t.Fatalf("%d events", len(got.events))
	}
	wantEvents(t, got.events, events[:len(got.events)])
	if len(got.losses) != 1 || len(got.damage) == 0 {
		t.Errorf("losses %v, damage %v", got.losses, got.damage)
	}
}

func TestStopReading(t *testing.T) {
	path := writeFile(t, "log", compressed(t, logText(t, header(bootA), opens(50_000))))
	before := runtime.NumGoroutine()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		n := 0
		for range l.Events() {
			if n++; n == 10 {
				break
			}
		}
	}
	l.Close()
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines before, %d after", before, runtime.NumGoroutine())
}

func TestOpenUnreadable(t *testing.T) {
	path := writeFile(t, "log", nil)
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); os.Getuid() != 0 && !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	text := logText(f, header(bootA), opens(3))
	f.Add(text)
	f.Add(text[:len(text)-20])
	f.Add(compressed(f, text))
	f.Add(append(text[:len(text)/2:len(text)/2], make([]byte, 100)...))
	dir := f.TempDir()
	var n atomic.Int64
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(dir, fmt.Sprint(os.Getpid(), "-", n.Add(1)))
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
		l, err := Open(path)
		if err != nil {
			return
		}
		defer l.Close()
		var last uint64
		for e, err := range l.Events() {
			if err != nil {
				t.Fatal(err)
			}
			if e.ID == 0 && (e.Kind != event.Loss || e.Src != Source) {
				t.Fatalf("event without an id: %+v", e)
			}
			last = max(last, e.ID)
		}
		var end int64
		for _, d := range l.Damage() {
			if d.Offset < end {
				t.Fatalf("damage overlaps: %+v", l.Damage())
			}
			end = d.Offset + d.Bytes
		}
		// A writer finds the same end, if there is one to find.
		if w, err := NewWriter(WriterOptions{Header: l.Header(), Dirs: []string{dir}, Logger: slog.New(slog.DiscardHandler)}); err == nil {
			w.Close()
			os.Remove(filepath.Join(dir, l.Header().BootID+plainSuffix))
		}
	})
}

func bigLog(b *testing.B) (path string, size int64) {
	b.Helper()
	const n = 1_000_000
	path = filepath.Join(b.TempDir(), bootA+plainSuffix)
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	line := logText(b, header(bootA), nil)
	for i := range n {
		e := openEvent(i + 1)
		line = append(e.AppendJSON(line), '\n')
		if len(line) > 1<<20 || i == n-1 {
			if _, err := f.Write(line); err != nil {
				b.Fatal(err)
			}
			size += int64(len(line))
			line = line[:0]
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return path, size
}

// A million events, about 230 bytes each.
func BenchmarkRead(b *testing.B) {
	path, size := bigLog(b)
	plain, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	packed := writeFile(b, "log.zst", compressed(b, plain))
	plain = nil //nolint:ineffassign,wastedassign // the measured memory is without it
	for _, tt := range []struct{ name, path string }{{"plain", path}, {"zstd", packed}} {
		b.Run(tt.name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			runtime.GC()
			var peak uint64
			begun := cpuTime(b)
			for b.Loop() {
				peak = max(peak, readAll(b, tt.path))
			}
			b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
			b.ReportMetric((cpuTime(b)-begun).Seconds()/float64(b.N), "cpu-s/op")
		})
	}
}

// cpuTime is what the process has used of all cores: on a busy machine it
// tells more than the clock.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// readAll reads a log and returns the most memory that the heap took.
func readAll(b *testing.B, path string) (peak uint64) {
	l, err := Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	n := 0
	for e, err := range l.Events() {
		if err != nil || e.ID == 0 {
			b.Fatal(err, e)
		}
		if n++; n%100_000 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse)
		}
	}
	if n != 1_000_000 {
		b.Fatalf("%d events", n)
	}
	return peak
}

// A power cut leaves zeros at the end of a log, after a whole line or within one:
// what is before them is read, and they are told as what they are.
func TestZeros(t *testing.T) {
	list := opens(3)
	text := logText(t, header(bootA), list)
	for name, cut := range map[string]int{"after a line": 0, "without its line break": 1, "in a line": 20} {
		for _, zero := range []int{1, 5000, maxLine + 2*chunkSize} {
			t.Run(fmt.Sprint(name, " ", zero), func(t *testing.T) {
				content := append(slices.Clone(text[:len(text)-cut]), make([]byte, zero)...)
				got := read(t, writeFile(t, "copied.log", content))
				want := list
				if cut > 1 {
					want = list[:2]
				}
				wantEvents(t, got.events, want)
				if len(got.losses) != 1 || len(got.damage) == 0 {
					t.Fatalf("losses %+v, damage %+v", got.losses, got.damage)
				}
				if why := got.damage[len(got.damage)-1].Why; cut < 2 && why != zeros {
					t.Errorf("damage %q, want %q", why, zeros)
				}
			})
		}
	}
}

// A small file that stands for very much text is read as far as a log can go,
// and what is not read is a loss.
func TestCompressedBomb(t *testing.T) {
	events := opens(3)
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for name, filling := range map[string][]byte{
		"zeros": make([]byte, 1<<20),
		"lines": bytes.Repeat([]byte("{}\n"), 1<<20/3),
	} {
		out.Reset()
		z.Reset(&out)
		_, _ = z.Write(logText(t, header(bootA), events))
		written := 0
		for written < 256<<20 {
			n, _ := z.Write(filling)
			written += n
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if out.Len() > 64<<10 {
			t.Fatalf("%s: %d bytes", name, out.Len())
		}
		got := read(t, writeFile(t, "log.zst", out.Bytes()))
		wantEvents(t, got.events, events)
		if len(got.losses) != 1 || !strings.Contains(got.losses[0].Loss.Why, "it goes on after") {
			t.Errorf("%s: losses %+v", name, got.losses)
		}
		var read int64
		for _, d := range got.damage {
			read = max(read, d.Offset+d.Bytes)
		}
		if limit := max(minText, maxRatio*int64(out.Len())); read > limit {
			t.Errorf("%s: %d bytes of text were read, more than %d", name, read, limit)
		}
	}
}
