package inspect

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
)

// paste writes an image into another one.
func paste(t testing.TB, image, part string, at int64) string {
	t.Helper()
	st, err := os.Stat(part)
	if err != nil {
		t.Fatal(err)
	}
	return overwrite(t, image, at, readAt(t, part, 0, int(st.Size())))
}

func makeXFSWith(t testing.TB, size int64, args ...string) string {
	t.Helper()
	need(t, "mkfs.xfs")
	image := blank(t, size)
	run(t, "mkfs.xfs", append([]string{"-q", "-f"}, append(args, image)...)...)
	return image
}

// tableOn writes a partition table by a script of sfdisk, and leaves all else alone.
func tableOn(t testing.TB, image, script string) {
	t.Helper()
	need(t, "sfdisk")
	if err := writeFile(image+".in", script); err != nil {
		t.Fatal(err)
	}
	run(t, "sh", "-c", `sfdisk -q --wipe never "$1" <"$1.in"`, "sh", image)
}

// A disk that had a file system, and is used for something else since: what is left of
// the old one is no damage.
func TestLeftOver(t *testing.T) {
	need(t, "wipefs", "mkswap", "mkfs.btrfs", "mkfs.ntfs", "mkfs.fat")
	const size = 512 * mib
	inside := makeExt(t, "ext4", 64*mib)
	for name, old := range map[string]func() string{
		"XFS":            func() string { return makeXFSWith(t, size) },
		"wiped XFS":      func() string { i := makeXFSWith(t, size); run(t, "wipefs", "-q", "-a", i); return i },
		"ext4":           func() string { return makeExt(t, "ext4", size) },
		"ext4 and zeros": func() string { return overwrite(t, makeExt(t, "ext4", size), 0, make([]byte, mib)) },
	} {
		t.Run(name+" under a table", func(t *testing.T) {
			image := old()
			tableOn(t, image, "label: dos\n1M,64M,83\n")
			r := lookAt(t, paste(t, image, inside, mib))[0]
			want(t, only(t, &r, KindMBR), "", 0)
			want(t, only(t, &r, KindExt), StateClean, 0)
			if len(all(r.Disk, KindXFS)) > 0 {
				t.Error(dump(r.Disk))
			}
		})
	}
	makers := map[Kind][]string{
		KindBtrfs: {"mkfs.btrfs", "-q", "-f", "-K"}, KindNTFS: {"mkfs.ntfs", "-q", "-F", "-f"}, KindFAT: {"mkfs.fat", "-F", "32"}, KindSwap: {"mkswap", "-q", "-f"},
	}
	for kind, maker := range makers {
		for name, image := range map[string]string{
			"ext4": makeExt(t, "ext4", size), "XFS": makeXFSWith(t, size), "XFS with large sectors": makeXFSWith(t, size, "-s", "size=4096"),
		} {
			t.Run(name+" under "+string(kind), func(t *testing.T) {
				run(t, maker[0], append(maker[1:], image)...)
				r := lookAt(t, image)[0]
				want(t, only(t, &r, kind), StateClean, 0)
			})
		}
	}
}

// Two file systems of which nothing tells which one is used.
func TestTwoSignatures(t *testing.T) {
	need(t, "mkfs.btrfs")
	image := blank(t, 256*mib)
	run(t, "mkfs.btrfs", "-q", image)
	super := readAt(t, image, btrfsAt, btrfsLength)
	image = overwrite(t, makeExt(t, "ext4", 256*mib), btrfsAt, super)
	l := only(t, &lookAt(t, image)[0], KindExt)
	if !strings.Contains(strings.Join(l.Unknown, " "), "btrfs") {
		t.Error(dump(l))
	}
}

// Linux goes by a GPT only where the first sector says that there is one.
func TestGPTAndMBR(t *testing.T) {
	need(t, "sgdisk")
	image := blank(t, 256*mib)
	run(t, "sgdisk", "-n", "1:2048:0", image)
	dos := blank(t, 256*mib)
	tableOn(t, dos, "label: dos\n,100M,83\n,,83\n")
	r := lookAt(t, overwrite(t, image, 0, readAt(t, dos, 0, 512)))[0]
	if only(t, &r, KindMBR); len(all(r.Disk, KindPartition)) != 2 {
		t.Error(dump(r.Disk))
	}
	want(t, only(t, &lookAt(t, overwrite(t, image, 0, make([]byte, 512)))[0], KindGPT), "", 0, "protective")
	hybrid := duplicate(t, image)
	run(t, "sgdisk", "-n", "2:34:2047", "-h", "1", hybrid)
	want(t, only(t, &lookAt(t, hybrid)[0], KindGPT), "", 0)
	// Its own entry need not be the first of a hybrid table.
	protective, other := readAt(t, hybrid, mbrTable, 16), readAt(t, hybrid, mbrTable+16, 16)
	hybrid = overwrite(t, overwrite(t, hybrid, mbrTable, other), mbrTable+16, protective)
	want(t, only(t, &lookAt(t, overwrite(t, hybrid, 512, make([]byte, 512)))[0], KindGPT), "", 0, "header")
}

// A pool's member has no signature in one place, and what is left of an ext4 in it is
// not what the guest uses.
func TestZFS(t *testing.T) {
	image := overwrite(t, makeExt(t, "ext4", 512*mib), 0, make([]byte, 128<<10))
	for n := range int64(4) {
		b := make([]byte, 1024)
		be.PutUint64(b, 0x00bab10c)
		image = overwrite(t, image, 128<<10+n*4096, b)
		l := lookAt(t, image)[0].Disk.Inside[0]
		if pool := strings.Contains(l.Why, "ZFS"); pool != (n == 3) {
			t.Errorf("%d uberblocks: %s", n+1, dump(l))
		}
	}
}

// A member of an array is not the array.
func TestRAID(t *testing.T) {
	const size = 512 * mib
	member := func(version string, level int32, on string) string {
		b := make([]byte, 256)
		le.PutUint32(b, mdMagic)
		at := map[string]int64{"1.2": 4096, "1.0": (size/512 - 16) &^ 7 * 512, "0.90": size - 64<<10}[version]
		if version == "0.90" {
			le.PutUint32(b[8:], 90)
			le.PutUint32(b[28:], uint32(level))
		} else {
			le.PutUint32(b[4:], 1)
			le.PutUint32(b[72:], uint32(level))
			le.PutUint64(b[144:], uint64(at/512))
		}
		return overwrite(t, on, at, b)
	}
	larger := cut(t, makeXFSWith(t, 2*size), size)
	for _, version := range []string{"1.2", "1.0", "0.90"} {
		l := only(t, &lookAt(t, member(version, 0, larger))[0], KindUnknown)
		if want(t, l, StateUnknown, 0); !strings.Contains(l.Why, "version "+version) {
			t.Errorf("%s: %s", version, dump(l))
		}
	}
	smaller := makeXFSWith(t, size-mib)
	if err := os.Truncate(smaller, size); err != nil {
		t.Fatal(err)
	}
	l := only(t, &lookAt(t, member("1.0", 1, smaller))[0], KindXFS)
	if want(t, l, StateClean, 0); len(l.Unknown) == 0 {
		t.Error(dump(l))
	}
}

// failing can't read some bytes.
type failing struct {
	io.ReaderAt
	from, to int64
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off < f.to && off+int64(len(p)) > f.from {
		return 0, errors.New("input/output error")
	}
	return f.ReaderAt.ReadAt(p, off)
}

// What could not be read is told to the last reader, and after a record, too.
func TestUnread(t *testing.T) {
	xfsImage := makeXFSWith(t, 512*mib)
	chained := blank(t, 64*mib)
	tableOn(t, chained, "label: dos\n,16M,83\n,,E\n,16M,83\n,,83\n")
	for name, c := range map[string]struct {
		image    string
		from, to int64
	}{
		"headers of a group":      {xfsImage, 256 * mib, 256*mib + 4096},
		"descriptors":             {makeExt(t, "ext4", 256*mib, "-b", "65536"), 64 << 10, 128 << 10},
		"copies of a superblock":  {makeExt(t, "ext4", 256*mib, "-b", "4096"), 128 * mib, 129 * mib},
		"the chain of partitions": {chained, 17 * mib, 18 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Open(c.image)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			st, _ := f.Stat()
			d := InspectedDisk{Path: "/dev/x", size: st.Size()}
			r := Look(context.Background(), []Disk{{Name: "x", Bytes: failing{f, c.from, c.to}, Size: st.Size()}})
			d.Report = &r[0]
			d.judge()
			told := func(list []string) bool {
				return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, "input/output error") })
			}
			if !told(d.Unknown) {
				t.Errorf("not told: %q\n%s", d.Unknown, dump(r[0].Disk))
			}
			line := (&event.Event{ID: 1, Kind: event.Inside, Inside: d.Recorded()}).AppendJSON(nil)
			var again event.Event
			if err := (&event.Decoder{}).Decode(line, &again); err != nil || !told(Replay(again.Inside).Unknown) {
				t.Errorf("%v: not in the record: %s", err, line)
			}
		})
	}
}

// A btrfs that is smaller than its device has no copy of its superblock behind its end.
func TestBtrfsSmaller(t *testing.T) {
	need(t, "mkfs.btrfs")
	image := blank(t, 255<<30)
	run(t, "mkfs.btrfs", "-q", "-K", image)
	if err := os.Truncate(image, 300<<30); err != nil {
		t.Fatal(err)
	}
	small := blank(t, 200*mib)
	run(t, "mkfs.btrfs", "-q", "--mixed", "-b", "50M", small)
	for _, image := range []string{image, small} {
		l := only(t, &lookAt(t, image)[0], KindBtrfs)
		if want(t, l, StateClean, 0); l.Absent != nil || len(l.Unknown) > 0 {
			t.Error(dump(l))
		}
	}
}

// Of a btrfs on two devices one is not enough.
func TestBtrfsDevices(t *testing.T) {
	need(t, "mkfs.btrfs")
	one, two := blank(t, 256*mib), blank(t, 256*mib)
	run(t, "mkfs.btrfs", "-q", "-K", "-d", "single", "-m", "raid1", one, two)
	if l := only(t, &lookAt(t, one)[0], KindBtrfs); len(l.Unknown) != 1 {
		t.Error(dump(l))
	}
	for _, r := range lookAt(t, one, two) {
		if l := only(t, &r, KindBtrfs); len(l.Unknown) != 0 {
			t.Error(dump(l))
		}
	}
}

// Tables of logical partitions that are empty, and that are gone.
func TestEmptyExtended(t *testing.T) {
	image := blank(t, 256*mib)
	tableOn(t, image, "label: dos\n,32M,83\n,,E\n")
	l := only(t, &lookAt(t, image)[0], KindMBR)
	if want(t, l, "", 0); len(l.Unknown) > 0 {
		t.Error(dump(l))
	}
	l = only(t, &lookAt(t, overwrite(t, image, 33*mib, make([]byte, 512)))[0], KindMBR)
	if want(t, l, "", 0); len(l.Unknown) != 1 {
		t.Error(dump(l))
	}
}

func TestExtElsewhere(t *testing.T) {
	need(t, "debugfs")
	image := makeExt(t, "ext4", 256*mib)
	unclean := duplicate(t, image)
	run(t, "debugfs", "-w", "-R", "set_super_value state 0", unclean)
	want(t, only(t, &lookAt(t, unclean)[0], KindExt), StateErrors, 0)
	external := duplicate(t, image)
	run(t, "debugfs", "-w", "-R", "set_super_value journal_inum 0", external)
	if l := only(t, &lookAt(t, external)[0], KindExt); len(l.Unknown) != 1 {
		t.Error(dump(l))
	}
}

func TestXFSUnfinished(t *testing.T) {
	need(t, "xfs_db")
	image := makeXFSWith(t, 512*mib)
	s, ok := parseXFS(readAt(t, image, 0, 512))
	if !ok {
		t.Fatal("no superblock")
	}
	unfinished := duplicate(t, image)
	run(t, "xfs_db", "-x", "-c", "sb 0", "-c", "write -d inprogress 1", unfinished)
	want(t, only(t, &lookAt(t, unfinished)[0], KindXFS), StateErrors, 0)
	// In a copy it is always set.
	want(t, only(t, &lookAt(t, overwrite(t, image, 0, make([]byte, 512)))[0], KindXFS), StateClean, 0, "superblock")
	log := int64(s.logStart>>s.agBits*s.agBlocks+s.logStart&(1<<s.agBits-1)) * s.block
	want(t, only(t, &lookAt(t, overwrite(t, image, log, make([]byte, mib)))[0], KindXFS), StateUnknown, 0, "log")
	with := makeXFSWith(t, 512*mib, "-r", "rtdev="+blank(t, 300*mib)+",size=300m")
	if l := only(t, &lookAt(t, with)[0], KindXFS); len(l.Unknown) != 1 {
		t.Error(dump(l))
	}
}
