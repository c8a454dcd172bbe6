package bootlog

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// folders are a volatile and a durable one.
type folders struct{ durable, volatile string }

func newFolders(t testing.TB) folders {
	root := t.TempDir()
	return folders{filepath.Join(root, "var"), filepath.Join(root, "run")}
}

func (f folders) options(d disk) WriterOptions {
	return WriterOptions{
		Header: header(bootA), Dirs: []string{f.durable, f.volatile},
		Logger: slog.New(slog.DiscardHandler), disk: d,
	}
}

// paths are the files of the boot, the durable one first.
func (f folders) paths() []string {
	var list []string
	for _, dir := range []string{f.durable, f.volatile} {
		path := filepath.Join(dir, bootA+plainSuffix)
		if _, err := os.Stat(path); err == nil {
			list = append(list, path)
		}
	}
	return list
}

func (f folders) read(t testing.TB) reading {
	t.Helper()
	paths := f.paths()
	if len(paths) == 0 {
		t.Fatal("there is no log")
	}
	return read(t, paths[0], paths[1:]...)
}

func newWriter(t testing.TB, o WriterOptions) *Writer {
	t.Helper()
	w, err := NewWriter(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// appendAll appends copies of events without their ids.
func appendAll(w *Writer, events []event.Event) {
	for _, e := range events {
		e.ID = 0
		w.Append(&e)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWriter(t *testing.T) {
	f := newFolders(t)
	events := opens(300)
	ctx := t.Context()

	w := newWriter(t, f.options(nil))
	if w.Recovered() != (Recovery{}) {
		t.Errorf("recovered %+v", w.Recovered())
	}
	e := events[0]
	e.ID = 99
	w.Append(&e)
	if e.ID != 1 {
		t.Errorf("first id %d", e.ID)
	}
	appendAll(w, events[1:100])
	check(t, w.Sync(ctx))
	wantEvents(t, f.read(t).events, events[:100])

	check(t, w.MoveTo(ctx, f.durable))
	if paths := f.paths(); len(paths) != 1 || filepath.Dir(paths[0]) != f.durable {
		t.Errorf("after the move: %v", paths)
	}
	check(t, w.MoveTo(ctx, f.durable)) // again, to no effect
	appendAll(w, events[100:200])
	check(t, w.Close())
	check(t, w.Close())
	wantEvents(t, f.read(t).events, events[:200])

	w = newWriter(t, f.options(nil))
	if got := w.Recovered(); got != (Recovery{LastID: 200, LastAt: events[199].At}) {
		t.Errorf("recovered %+v", got)
	}
	appendAll(w, events[200:])
	check(t, w.Close())
	got := f.read(t)
	wantEvents(t, got.events, events)
	if got.header.Kernel != "6.1.0-40-amd64" || len(got.losses)+len(got.damage) > 0 {
		t.Errorf("got %+v, %v, %v", got.header, got.losses, got.damage)
	}
	if err := w.Sync(ctx); err == nil {
		t.Error("a closed log was made durable")
	}
	for path, want := range map[string]fs.FileMode{f.durable: 0o700, f.volatile: 0o700, f.paths()[0]: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}

// Without being asked, events get to the disk in time.
func TestWriterSyncs(t *testing.T) {
	f := newFolders(t)
	d := newFaultyDisk(-1)
	synced := make(chan struct{}, 100)
	o := f.options(syncTeller{d, synced})
	w := newWriter(t, o)
	appendAll(w, opens(1))
	begun := time.Now()
	select {
	case <-synced:
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("made durable after %v", took)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was made durable")
	}
	wantEvents(t, f.read(t).events, opens(1))
}

// syncTeller tells of each successful sync.
type syncTeller struct {
	*faultyDisk
	done chan struct{}
}

func (d syncTeller) Open(path string, flag int) (file, error) {
	f, err := d.faultyDisk.Open(path, flag)
	if err != nil {
		return nil, err
	}
	return toldFile{f, d.done}, nil
}

type toldFile struct {
	file
	done chan struct{}
}

func (f toldFile) Sync() error {
	err := f.file.Sync()
	if err == nil {
		f.done <- struct{}{}
	}
	return err
}

// hungDisk is a disk that does not come back from a sync until it is let go.
type hungDisk struct {
	osDisk
	hangs chan struct{} // closed when it hangs
	once  *sync.Once
	goOn  chan struct{}
}

func (d hungDisk) Open(path string, flag int) (file, error) {
	f, err := d.osDisk.Open(path, flag)
	if err != nil {
		return nil, err
	}
	return hungFile{f, d}, nil
}

type hungFile struct {
	file
	d hungDisk
}

func (f hungFile) Sync() error {
	f.d.once.Do(func() { close(f.d.hangs) })
	<-f.d.goOn
	return f.file.Sync()
}

// While the disk hangs, events are taken, and what is asked about the log is answered.
func TestHungDisk(t *testing.T) {
	f := newFolders(t)
	d := hungDisk{hangs: make(chan struct{}), once: new(sync.Once), goOn: make(chan struct{})}
	w := newWriter(t, f.options(d))
	e := openEvent(1)
	w.Append(&e)
	<-d.hangs
	answers := make(chan string)
	go func() {
		e := openEvent(2)
		w.Append(&e)
		_, _, _ = w.Err(), w.Dropped(), w.OwnLosses()
		answers <- w.Path()
	}()
	select {
	case path := <-answers:
		if filepath.Dir(path) != f.volatile {
			t.Errorf("it is in %s", path)
		}
	case <-time.After(time.Minute):
		t.Error("nothing is answered while the disk hangs")
	}
	close(d.goOn)
	check(t, w.Close())
	if path := w.Path(); path != "" {
		t.Errorf("once closed it is in %q", path)
	}
}

func TestWriterIsAlone(t *testing.T) {
	f := newFolders(t)
	w := newWriter(t, f.options(nil))
	_, err := NewWriter(f.options(nil))
	if locked := new(LockedError); !errors.As(err, &locked) || !strings.Contains(err.Error(), "another bootrace is writing it") {
		t.Errorf("got %v", err)
	}
	check(t, w.MoveTo(t.Context(), f.durable))
	if _, err := NewWriter(f.options(nil)); !errors.As(err, new(*LockedError)) {
		t.Errorf("after the move: %v", err)
	}
	check(t, w.Close())
	newWriter(t, f.options(nil))
}

func TestWriterConcurrently(t *testing.T) {
	f := newFolders(t)
	w := newWriter(t, f.options(nil))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { appendAll(w, opens(2000)) })
	}
	check(t, w.MoveTo(t.Context(), f.durable))
	wg.Wait()
	check(t, w.Close())
	got := f.read(t)
	if len(got.events) != 8000 || len(got.losses) > 0 {
		t.Fatalf("%d events, losses %v", len(got.events), got.losses)
	}
}

func TestWriterCutsTornEnd(t *testing.T) {
	events := opens(3)
	text := logText(t, header(bootA), events)
	two := logText(t, header(bootA), events[:2])
	for name, tt := range map[string]struct {
		text []byte
		have int
		cut  int64
	}{
		"whole":                 {text, 3, 0},
		"torn":                  {text[:len(text)-30], 2, int64(len(text) - 30 - len(two))},
		"no line break":         {text[:len(text)-1], 3, 0},
		"zeros":                 {append(text[:len(text):len(text)], make([]byte, 10<<20)...), 3, 10 << 20},
		"garbage lines":         {append(text[:len(text):len(text)], "x\ny\nz"...), 3, 5},
		"torn header":           {text[:50], 0, 50},
		"header only":           {logText(t, header(bootA), nil), 0, 0},
		"header, torn event":    {logText(t, header(bootA), events[:1])[:len(logText(t, header(bootA), nil))+9], 0, 9},
		"nothing":               {},
		"header, no line break": {bytes.TrimSpace(logText(t, header(bootA), nil)), 0, int64(len(logText(t, header(bootA), nil)) - 1)},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFolders(t)
			check(t, os.Mkdir(f.durable, 0o700))
			check(t, os.WriteFile(filepath.Join(f.durable, bootA+plainSuffix), tt.text, 0o600))
			w := newWriter(t, f.options(nil))
			if got := w.Recovered(); got.LastID != uint64(tt.have) || got.Cut != tt.cut {
				t.Errorf("recovered %+v, want %d events, %d bytes cut", got, tt.have, tt.cut)
			}
			appendAll(w, events[tt.have:])
			appendAll(w, opens(4)[3:])
			check(t, w.Close())
			got := f.read(t)
			wantEvents(t, got.events, opens(4))
			if len(got.damage) > 0 {
				t.Errorf("damage %v", got.damage)
			}
		})
	}
}

func TestWriterRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"newer":      {"{\"bootrace_log\":2}\n", "use a newer bootrace"},
		"no log":     {"hello\n", "not the header of a boot log"},
		"other boot": {strings.ReplaceAll(string(logText(t, header(bootA), nil)), "0a1b", "ffff"), "move it away"},
	} {
		f := newFolders(t)
		check(t, os.Mkdir(f.volatile, 0o700))
		path := filepath.Join(f.volatile, bootA+plainSuffix)
		check(t, os.WriteFile(path, []byte(tt.text), 0o600))
		if _, err := NewWriter(f.options(nil)); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	o := newFolders(t).options(nil)
	o.Header.BootID = "../../etc/passwd"
	if _, err := NewWriter(o); err == nil {
		t.Error("a boot id that is a path was taken")
	}
}

// The power fails at each operation of a log's life: start, append, move,
// append, close. What was made durable before is there afterwards, nothing is
// there twice, and a writer goes on.
func TestPowerFailsAnywhere(t *testing.T) {
	events := opens(40)
	life := func(f folders, d *faultyDisk) (durable int) {
		w, err := NewWriter(f.options(d))
		if err != nil {
			return 0
		}
		defer w.Close()
		appendAll(w, events[:20])
		if w.Sync(t.Context()) == nil {
			durable = 20
		}
		_ = w.MoveTo(t.Context(), f.durable)
		appendAll(w, events[20:])
		if w.Sync(t.Context()) == nil {
			durable = 40
		}
		return durable
	}
	whole := newFaultyDisk(-1)
	life(newFolders(t), whole)
	for n := range whole.used + 1 {
		f := newFolders(t)
		d := newFaultyDisk(n)
		durable := life(f, d)
		if n < whole.used && !d.dead() {
			t.Fatalf("%d operations are too many", n)
		}
		if len(f.paths()) > 0 && durable > 0 {
			got := f.read(t)
			if len(got.events) < durable {
				t.Fatalf("failure %d: %d events, of %d that were durable", n, len(got.events), durable)
			}
			wantEvents(t, got.events, events[:len(got.events)])
		}
		w := newWriter(t, f.options(nil))
		last := int(w.Recovered().LastID)
		if last < durable {
			t.Fatalf("failure %d: went on after event %d, of %d that were durable", n, last, durable)
		}
		appendAll(w, events[last:])
		check(t, w.MoveTo(t.Context(), f.durable))
		check(t, w.Close())
		wantEvents(t, f.read(t).events, events)
		if paths := f.paths(); len(paths) != 1 {
			t.Fatalf("failure %d: left %v", n, paths)
		}
		temps, err := filepath.Glob(filepath.Join(f.durable, "*"+tempSuffix))
		if err != nil || len(temps) > 1 {
			t.Fatalf("failure %d: left %v", n, temps)
		}
	}
}

// Each operation is refused for a while. The log then has all events, in order.
func TestOperationsRefused(t *testing.T) {
	events := opens(60)
	for _, op := range []string{"write", "sync", "mkdir", "open", "rename", "syncdir", "remove"} {
		t.Run(op, func(t *testing.T) {
			f := newFolders(t)
			d := newFaultyDisk(-1)
			w := newWriter(t, f.options(d))
			appendAll(w, events[:20])
			check(t, w.Sync(t.Context()))
			d.set(op, unix.EIO)
			appendAll(w, events[20:40])
			syncs := w.Sync(t.Context())
			if fails := op == "write" || op == "sync"; fails != (syncs != nil) || fails != errors.Is(w.Err(), unix.EIO) {
				t.Errorf("sync: %v, then %v", syncs, w.Err())
			}
			if err := w.MoveTo(t.Context(), f.durable); err == nil && op != "remove" {
				t.Error("the move succeeded")
			}
			d.set(op, nil)
			appendAll(w, events[40:])
			check(t, w.MoveTo(t.Context(), f.durable))
			check(t, w.Sync(t.Context()))
			if w.Err() != nil || w.Dropped() != 0 {
				t.Errorf("in the end %v, %d dropped", w.Err(), w.Dropped())
			}
			check(t, w.Close())
			wantEvents(t, f.read(t).events, events)
		})
	}
}

// After a failed sync the kernel may have lost what was written before.
func TestFailedSyncWritesAgain(t *testing.T) {
	f := newFolders(t)
	d := newFaultyDisk(-1)
	w := newWriter(t, f.options(d))
	appendAll(w, opens(10))
	d.set("sync", unix.EIO)
	if w.Sync(t.Context()) == nil {
		t.Fatal("the sync succeeded")
	}
	path := f.paths()[0]
	info, err := os.Stat(path)
	check(t, err)
	check(t, os.WriteFile(path, make([]byte, info.Size()), 0o600)) // what the disk has of it
	d.set("sync", nil)
	check(t, w.Sync(t.Context()))
	wantEvents(t, f.read(t).events, opens(10))
}

func TestFullMemory(t *testing.T) {
	f := newFolders(t)
	d := newFaultyDisk(-1)
	o := f.options(d)
	o.MaxPending = 20_000
	w := newWriter(t, o)
	check(t, w.Sync(t.Context()))
	d.set("write", unix.ENOSPC)
	events := opens(500)
	kept := 0
	for _, e := range events {
		w.Append(&e)
		if e.ID > 0 {
			kept++
		}
	}
	if kept == 0 || kept == len(events) || w.Dropped() != uint64(len(events)-kept) {
		t.Fatalf("%d kept, %d dropped", kept, w.Dropped())
	}
	if err := w.Sync(t.Context()); !errors.Is(err, unix.ENOSPC) || !errors.Is(w.Err(), unix.ENOSPC) {
		t.Errorf("sync: %v, %v", err, w.Err())
	}
	d.set("write", nil)
	check(t, w.Sync(t.Context()))
	last := openEvent(501)
	w.Append(&last)
	if w.Err() != nil || last.ID != uint64(kept+2) {
		t.Errorf("afterwards: %v, id %d, %d kept", w.Err(), last.ID, kept)
	}
	check(t, w.Close())
	got := f.read(t)
	wantEvents(t, got.events[:kept], events[:kept])
	loss := got.events[kept]
	if loss.Kind != event.Loss || loss.Src != Source || loss.Loss.Count != uint64(500-kept) ||
		loss.From != events[kept].From || loss.At != events[499].At || !strings.Contains(loss.Loss.Why, "could not be written") {
		t.Errorf("loss %+v %+v", loss, loss.Loss)
	}
	if len(got.losses) > 0 {
		t.Errorf("the reader misses %+v", got.losses)
	}
}

// A disk that is really full, and gets room again.
func TestFullDisk(t *testing.T) {
	f := newFolders(t)
	check(t, os.Mkdir(f.volatile, 0o700))
	if err := unix.Mount("tmpfs", f.volatile, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mount a small tmpfs: %v", err)
	}
	defer unix.Unmount(f.volatile, unix.MNT_DETACH)
	w := newWriter(t, f.options(nil))
	defer w.Close()
	events := opens(1000)
	appendAll(w, events[:900])
	if err := w.Sync(t.Context()); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("sync: %v", err)
	}
	got := f.read(t) // the disk took half a line
	wantEvents(t, got.events, events[:len(got.events)])
	if err := w.MoveTo(t.Context(), filepath.Join(f.volatile, "sub")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("move within the full disk: %v", err)
	}
	check(t, unix.Mount("", f.volatile, "", unix.MS_REMOUNT, "size=1m"))
	appendAll(w, events[900:])
	check(t, w.Sync(t.Context()))
	wantEvents(t, f.read(t).events, events)
	check(t, w.MoveTo(t.Context(), f.durable))
	check(t, w.Close())
	wantEvents(t, f.read(t).events, events)
}

// The service is restarted while /var cannot be written, though it has a log.
func TestDurableReadOnly(t *testing.T) {
	f := newFolders(t)
	events := opens(30)
	check(t, os.Mkdir(f.durable, 0o700))
	if err := unix.Mount("tmpfs", f.durable, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	defer unix.Unmount(f.durable, unix.MNT_DETACH)
	w := newWriter(t, f.options(nil))
	appendAll(w, events[:10])
	check(t, w.MoveTo(t.Context(), f.durable))
	check(t, w.Close())
	check(t, unix.Mount("", f.durable, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))

	w = newWriter(t, f.options(nil))
	if got := w.Recovered().LastID; got != 10 {
		t.Errorf("recovered %d", got)
	}
	appendAll(w, events[10:20])
	check(t, w.Sync(t.Context()))
	if err := w.MoveTo(t.Context(), f.durable); !errors.Is(err, unix.EROFS) {
		t.Errorf("move: %v", err)
	}
	wantEvents(t, f.read(t).events, events[:20]) // out of two files

	check(t, unix.Mount("", f.durable, "", unix.MS_REMOUNT, ""))
	check(t, w.MoveTo(t.Context(), f.durable))
	appendAll(w, events[20:])
	check(t, w.Close())
	wantEvents(t, f.read(t).events, events)
	if paths := f.paths(); len(paths) != 1 {
		t.Errorf("left %v", paths)
	}
}

// A torn end is damage, except in a log that is being written.
func TestReadWhileWriting(t *testing.T) {
	f := newFolders(t)
	w := newWriter(t, f.options(nil))
	appendAll(w, opens(3))
	check(t, w.Sync(t.Context()))
	file, err := os.OpenFile(f.paths()[0], os.O_WRONLY|os.O_APPEND, 0)
	check(t, err)
	defer file.Close()
	_, err = file.WriteString(`{"id":4,"t_n`)
	check(t, err)
	if got := f.read(t); len(got.events) != 3 || len(got.losses)+len(got.damage) > 0 {
		t.Errorf("being written: %d events, %v, %v", len(got.events), got.losses, got.damage)
	}
	check(t, w.Close())
	if got := f.read(t); len(got.events) != 3 || len(got.losses) != 1 || len(got.damage) != 1 {
		t.Errorf("closed: %d events, %v, %v", len(got.events), got.losses, got.damage)
	}
}

func TestCanceledRequest(t *testing.T) {
	w := newWriter(t, newFolders(t).options(nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Sync(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What a disk takes in the long run: the caller waits for it now and then, so
// that nothing is dropped.
func BenchmarkAppend(b *testing.B) {
	w := newWriter(b, newFolders(b).options(nil))
	e := openEvent(1)
	b.SetBytes(int64(len(e.AppendJSON(nil)) + 1))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if w.Append(&e); i%50_000 == 0 {
			check(b, w.Sync(context.Background()))
		}
	}
	check(b, w.Sync(context.Background()))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	if w.Dropped() > 0 {
		b.Errorf("%d events were dropped", w.Dropped())
	}
}
