package inspector

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/memory"
	"github.com/bootrace/bootrace/tracer/roster"
)

// rig is an Inspector with what it records.
type rig struct {
	*Inspector
	memory *memory.Store
	mu     sync.Mutex
	events []event.Event
}

func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	r := &rig{memory: memory.NewStore("this-boot")}
	o := Options{
		Host: roster.NewHost(), Memory: r.memory, On: func() bool { return true }, Log: slog.New(slog.DiscardHandler),
		Record: func(e event.Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
		},
	}
	if change != nil {
		change(&o)
	}
	r.Inspector = New(o)
	return r
}

// start starts a guest by its command line; pid is of no process.
func (r *rig) start(t *testing.T, pid int, owner uint32, args string) *Look {
	t.Helper()
	g := parse(t, args)
	return r.Start(Start{Guest: &g, PID: pid, UID: owner})
}

func parse(t *testing.T, args string) guest.Guest {
	t.Helper()
	g := guest.Parser{Program: "/usr/bin/qemu-system-x86_64", Watched: true}.Parse(strings.Fields("qemu-system-x86_64 " + args))
	if !g.IsGuest {
		t.Fatalf("no guest: %s", args)
	}
	return g
}

// told waits for that many events.
func (r *rig) told(t *testing.T, n int) []event.Event {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		r.mu.Lock()
		list := slices.Clone(r.events)
		r.mu.Unlock()
		if len(list) >= n {
			return list
		}
	}
	t.Fatalf("%d events were recorded, and not %d", len(r.events), n)
	return nil
}

func wait(t *testing.T, l *Look) {
	t.Helper()
	if l == nil {
		t.Fatal("nothing is looked at")
	}
	select {
	case <-l.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the look does not end")
	}
}

// noPID is of no process.
const noPID = 1 << 22

func makeXFS(t *testing.T, size int64) string {
	t.Helper()
	if _, err := exec.LookPath("mkfs.xfs"); err != nil {
		t.Skip("NOT RUN: mkfs.xfs is not installed: .ci/run has the list of packages")
	}
	path := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	if exec.Command("mkfs.xfs", "-q", "-L", "root\x1b[31m", path).Run() != nil { // not every version takes it
		if out, err := exec.Command("mkfs.xfs", "-q", "-L", "root", path).CombinedOutput(); err != nil {
			t.Fatalf("mkfs.xfs: %v: %s", err, out)
		}
	}
	return path
}

const size = 320 << 20

// A guest's disk that came back shorter: the record says which layer falls short, and
// by how much, and the memory gets it with the disk.
func TestTruncated(t *testing.T) {
	path := makeXFS(t, size)
	args := "-name vm -drive file=" + path + ",format=raw"
	r := newRig(t, nil)
	wait(t, r.start(t, noPID, 0, args))
	e := r.told(t, 1)[0]
	if e.Kind != event.Inside || e.Proc.PID != noPID || e.From == 0 || e.At < e.From || e.Inside.Guest != "name:vm" || e.Inside.Disk != path {
		t.Errorf("%s", e.AppendJSON(nil))
	}
	if fs := e.Inside.Layers[len(e.Inside.Layers)-1]; fs.Kind != "xfs" || fs.Needs != size || fs.Has != size || fs.State != "clean" || fs.Generation == 0 {
		t.Errorf("%+v", fs)
	}
	const cut = size - 64<<20
	if err := os.Truncate(path, cut); err != nil {
		t.Fatal(err)
	}
	r = newRig(t, nil)
	l := r.start(t, noPID, 0, args)
	wait(t, l)
	e = r.told(t, 1)[0]
	if fs := e.Inside.Layers[len(e.Inside.Layers)-1]; fs.Needs != size || fs.Has != cut {
		t.Errorf("%+v", fs)
	}
	if d := l.Disks()[0]; !d.Short() || len(d.Troubles) != 1 {
		t.Errorf("%+v", d.Troubles)
	}
	disk := event.MemoryDisk{Path: path, DeviceKind: memory.KindFile, UUID: "fs", Mount: "/srv", Format: "raw", Size: cut}
	r.memory.Remember("name:vm", "vm", []event.MemoryDisk{disk})
	if err := r.memory.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	known := r.memory.Last("name:vm").Disks[0]
	if known.ShortSince != "this-boot" || known.InsideBoot != "this-boot" || len(known.Inside) != 1 || known.Inside[0].Needs != size {
		t.Errorf("remembered: %+v", known)
	}
}

// Of a disk that somebody writes to, sizes are told, and no state.
func TestLive(t *testing.T) {
	path := makeXFS(t, size)
	writer := exec.Command("sleep", "60")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	writer.ExtraFiles = []*os.File{f}
	if err := errors.Join(writer.Start(), f.Close()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = writer.Process.Kill()
		_ = writer.Wait()
	}()
	r := newRig(t, nil)
	wait(t, r.start(t, noPID, 0, "-name vm -drive file="+path+",format=raw"))
	info := r.told(t, 1)[0].Inside
	if fs := info.Layers[len(info.Layers)-1]; !info.Live || fs.Needs != size || fs.State != "unknown" || fs.Generation != 0 {
		t.Errorf("%+v", info)
	}
}

// Starts within a short time share a look, and each is told of it; a raw disk's bytes
// never decide its format.
func TestShared(t *testing.T) {
	path := makeXFS(t, size)
	r := newRig(t, nil)
	first := r.start(t, noPID, 0, "-name a -drive file="+path+",format=raw")
	wait(t, first)
	if second := r.start(t, noPID+1, 0, "-name b -drive file="+path+",format=raw"); second != first {
		t.Error("the same disk was looked at twice")
	}
	r.start(t, noPID+1, 0, "-name b -drive file="+path+",format=raw")
	list := r.told(t, 2)
	if len(list) != 2 || list[0].Inside.Guest != "name:a" || list[1].Inside.Guest != "name:b" || list[1].From != list[0].From {
		t.Errorf("%d events, %+v", len(list), list)
	}
	qcow2 := filepath.Join(t.TempDir(), "hostile.img")
	if err := os.WriteFile(qcow2, append([]byte("QFI\xfb\x00\x00\x00\x03"), make([]byte, 64<<10)...), 0o600); err != nil {
		t.Fatal(err)
	}
	l := r.start(t, noPID+2, 0, "-name c -drive file="+qcow2+",format=raw")
	wait(t, l)
	for _, layer := range l.Infos[0].Layers {
		if layer.Kind == "image" && layer.Detail != "raw" {
			t.Errorf("a raw disk is taken for %s", layer.Detail)
		}
	}
}

// A look that is taken again tells what is new, and nothing twice: a disk that is given
// back its bytes.
func TestAgain(t *testing.T) {
	path := makeXFS(t, size)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size-64<<20); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, nil)
	g := parse(t, "-name vm -drive file="+path+",format=raw")
	for range 3 {
		l := r.Start(Start{Guest: &g, PID: noPID, Again: true})
		wait(t, l)
		if !l.Disks()[0].Short() {
			t.Error("it is not short")
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	l := r.Start(Start{Guest: &g, PID: noPID, Again: true})
	wait(t, l)
	if l.Disks()[0].Short() {
		t.Error("it is still short")
	}
	if list := r.told(t, 2); len(list) != 2 {
		t.Errorf("%d events", len(list))
	}
}

// What is off is off.
func TestOff(t *testing.T) {
	r := newRig(t, func(o *Options) { o.On = func() bool { return false } })
	if l := r.start(t, noPID, 0, "-name vm -drive file=/nowhere,format=raw"); l != nil {
		t.Error("it is looked at although that is off")
	}
}

// stuck is a host with paths that hang.
type stuck struct {
	Host
	free chan struct{}
}

func (s stuck) Resolve(path string) (devmap.Resolution, error) {
	return devmap.Resolution{Path: path, Node: path}, nil
}

func (s stuck) Open(r *devmap.Resolution) (image.File, error) {
	if strings.HasPrefix(r.Path, "/hangs") {
		<-s.free
	}
	return zeros{}, nil
}

type zeros struct{}

func (zeros) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	return len(p), nil
}
func (zeros) Close() error               { return nil }
func (zeros) Stat() (os.FileInfo, error) { return length{}, nil }

// length is a file of 1 MiB.
type length struct{ os.FileInfo }

func (length) Size() int64 { return 1 << 20 }

var _ io.ReaderAt = zeros{}

// Storage that does not answer keeps one worker each, of its owner's share: others
// have their look at once, and what was not seen is told.
func TestStuck(t *testing.T) {
	free := make(chan struct{})
	r := newRig(t, func(o *Options) {
		o.Host, o.patience = stuck{o.Host, free}, 4*time.Second
	})
	const mallory, bob = 100000, 1001 // mallory has a block of ids
	for n := range 20 {
		r.start(t, noPID+n, mallory+uint32(n), fmt.Sprintf("-name m%d -drive file=/hangs/%d,format=raw", n, n))
	}
	l := r.start(t, noPID+100, bob, "-name bob -drive file=/fine,format=raw")
	wait(t, l)
	if why := l.Infos[0].Why; why != "" {
		t.Errorf("bob's disk: %s", why)
	}
	hung := 0
	for _, e := range r.told(t, 3) {
		if strings.Contains(e.Inside.Why, "did not answer") {
			hung++
		}
	}
	if hung != ownerWorkers {
		t.Errorf("%d looks hang, and not %d", hung, ownerWorkers)
	}
	close(free)
	list := r.told(t, 21)
	if len(list) != 21 {
		t.Errorf("%d events", len(list))
	}
	for _, e := range list {
		if own := uint32(mallory + e.Proc.PID - noPID); e.Proc.UID != own && e.Proc.UID != bob {
			t.Errorf("user %d's disk is told as user %d's", own, e.Proc.UID)
		}
	}
}

// Where it takes long to find out who writes to a disk, looks wait for the same answer,
// let go of their disks in time, and take nobody for idle.
func TestSlowCensus(t *testing.T) {
	free := make(chan struct{})
	var taken atomic.Int32
	r := newRig(t, func(o *Options) {
		o.patience = time.Second
		o.takeCensus = func() *image.Census {
			taken.Add(1)
			<-free
			return image.TakeCensus()
		}
	})
	var paths []string
	for n := range 4 {
		path := filepath.Join(t.TempDir(), fmt.Sprint("disk", n))
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
		r.start(t, noPID+n, 0, fmt.Sprintf("-name vm%d -drive file=%s,format=raw", n, path))
	}
	for _, e := range r.told(t, len(paths)) {
		if !e.Inside.Live || e.Inside.Why != "" {
			t.Errorf("who writes to it is not known: %+v", e.Inside)
		}
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		links, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		open := slices.ContainsFunc(links, func(link string) bool {
			to, err := os.Readlink(link)
			return err == nil && slices.Contains(paths, to)
		})
		if !open {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a disk stays open")
		}
	}
	if n := taken.Load(); n != 1 {
		t.Errorf("%d looks at all processes were taken at a time", n)
	}
	close(free)
}

// One user's looks are bounded, and what goes beyond is said.
func TestShare(t *testing.T) {
	free := make(chan struct{})
	r := newRig(t, func(o *Options) {
		o.Host, o.patience = stuck{o.Host, free}, time.Minute
	})
	for n := range mostWaiting + ownerWorkers + 1 {
		r.start(t, noPID+n, 1000, fmt.Sprintf("-name m%d -drive file=/hangs/%d,format=raw", n, n))
	}
	if got := r.told(t, 1)[0].Inside.Why; !strings.Contains(got, "too many disks of its owner's guests wait") {
		t.Errorf("%q", got)
	}
	close(free)
}

// Disks are looked at before their guests start, as far as they are remembered.
func TestBefore(t *testing.T) {
	path := makeXFS(t, size)
	dir := t.TempDir()
	old := memory.NewStore("before")
	old.Remember("name:vm", "vm", []event.MemoryDisk{{Path: path, DeviceKind: memory.KindFile, UUID: "fs", Mount: "/srv", Format: "raw", Size: size}})
	old.Remember("name:gone", "gone", []event.MemoryDisk{{Path: "/nowhere", DeviceKind: memory.KindFile, UUID: "fs", Mount: "/srv", Format: "raw", Size: size}})
	if err := errors.Join(old.Open(dir), old.Save()); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, nil)
	if err := r.memory.Open(dir); err != nil {
		t.Fatal(err)
	}
	r.Recall()
	e := r.told(t, 1)[0]
	if e.Proc != nil || e.Inside.Guest != "name:vm" || e.Inside.Layers[len(e.Inside.Layers)-1].State != "clean" {
		t.Errorf("%s", e.AppendJSON(nil))
	}
}

// What is kept of looks does not keep the command lines, and is bounded for each user;
// that more of a guest's disks were not looked into is said.
func TestKept(t *testing.T) {
	r := newRig(t, nil)
	const mallory, bob = 1000, 1001
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for n := range 100 {
		var args strings.Builder
		for d := range 2000 {
			fmt.Fprintf(&args, " -drive file=/nowhere/%d/%0*d,format=raw", n, 200, d)
		}
		l := r.start(t, noPID+n, mallory, args.String())
		if l == nil {
			t.Fatal("there is no room for it, although all that is there is over")
		}
		wait(t, l)
		if last := l.Infos[len(l.Infos)-1]; len(l.Infos) != mostDisks+1 || !strings.HasPrefix(last.Why, "this and 1935 more are not looked into") {
			t.Fatalf("the last of %d says %q", len(l.Infos), last.Why)
		}
	}
	l := r.start(t, noPID, bob, "-name bob -drive file=/nowhere,format=raw")
	wait(t, l)
	r.mu.Lock()
	r.events = nil
	r.mu.Unlock()
	if more := heap() - before; more > 2*mostKept {
		t.Errorf("%d bytes are kept", more)
	}
	if again := r.start(t, noPID, bob, "-name bob -drive file=/nowhere,format=raw"); again != l {
		t.Error("another user's look serves no more")
	}
	r.Inspector.mu.Lock()
	defer r.Inspector.mu.Unlock()
	if o := r.owners[mallory]; o.kept > mostKept || len(r.recent) > len(o.fresh)+1 {
		t.Errorf("%d bytes, %d looks, and %d in all", o.kept, len(o.fresh), len(r.recent))
	}
}

// Paths that differ in bytes that are no text are those of different disks.
func TestBytes(t *testing.T) {
	r := newRig(t, nil)
	a := r.start(t, noPID, 0, "-name a -drive file=/nowhere/\xfe,format=raw")
	b := r.start(t, noPID, 0, "-name b -drive file=/nowhere/\xff,format=raw")
	wait(t, a)
	wait(t, b)
	if a == b || a.disks[0].Path != "/nowhere/\xfe" {
		t.Errorf("one look at %q is for both", a.disks[0].Path)
	}
}

// What is left out beyond a user's share is in the record as his loss, by ever larger
// counts, so that telling it takes no share of anybody.
func TestUntold(t *testing.T) {
	r := newRig(t, nil)
	const beyond = 1000
	for range mostTold + beyond {
		r.record(1000)
	}
	if !r.record(1001) {
		t.Error("another user has no room")
	}
	var count uint64
	var told int
	for _, e := range r.events {
		if e.Kind != event.Loss || e.Src != SourceName || e.Loss.UID != 1000 || e.Loss.What != lossInside || e.From > e.At {
			t.Fatalf("recorded %+v, loss %+v", e, e.Loss)
		}
		count += e.Loss.Count
		told++
	}
	if count < beyond/2 || count > beyond || told > 10 {
		t.Errorf("%d losses tell of %d, and %d were left out", told, count, beyond)
	}
}
