package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func qemuImg(t testing.TB, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("NOT RUN: qemu-img is not installed: .ci/run has the list of packages")
	}
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %v: %v\n%s", args, err, out)
	}
}

// pattern is a raw disk with data, zeros and holes.
func pattern(t testing.TB, dir string, size int64) string {
	t.Helper()
	path := filepath.Join(dir, "raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		b := make([]byte, 1+r.IntN(100_000))
		for i := range b {
			b[i] = byte(r.IntN(7)) // compresses
		}
		if _, err := f.WriteAt(b, r.Int64N(size-int64(len(b)))); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func openData(t testing.TB, drive string) *Data {
	t.Helper()
	r := Reader{Host: LocalHost{}}
	d, err := r.Data(r.Follow(context.Background(), disk(t, drive)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func disk2(t testing.TB, drive string) (*Data, error) {
	t.Helper()
	r := Reader{Host: LocalHost{}}
	d, err := r.Data(r.Follow(context.Background(), disk(t, drive)))
	if err == nil {
		t.Cleanup(func() { d.Close() })
	}
	return d, err
}

// compare reads the disk in pieces of all sizes and compares it with a raw one.
func compare(t *testing.T, d *Data, want []byte) {
	t.Helper()
	if d.Size != int64(len(want)) {
		t.Fatalf("%d bytes, want %d", d.Size, len(want))
	}
	got := make([]byte, 0, len(want))
	for n := 511; len(got) < len(want); n = n*3%200_003 + 1 {
		b := make([]byte, n)
		m, err := d.ReadAt(b, int64(len(got)))
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("byte %d: %v", len(got), err)
		}
		got = append(got, b[:m]...)
	}
	if !bytes.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("byte %d differs", i)
			}
		}
	}
}

// Images of qemu's own making are read as qemu wrote them.
func TestData(t *testing.T) {
	const size = 9<<20 + 512
	dir := t.TempDir()
	source := pattern(t, dir, size)
	want, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"plain": nil, "small clusters": {"-o", "cluster_size=512"}, "large clusters": {"-o", "cluster_size=2M"}, "v2": {"-o", "compat=0.10"},
		"deflate": {"-c"}, "zstd": {"-c", "-o", "compression_type=zstd"}, "deflate, small": {"-c", "-o", "cluster_size=4k"},
		"subclusters": {"-o", "extended_l2=on,cluster_size=128k"}, "counts of 1 bit": {"-o", "refcount_bits=1"},
		"counts of 64 bits": {"-o", "refcount_bits=64"}, "allocated": {"-o", "preallocation=metadata"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(name, ",", ""))
			qemuImg(t, append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, args...), source, path)...)
			d := openData(t, "file="+path+",format=qcow2")
			compare(t, d, want)
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			e := d.Images[0]
			if e.Has != st.Size() || e.Needs <= 0 || e.Needs > e.Has || e.Has-e.Needs > 4<<20 || e.Why != "" {
				t.Errorf("%+v", e)
			}
			// Cut, it needs more than there is.
			if err := os.Truncate(path, e.Needs-1024); err != nil {
				t.Fatal(err)
			}
			d, err = disk2(t, "file="+path+",format=qcow2")
			if err == nil && d.Images[0].Needs <= d.Images[0].Has {
				t.Errorf("a cut image is not told: %+v", d.Images[0])
			}
		})
	}
}

// What qemu says of an image in its header, or has left out of it, is no remark.
func TestDataMarked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", path, "8M")
	mark := func(feature byte) Extent {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[offIncompatible+7] = feature
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return openData(t, "file="+path+",format=qcow2").Images[0]
	}
	if e := mark(incompatibleBad); !strings.Contains(e.Damage, "corrupt") || e.Needs == 0 || len(e.Unknown) > 0 {
		t.Errorf("marked corrupt: %+v", e)
	}
	if e := mark(incompatibleDirty); e.Damage != "" || e.Needs != 0 || !strings.Contains(strings.Join(e.Unknown, ""), "may be behind") {
		t.Errorf("marked dirty: %+v", e)
	}
	// A block of its counts, and then the table of them, lie beyond the end.
	mark(0)
	for _, at := range []int64{128 << 10, 64 << 10} {
		if err := os.Truncate(path, at); err != nil {
			t.Fatal(err)
		}
		if e := openData(t, "file="+path+",format=qcow2").Images[0]; e.Needs != at+512 || len(e.Unknown) > 0 {
			t.Errorf("cut to %d bytes: %+v", at, e)
		}
	}
}

// A chain is read through; backing files by name on the command line, because what
// a header names is opened only where it is a mapping.
func TestDataChain(t *testing.T) {
	const size = 4 << 20
	dir := t.TempDir()
	base := pattern(t, dir, size)
	want, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	middle, top := filepath.Join(dir, "middle"), filepath.Join(dir, "top")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", middle)
	qemuImg(t, "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", "-b", middle, "-F", "qcow2", top, "6M")
	write := func(path string, at, n int64, with byte) {
		t.Helper()
		if out, err := exec.Command("qemu-io", "-f", "qcow2", "-c", fmt.Sprintf("write -P %d %d %d", with, at, n), path).CombinedOutput(); err != nil {
			t.Skipf("NOT RUN: qemu-io: %v %s", err, out)
		}
	}
	want = append(want, make([]byte, 2<<20)...)
	change := func(path string, at, n int64, with byte) {
		write(path, at, n, with)
		copy(want[at:at+n], bytes.Repeat([]byte{with}, int(n)))
	}
	change(middle, 65536, 70_144, 7)
	change(middle, 3<<20, 512, 9)
	change(top, 66_560, 2048, 11)
	change(top, 5<<20, 4096, 13)
	drive := fmt.Sprintf("file.filename=%s,driver=qcow2,backing.driver=qcow2,backing.file.filename=%s,backing.backing.driver=raw,backing.backing.file.filename=%s", top, middle, base)
	compare(t, openData(t, drive), want)

	// By the headers alone the rest is not opened, and reading what is there still
	// works.
	d := openData(t, "file="+top+",format=qcow2")
	b := make([]byte, 4096)
	if _, err := d.ReadAt(b, 5<<20); err != nil || b[0] != 13 {
		t.Errorf("%v, %d", err, b[0])
	}
	if _, err := d.ReadAt(b, 0); err == nil || !strings.Contains(err.Error(), "a header names it") {
		t.Errorf("got %v", err)
	}
	if d.Images[1].Why == "" {
		t.Errorf("%+v", d.Images)
	}
	// What is declared raw is never taken for anything else.
	d = openData(t, "file="+top+",format=raw")
	if _, err := d.ReadAt(b, 0); err != nil || string(b[:3]) != "QFI" {
		t.Errorf("%v, %q", err, b[:4])
	}
}

func TestDataFile(t *testing.T) {
	dir := t.TempDir()
	source := pattern(t, dir, 2<<20)
	want, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	path, data := filepath.Join(dir, "q"), filepath.Join(dir, "data")
	qemuImg(t, "convert", "-f", "raw", "-O", "qcow2", "-o", "data_file="+data, source, path)
	compare(t, openData(t, fmt.Sprintf("driver=qcow2,file.filename=%s,data-file.driver=file,data-file.filename=%s", path, data)), want)
	d, err := disk2(t, "file="+path+",format=qcow2")
	if err == nil {
		if _, err = d.ReadAt(make([]byte, 512), 0); err == nil {
			t.Error("a file that only a header names was read")
		}
	}
}

func TestDataRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "q")
	for name, image := range map[string][]byte{
		"encrypted":   qcow2{version: 3, bits: 16, size: 1 << 30, crypt: 2}.image(),
		"features":    qcow2{version: 3, bits: 16, size: 1 << 30, features: 1 << 40}.image(),
		"short table": qcow2{version: 3, bits: 16, size: 1 << 40}.image(),
		"l1 of 24 GB": func() []byte {
			b := qcow2{version: 3, bits: 16, size: 1 << 30}.image()
			binary.BigEndian.PutUint32(b[36:], 3<<30)
			return b
		}(),
	} {
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := disk2(t, "file="+path+",format=qcow2"); err == nil {
			t.Errorf("%s: it is read", name)
		}
	}
	for _, drive := range []string{"file=" + path + ",format=vmdk", "file=nbd:host:1,format=raw", "file=" + dir + ",format=raw"} {
		if _, err := disk2(t, drive); err == nil {
			t.Errorf("%s is read", drive)
		}
	}
}

// FuzzData reads a disk of hostile bytes all over.
func FuzzData(f *testing.F) {
	dir := f.TempDir()
	source := pattern(f, dir, 1<<20)
	for i, args := range [][]string{nil, {"-c", "-o", "cluster_size=4k"}, {"-c", "-o", "compression_type=zstd,cluster_size=4k"}, {"-o", "extended_l2=on,cluster_size=16k"}} {
		path := filepath.Join(dir, fmt.Sprint(i))
		qemuImg(f, append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, args...), source, path)...)
		image, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(image[:min(len(image), 512<<10)], true, uint64(4096))
	}
	f.Fuzz(func(t *testing.T, image []byte, regular bool, at uint64) {
		if len(image) > 2<<20 {
			return
		}
		q, err := openQCOW2(&raw{in: bytes.NewReader(image), length: int64(len(image))}, regular)
		if err != nil {
			return
		}
		if n, err := q.needs(); err == nil && n < 0 {
			t.Fatalf("needs %d", n)
		}
		b := make([]byte, 8192)
		size := uint64(q.size())
		for _, off := range []uint64{0, at, size / 2, size - min(size, 100)} {
			if size > 0 {
				_ = q.readAt(b, int64(off%size))
			}
		}
		if len(q.blocks) > qcowMostBlocks || len(q.plain) > qcowMostPlain {
			t.Fatal("the caches have no bound")
		}
	})
}

// Who may write to a disk is found, and a reader is nobody.
func TestWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	follow := func() *Chain {
		return Reader{Host: LocalHost{}}.Follow(context.Background(), disk(t, "file="+path+",format=raw"))
	}
	for redirect, want := range map[string]int{">>": 1, "<": 0} {
		c := exec.Command("sh", "-c", "exec 9"+redirect+"$1; echo ready; read x", "sh", path)
		in, _ := c.StdinPipe()
		out, _ := c.StdoutPipe()
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		list, _ := Writers(t.Context(), follow())
		if len(list) != want || want == 1 && (list[0].PID != c.Process.Pid || list[0].Path != path) {
			t.Errorf("%s: %+v", redirect, list)
		}
		in.Close()
		_ = c.Wait()
	}
}

// What one user has open takes a bounded part of a census. Where that leaves something
// out, it is said of those disks only that he may write to.
func TestWritersBounded(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root, to be two users")
	}
	const mallory, hers = 29901, 29900
	dir, err := os.MkdirTemp("", "writers") // t.TempDir is in a folder of root's
	if err := errors.Join(err, os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file := func(name string, mode os.FileMode, uid, gid int) *Chain {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, make([]byte, 512), mode), os.Chmod(path, mode), os.Chown(path, uid, gid)); err != nil {
			t.Fatal(err)
		}
		return Reader{Host: LocalHost{}}.Follow(t.Context(), disk(t, "file="+path+",format=raw"))
	}
	const most = 100
	many := strings.Repeat("exec {fd}>>own; ", most) // more than she may
	user := exec.Command("bash", "-c", many+"exec {fd}>>groups; echo ready; read x")
	root := exec.Command("bash", "-c", many+"exec {fd}>>others; echo ready; read x")
	user.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: mallory, Gid: mallory, Groups: []uint32{hers}}}
	cases := map[string]struct {
		chain    *Chain
		writers  int
		complete bool
	}{
		"own":    {file("own", 0o600, mallory, 0), most/2 + 1, false}, // she has half of the room, and root all that it needs
		"groups": {file("groups", 0o660, 0, hers), 0, false},
		"others": {file("others", 0o660, 0, 0), 1, true},
		"all":    {file("all", 0o666, 0, 0), 0, false},
	}
	var pids []int
	for _, c := range []*exec.Cmd{user, root} {
		c.Dir = dir
		in, _ := c.StdinPipe()
		out, _ := c.StdoutPipe()
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer c.Wait()
		defer in.Close()
		if _, err := out.Read(make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, c.Process.Pid)
	}
	census := takeCensus(most, pids)
	for name, tc := range cases {
		list, complete := census.Writers(tc.chain)
		if complete != tc.complete || len(list) == 0 != (tc.writers == 0) {
			t.Errorf("%s: %+v, complete: %t", name, list, complete)
		}
	}
	if !slices.ContainsFunc(takeCensus(mostSteps, pids).open, func(o openFile) bool { return o.pid == int32(pids[0]) }) {
		t.Error("what she has open is not seen at all")
	}
	if n := len(census.open); n > 2*most+most/2 {
		t.Errorf("%d open files are known", n)
	}
}
