package inspect

import "fmt"

// What is known by its signature alone is not looked into. It is listed so that a
// file system that was there before, and has left its headers behind, is not taken
// for what the guest uses.
var (
	raid    = format{name: "a member of an md array", find: findRAID}
	mirror  = format{name: "a member of a mirrored md array", find: findMirror}
	foreign = format{name: "a format that is not looked into", find: findForeign}
)

// zfs is known by what its labels have many of, so it is looked for only where nothing
// else is.
var zfs = format{name: "a ZFS pool", remains: findZFS}

// findZFS counts uberblocks in the first label: 128 KiB of places behind byte 131072, one
// of them written with each transaction group (On-Disk Specification, chapter 1). A few
// that look like one might be anything.
func findZFS(a *area) (*Layer, error) {
	const at, length, place, magic, enough = 128 << 10, 128 << 10, 1 << 10, 0x00bab10c, 4
	b, err := a.bytes(at, length)
	if err != nil {
		return nil, err
	}
	found := 0
	for ; len(b) >= place; b = b[place:] {
		if le.Uint64(b) == magic || be.Uint64(b) == magic {
			found++
		}
	}
	if found < enough {
		return nil, nil
	}
	return notLookedInto("it is a member of a ZFS pool"), nil
}

// signature is bytes in a place that tell a format.
type signature struct {
	at    int64
	magic string
	name  string
}

var signatures = []signature{
	{3, "-FVE-FS-", "a volume of BitLocker"},
	{3, "EXFAT   ", "exFAT"},
	{0, "hsqs", "squashfs"},
	{1024, "\x10\x20\xf5\xf2", "F2FS"},
	{4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", "bcache or bcachefs"},
	{4096 + 24, "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef", "bcachefs"},
	{32<<10 + 1, "CD001", "ISO 9660"},
}

func findForeign(a *area) (*Layer, error) {
	for _, s := range signatures {
		b, err := a.bytes(s.at, len(s.magic))
		if err != nil {
			return nil, err
		}
		if string(b) == s.magic {
			return notLookedInto("it is " + s.name), nil
		}
	}
	b, err := a.bytes(extAt, extLength)
	if err != nil {
		return nil, err
	}
	if s, ok := parseExt(b); ok && s.incompat&extIncompatJournal != 0 {
		return notLookedInto("it is the journal of an ext4 on another device"), nil
	}
	return nil, nil
}

func notLookedInto(what string) *Layer {
	return &Layer{Kind: KindUnknown, State: StateUnknown, Why: what + ", which is not looked into", Checked: []string{"signature"}}
}

// mdMember is what a superblock of an md array tells (include/uapi/linux/raid/md_p.h).
// With versions 0.90 and 1.0 it is behind the data, so that whatever is on a mirror is
// there as if it were alone, and the beginning of a stripe looks like all of it.
type mdMember struct {
	version string
	level   int32
	disks   uint32
	behind  bool // behind the data
}

const (
	mdMagic    = 0xa92b4efc
	mdMirrored = 1
)

func findRAID(a *area) (*Layer, error) {
	m, err := findMember(a)
	if m == nil || m.behind && m.level == mdMirrored {
		return nil, err
	}
	return m.layer(), nil
}

// findMirror is findRAID for members that have the same bytes as the array.
func findMirror(a *area) (*Layer, error) {
	m, err := findMember(a)
	if m == nil || !m.behind || m.level != mdMirrored {
		return nil, err
	}
	return m.layer(), nil
}

func (m *mdMember) layer() *Layer {
	return notLookedInto(fmt.Sprintf("it is one of %d members of an md array (version %s, level %d)", m.disks, m.version, m.level))
}

// findMember looks for a superblock in the four places where it can be; nil where there
// is none.
func findMember(a *area) (*mdMember, error) {
	const length = 256
	sectors := a.size / 512
	places := []struct {
		version string
		at      int64
		behind  bool
	}{
		{"1.1", 0, false}, {"1.2", 4 << 10, false},
		{"1.0", (sectors - 16) &^ 7 * 512, true}, {"0.90", a.size&^(64<<10-1) - 64<<10, true},
	}
	for _, p := range places {
		b, err := a.bytes(p.at, length)
		switch {
		case err != nil && p.behind: // at the end, which nothing else depends on
			continue
		case err != nil:
			return nil, err
		}
		old := p.version == "0.90"
		if le.Uint32(b) != mdMagic || (le.Uint32(b[4:]) == 0) != old {
			continue
		}
		if old {
			return &mdMember{p.version, int32(le.Uint32(b[28:])), le.Uint32(b[40:]), p.behind}, nil
		}
		if where := le.Uint64(b[144:]); where != uint64(p.at/512) {
			continue // of another device: this one has another size, or begins elsewhere
		}
		return &mdMember{p.version, int32(le.Uint32(b[72:])), le.Uint32(b[92:]), p.behind}, nil
	}
	return nil, nil
}
