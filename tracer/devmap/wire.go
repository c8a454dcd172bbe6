package devmap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// struct dm_ioctl, the header of every request and answer. Its layout has been
// the same since device-mapper 4.0 (include/uapi/linux/dm-ioctl.h): fixed-size
// fields only, so one layout for 32 and 64 bits, in the machine's byte order.
const (
	offVersion   = 0  // __u32[3]
	offDataSize  = 12 // __u32: header and buffer
	offDataStart = 16 // __u32: from the start of the header
	offTargets   = 20 // __u32
	offOpenCount = 24 // __s32
	offFlags     = 28 // __u32
	offEventNr   = 32 // __u32
	offDev       = 40 // __u64, huge_encode_dev
	offName      = 48 // char[128]
	offUUID      = 176
	nameLen      = 128
	offData      = 305 // char[7]
	uuidFieldLen = 129
	headerSize   = 312
)

// struct dm_target_spec: __u64 sector_start, __u64 length, __s32 status,
// __u32 next, char target_type[16]; the parameters follow it.
const (
	specLength = 8
	specNext   = 20
	specType   = 24
	specSize   = 40
)

// Request numbers, and the version of the interface that is asked for: 4.0.0,
// because the kernel refuses a minor number above its own.
const (
	cmdVersion      = 0
	cmdListDevices  = 2
	cmdDevStatus    = 7
	cmdTableDeps    = 11
	cmdTableStatus  = 12
	interfaceMajor  = 4
	ioctlMagic      = 0xfd
	ioctlReadWrite  = 3
	maxAnswer       = 16 << 20 // of a table or a list; libdevmapper doubles without bound
	firstAnswerSize = 16 << 10 // what libdevmapper starts with
)

var errTruncated = errors.New("answer is shorter than what it announces")

// ioctlNumber is _IOWR(0xfd, cmd, struct dm_ioctl).
func ioctlNumber(cmd uintptr) uintptr {
	return ioctlReadWrite<<30 | headerSize<<16 | ioctlMagic<<8 | cmd
}

// requestFlags are the flags that only a request has.
const requestFlags = FlagStatusTable | FlagSkipBdget | FlagNoFlush | FlagSecureData

// newRequest returns a buffer of size bytes that begins with a header. A zero
// dev names no device.
func newRequest(size int, flags Flags, dev event.Dev) []byte {
	buf := make([]byte, size)
	ne := binary.NativeEndian
	ne.PutUint32(buf[offVersion:], interfaceMajor)
	ne.PutUint32(buf[offDataSize:], uint32(size))
	ne.PutUint32(buf[offDataStart:], headerSize)
	ne.PutUint32(buf[offFlags:], uint32(flags))
	if !dev.IsZero() {
		ne.PutUint64(buf[offDev:], unix.Mkdev(dev.Major, dev.Minor))
	}
	return buf
}

func answerFlags(buf []byte) Flags {
	return Flags(binary.NativeEndian.Uint32(buf[offFlags:]))
}

// parseHeader reads what the kernel says about one device.
func parseHeader(buf []byte) (Mapping, error) {
	if len(buf) < headerSize {
		return Mapping{}, errTruncated
	}
	ne := binary.NativeEndian
	return Mapping{
		Name:      cString(buf[offName : offName+nameLen]),
		UUID:      cString(buf[offUUID : offUUID+uuidFieldLen]),
		Dev:       decodeDev(ne.Uint64(buf[offDev:])),
		Flags:     answerFlags(buf) &^ requestFlags, // the kernel echoes them
		OpenCount: int(int32(ne.Uint32(buf[offOpenCount:]))),
		EventNr:   ne.Uint32(buf[offEventNr:]),
	}, nil
}

// payload returns what follows the header, as far as the kernel says it wrote.
// An answer without data ends at the header's data field, which is before
// data_start.
func payload(buf []byte) ([]byte, error) {
	if len(buf) < headerSize {
		return nil, errTruncated
	}
	start := uint64(binary.NativeEndian.Uint32(buf[offDataStart:]))
	end := uint64(binary.NativeEndian.Uint32(buf[offDataSize:]))
	if end == offData {
		return nil, nil
	}
	if start > end || end > uint64(len(buf)) {
		return nil, fmt.Errorf("data from %d to %d in %d bytes: %w", start, end, len(buf), errTruncated)
	}
	return buf[start:end], nil
}

// parseNames reads the answer of DM_LIST_DEVICES: struct dm_name_list, each
// with dev (__u64), next (__u32, from this entry, 0 in the last) and the name.
// An empty list is one entry with dev 0.
func parseNames(buf []byte) ([]Mapping, error) {
	data, err := payload(buf)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, nil
	}
	var list []Mapping
	for {
		if len(data) < 12 {
			return list, errTruncated
		}
		dev := binary.NativeEndian.Uint64(data)
		next := binary.NativeEndian.Uint32(data[8:])
		if dev == 0 {
			return list, nil
		}
		list = append(list, Mapping{Name: cString(data[12:]), Dev: decodeDev(dev)})
		if next == 0 {
			return list, nil
		}
		if uint64(next) > uint64(len(data)) {
			return list, errTruncated
		}
		data = data[next:]
	}
}

// parseTable reads the answer of DM_TABLE_STATUS. Here next counts from the
// first spec, unlike in a table that is loaded.
func parseTable(buf []byte) ([]Target, error) {
	data, err := payload(buf)
	if err != nil {
		return nil, err
	}
	var (
		ne      = binary.NativeEndian
		count   = ne.Uint32(buf[offTargets:])
		targets []Target
		at      uint64
	)
	for range count {
		if at+specSize > uint64(len(data)) {
			return targets, fmt.Errorf("target %d of %d: %w", len(targets)+1, count, errTruncated)
		}
		spec := data[at:]
		kind := cString(spec[specType:specSize])
		targets = append(targets, Target{
			Start:  ne.Uint64(spec),
			Length: ne.Uint64(spec[specLength:]),
			Type:   kind,
			Params: RedactParams(kind, cString(spec[specSize:])),
		})
		next := uint64(ne.Uint32(spec[specNext:]))
		if next <= at {
			if len(targets) < int(count) {
				return targets, fmt.Errorf("target %d of %d leads back: %w", len(targets), count, errTruncated)
			}
			break
		}
		at = next
	}
	return targets, nil
}

// parseDeps reads struct dm_target_deps: count (__u32), padding, __u64 dev[].
func parseDeps(buf []byte) ([]event.Dev, error) {
	data, err := payload(buf)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, nil // no active table
	}
	if len(data) < 8 {
		return nil, errTruncated
	}
	count := uint64(binary.NativeEndian.Uint32(data))
	if data = data[8:]; count > uint64(len(data)/8) {
		return nil, errTruncated
	}
	deps := make([]event.Dev, count)
	for i := range deps {
		deps[i] = decodeDev(binary.NativeEndian.Uint64(data[8*i:]))
	}
	return deps, nil
}

// tableSize returns the size in bytes of a table. Targets are in order and
// without holes (dm_table_add_target refuses anything else).
func tableSize(targets []Target) int64 {
	if len(targets) == 0 {
		return 0
	}
	last := targets[len(targets)-1]
	return int64(last.Start+last.Length) * SectorSize
}

func decodeDev(dev uint64) event.Dev {
	return event.Dev{Major: unix.Major(dev), Minor: unix.Minor(dev)}
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
