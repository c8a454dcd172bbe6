package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
)

// sparse is a disk of any size with some bytes at its beginning and some further
// on, and zeros elsewhere.
type sparse struct {
	size     int64
	at       []int64
	contents [][]byte
}

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	for i, c := range s.contents {
		if from := s.at[i] - off; from < int64(len(p)) && from > -int64(len(c)) {
			copy(p[max(0, from):], c[max(0, -from):])
		}
	}
	if n := s.size - off; n < int64(len(p)) {
		return int(max(0, n)), io.EOF
	}
	return len(p), nil
}

func lookSparse(s *sparse) []Report {
	return Look(context.Background(), []Disk{{Name: "d", Bytes: s, Size: s.size}})
}

// hostile looks at bytes that anybody may have written, and checks what has to
// hold whatever they are.
func hostile(t *testing.T, s *sparse) {
	t.Helper()
	for _, r := range lookSparse(s) {
		if r.Reads > DefaultLimits.Reads || r.Bytes > DefaultLimits.Bytes {
			t.Fatalf("%d reads, %d bytes", r.Reads, r.Bytes)
		}
		layers := 0
		var check func(l, around *Layer)
		check = func(l, around *Layer) {
			layers++
			away := strings.Contains(strings.Join(l.Unknown, ""), "none of the disks") // so much of it may be elsewhere
			if l.Has < -1 || l.Has > s.size && !away && (around == nil || around.Has <= s.size) || l.Needs < 0 || l.Short() < 0 {
				t.Fatalf("impossible sizes: %s", sprint(l))
			}
			for _, d := range l.Damage {
				if d.At < 0 || d.At > s.size {
					t.Fatalf("damage outside: %s", sprint(l))
				}
			}
			for _, in := range l.Inside {
				check(in, l)
			}
		}
		check(r.Disk, nil)
		if layers > 100_000 {
			t.Fatalf("%d layers", layers)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Fatal(err)
		}
	}
}

// fuzz changes the first bytes of images, the bytes at some place further on, and
// the size.
func fuzz(f *testing.F, heads ...[]byte) {
	f.Add([]byte{}, []byte{}, int64(0), int64(0))
	for _, head := range heads {
		f.Add(head, []byte{}, int64(0), int64(64*mib))
		f.Add(head, head[:min(len(head), 4096)], int64(8*mib), int64(1)<<50)
		f.Add(head, []byte{}, int64(0), int64(len(head)))
	}
	f.Fuzz(func(t *testing.T, head, far []byte, at, size int64) {
		if size < 0 || at < 0 || len(head) > 1<<20 || len(far) > 1<<20 || at > 1<<62 || size > 1<<62 {
			return
		}
		hostile(t, &sparse{size: size, at: []int64{0, at}, contents: [][]byte{head, far}})
	})
}

// head returns the first bytes of an image.
func head(t testing.TB, image string, n int) []byte { return readAt(t, image, 0, n) }

func FuzzXFS(f *testing.F) {
	image := makeXFS(f, 512*mib)
	f.Add(head(f, image, 4096), readAt(f, image, 128*mib, 4096), int64(128*mib), int64(512*mib))
	fuzz(f, head(f, image, 4096))
}

// FuzzXFSLog has a sound superblock, and changes the log.
func FuzzXFSLog(f *testing.F) {
	image := makeXFS(f, 320*mib, "-l", "size=10m")
	first := head(f, image, 4096)
	s, ok := parseXFS(first)
	if !ok {
		f.Fatal("no superblock")
	}
	at := int64(s.logStart>>s.agBits*s.agBlocks+s.logStart&(1<<s.agBits-1)) * s.block
	f.Add(readAt(f, image, at, 4096))
	f.Add(readAt(f, mounted(f, image, "", busy), at, 256<<10))
	f.Fuzz(func(t *testing.T, log []byte) {
		if len(log) > 1<<20 {
			return
		}
		hostile(t, &sparse{size: 320 * mib, at: []int64{0, at, at + int64(s.logBlocks)*s.block - int64(len(log))/2}, contents: [][]byte{first, log, log[len(log)/2:]}})
	})
}

func FuzzExt(f *testing.F) {
	fuzz(f, head(f, makeExt(f, "ext4", 64*mib), 16384), head(f, makeExt(f, "ext4", 64*mib, "-b", "1024", "-O", "^metadata_csum,uninit_bg"), 8192))
}

func FuzzBtrfs(f *testing.F) {
	need(f, "mkfs.btrfs")
	image := blank(f, 256*mib)
	run(f, "mkfs.btrfs", "-q", image)
	super := readAt(f, image, btrfsAt, btrfsLength)
	f.Add(super, int64(256*mib))
	f.Fuzz(func(t *testing.T, super []byte, size int64) {
		if size < 0 || len(super) > 1<<20 || size > 1<<62 {
			return
		}
		if len(super) >= btrfsLength && le.Uint16(super[196:]) == 0 { // past the checksum, too
			super = bytes.Clone(super)
			le.PutUint32(super, crc32.Checksum(super[32:btrfsLength], castagnoli))
		}
		hostile(t, &sparse{size: size, at: []int64{btrfsAt, 64 * mib}, contents: [][]byte{super, super}})
	})
}

func FuzzNTFS(f *testing.F) {
	need(f, "mkfs.ntfs")
	image := blank(f, 16*mib)
	run(f, "mkfs.ntfs", "-q", "-F", "-f", image)
	table := int64(le.Uint64(readAt(f, image, 0x30, 8))) * 512 * int64(readAt(f, image, 0x0d, 1)[0])
	f.Add(head(f, image, 512), readAt(f, image, table, 4096), table, int64(16*mib))
	fuzz(f, head(f, image, 512))
}

func FuzzFAT(f *testing.F) {
	need(f, "mkfs.fat")
	image := blank(f, 64*mib)
	run(f, "mkfs.fat", image)
	fuzz(f, head(f, image, 4096))
}

func FuzzSwap(f *testing.F) {
	need(f, "mkswap")
	image := blank(f, 16*mib)
	run(f, "mkswap", "-q", image)
	fuzz(f, head(f, image, 4096))
}

func FuzzLUKS(f *testing.F) {
	h := make([]byte, 4096)
	copy(h, "LUKS\xba\xbe\x00\x02")
	be.PutUint64(h[8:], 16384)
	copy(h[72:], "sha256")
	one := bytes.Clone(h)
	one[7] = 1
	fuzz(f, h, one)
}

func FuzzGPT(f *testing.F) {
	need(f, "sgdisk")
	image := blank(f, 64*mib)
	run(f, "sgdisk", "-n", "1:0:+1M", "-n", "2:0:0", image)
	full := head(f, image, 34*512)
	f.Add(full, int64(64*mib))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		if size < 0 || len(data) > 1<<20 || size > 1<<62 {
			return
		}
		if len(data) >= 34*512 { // past the checksums, too
			data = bytes.Clone(data)
			h := data[512:1024]
			if n := int64(le.Uint32(h[80:])) * int64(le.Uint32(h[84:])); n <= 32*512 {
				le.PutUint32(h[88:], crc32.ChecksumIEEE(data[1024:1024+n]))
			}
			le.PutUint32(h[12:], 92)
			le.PutUint32(h[16:], crcWithout(crc32.IEEETable, h[:92], 16))
		}
		hostile(t, &sparse{size: size, at: []int64{0}, contents: [][]byte{data}})
	})
}

func FuzzMBR(f *testing.F) {
	need(f, "sfdisk")
	image := blank(f, 64*mib)
	if err := writeFile(image+".in", "label: dos\n,8M,83,*\n,,E\n,16M,82\n,,83\n"); err != nil {
		f.Fatal(err)
	}
	run(f, "sh", "-c", `sfdisk -q "$1" <"$1.in"`, "sh", image)
	f.Add(head(f, image, 512), readAt(f, image, 9*mib, 512), int64(9*mib), int64(64*mib))
	fuzz(f, head(f, image, 512))
}

// lvmImage is a label and a metadata area with a text, their checksums sound.
func lvmImage(text []byte, size uint64) []byte {
	image := make([]byte, 8192+len(text))
	label := image[512:1024]
	copy(label, lvmLabel)
	le.PutUint64(label[8:], 1)
	le.PutUint32(label[20:], 32)
	copy(label[24:], "LVM2 001")
	copy(label[32:], "pv0pv0pv0pv0pv0pv0pv0pv0pv0pv0pv")
	le.PutUint64(label[64:], size)
	le.PutUint64(label[72:], mib) // data
	le.PutUint64(label[104:], 4096)
	le.PutUint64(label[112:], mib-4096)
	le.PutUint32(label[16:], lvmCRC(label[20:]))
	area := image[4096:4608]
	copy(area[4:], lvmMetaMagic)
	le.PutUint32(area[20:], 1)
	le.PutUint64(area[24:], 4096)
	le.PutUint64(area[32:], mib-4096)
	le.PutUint64(area[40:], 4096)
	le.PutUint64(area[48:], uint64(len(text)))
	le.PutUint32(area[56:], lvmCRC(text))
	le.PutUint32(area, lvmCRC(area[4:]))
	copy(image[8192:], text)
	return image
}

const lvmSeed = `vg { id = "vgvgvg" seqno = 2 extent_size = 8192 status = ["READ"]
physical_volumes { pv0 { id = "pv0pv0-pv0p-v0pv-0pv0-pv0p-v0pv-0pv0pv" pe_start = 2048 pe_count = 15 } }
logical_volumes { root { id = "x" status = ["READ", "VISIBLE"] segment_count = 2
segment1 { start_extent = 0 extent_count = 4 type = "striped" stripe_count = 1 stripes = [ "pv0", 0 ] }
segment2 { start_extent = 4 extent_count = 4 type = "striped" stripe_count = 2 stripe_size = 128 stripes = [ "pv0", 4, "pv0", 6 ] } } } }`

func FuzzLVM(f *testing.F) {
	f.Add([]byte(lvmSeed), uint64(64*mib), int64(64*mib))
	f.Add([]byte(lvmSeed), uint64(1)<<63, int64(mib))
	f.Fuzz(func(t *testing.T, text []byte, claims uint64, size int64) {
		if size < 0 || len(text) > lvmTextMost || size > 1<<62 {
			return
		}
		hostile(t, &sparse{size: size, at: []int64{0}, contents: [][]byte{lvmImage(text, claims)}})
	})
}

// The seed is a group that is understood, so that the fuzzing begins inside.
func TestLVMSeed(t *testing.T) {
	r := lookSparse(&sparse{size: 64 * mib, at: []int64{0}, contents: [][]byte{lvmImage([]byte(lvmSeed), 64*mib)}})
	if v := named(r[0].Disk, "root"); v == nil || v.Needs != 32*mib || v.Short() != 0 {
		t.Error(dump(r[0].Disk))
	}
}

// A physical volume whose metadata is not used, or that has none, is not one without a
// group: that is known by the others, if at all.
func TestLVMBare(t *testing.T) {
	ignored := lvmImage([]byte(lvmSeed), 64*mib)
	area := ignored[4096:4608]
	le.PutUint32(area[60:], 1)
	le.PutUint32(area, lvmCRC(area[4:]))
	without := lvmImage([]byte(lvmSeed), 64*mib)
	label := without[512:1024]
	clear(label[104:120])
	le.PutUint32(label[16:], lvmCRC(label[20:]))
	empty := lvmImage(nil, 64*mib)
	for name, c := range map[string]struct {
		image   []byte
		unknown bool
	}{"ignored": {ignored, true}, "without": {without, true}, "empty": {empty, false}} {
		r := lookSparse(&sparse{size: 64 * mib, at: []int64{0}, contents: [][]byte{c.image}})
		l := only(t, &r[0], KindPV)
		if (len(l.Unknown) > 0) != c.unknown || strings.Contains(strings.Join(l.Notes, ""), "no volume group") == c.unknown {
			t.Errorf("%s: %s", name, dump(l))
		}
	}
	// Another disk has the group's metadata, in which the bare one is pv1.
	text := strings.Replace(lvmSeed, "physical_volumes {", `physical_volumes { pv1 { id = "pv1pv1-pv1p-v1pv-1pv1-pv1p-v1pv-1pv1pv" pe_start = 2048 pe_count = 15 } `, 1)
	copy(label[32:], "pv1pv1pv1pv1pv1pv1pv1pv1pv1pv1pv")
	le.PutUint32(label[16:], lvmCRC(label[20:]))
	disks := []Disk{}
	for i, image := range [][]byte{without, lvmImage([]byte(text), 64*mib)} {
		disks = append(disks, Disk{Name: strconv.Itoa(i), Size: 64 * mib, Bytes: &sparse{size: 64 * mib, at: []int64{0}, contents: [][]byte{image}}})
	}
	r := Look(context.Background(), disks)
	if l := only(t, &r[0], KindPV); l.Name != "vg" || len(l.Unknown) > 0 {
		t.Error(dump(l))
	}
}

// A volume with very many stripes, and a text that names itself, cost no more than
// the limits.
func TestBombs(t *testing.T) {
	for _, text := range []string{
		strings.ReplaceAll(lvmSeed, "stripe_size = 128", "stripe_size = 1"),
		strings.ReplaceAll(lvmSeed, "extent_count = 4", "extent_count = 4611686018427387904"),
		strings.ReplaceAll(lvmSeed, "extent_size = 8192", "extent_size = 9223372036854775807"),
		strings.ReplaceAll(lvmSeed, `["READ", "VISIBLE"]`, `["VISIBLE"`+strings.Repeat(", 1", 90_000)+"]"),
	} {
		hostile(t, &sparse{size: 64 * mib, at: []int64{0}, contents: [][]byte{lvmImage([]byte(text), 64*mib)}})
	}
}

type slow struct{ release chan struct{} }

func (s slow) ReadAt(p []byte, _ int64) (int, error) { <-s.release; return len(p), nil }

// A disk that does not answer is told, and does not keep anybody.
func TestSlowDisk(t *testing.T) {
	s := slow{make(chan struct{})}
	defer close(s.release)
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer stop()
	image := &sparse{size: 64 * mib, at: []int64{0}, contents: [][]byte{lvmImage([]byte(lvmSeed), 64*mib)}}
	r := Look(ctx, []Disk{{Name: "dead", Bytes: s, Size: mib}, {Name: "late", Bytes: image, Size: image.size}})
	for i := range r {
		if r[i].Cut != errSlow.Error() || r[i].Disk.Inside[0].State != StateUnknown {
			t.Errorf("%+v\n%s", r[i], dump(r[i].Disk))
		}
	}
}

type broken struct{}

var errBroken = errors.New("input/output error")

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

func TestUnreadableDisk(t *testing.T) {
	r := Look(context.Background(), []Disk{{Name: "d", Bytes: broken{}, Size: mib}})
	l := r[0].Disk.Inside[0]
	if l.State != StateUnknown || !strings.Contains(l.Why, "byte 0 can't be read: input/output error") {
		t.Error(dump(r[0].Disk))
	}
}

// What moves while a guest runs is not told; what holds is.
func TestLive(t *testing.T) {
	image := makeExt(t, "ext4", 64*mib)
	data := head(t, image, 16384)
	data[1024+0x90] ^= 1 // the superblock's checksum fails
	s := &sparse{size: 32 * mib, at: []int64{0}, contents: [][]byte{data}}
	r := Look(context.Background(), []Disk{{Name: "d", Bytes: s, Size: s.size, Live: true}})
	l := only(t, &r[0], KindExt)
	want(t, l, StateUnknown, 0)
	data[1024+0x90] ^= 1
	r = Look(context.Background(), []Disk{{Name: "d", Bytes: s, Size: s.size, Live: true}})
	want(t, only(t, &r[0], KindExt), StateUnknown, 32*mib)
}

// The limits hold where one disk has many file systems, and what was not looked
// at is said.
func TestLimits(t *testing.T) {
	image := makeExt(t, "ext4", 64*mib)
	r := look(context.Background(), []Disk{{Name: "d", Bytes: &sparse{size: 64 * mib, at: []int64{0}, contents: [][]byte{head(t, image, 16384)}}, Size: 64 * mib}},
		Limits{Bytes: 4 << 20, Reads: 1})
	if r[0].Cut != errLimit.Error() || r[0].Reads != 1 {
		t.Errorf("%+v\n%s", r[0], dump(r[0].Disk))
	}
}

// late is a host whose files do not answer until they are let go.
type late struct {
	image.LocalHost
	release chan struct{}
}

func (h late) Open(r *devmap.Resolution) (image.File, error) {
	f, err := h.LocalHost.Open(r)
	if err != nil {
		return nil, err
	}
	return lateFile{f.(*os.File), h.release}, nil
}

type lateFile struct {
	*os.File
	release chan struct{}
}

func (f lateFile) ReadAt(p []byte, off int64) (int, error) {
	<-f.release
	return f.File.ReadAt(p, off)
}

// A disk that answers after the deadline keeps nobody, whatever is read of it first: its
// bytes, or the header of its image. The others are looked at.
func TestLateDisk(t *testing.T) {
	need(t, "qemu-img")
	h := late{release: make(chan struct{})}
	raw := makeExt(t, "ext4", 64*mib)
	qcow2 := raw + ".qcow2"
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2)
	var reading sync.WaitGroup
	beside := Beside{Reading: &reading, Writers: func(context.Context, *image.Chain) ([]image.Use, bool) { return nil, true }}
	for path, format := range map[string]string{raw: "raw", qcow2: "qcow2"} {
		ctx, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
		list := beside.Inspect(ctx, image.Reader{Host: h}, []guest.Image{{Path: path, Format: format, Storage: guest.StorageFile}})
		stop()
		if unknown := strings.Join(list[0].Unknown, "\n"); !strings.Contains(unknown, errSlow.Error()) || len(list[0].Troubles) > 0 {
			t.Errorf("%s: %+v", format, list[0])
		}
	}
	close(h.release)
	reading.Wait() // nobody is left behind for ever
}
