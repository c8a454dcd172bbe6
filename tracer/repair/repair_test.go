package repair

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/inspect"
	"github.com/bootrace/bootrace/tracer/roster"
)

func TestMain(m *testing.M) {
	if Machine() {
		Init()
	}
	if path := os.Getenv("BOOTRACE_TEST_RESTORE"); path != "" { // a writer that is killed
		if err := Restore(context.Background(), path, os.Getenv("BOOTRACE_TEST_UNDO") != ""); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// need skips where a tool is missing.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// made makes an image with mkfs.
func made(t *testing.T, size int64, mkfs ...string) string {
	t.Helper()
	need(t, mkfs[0])
	path := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	command(t, mkfs[0], append(mkfs[1:], path)...)
	return path
}

// spoil changes bytes of a file.
func spoil(t *testing.T, path string, off int64, with string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(with), off); err != nil {
		t.Fatal(err)
	}
}

func looked(path, format string) *inspect.InspectedDisk {
	list := inspect.Inspect(context.Background(), image.Reader{Host: roster.NewHost()}, []guest.Image{{Path: path, Format: format, Storage: guest.StorageFile}})
	return &list[0]
}

const (
	xfsSize = 320 << 20
	extSize = 64 << 20
	agfAt   = 512       // the AGF of the first allocation group of an XFS with sectors of 512
	extGD   = 4096 + 12 // in the first group descriptor of an ext4 with blocks of 4096
)

// What a repair can help is found, and what none can is refused with what to do.
func TestTargets(t *testing.T) {
	ext := func(t *testing.T) string {
		return made(t, extSize, "mkfs.ext4", "-q", "-b", "4096", "-O", "metadata_csum,64bit")
	}
	xfs := func(t *testing.T) string { return made(t, xfsSize, "mkfs.xfs", "-q") }
	for _, tc := range []struct {
		name string
		disk func(t *testing.T) string
		want string // of the refusal, empty: a target
	}{
		{"clean ext4", ext, "nothing that was looked at is damaged"},
		{"clean xfs", xfs, "nothing that was looked at is damaged"},
		{"damaged ext4", func(t *testing.T) string { p := ext(t); spoil(t, p, extGD, "\xff\xff"); return p }, ""},
		{"damaged xfs", func(t *testing.T) string { p := xfs(t); spoil(t, p, agfAt+40, "\xff\xff"); return p }, ""},
		{"truncated, and damaged", func(t *testing.T) string {
			p := xfs(t)
			spoil(t, p, agfAt+40, "\xff\xff")
			if err := os.Truncate(p, xfsSize-4096); err != nil {
				t.Fatal(err)
			}
			return p
		}, "give the device back"},
		{"second part gone", func(t *testing.T) string {
			p := xfs(t)
			if err := errors.Join(os.Truncate(p, xfsSize/2), os.Truncate(p, xfsSize)); err != nil {
				t.Fatal(err)
			}
			return p
		}, "put the right one back"},
		{"blank", func(t *testing.T) string { return made(t, 1<<20, "true") }, "no damage is known, and not everything is"},
		{"swap", func(t *testing.T) string { return made(t, 1<<20, "mkswap") }, "nothing that was looked at is damaged"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			targets, err := Targets(looked(tc.disk(t), "raw"))
			switch {
			case tc.want == "" && (err != nil || len(targets) != 1 || targets[0].Offset != 0 || targets[0].Size < extSize):
				t.Errorf("targets %+v, %v", targets, err)
			case tc.want != "" && (!IsRefusal(err) || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%v does not say %q", err, tc.want)
			}
		})
	}
}

// A disk that something has open is refused.
func TestInUse(t *testing.T) {
	need(t, "qemu-nbd")
	path := made(t, extSize, "mkfs.ext4", "-q")
	s, err := serve(context.Background(), t.TempDir(), path, "raw", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Hold(path, "raw"); !errors.Is(err, errLocked) {
		t.Errorf("held a disk that another QEMU process writes: %v", err)
	}
	if _, err := Targets(looked(path, "raw")); !IsRefusal(err) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("targets on a disk in use: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	h, err := Hold(path, "raw")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	if s, err := serve(context.Background(), t.TempDir(), path, "raw", true); err == nil {
		s.Close()
		t.Error("a guest could open a disk for writing that is held")
	} else if !strings.Contains(err.Error(), "lock") {
		t.Error(err)
	}
	if s, err := serve(context.Background(), t.TempDir(), path, "raw", false); err != nil {
		t.Errorf("reading is kept away: %v", err)
	} else {
		s.Close()
	}
}

// rig is a disk with changes to it.
type rig struct {
	disk, changes string
	old, new      []byte
}

func newRig(t testing.TB, blocks int) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{disk: filepath.Join(dir, "disk"), changes: filepath.Join(dir, "x.changes")}
	const size = 4<<20 + 512
	random := rand.New(rand.NewPCG(1, 2))
	r.old = make([]byte, size)
	for i := range r.old {
		r.old[i] = byte(random.Uint32())
	}
	r.new = bytes.Clone(r.old)
	for range blocks {
		at := random.IntN(size)
		for i := range r.new[at:min(at+random.IntN(9000), size)] {
			r.new[at+i] = byte(random.Uint32())
		}
	}
	r.new[size-1] ^= 1 // the last sector, too
	if err := os.WriteFile(r.disk, r.old, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := createChanges(r.changes, &Changes{Disk: r.disk, Format: "raw", Size: size})
	if err != nil {
		t.Fatal(err)
	}
	if err := compare(bytes.NewReader(r.old), bytes.NewReader(r.new), []stretch{{0, size}}, w); err != nil {
		t.Fatal(err)
	}
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	if w.blocks < 2 {
		t.Fatalf("%d blocks", w.blocks)
	}
	return r
}

func (r *rig) is(t *testing.T, want []byte) {
	t.Helper()
	got, err := os.ReadFile(r.disk)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("the disk has other bytes")
	}
}

var errCut = errors.New("the power was cut")

// cutStore loses the power after so many sectors. A disk writes in any order until it
// is told to sync; here what is written is there at once, which put can't tell apart:
// it never depends on an order.
type cutStore struct {
	Store
	left int // sectors
}

func (c *cutStore) WriteAt(p []byte, off int64) (int, error) {
	for at := 0; at < len(p); at += sectorSize {
		if c.left == 0 {
			return at, errCut
		}
		c.left--
		end := min(at+sectorSize, len(p))
		if _, err := c.Store.WriteAt(p[at:end], off+int64(at)); err != nil {
			return at, err
		}
	}
	return len(p), nil
}

// Interrupted at any sector, in either direction, and again and again, the disk can be
// made what it was before or what it is to be, byte for byte.
func TestInterrupted(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	r := newRig(t, 40)
	if err := Restore(context.Background(), r.changes, false); err != nil {
		t.Fatal(err)
	}
	r.is(t, r.new)
	if err := Restore(context.Background(), r.changes, true); err != nil {
		t.Fatal(err)
	}
	r.is(t, r.old)
	f, err := os.Open(r.changes)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cuts := 0
	for round := range 60 {
		for range 1 + random.IntN(3) {
			g, err := hold(r.disk, true)
			if err != nil {
				t.Fatal(err)
			}
			err = put(&cutStore{g, random.IntN(150)}, f, direction(random.IntN(2)), false)
			g.Close()
			if errors.Is(err, errCut) {
				cuts++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		undo := round%2 == 0
		if err := Restore(context.Background(), r.changes, undo); err != nil {
			t.Fatal(err)
		}
		r.is(t, map[bool][]byte{true: r.old, false: r.new}[undo])
	}
	if cuts < 20 {
		t.Errorf("only %d interruptions", cuts)
	}
}

// The same with a process that is killed.
func TestKilled(t *testing.T) {
	r := newRig(t, 40)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		c := exec.Command(self)
		c.Env = append(os.Environ(), "BOOTRACE_TEST_RESTORE="+r.changes)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		_ = c.Process.Kill()
		_ = c.Wait()
		undo := round%2 == 0
		if err := Restore(context.Background(), r.changes, undo); err != nil {
			t.Fatal(err)
		}
		r.is(t, map[bool][]byte{true: r.old, false: r.new}[undo])
		if err := Restore(context.Background(), r.changes, true); err != nil {
			t.Fatal(err)
		}
	}
}

// What somebody else wrote meanwhile is not overwritten; nothing is written at all.
func TestForeign(t *testing.T) {
	r := newRig(t, 10)
	h, err := Hold(r.disk, "raw")
	if err != nil {
		t.Fatal(err)
	}
	last := len(r.old) - 1
	spoil(t, r.disk, int64(last), string([]byte{r.old[last] ^ 0x80}))
	if err := Apply(context.Background(), h, r.changes); !errors.Is(err, errForeign) {
		t.Error(err)
	}
	for _, undo := range []bool{true, false} {
		if err := Restore(context.Background(), r.changes, undo); !errors.Is(err, errForeign) {
			t.Error(err)
		}
	}
	want := bytes.Clone(r.old)
	want[last] ^= 0x80
	r.is(t, want)
	// A repair begins only where all is as it was: half of it there is another state.
	spoil(t, r.disk, 0, string(r.new))
	h, err = Hold(r.disk, "raw")
	if err != nil {
		t.Fatal(err)
	}
	if err := Apply(context.Background(), h, r.changes); !errors.Is(err, errForeign) {
		t.Error(err)
	}
	if err := os.Truncate(r.disk, int64(len(r.old))-512); err != nil {
		t.Fatal(err)
	}
	if Restore(context.Background(), r.changes, true) == nil {
		t.Error("a shorter disk was written to")
	}
}

// A file of changes that is cut or changed anywhere is refused before the first write.
func TestChangesDamaged(t *testing.T) {
	r := newRig(t, 3)
	whole, err := os.ReadFile(r.changes)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 5, len(fileMagic) + 2, len(fileMagic) + 20, len(whole) / 2, len(whole) - 33, len(whole) - 1} {
		cut, changed := whole[:n], bytes.Clone(whole)
		changed[n] ^= 1
		for _, data := range [][]byte{cut, changed} {
			if err := os.WriteFile(r.changes, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if Restore(context.Background(), r.changes, false) == nil {
				t.Errorf("a file that is damaged at byte %d was used", n)
			}
			r.is(t, r.old)
		}
	}
}

func FuzzChanges(f *testing.F) {
	r := newRig(f, 2)
	whole, err := os.ReadFile(r.changes)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(fileMagic + "\x00\x00\x00\x02{}" + strings.Repeat("\x00", 12)))
	f.Fuzz(func(t *testing.T, in []byte) {
		var end int64
		c, err := readChanges(bytes.NewReader(in), func(b *block) error {
			if b.off < end || len(b.old) != len(b.new) || len(b.old) == 0 || len(b.old) > mostBlock {
				t.Errorf("block of %d bytes at %d", len(b.old), b.off)
			}
			end = b.off + int64(len(b.old))
			return nil
		})
		if err == nil && end > c.Size {
			t.Errorf("changes up to %d of %d bytes", end, c.Size)
		}
	})
}

// fakeDoer answers as the tools do.
type fakeDoer struct {
	status map[string]int
	files  []int64
	ran    []string
}

func (f *fakeDoer) run(args ...string) Step {
	what := strings.Join(args, " ")
	f.ran = append(f.ran, what)
	return Step{What: what, Status: f.status[what]}
}

func (f *fakeDoer) count(readOnly bool) Step {
	what := fmt.Sprintf("count %v", readOnly)
	f.ran = append(f.ran, what)
	s := Step{What: what, Status: f.status[what]}
	if len(f.files) > 0 {
		s.Files, f.files = f.files[0], f.files[1:]
	}
	return s
}

// The log of XFS is never thrown away but where that was asked for and the kernel
// could not replay it; what is not sound after all is no repair.
func TestMend(t *testing.T) {
	for _, tc := range []struct {
		name    string
		kind    inspect.Kind
		dropLog bool
		status  map[string]int
		ran     string
		failed  bool
	}{
		{"xfs", inspect.KindXFS, true, nil, "count false|xfs_repair|xfs_repair -n|count true", false},
		{"xfs that can't be mounted", inspect.KindXFS, true, map[string]int{"count false": 1}, "count false|xfs_repair|xfs_repair -n|count true", false},
		{"xfs with a log that stays", inspect.KindXFS, false, map[string]int{"count false": 1, "xfs_repair": 2}, "count false|xfs_repair", true},
		{"the same, thrown away", inspect.KindXFS, true, map[string]int{"count false": 1, "xfs_repair": 2}, "count false|xfs_repair|xfs_repair -L|xfs_repair -n|count true", false},
		{"mounted, and a log that stays", inspect.KindXFS, true, map[string]int{"xfs_repair": 2}, "count false|xfs_repair", true},
		{"still sick", inspect.KindXFS, false, map[string]int{"xfs_repair -n": 1}, "count false|xfs_repair|xfs_repair -n", true},
		{"not to be mounted after all", inspect.KindXFS, false, map[string]int{"count true": 1}, "count false|xfs_repair|xfs_repair -n|count true", true},
		{"ext, preened", inspect.KindExt, false, map[string]int{"e2fsck -f -p": 1}, "e2fsck -f -p|e2fsck -f -n|count true", false},
		{"ext", inspect.KindExt, false, map[string]int{"e2fsck -f -p": 4, "e2fsck -f -y": 1}, "e2fsck -f -p|e2fsck -f -y|e2fsck -f -n|count true", false},
		{"ext, newer than e2fsck", inspect.KindExt, false, map[string]int{"e2fsck -f -p": 8, "e2fsck -f -y": 8}, "e2fsck -f -p|e2fsck -f -y", true},
	} {
		d := &fakeDoer{status: tc.status, files: []int64{20, 20}}
		o := mend(tc.kind, tc.dropLog, d)
		if got := strings.Join(d.ran, "|"); got != tc.ran || (o.Failed != "") != tc.failed {
			t.Errorf("%s: %s; failed: %q", tc.name, got, o.Failed)
		}
	}
}

// What a machine says is bounded, and a machine that stopped is no success.
func TestReadResult(t *testing.T) {
	path := filepath.Join(t.TempDir(), "result")
	for text, want := range map[string]string{
		"": "did not come up", "{\"running\":true}\n": "stopped in the middle", "junk\n{\"error\":\"no disk\"}\n": "no disk",
		"{\"running\":true}\r\n{\"done\":{\"before\":5,\"after\":5}}\r\n": "",
		strings.Repeat("x", mostResult+5):                                 "did not come up",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := readResult(path)
		if want == "" && (err != nil || o.Before != 5) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.40q: %+v, %v", text, o, err)
		}
	}
}

func sum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
