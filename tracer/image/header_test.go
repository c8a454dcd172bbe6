package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// qcow2 makes the header of an image, with all that a test wants to be wrong
// with it.
type qcow2 struct {
	version    uint32
	bits       uint32
	size       uint64
	crypt      uint32
	features   uint64
	length     uint32
	extensions []extension
	backing    string
	nameAt     uint64 // where it is not right behind the extensions
	nameSize   uint32 // where it is not the name's
}

type extension struct {
	kind uint32
	data string
	size uint32 // where it is not the data's
}

func (q qcow2) bytes() []byte {
	be := binary.BigEndian
	length := uint32(lengthV2)
	if q.version == 3 {
		length = max(q.length, 112)
	}
	raw := make([]byte, length)
	be.PutUint32(raw, magic)
	be.PutUint32(raw[offVersion:], q.version)
	be.PutUint32(raw[offClusterBits:], q.bits)
	be.PutUint64(raw[offSize:], q.size)
	be.PutUint32(raw[offCryptMethod:], q.crypt)
	if q.version == 3 {
		be.PutUint64(raw[offIncompatible:], q.features)
		be.PutUint32(raw[offHeaderLength:], length)
		if q.length != 0 {
			be.PutUint32(raw[offHeaderLength:], q.length)
		}
	}
	for _, x := range q.extensions {
		size := x.size
		if size == 0 {
			size = uint32(len(x.data))
		}
		raw = be.AppendUint32(be.AppendUint32(raw, x.kind), size)
		raw = append(raw, x.data...)
		raw = append(raw, make([]byte, (8-len(x.data)%8)%8)...)
	}
	raw = append(raw, make([]byte, 8)...) // the end of the extensions
	if q.backing != "" || q.nameAt != 0 {
		at, size := uint64(len(raw)), uint32(len(q.backing))
		if q.nameAt != 0 {
			at = q.nameAt
		}
		if q.nameSize != 0 {
			size = q.nameSize
		}
		be.PutUint64(raw[offBackingOffset:], at)
		be.PutUint32(raw[offBackingSize:], size)
		raw = append(raw, q.backing...)
	}
	return raw
}

// image is the header in an image of one cluster.
func (q qcow2) image() []byte {
	raw := q.bytes()
	return append(raw, make([]byte, max(0, 1<<16-len(raw)))...)
}

func TestReadHeader(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   qcow2
		want Header
	}{
		{"v3 alone", qcow2{version: 3, bits: 16, size: 10 << 30}, Header{Version: 3, Size: 10 << 30}},
		{"v2 with a backing file whose format is probed",
			qcow2{version: 2, bits: 16, backing: "/dev/vg/base"}, Header{Version: 2, Backing: "/dev/vg/base"}},
		{"v3 with a backing file and its format", qcow2{version: 3, bits: 16, backing: "base",
			extensions: []extension{{kind: extensionBacking, data: "qcow2"}}},
			Header{Version: 3, Backing: "base", BackingFormat: "qcow2"}},
		{"unknown extensions are skipped", qcow2{version: 3, bits: 9, backing: "b",
			extensions: []extension{{kind: 0x6803f857, data: strings.Repeat("x", 49)}, {kind: extensionBacking, data: "raw"}}},
			Header{Version: 3, Backing: "b", BackingFormat: "raw"}},
		{"external data file", qcow2{version: 3, bits: 16, features: incompatibleData,
			extensions: []extension{{kind: extensionDataFile, data: "/dev/vg/data"}}},
			Header{Version: 3, ExternalData: true, DataFile: "/dev/vg/data"}},
		{"external data file of the command line", qcow2{version: 3, bits: 16, features: incompatibleData},
			Header{Version: 3, ExternalData: true}},
		{"aes", qcow2{version: 2, bits: 16, crypt: 1}, Header{Version: 2, Encryption: "aes"}},
		{"luks", qcow2{version: 3, bits: 16, crypt: 2}, Header{Version: 3, Encryption: "luks"}},
		{"a later encryption", qcow2{version: 3, bits: 16, crypt: 7}, Header{Version: 3, Encryption: "method 7"}},
		{"NUL ends a name", qcow2{version: 3, bits: 16, backing: "/dev/vg/a\x00/etc/shadow"},
			Header{Version: 3, Backing: "/dev/vg/a"}},
		{"a name of control characters is kept", qcow2{version: 3, bits: 16, backing: "/dev/vg/\x1b[31m\n"},
			Header{Version: 3, Backing: "/dev/vg/\x1b[31m\n"}},
		{"the longest name", qcow2{version: 3, bits: 16, backing: strings.Repeat("n", 1023)},
			Header{Version: 3, Backing: strings.Repeat("n", 1023)}},
	} {
		got, err := ReadHeader(bytes.NewReader(tc.in.image()))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		} else if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
}

func TestReadHeaderMalformed(t *testing.T) {
	many := make([]extension, maxExtensions)
	for i := range many {
		many[i] = extension{kind: 7, data: "x"}
	}
	for _, tc := range []struct {
		name string
		in   qcow2
		want string
	}{
		{"version 4", qcow2{version: 4, bits: 16}, "version 4"},
		{"tiny clusters", qcow2{version: 2, bits: 8}, "2^8"},
		{"huge clusters", qcow2{version: 2, bits: 63}, "2^63"},
		{"negative size", qcow2{version: 2, bits: 16, size: 1 << 63}, "9223372036854775808"},
		{"short header", qcow2{version: 3, bits: 16, length: 80}, "header of 80"},
		{"header longer than its cluster", qcow2{version: 3, bits: 9, length: 1024}, "header of 1024"},
		{"name in the second cluster", qcow2{version: 3, bits: 9, nameAt: 513}, "byte 513"},
		{"name at the end of the world", qcow2{version: 3, bits: 16, nameAt: 1<<64 - 1}, "outside"},
		{"name beyond the cluster", qcow2{version: 3, bits: 9, nameAt: 512, nameSize: 1}, "where 0 are left"},
		{"name of 4 GiB", qcow2{version: 3, bits: 21, backing: "x", nameSize: 1<<32 - 1}, "4294967295"},
		{"name of 1024 bytes", qcow2{version: 3, bits: 16, backing: strings.Repeat("n", 1024)}, "1024 bytes"},
		{"extension of 4 GiB", qcow2{version: 3, bits: 16, extensions: []extension{{kind: 1, size: 1<<32 - 1}}}, "extension 0x1"},
		{"format of 16 bytes", qcow2{version: 3, bits: 16, extensions: []extension{{kind: extensionBacking, data: strings.Repeat("f", 16)}}}, "16 bytes"},
		{"data file of 5 KB", qcow2{version: 3, bits: 16, extensions: []extension{{kind: extensionDataFile, data: strings.Repeat("d", 5000)}}}, "5000 bytes"},
		{"extensions without end", qcow2{version: 3, bits: 16, extensions: many}, "more than 64"},
	} {
		_, err := ReadHeader(bytes.NewReader(tc.in.image()))
		var bad *HeaderError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want a HeaderError with %q", tc.name, err, tc.want)
		}
	}
}

// An image that ends anywhere within its header is told from one of another
// format as soon as the first eight bytes are there.
func TestReadHeaderCut(t *testing.T) {
	whole := qcow2{version: 3, bits: 16, backing: "/dev/vg/base",
		extensions: []extension{{kind: extensionBacking, data: "qcow2"}}}.bytes()
	for n := range whole {
		_, err := ReadHeader(bytes.NewReader(whole[:n]))
		want := io.ErrUnexpectedEOF
		if n < 8 {
			want = ErrNotQCOW2
		}
		if !errors.Is(err, want) {
			t.Errorf("%d bytes: got %v, want %v", n, err, want)
		}
	}
	if _, err := ReadHeader(bytes.NewReader(whole)); err != nil {
		t.Errorf("all bytes: %v", err)
	}
}

func TestReadHeaderOthers(t *testing.T) {
	for name, in := range map[string][]byte{
		"empty": nil, "blank": make([]byte, 4096), "XFS": append([]byte("XFSB"), make([]byte, 4096)...),
		"qcow version 1": {'Q', 'F', 'I', 0xfb, 0, 0, 0, 1, 0, 0, 0, 0},
	} {
		if _, err := ReadHeader(bytes.NewReader(in)); !errors.Is(err, ErrNotQCOW2) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := ReadHeader(brokenReader{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a reader's own error is lost: %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) ReadAt([]byte, int64) (int, error) { return 0, os.ErrDeadlineExceeded }

// Headers that qemu-img 7.2 wrote.
func TestReadHeaderOfQemu(t *testing.T) {
	for name, want := range map[string]Header{
		"overlay.qcow2": {Version: 3, Size: 1 << 20, Backing: "base.qcow2", BackingFormat: "qcow2"},
		"compat010.qcow2": {Version: 2, Size: 1 << 20, BackingFormat: "qcow2",
			Backing: `json:{"driver":"qcow2","file":{"driver":"host_device","filename":"/dev/vg/b"}}`},
		"data.qcow2": {Version: 3, Size: 1 << 20, ExternalData: true, DataFile: "x.raw"},
		"luks.qcow2": {Version: 3, Size: 1 << 20, Encryption: "luks"},
	} {
		f, err := os.Open(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadHeader(f)
		f.Close()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// counted fails the test when a header makes the reader read much.
type counted struct {
	in   *bytes.Reader
	left int
	t    *testing.T
}

func (c *counted) ReadAt(p []byte, at int64) (int, error) {
	if c.left -= len(p); c.left < 0 {
		c.t.Fatal("reads without bound")
	}
	return c.in.ReadAt(p, at)
}

func FuzzReadHeader(f *testing.F) {
	f.Add(qcow2{version: 2, bits: 16, backing: "/dev/vg/base"}.bytes())
	f.Add(qcow2{version: 3, bits: 9, backing: "b", extensions: []extension{{kind: extensionBacking, data: "raw"}}}.bytes())
	f.Add(qcow2{version: 3, bits: 16, features: incompatibleData, extensions: []extension{{kind: extensionDataFile, data: "d"}}}.bytes())
	f.Add(qcow2{version: 3, bits: 21, nameAt: 1 << 20, nameSize: 1 << 31}.bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := ReadHeader(&counted{in: bytes.NewReader(in), left: 64 << 10, t: t})
		var bad *HeaderError
		if err != nil && !errors.Is(err, ErrNotQCOW2) && !errors.As(err, &bad) {
			t.Errorf("error without a type: %v", err)
		}
		if len(h.Backing) > maxBackingName || len(h.BackingFormat) > maxFormatName || len(h.DataFile) > maxDataName || h.Size < 0 {
			t.Errorf("out of bounds: %+v", h)
		}
	})
}
