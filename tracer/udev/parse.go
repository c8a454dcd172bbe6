package udev

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/pilebones/go-udev/netlink"
)

// The header that udev puts before its properties: struct
// monitor_netlink_header in libsystemd's sd-device, unchanged since udev 1.3x.
const (
	udevPrefix     = "libudev\x00"
	udevPropOffset = 16 // properties_off, native byte order
	udevHeaderSize = 40
)

var (
	errNotKernel = errors.New("no kernel uevent")
	errNotUdev   = errors.New("no udev event")
)

// parseKernel reads a message of the kernel's group: "action@devpath" and
// properties, each ended by a NUL.
func parseKernel(raw []byte) (*netlink.UEvent, error) {
	if bytes.HasPrefix(raw, []byte(udevPrefix)) || bytes.IndexByte(raw, 0) < 0 {
		return nil, errNotKernel // without a NUL, go-udev 0.9.1 panics
	}
	u, err := netlink.ParseUEvent(raw)
	if err == nil {
		return u, nil
	}
	end := bytes.IndexByte(raw, 0) + 1
	return parseOdd(plainHeader(raw[:end]), raw[end:])
}

// parseUdev reads a message of udev's group; go-udev checks its magic number.
func parseUdev(raw []byte) (*netlink.UEvent, error) {
	if !bytes.HasPrefix(raw, []byte(udevPrefix)) || len(raw) <= udevHeaderSize {
		return nil, errNotUdev
	}
	u, err := netlink.ParseUEvent(raw)
	if err == nil {
		return u, nil
	}
	offset := binary.NativeEndian.Uint32(raw[udevPropOffset:])
	if offset < udevHeaderSize || int64(offset) >= int64(len(raw)) {
		return nil, errNotUdev
	}
	return parseOdd(raw[:offset], raw[offset:])
}

// parseOdd parses a message that go-udev 0.9.1 cannot split, although it is
// good: with an "=" in a value or an "@" in the device's path. Both are real. A
// guest chooses the label of its file system (ID_FS_LABEL), and must not make
// its own volume's event disappear with it; and on device-tree machines disks
// live below "soc@0". The odd values are kept back while it parses the rest.
func parseOdd(header, properties []byte) (*netlink.UEvent, error) {
	message := bytes.Clone(header)
	odd := make(map[string]string)
	for field := range bytes.SplitSeq(properties, []byte{0}) {
		key, value, _ := bytes.Cut(field, []byte{'='})
		switch {
		case len(field) == 0:
		case bytes.IndexByte(value, '=') >= 0:
			odd[string(key)] = string(value)
		default:
			message = append(append(message, field...), 0)
		}
	}
	u, err := netlink.ParseUEvent(message)
	if err != nil {
		return nil, err
	}
	for key, value := range odd {
		u.Env[key] = value
	}
	return u, nil
}

// plainHeader cuts a kernel message's header off before a second "@". The
// whole path is in DEVPATH, too.
func plainHeader(header []byte) []byte {
	first := bytes.IndexByte(header, '@')
	if first < 0 {
		return header
	}
	if second := bytes.IndexByte(header[first+1:], '@'); second >= 0 {
		return append(bytes.Clone(header[:first+1+second]), 0)
	}
	return header
}
