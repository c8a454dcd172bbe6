package inspect

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/cespare/xxhash/v2"
)

// btrfs has its superblock at byte 65536, and copies at 64 MiB and 256 GiB. It is
// little-endian; the layout is fs/btrfs in Linux, struct btrfs_super_block. Its
// trees are never in an inconsistent state on disk; what fsync wrote since the
// last commit is in a log tree, which is replayed.
var btrfs = format{name: "btrfs", find: findBtrfs}

const (
	btrfsAt     = 64 << 10
	btrfsLength = 4096
	btrfsMagic  = "_BHRfS_M"
)

var btrfsCopies = []int64{64 << 20, 256 << 30}

func findBtrfs(a *area) (*Layer, error) {
	first, err := a.bytes(btrfsAt, btrfsLength)
	if err != nil {
		return nil, err
	}
	b := first
	l := &Layer{Kind: KindBtrfs}
	hasMagic := string(b[64:72]) == btrfsMagic
	if !hasMagic {
		return nil, nil
	}
	wrong, checked := btrfsSum(b)
	if wrong != "" {
		l.damage("superblock", btrfsAt, "%s", wrong)
	}
	if !checked {
		l.note("its checksums are of a kind that is not checked here")
	}
	looked := 0
	trusted := wrong == ""
	for _, at := range btrfsCopies {
		if size, ok := product(le.Uint64(b[209:]), 1); trusted && ok && at > size-btrfsLength {
			break // the device is larger than the file system, which has no copy there
		}
		c, err := a.bytes(at, btrfsLength)
		if err != nil {
			if !errors.Is(err, errBeyond) { // that, Needs tells
				l.unsure("the copy of the superblock at byte %d was not read: %v", at, err)
			}
			continue
		}
		looked++
		what := fmt.Sprintf("superblock copy at byte %d", at)
		switch wrong, _ := btrfsSum(c); {
		case !trusted && zeros(c):
			l.unsure("at byte %d is no copy of the superblock: whether the file system goes on to there is not known", at)
		case string(c[64:72]) != btrfsMagic && zeros(c):
			l.Absent = &Absent{From: at, Looked: 1, Zeros: true}
		case string(c[64:72]) != btrfsMagic:
			l.damageCopy(what, at, "its magic is missing")
		case wrong != "":
			l.damageCopy(what, at, "%s", wrong)
		case !bytes.Equal(c[32:48], first[32:48]):
			l.damageCopy(what, at, "it is that of another file system, %s", uuidText(c[32:48]))
		case !trusted:
			b, trusted = c, true
			l.note("sizes are those of the superblock's copy")
		}
	}
	l.looked("superblock and %d copies of it", looked)
	l.Label, l.UUID, l.Generation = text(b[299:555]), uuidText(b[32:48]), le.Uint64(b[72:])
	size, ok := product(le.Uint64(b[209:]), 1)
	switch {
	case !trusted:
		l.note("how large it is, is not known: nothing vouches for what the damaged superblock says")
	case ok:
		l.Needs = size
	default:
		l.damage("superblock", btrfsAt, "a device of %d bytes", le.Uint64(b[209:]))
	}
	if n := le.Uint64(b[136:]); n > 1 && trusted {
		l.note("this is device %d of one file system on %d devices", le.Uint64(b[201:]), n)
		a.looking.members = append(a.looking.members, btrfsMember{l, le.Uint64(b[201:]), n})
	}
	// fsync writes the log tree's place into the first superblock alone
	// (btrfs_sync_log, fs/btrfs/tree-log.c).
	switch {
	case wrong != "":
		l.State, l.Why, l.Generation = StateUnknown, "only the first superblock says whether it has a log tree, and that one is damaged", 0
	case le.Uint64(b[96:]) != 0:
		l.State, l.Why = StateDirty, "it has a log tree, of what was written since the last commit"
	default:
		l.State, l.Why = StateClean, "it has no log tree to replay"
	}
	return l, nil
}

// btrfsMember is one of the devices of a file system.
type btrfsMember struct {
	layer   *Layer
	number  uint64
	devices uint64 // that the file system has
}

// others says of each file system on several devices whether all were seen. The guest's
// kernel does not mount it without one, but where it is told to.
func (l *looking) others() {
	for _, m := range l.members {
		seen := map[uint64]bool{}
		for _, other := range l.members {
			if other.layer.UUID == m.layer.UUID {
				seen[other.number] = true
			}
		}
		if n := uint64(len(seen)); n < m.devices {
			m.layer.unsure("%d of its %d devices are on none of the disks that were looked at", m.devices-n, m.devices)
		}
	}
}

// btrfsSum says what is wrong with a superblock's checksum; checked is false for
// the kind that is not known here, BLAKE2.
func btrfsSum(b []byte) (wrong string, checked bool) {
	body := b[32:]
	switch le.Uint16(b[196:]) {
	case 0:
		if sum, stored := crc32.Checksum(body, castagnoli), le.Uint32(b); sum != stored {
			return fmt.Sprintf("its CRC-32C is %08x and should be %08x", stored, sum), true
		}
		return "", true
	case 1:
		if sum, stored := xxhash.Sum64(body), le.Uint64(b); sum != stored {
			return fmt.Sprintf("its xxHash is %016x and should be %016x", stored, sum), true
		}
		return "", true
	case 2:
		if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[:32]) {
			return "its SHA-256 does not match", true
		}
		return "", true
	}
	return "", false
}
