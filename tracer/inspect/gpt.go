package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
)

// gpt is the partition table of UEFI (its specification, chapter 5): a header in
// the second sector, and a copy of it in the last. On a device that has become
// shorter the first stays valid; only what it says about the last tells.
var gpt = format{name: "a partition table (GPT)", find: findGPT}

const (
	gptMagic       = "EFI PART"
	gptEntriesMost = 128 << 10 // bytes of the table; the usual has 16 KiB
	gptMostLooked  = 128       // partitions
)

type gptHeader struct {
	raw                    []byte // all of its sector
	sector                 int64
	mine, other, lastUsed  uint64 // sectors
	entries                uint64
	count, size, entriesOK uint32
}

// parseGPT reads a header; wrong says what is wrong with it.
func parseGPT(b []byte) (h gptHeader, wrong string) {
	if string(b[:8]) != gptMagic {
		return h, "its magic is missing"
	}
	length := le.Uint32(b[12:])
	if length < 92 || int64(length) > int64(len(b)) {
		return h, fmt.Sprintf("a header of %d bytes", length)
	}
	if sum, stored := crcWithout(crc32.IEEETable, b[:length], 16), le.Uint32(b[16:]); sum != stored {
		return h, fmt.Sprintf("its CRC-32 is %08x and should be %08x", stored, sum)
	}
	return gptHeader{
		raw: b, sector: int64(len(b)), mine: le.Uint64(b[24:]), other: le.Uint64(b[32:]), lastUsed: le.Uint64(b[48:]),
		entries: le.Uint64(b[72:]), count: le.Uint32(b[80:]), size: le.Uint32(b[84:]), entriesOK: le.Uint32(b[88:]),
	}, ""
}

func findGPT(a *area) (*Layer, error) {
	first, err := a.bytes(0, mbrSector)
	if err != nil {
		return nil, err
	}
	entries, table := mbrEntries(first)
	protected := table && mbrProtected(entries)
	if table && !protected {
		return nil, nil // another table was written since: Linux, Windows and UEFI go by that
	}
	for _, sector := range []int64{512, 4096} {
		b, err := a.bytes(sector, int(sector))
		if err != nil {
			return nil, err
		}
		h, wrong := parseGPT(b)
		if wrong == "" {
			l := &Layer{Kind: KindGPT}
			if !protected {
				l.damage("protective partition table", 0, "it is gone: without it Linux ignores the GPT, unless it is started with the option gpt")
			}
			gptOther(a, l, &h)
			gptRead(a, l, gptSound(a, l, &h))
			return l, nil
		}
		present := string(b[:8]) == gptMagic
		if !present && !protected {
			continue // nothing says that there ever was one
		}
		if l := gptBackup(a, sector, wrong, present); l != nil {
			return l, nil
		}
	}
	return nil, nil
}

// gptBackup goes by the copy in the last sector, where the first is damaged or
// gone.
func gptBackup(a *area, sector int64, wrong string, present bool) *Layer {
	l := &Layer{Kind: KindGPT}
	if b, err := a.bytes(a.size/sector*sector-sector, int(sector)); err == nil {
		if h, bad := parseGPT(b); bad == "" {
			l.damageCopy("header", sector, "%s", wrong) // the other one is as good
			l.note("the copy in the last sector is sound: the partitions are as it says")
			gptRead(a, l, &h)
			return l
		}
	}
	if !present {
		return nil
	}
	l.damage("header", sector, "%s", wrong)
	l.State, l.Why = StateUnknown, "neither of its headers is sound"
	return l
}

// gptOther looks at the copy that the first header names.
func gptOther(a *area, l *Layer, h *gptHeader) {
	at, ok := product(h.other, uint64(h.sector))
	if !ok || h.other == 0 {
		l.damage("header", h.sector, "its copy is said to be in sector %d", h.other)
		return
	}
	l.Needs = at + h.sector
	b, err := a.bytes(at, int(h.sector))
	switch {
	case errors.Is(err, errBeyond):
		return // Needs tells
	case err != nil:
		l.unsure("its copy was not read: %v", err)
		return
	}
	_, wrong := parseGPT(b)
	if wrong == "" && !bytes.Equal(b[56:72], h.raw[56:72]) {
		wrong = "it is that of another disk"
	}
	if wrong != "" {
		l.damageCopy("copy of the header", at, "%s", wrong)
	}
	if end := a.size/h.sector*h.sector - h.sector; at < end {
		l.note("the device is longer than the table knows, by %d bytes", end-at)
	}
}

// gptSound returns the header whose entries are to be read: the copy where the first's
// are damaged and the copy's are not, as Linux and UEFI do it.
func gptSound(a *area, l *Layer, first *gptHeader) *gptHeader {
	b, at, err := gptEntries(a, first)
	if err != nil || crc32.ChecksumIEEE(b) == first.entriesOK {
		return first // what is wrong with reading them is told there
	}
	other, ok := product(first.other, uint64(first.sector))
	if !ok {
		return first
	}
	raw, err := a.bytes(other, int(first.sector))
	if err != nil {
		return first
	}
	h, wrong := parseGPT(raw)
	if wrong != "" || !bytes.Equal(h.raw[56:72], first.raw[56:72]) {
		return first
	}
	if copied, _, err := gptEntries(a, &h); err != nil || crc32.ChecksumIEEE(copied) != h.entriesOK {
		return first
	}
	l.damageCopy("entries", at, "their CRC-32 is %08x and should be %08x", crc32.ChecksumIEEE(b), first.entriesOK)
	l.note("the partitions are those of the copy, which is sound")
	return &h
}

// errGPTEntries is of a header whose numbers of entries can't be right.
var errGPTEntries = errors.New("they can't be where the header says")

// gptEntries reads the entries that a header names; at is where they are.
func gptEntries(a *area, h *gptHeader) (b []byte, at int64, err error) {
	at, ok := product(h.entries, uint64(h.sector))
	n, fits := product(uint64(h.count), uint64(h.size))
	if !ok || !fits || h.size < 128 || n > gptEntriesMost {
		return nil, at, errGPTEntries
	}
	b, err = a.bytes(at, int(n))
	return b, at, err
}

// gptRead reads the entries and looks into the partitions.
func gptRead(a *area, l *Layer, h *gptHeader) {
	l.UUID = guidText(h.raw[56:72])
	l.looked("header, its copy, entries")
	if h.mine != 1 { // the copy: the first is then where it says
		l.Needs, _ = product(h.mine+1, uint64(h.sector))
	}
	b, at, err := gptEntries(a, h)
	switch {
	case errors.Is(err, errGPTEntries):
		l.damage("header", h.sector, "%d entries of %d bytes at sector %d", h.count, h.size, h.entries)
		return
	case err != nil:
		l.unsure("its entries were not read, so its partitions are not known: %v", err)
		return
	}
	if sum := crc32.ChecksumIEEE(b); sum != h.entriesOK {
		l.damage("entries", at, "their CRC-32 is %08x and should be %08x", sum, h.entriesOK)
		l.unsure("its partitions: no copy of the entries is sound, and what is said of them is from damaged ones")
	}
	looked := 0
	for i := range int(h.count) {
		e := b[i*int(h.size):]
		if zeros(e[:16]) {
			continue
		}
		if looked++; looked > gptMostLooked {
			l.unsure("it has more than %d partitions: the others were not looked at", gptMostLooked)
			break
		}
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		start, ok := product(first, uint64(h.sector))
		size, fits := product(last-first+1, uint64(h.sector))
		if !ok || !fits || last < first || start > 1<<62-size {
			l.damage("entries", at+int64(i)*int64(h.size), "partition %d from sector %d to %d", i+1, first, last)
			continue
		}
		kind := guidText(e[:16])
		known := gptTypes[kind]
		a.partition(l, strconv.Itoa(i+1), start, size, known.name, !known.bare)
		p := l.Inside[len(l.Inside)-1]
		p.UUID, p.Label = guidText(e[16:32]), utf16Text(e[56:128])
		if p.Detail == "" {
			p.Detail = "type " + kind
		}
	}
}

// gptTypes are the types that guests have (UEFI; the Discoverable Partitions
// Specification). bare ones hold no file system.
var gptTypes = map[string]struct {
	name string
	bare bool
}{
	"c12a7328-f81f-11d2-ba4b-00a0c93ec93b": {name: "EFI system"},
	"21686148-6449-6e6f-744e-656564454649": {name: "BIOS boot", bare: true},
	"9e1a2d38-c612-4316-aa26-8b49521e5a8b": {name: "PReP boot", bare: true},
	"e3c9e316-0b5c-4db8-817d-f92df00215ae": {name: "Microsoft reserved", bare: true},
	"ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": {name: "Microsoft basic data"},
	"de94bba4-06d1-4d40-a16a-bfd50179d6ac": {name: "Windows recovery"},
	"0fc63daf-8483-4772-8e79-3d69d8477de4": {name: "Linux file system"},
	"4f68bce3-e8cd-4db1-96e7-fbcaf984b709": {name: "Linux root (x86-64)"},
	"b921b045-1df0-41c3-af44-4c6f280d3fae": {name: "Linux root (arm64)"},
	"933ac7e1-2eb4-4f13-b844-0e14e2aef915": {name: "Linux home"},
	"bc13c2ff-59e6-4262-a352-b275fd6f7172": {name: "Linux extended boot"},
	"0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": {name: "Linux swap"},
	"e6d6d379-f507-44c2-a23c-238f2a3df928": {name: "Linux LVM"},
	"ca7d7ccb-63ed-4c53-861c-1742536059cc": {name: "LUKS"},
}
