package powercut

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/inspect"
)

const mib = 1 << 20

// recipe is a file system to make.
type recipe struct {
	name    string
	kind    inspect.Kind
	size    int64    // bytes, when it is made
	grown   int64    // bytes to which its device has grown then; 0: it has not
	make    []string // the command without the image
	fs      string   // the kernel's name of it
	options string
	end     []End // one of them, by the seed; empty: one that any file system can have
}

var v4 = "crc=0,finobt=0,rmapbt=0,reflink=0,bigtime=0,inobtcount=0"

// recipes are file systems of each kind and of many features.
func recipes() []recipe {
	xfs := func(name string, size, grown int64, options string, args ...string) recipe {
		return recipe{name: "xfs, " + name, kind: inspect.KindXFS, size: size * mib, grown: grown * mib, fs: "xfs", options: options,
			make: append([]string{"mkfs.xfs", "-q", "-f", "-L", "root"}, args...)}
	}
	ext := func(name, tool string, size, grown int64, options string, args ...string) recipe {
		return recipe{name: name, kind: inspect.KindExt, size: size * mib, grown: grown * mib, fs: "ext4", options: options,
			make: append([]string{"mkfs." + tool, "-q", "-F", "-L", "root", "-E", "lazy_itable_init=1"}, args...)}
	}
	btrfs := func(name string, size, grown int64, args ...string) recipe {
		return recipe{name: "btrfs, " + name, kind: inspect.KindBtrfs, size: size * mib, grown: grown * mib, fs: "btrfs", options: "commit=3",
			make: append([]string{"mkfs.btrfs", "-q", "-L", "data"}, args...), end: []End{Never, Never, Never, Unmount, ReadOnly, Idle}}
	}
	fat := func(bits string, size int64) recipe {
		return recipe{name: "FAT" + bits, kind: inspect.KindFAT, size: size * mib, fs: "vfat",
			make: []string{"mkfs.fat", "-F", bits}, end: []End{Never, Unmount, ReadOnly, Idle}}
	}
	list := []recipe{
		xfs("version 5", 512, 0, ""), xfs("version 4", 384, 0, "", "-m", v4),
		xfs("version 4, log version 1", 330, 0, "", "-m", v4, "-l", "version=1"),
		xfs("version 4, lazy counters off", 330, 0, "", "-m", v4, "-l", "lazy-count=0"),
		xfs("blocks of 1 KiB", 400, 0, "", "-b", "size=1024"), xfs("blocks of 2 KiB", 333, 0, "wsync", "-b", "size=2048"),
		xfs("sectors of 4 KiB", 512, 0, "", "-s", "size=4096"), xfs("stripes", 512, 0, "", "-d", "su=64k,sw=2", "-l", "su=64k"),
		xfs("large log buffers", 512, 0, "logbsize=256k", "-l", "su=256k"), xfs("a small log", 320, 0, "logbsize=32k", "-l", "size=10m"),
		xfs("16 groups", 640, 0, "", "-d", "agcount=16"), xfs("reverse mapping", 384, 0, "", "-m", "rmapbt=1"),
		xfs("no reflink", 360, 0, "", "-m", "reflink=0,finobt=0"), xfs("large extent counts", 512, 0, "", "-i", "nrext64=1"),
		xfs("large directories", 512, 0, "wsync", "-n", "size=16k"), xfs("no bigtime", 345, 0, "", "-m", "bigtime=0"),
		xfs("grown", 320, 900, ""), xfs("grown far", 384, 3000, "", "-d", "agcount=8"), xfs("grown, version 4", 330, 1000, "", "-m", v4),
		xfs("grown, a small log", 320, 700, "", "-l", "size=10m"),
		ext("ext4", "ext4", 256, 0, ""), ext("ext4, blocks of 1 KiB", "ext4", 200, 0, "", "-b", "1024"),
		ext("ext4, blocks of 2 KiB", "ext4", 150, 0, "", "-b", "2048"), ext("ext4, no checksums", "ext4", 128, 0, "", "-O", "^metadata_csum"),
		ext("ext4, checksums of groups", "ext4", 128, 0, "", "-O", "^metadata_csum,uninit_bg"),
		ext("ext4, seed of checksums", "ext4", 160, 0, "", "-O", "metadata_csum_seed"), ext("ext4, 32 bits", "ext4", 130, 0, "", "-O", "^64bit"),
		ext("ext4, two copies", "ext4", 600, 0, "", "-O", "sparse_super2"), ext("ext4, file of orphans", "ext4", 256, 0, "", "-O", "orphan_file"),
		ext("ext4, clusters", "ext4", 256, 0, "", "-O", "bigalloc", "-C", "16384"), ext("ext4, data in inodes", "ext4", 128, 0, "", "-O", "inline_data"),
		ext("ext4, fast commits", "ext4", 256, 0, "", "-O", "fast_commit"), ext("ext4, no journal", "ext4", 128, 0, "", "-O", "^has_journal"),
		ext("ext4, meta groups", "ext4", 256, 0, "", "-O", "meta_bg,^resize_inode"), ext("ext4, data in the journal", "ext4", 256, 0, "data=journal"),
		ext("ext4, grown", "ext4", 128, 500, ""), ext("ext4, grown far", "ext4", 200, 2000, "", "-b", "1024"),
		ext("ext3", "ext3", 128, 0, ""), ext("ext3, blocks of 1 KiB", "ext3", 96, 0, "", "-b", "1024"),
		ext("ext2", "ext2", 128, 0, ""), ext("ext2, blocks of 1 KiB", "ext2", 64, 0, "", "-b", "1024"),
		btrfs("CRC-32C", 300, 0), btrfs("SHA-256", 256, 0, "--csum", "sha256"), btrfs("xxhash", 256, 0, "--csum", "xxhash"),
		btrfs("blake2", 256, 0, "--csum", "blake2"), btrfs("one copy", 200, 0, "-m", "single"), btrfs("mixed", 160, 0, "--mixed"), btrfs("grown", 256, 700),
		fat("12", 4), fat("16", 64), fat("32", 300),
		{name: "swap", kind: inspect.KindSwap, size: 64 * mib, fs: "swap", make: []string{"mkswap", "-q", "-L", "sw"}},
	}
	for _, at := range []int{20, 21, 37} { // an ext4 of each block size, and an ext3
		failed := list[at]
		failed.name, failed.end = failed.name+", errors", []End{Error}
		list = append(list, failed)
	}
	return list
}

// ends are those that any file system can have. Most disks have none, and are cut.
var ends = []End{Never, Never, Never, Never, Unmount, ReadOnly, Freeze, Shutdown, Idle}

// disk is a disk of the first machine.
type disk struct {
	drive
	recipes []recipe // what is on it
	offsets []int64  // of the partitions, in bytes; nil: there are none
}

// stock is what the machines work with.
type stock struct {
	t     *testing.T
	dir   string
	disks []disk
	order Order
}

// build makes disks by the recipes. Each XFS, ext4 and btrfs without growth has one more
// in a partition or in a qcow2 image, by the seed.
func build(t *testing.T, seed uint64, list []recipe) *stock {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	s := &stock{t: t, dir: t.TempDir(), order: Order{Seed: seed}}
	for _, rec := range list {
		s.plain(r, rec)
	}
	for _, rec := range list {
		if rec.grown > 0 || rec.kind == inspect.KindSwap || r.IntN(4) > 0 {
			continue
		}
		s.qcow2(r, rec, 1+r.IntN(3))
	}
	pick := func() recipe {
		for {
			if rec := list[r.IntN(len(list))]; rec.grown == 0 {
				return rec
			}
		}
	}
	for _, kind := range []string{"gpt", "gpt", "dos", "dos"} {
		s.table(r, kind, []recipe{pick(), pick(), pick()})
	}
	s.lvm(r)
	return s
}

func (s *stock) file(name string) string { return filepath.Join(s.dir, name) }

// fill makes a file system in a file.
func (s *stock) fill(rec recipe) string {
	s.t.Helper()
	path := s.file(fmt.Sprintf("fs%d", len(s.disks)))
	sized(s.t, path, rec.size)
	run(s.t, rec.make[0], append(rec.make[1:len(rec.make):len(rec.make)], path)...)
	if rec.grown > 0 {
		sized(s.t, path, rec.grown)
	}
	return path
}

func (s *stock) volume(r *rand.Rand, rec recipe, v Volume) {
	end := ends
	if rec.end != nil {
		end = rec.end
	}
	v.FS, v.Options, v.Grow, v.End = rec.fs, rec.options, rec.grown > 0 || v.Extend != nil, end[r.IntN(len(end))]
	s.order.Volumes = append(s.order.Volumes, v)
}

func (s *stock) plain(r *rand.Rand, rec recipe) {
	s.volume(r, rec, Volume{LUN: len(s.disks)})
	s.disks = append(s.disks, disk{drive: drive{path: s.fill(rec), format: "raw"}, recipes: []recipe{rec}})
}

// qcow2 puts a file system into a compressed template, with some layers above.
func (s *stock) qcow2(r *rand.Rand, rec recipe, layers int) {
	s.t.Helper()
	rec.name += fmt.Sprintf(", in %d layers of qcow2", layers+1)
	raw := s.fill(rec)
	top := raw + ".template"
	run(s.t, "qemu-img", "convert", "-q", "-c", "-f", "raw", "-O", "qcow2", raw, top)
	if err := os.Remove(raw); err != nil {
		s.t.Fatal(err)
	}
	var backing []string
	for n := range layers {
		over := fmt.Sprintf("%s.%d", raw, n)
		options := []string{"cluster_size=64k", "cluster_size=64k,extended_l2=on", "cluster_size=512k", "lazy_refcounts=on"}[r.IntN(4)]
		run(s.t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "-b", top, "-F", "qcow2", over)
		backing = append([]string{top}, backing...)
		top = over
	}
	s.volume(r, rec, Volume{LUN: len(s.disks)})
	s.disks = append(s.disks, disk{drive: drive{top, "qcow2", backing}, recipes: []recipe{rec}})
}

// table puts file systems into partitions.
func (s *stock) table(r *rand.Rand, kind string, list []recipe) {
	s.t.Helper()
	d := disk{drive: drive{path: s.file(fmt.Sprintf("table%d", len(s.disks))), format: "raw"}, recipes: list}
	at := int64(mib)
	script := "label: " + kind + "\n"
	for i := range list {
		list[i].name += ", in a partition of " + kind
		d.offsets = append(d.offsets, at)
		script += fmt.Sprintf("start=%d, size=%d\n", at/512, list[i].size/512)
		at += list[i].size + mib
	}
	sized(s.t, d.path, at+mib)
	if err := os.WriteFile(d.path+".in", []byte(script), 0o600); err != nil {
		s.t.Fatal(err)
	}
	run(s.t, "sh", "-c", `sfdisk -q "$1" <"$1.in"`, "sh", d.path)
	for i, rec := range list {
		from := s.fill(rec)
		run(s.t, "dd", "if="+from, "of="+d.path, "bs=1M", "conv=notrunc,sparse", fmt.Sprintf("seek=%d", d.offsets[i]/mib), "status=none")
		if err := os.Remove(from); err != nil {
			s.t.Fatal(err)
		}
		s.volume(r, rec, Volume{LUN: len(s.disks), Part: i + 1})
	}
	s.disks = append(s.disks, d)
}

// lvm has the machine make groups with volumes.
func (s *stock) lvm(r *rand.Rand) {
	s.t.Helper()
	group := func(name string, sizes ...int64) {
		g := Group{Name: name}
		for _, size := range sizes {
			path := s.file(fmt.Sprintf("pv%d", len(s.disks)))
			sized(s.t, path, size*mib)
			g.LUNs = append(g.LUNs, len(s.disks))
			s.disks = append(s.disks, disk{drive: drive{path: path, format: "raw"}})
		}
		s.order.Groups = append(s.order.Groups, g)
	}
	volume := func(name string, rec recipe, extend []string, args ...string) {
		g := &s.order.Groups[len(s.order.Groups)-1]
		g.LVs = append(g.LVs, append([]string{"-n", name}, append(args, g.Name)...))
		s.volume(r, rec, Volume{LV: g.Name + "/" + name, Make: rec.make, Extend: extend})
	}
	xfs := recipe{kind: inspect.KindXFS, fs: "xfs", make: []string{"mkfs.xfs", "-q", "-K"}}
	ext := recipe{kind: inspect.KindExt, fs: "ext4", make: []string{"mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=1"}}
	group("centos", 1500)
	volume("root", xfs, nil, "-L", "400M")
	volume("home", ext, nil, "-L", "200M")
	volume("var", xfs, []string{"-L", "800M", "centos/var"}, "-L", "336M")
	group("two", 300, 500)
	volume("over", ext, nil, "-l", "100%FREE")
	group("wide", 400, 400)
	volume("striped", xfs, nil, "-i", "2", "-I", "64k", "-L", "480M")
	volume("narrow", ext, []string{"-L", "200M", "wide/narrow"}, "-L", "100M")
	group("three", 256, 256, 256)
	volume("striped", ext, nil, "-i", "3", "-I", "16k", "-L", "300M")
	volume("linear", xfs, nil, "-L", "396M")
}

func sized(t testing.TB, path string, size int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	s := asked(name, args...)
	if s.Status != 0 {
		t.Fatalf("%s %s: status %d\n%s", name, strings.Join(args, " "), s.Status, s.Text)
	}
	return s.Text
}
