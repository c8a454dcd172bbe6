package udev

import (
	"encoding/binary"
	"fmt"
	"math"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The filters run in the kernel, where a message is about to be queued, and
// refuse what this process would only wake up for to throw away. They refuse
// what is certainly not wanted and nothing else: a message of an unexpected
// shape passes, and user space judges it.
//
// Offset 0 is the first byte that a reader gets, for a uevent has no nlmsghdr.
// A load beyond the end ends a program with a refusal, so every load comes
// after a check of the length.

// Verdicts: how many bytes of the message are queued.
var (
	accept = bpf.RetConstant{Val: math.MaxUint32}
	refuse = bpf.RetConstant{Val: 0}
)

// headerSearched bounds the search for the end of "action@devpath", in bytes.
// Longer headers pass. Real ones have 20 to 150 bytes; and the program must
// fit into net.core.optmem_max, 20 KiB until Linux 6.8, after the kernel has
// made some 14 instructions of each load (convert_bpf_ld_abs since 4.18).
const headerSearched = 256

// chunk is how much of a header is searched before the length is checked again.
const chunk = 32

// rest is what follows a header of L bytes in a uevent at the least: the
// message has 2L+rest bytes or more (see kernelFilter). With the length checked
// against i+rest, a message whose header is at least i bytes long never fails
// the check, and chunk bytes from i can be loaded.
const rest = 34

// kernelFilter passes uevents of block devices and of dm_mod's loading. The
// kernel writes
//
//	action@devpath\0ACTION=action\0DEVPATH=devpath\0SUBSYSTEM=subsystem\0...SEQNUM=n\0
//
// in this order, in 3.10 as in 7.2 (kobject_uevent_env, lib/kobject_uevent.c).
// The second and third string repeat the first: where that has L bytes,
// SUBSYSTEM= begins at 2L+17.
func kernelFilter() []bpf.Instruction {
	p := when(absolute, 0, deviceMapperModuleHeader, accept)
	p = append(lengthAtLeast(rest), p...)
	p = append(p, twiceHeaderLength()...)
	p = append(p, // from here on X is 2L
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: rest},
		bpf.JumpIfX{Cond: bpf.JumpGreaterOrEqual, SkipTrue: 1},
		accept,
	)
	p = append(p, when(indirect, 17, "SUBSYSTEM=block\x00", accept)...)
	p = append(p, when(indirect, 17, "SUBSYSTEM=", refuse)...)
	return append(p, accept)
}

// deviceMapperModuleHeader announces dm_mod's loading.
const deviceMapperModuleHeader = "add@" + deviceMapperModule + "\x00"

// twiceHeaderLength leaves twice the length of the message's first string in X.
// There are no loops in classic BPF. It looks at four bytes at a time: the
// subtraction borrows into the top bit of a byte that is 0. It also does so
// where a byte is above 0x80, or next to a 0; the exact place is looked for
// afterwards, and a message with such a byte passes.
func twiceHeaderLength() []bpf.Instruction {
	var p []bpf.Instruction
	var found []int // jumps to fill in
	for i := uint32(0); i < headerSearched; i += 4 {
		if i%chunk == 0 {
			p = append(p, lengthAtLeast(i+rest)...)
		}
		p = append(p,
			bpf.LoadAbsolute{Off: i, Size: 4},
			bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: 0x01010101},
			bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x80808080, SkipFalse: 2},
			bpf.LoadConstant{Dst: bpf.RegX, Val: i},
		)
		found = append(found, len(p))
		p = append(p, nil)
	}
	p = append(p, accept)
	for _, at := range found {
		p[at] = bpf.Jump{Skip: uint32(len(p) - at - 1)}
	}
	return append(p, twiceZeroAtX()...)
}

// twiceZeroAtX leaves in X twice the offset of the first zero among the four
// bytes from X on.
func twiceZeroAtX() []bpf.Instruction {
	const each = 4 // instructions a byte
	var p []bpf.Instruction
	for i := range uint32(4) {
		p = append(p,
			bpf.LoadIndirect{Off: i, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipFalse: 2},
			bpf.LoadConstant{Dst: bpf.RegA, Val: i},
			bpf.Jump{Skip: each*(3-i) + 1},
		)
	}
	return append(p,
		accept,
		bpf.ALUOpX{Op: bpf.ALUOpAdd},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 1},
		bpf.TAX{},
	)
}

// Fields of udev's header that its filter looks at, both in network byte order
// (struct monitor_netlink_header).
const (
	udevMagicOffset     = 8
	udevMagic           = 0xfeedcafe
	udevSubsystemOffset = 24 // filter_subsystem_hash
)

// udevFilter passes udev's events of block devices, as libudev's own filter
// for a subsystem does (sd_device_monitor_filter_update).
func udevFilter() []bpf.Instruction {
	p := append(lengthAtLeast(udevHeaderSize),
		bpf.LoadAbsolute{Off: udevMagicOffset, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: udevMagic, SkipTrue: 1},
		accept,
		bpf.LoadAbsolute{Off: udevSubsystemOffset, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: subsystemHash("block"), SkipTrue: 1},
		refuse,
	)
	return append(p, accept)
}

// subsystemHash is what udev puts into its header for a subsystem: 32-bit
// MurmurHash2 with seed 0, over words in the machine's own byte order.
func subsystemHash(name string) uint32 {
	const m = 0x5bd1e995
	h := uint32(len(name))
	for ; len(name) >= 4; name = name[4:] {
		k := binary.NativeEndian.Uint32([]byte(name)) * m
		h = h*m ^ (k^k>>24)*m
	}
	for i := len(name) - 1; i >= 0; i-- {
		h ^= uint32(name[i]) << (8 * i)
		if i == 0 {
			h *= m
		}
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}

// lengthAtLeast goes on with messages of n bytes or more, and passes others.
func lengthAtLeast(n uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: n, SkipTrue: 1},
		accept,
	}
}

// load makes an instruction that loads size bytes.
type load func(offset uint32, size int) bpf.Instruction

func absolute(offset uint32, size int) bpf.Instruction {
	return bpf.LoadAbsolute{Off: offset, Size: size}
}

// indirect loads from X on.
func indirect(offset uint32, size int) bpf.Instruction {
	return bpf.LoadIndirect{Off: offset, Size: size}
}

// when gives the verdict if text stands at offset, and goes on otherwise.
func when(load load, offset uint32, text string, verdict bpf.RetConstant) []bpf.Instruction {
	var p []bpf.Instruction
	for len(text) > 0 {
		size, value := word(text)
		p = append(p, load(offset, size), bpf.JumpIf{Cond: bpf.JumpEqual, Val: value})
		text = text[size:]
		offset += uint32(size)
	}
	end := len(p) + 1
	for i := 1; i < len(p); i += 2 {
		jump := p[i].(bpf.JumpIf)
		jump.SkipFalse = uint8(end - i - 1)
		p[i] = jump
	}
	return append(p, verdict)
}

// word takes the largest number off text that one load compares.
func word(text string) (size int, value uint32) {
	switch data := []byte(text); {
	case len(data) >= 4:
		return 4, binary.BigEndian.Uint32(data)
	case len(data) >= 2:
		return 2, uint32(binary.BigEndian.Uint16(data))
	default:
		return 1, uint32(data[0])
	}
}

// attachFilter makes the kernel ask program before it queues a message.
func attachFilter(fd int, program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("assemble socket filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, in := range raw {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	if err != nil {
		return fmt.Errorf("attach socket filter of %d instructions: %w", len(filter), err)
	}
	return nil
}
