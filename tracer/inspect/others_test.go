package inspect

import (
	"strings"
	"testing"
)

func makeExt(t testing.TB, kind string, size int64, args ...string) string {
	t.Helper()
	need(t, "mkfs.ext4", "dumpe2fs")
	image := blank(t, size)
	run(t, "mkfs."+kind, append([]string{"-q", "-F", "-L", "root"}, append(args, image)...)...)
	return image
}

func TestExt(t *testing.T) {
	const size = 256 * mib
	for name, args := range map[string][]string{
		"ext4": {"ext4"}, "ext3": {"ext3"}, "ext2": {"ext2"}, "ext4 small blocks": {"ext4", "-b", "1024"},
		"ext4 sparse_super2": {"ext4", "-O", "sparse_super2"}, "ext4 gdt_csum": {"ext4", "-O", "^metadata_csum,uninit_bg"},
		"ext4 seed": {"ext4", "-O", "metadata_csum_seed"}, "ext4 32 bit": {"ext4", "-O", "^64bit"},
		"ext4 bigalloc": {"ext4", "-O", "bigalloc", "-C", "16384"},
	} {
		t.Run(name, func(t *testing.T) {
			image := makeExt(t, args[0], size, args[1:]...)
			l := only(t, &lookAt(t, image)[0], KindExt)
			want(t, l, StateClean, 0)
			if l.Needs != size || l.Label != "root" || l.Detail != args[0] || l.Absent != nil {
				t.Errorf("%s", dump(l))
			}
			want(t, only(t, &lookAt(t, cut(t, image, size-100*mib))[0], KindExt), StateClean, 100*mib)
			dirty := mounted(t, image, "", busy)
			l = only(t, &lookAt(t, dirty)[0], KindExt)
			want(t, l, StateDirty, 0)
			if says := run(t, "dumpe2fs", "-h", dirty); (args[0] != "ext2") != strings.Contains(says, "needs_recovery") {
				t.Errorf("dumpe2fs says %s", says)
			}
			want(t, only(t, &lookAt(t, cut(t, dirty, size-4096))[0], KindExt), StateDirty, 4096)
			if lost := all(lookAt(t, overwrite(t, dirty, 1024, make([]byte, 1024)))[0].Disk, KindExt); len(lost) == 1 && lost[0].State == StateClean {
				t.Errorf("dirty, and its superblock gone: %s", dump(lost[0]))
			}
			l = only(t, &lookAt(t, image)[0], KindExt)
			want(t, l, StateClean, 0)
			if len(l.Times) == 0 || !strings.Contains(strings.Join(l.Notes, " "), "last mounted on") {
				t.Error(dump(l))
			}
		})
	}
}

func TestExtDamage(t *testing.T) {
	need(t, "debugfs")
	const size = 600 * mib
	image := makeExt(t, "ext4", size)
	broken := func(name, image string, state State, damaged ...string) *Layer {
		l := only(t, &lookAt(t, image)[0], KindExt)
		t.Run(name, func(t *testing.T) { want(t, l, state, 0, damaged...) })
		if l.Needs != size {
			t.Errorf("%s: needs %d", name, l.Needs)
		}
		return l
	}
	// Only the first superblock says how it was left, but for what the journal tells.
	broken("superblock", flip(t, image, 1024+0x90), StateUnknown, "superblock")
	broken("gone", overwrite(t, image, 1024, make([]byte, 1024)), StateUnknown, "superblock")
	broken("descriptor", flip(t, image, 4096+64+4), StateClean, "descriptor of group 1")
	failed := duplicate(t, image)
	run(t, "debugfs", "-w", "-R", "set_super_value error_count 3", failed)
	run(t, "debugfs", "-w", "-R", "set_super_value state 3", failed)
	run(t, "debugfs", "-w", "-R", "set_super_value first_error_func ext4_lookup", failed)
	l := broken("errors", failed, StateErrors)
	if !strings.Contains(l.Why, "3 errors") || !strings.Contains(l.Why, "ext4_lookup") {
		t.Errorf("why %q", l.Why)
	}
	half := cut(t, image, size/2)
	run(t, "truncate", "-s", "600M", half)
	l = broken("second part", half, StateClean)
	if l.Absent == nil || l.Absent.From <= size/2-size/8 {
		t.Error(dump(l))
	}
}

func TestBtrfs(t *testing.T) {
	need(t, "mkfs.btrfs", "btrfs")
	const size = 256 * mib
	image := blank(t, size)
	run(t, "mkfs.btrfs", "-q", "-L", "data", image)
	l := only(t, &lookAt(t, image)[0], KindBtrfs)
	want(t, l, StateClean, 0)
	if l.Needs != size || l.Label != "data" || l.Generation == 0 {
		t.Error(dump(l))
	}
	want(t, only(t, &lookAt(t, cut(t, image, size-mib))[0], KindBtrfs), StateClean, mib)
	l = only(t, &lookAt(t, flip(t, image, btrfsAt+200))[0], KindBtrfs)
	want(t, l, StateUnknown, 0, "superblock")
	if l.Needs != size {
		t.Errorf("the copy has the size: %s", dump(l))
	}
	for _, kind := range []string{"xxhash", "sha256"} {
		other := blank(t, size)
		run(t, "mkfs.btrfs", "-q", "--csum", kind, other)
		want(t, only(t, &lookAt(t, other)[0], KindBtrfs), StateClean, 0)
		want(t, only(t, &lookAt(t, flip(t, other, btrfsAt+200))[0], KindBtrfs), StateUnknown, 0, "superblock")
	}
	l = only(t, &lookAt(t, overwrite(t, image, 64*mib, make([]byte, 4096)))[0], KindBtrfs)
	if l.Absent == nil || l.Absent.From != 64*mib {
		t.Error(dump(l))
	}
	// fsync writes the log tree, and the commit that follows in time takes it away.
	dirty := mounted(t, image, "commit=300", `echo x > y; sync -f .; echo z > y; sync y; cp --sparse=always "$1" "$2/before"`)
	l = only(t, &lookAt(t, strings.TrimSuffix(dirty, "copy")+"before")[0], KindBtrfs)
	if tree := run(t, "btrfs", "inspect-internal", "dump-super", strings.TrimSuffix(dirty, "copy")+"before"); !strings.Contains(tree, "log_root\t\t0") {
		want(t, l, StateDirty, 0)
	} else {
		t.Skip("NOT RUN: this kernel made no log tree")
	}
}

func TestNTFS(t *testing.T) {
	need(t, "mkfs.ntfs", "ntfsinfo")
	const size = 64 * mib
	image := blank(t, size)
	run(t, "mkfs.ntfs", "-q", "-F", "-f", "-L", "Windows ö", image)
	l := only(t, &lookAt(t, image)[0], KindNTFS)
	want(t, l, StateClean, 0)
	if l.Needs > size || l.Needs < size-64<<10 || l.Label != "Windows ö" {
		t.Error(dump(l))
	}
	needs := l.Needs
	want(t, only(t, &lookAt(t, cut(t, image, needs-512))[0], KindNTFS), StateClean, 512)
	l = only(t, &lookAt(t, overwrite(t, image, needs-512, make([]byte, 512)))[0], KindNTFS)
	if l.Absent == nil || l.Absent.From != needs-512 {
		t.Error(dump(l))
	}
	// The flag that Windows sets while it uses a volume.
	table := int64(le.Uint64(readAt(t, image, 0x30, 8))) * int64(le.Uint16(readAt(t, image, 0x0b, 2))) * int64(readAt(t, image, 0x0d, 1)[0])
	record := readAt(t, image, table+3*1024, 1024)
	off := int(le.Uint16(record[0x14:]))
	for le.Uint32(record[off:]) != ntfsInformation {
		off += int(le.Uint32(record[off+4:]))
	}
	flags := off + int(le.Uint16(record[off+0x14:])) + 10
	want(t, only(t, &lookAt(t, overwrite(t, image, table+3*1024+int64(flags), []byte{1}))[0], KindNTFS), StateDirty, 0)
	want(t, only(t, &lookAt(t, overwrite(t, image, table+3*1024, []byte("BAAD")))[0], KindNTFS), StateUnknown, 0, "record 3")
	want(t, only(t, &lookAt(t, flip(t, image, table+3*1024+1022))[0], KindNTFS), StateUnknown, 0, "record 3")
}

func TestFAT(t *testing.T) {
	need(t, "mkfs.fat", "fsck.fat")
	for bits, size := range map[string]int64{"12": 4 * mib, "16": 64 * mib, "32": 300 * mib} {
		image := blank(t, size)
		run(t, "mkfs.fat", "-F", bits, "-n", "BOOT", image)
		l := only(t, &lookAt(t, image)[0], KindFAT)
		want(t, l, StateClean, 0)
		needs := l.Needs
		if needs > size || needs < size-64<<10 || l.Label != "BOOT" || l.Detail != "FAT"+bits {
			t.Error(dump(l))
		}
		want(t, only(t, &lookAt(t, cut(t, image, needs-mib))[0], KindFAT), StateClean, mib)
		at := int64(0x25)
		if bits == "32" {
			at = 0x41
		}
		want(t, only(t, &lookAt(t, overwrite(t, image, at, []byte{1}))[0], KindFAT), StateDirty, 0)
	}
}

func TestSwap(t *testing.T) {
	need(t, "mkswap")
	for _, page := range []string{"4096", "65536"} {
		image := blank(t, 64*mib)
		run(t, "mkswap", "-q", "-L", "sw", "-p", page, image)
		l := only(t, &lookAt(t, image)[0], KindSwap)
		want(t, l, StateClean, 0)
		if l.Needs != 64*mib || l.Label != "sw" || l.UUID == "" {
			t.Error(dump(l))
		}
		want(t, only(t, &lookAt(t, cut(t, image, 60*mib))[0], KindSwap), StateClean, 4*mib)
	}
	image := blank(t, 64*mib)
	run(t, "mkswap", "-q", image)
	want(t, only(t, &lookAt(t, overwrite(t, image, 4086, []byte("S1SUSPEND\x00")))[0], KindSwap), StateHibernated, 0)
}

func TestLUKS(t *testing.T) {
	need(t, "cryptsetup")
	for _, version := range []string{"luks1", "luks2"} {
		image := blank(t, 32*mib)
		if err := writeFile(image+".key", "secret"); err != nil {
			t.Fatal(err)
		}
		run(t, "cryptsetup", "-q", "luksFormat", "--type", version, "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", image+".key", image)
		l := only(t, &lookAt(t, image)[0], KindLUKS)
		want(t, l, StateEncrypted, 0)
		if uuid := strings.TrimSpace(run(t, "cryptsetup", "luksUUID", image)); l.UUID != uuid {
			t.Errorf("uuid %s, want %s", l.UUID, uuid)
		}
		if version == "luks2" {
			want(t, only(t, &lookAt(t, flip(t, image, 4096+10))[0], KindLUKS), StateEncrypted, 0, "header")
		}
	}
}

func TestGPT(t *testing.T) {
	need(t, "sgdisk", "mkfs.ext4")
	const size = 256 * mib
	image := blank(t, size)
	run(t, "sgdisk", "-n", "1:2048:+1M", "-t", "1:ef02", "-n", "2:0:+64M", "-c", "2:boot", "-n", "3:0:0", image)
	boot := makeExt(t, "ext4", 64*mib)
	image = overwrite(t, image, 2*mib, readAt(t, boot, 0, 64*mib))
	r := lookAt(t, image)[0]
	l := only(t, &r, KindGPT)
	want(t, l, "", 0)
	parts := all(r.Disk, KindPartition)
	if l.Needs != size || len(parts) != 3 || parts[1].Label != "boot" || len(all(parts[1], KindExt)) != 1 || parts[0].Inside != nil {
		t.Error(dump(r.Disk))
	}
	want(t, parts[2].Inside[0], StateUnknown, 0)
	// The first header of a shorter disk stays valid: what it says of the last does not.
	r = lookAt(t, cut(t, image, size-32*mib))[0]
	want(t, only(t, &r, KindGPT), "", 32*mib)
	if short := all(r.Disk, KindPartition)[2].Short(); short < 31*mib || short > 32*mib {
		t.Errorf("the last partition is short by %d", short)
	}
	r = lookAt(t, flip(t, image, 512+40))[0]
	want(t, only(t, &r, KindGPT), "", 0, "header")
	if !only(t, &r, KindGPT).Damage[0].Copy {
		t.Error("a header whose copy is sound is no failure of the guest")
	}
	if n := len(all(r.Disk, KindExt)); n != 1 {
		t.Errorf("the copy was not gone by:\n%s", dump(r.Disk))
	}
	r = lookAt(t, overwrite(t, image, 512, make([]byte, 512)))[0]
	want(t, only(t, &r, KindGPT), "", 0, "header")
	// With damaged entries Linux and UEFI go by the copy's, and nobody by damaged ones alone.
	badEntries := flip(t, image, 1024+128+33)
	r = lookAt(t, badEntries)[0]
	want(t, only(t, &r, KindGPT), "", 0, "entries")
	if n := len(all(r.Disk, KindExt)); n != 1 || len(only(t, &r, KindGPT).Unknown) > 0 {
		t.Errorf("the copy's entries were not gone by:\n%s", dump(r.Disk))
	}
	r = lookAt(t, flip(t, badEntries, size-33*512+128+33))[0]
	if l := only(t, &r, KindGPT); len(l.Unknown) == 0 {
		t.Error(dump(l))
	}
	r = lookAt(t, flip(t, image, size-512+40))[0]
	want(t, only(t, &r, KindGPT), "", 0, "copy of the header")
}

func TestMBR(t *testing.T) {
	need(t, "sfdisk", "mkswap")
	const size = 256 * mib
	image := blank(t, size)
	if err := writeFile(image+".in", "label: dos\n,32M,83,*\n,,E\n,64M,82\n,,83\n"); err != nil {
		t.Fatal(err)
	}
	run(t, "sh", "-c", `sfdisk -q "$1" <"$1.in"`, "sh", image)
	swapImage := blank(t, 64*mib)
	run(t, "mkswap", "-q", swapImage)
	image = overwrite(t, image, 34*mib, readAt(t, swapImage, 0, 8192))
	r := lookAt(t, image)[0]
	parts := all(r.Disk, KindPartition)
	if len(parts) != 3 || parts[1].Name != "5" || parts[2].Name != "6" || len(all(parts[1], KindSwap)) != 1 {
		t.Error(dump(r.Disk))
	}
	r = lookAt(t, cut(t, image, 128*mib))[0]
	want(t, only(t, &r, KindMBR), "", 128*mib)
	if parts := all(r.Disk, KindPartition); parts[2].Short() != 128*mib {
		t.Error(dump(r.Disk))
	}
}

func TestNothing(t *testing.T) {
	want(t, only(t, &lookAt(t, blank(t, mib))[0], KindBlank), StateUnknown, 0)
	want(t, only(t, &lookAt(t, overwrite(t, blank(t, mib), 100, []byte("something")))[0], KindUnknown), StateUnknown, 0)
	want(t, only(t, &lookAt(t, blank(t, 0))[0], KindBlank), StateUnknown, 0)
	want(t, only(t, &lookAt(t, blank(t, 64<<40))[0], KindBlank), StateUnknown, 0)
}
