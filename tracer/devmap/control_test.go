package devmap

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// -record DIR keeps the answers of this kernel's device-mapper, as testdata.
var record = flag.String("record", "", "write the kernel's answers to this directory")

// TestKernel asks the running kernel. It needs root and a loaded dm_mod, and
// is run in a virtual machine with mappings.
func TestKernel(t *testing.T) {
	c, err := Open()
	if errors.Is(err, ErrNotLoaded) || errors.Is(err, ErrNoNode) || errors.Is(err, fs.ErrPermission) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if *record != "" {
		c.call = recorder(*record, c.call)
	}
	major, minor, patch, err := c.Version()
	if err != nil || major != 4 {
		t.Errorf("version %d.%d.%d, %v", major, minor, patch, err)
	}
	list, err := c.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		t.Logf("%s %s %v %s %d bytes, open %d, flags %#x", m.Name, m.UUID, m.Dev, m.State(), m.Size, m.OpenCount, m.Flags)
		t.Log(m.Table())
		deps, err := c.Deps(m.Dev)
		t.Log(deps, err)
		if r, err := c.Resolve("/dev/mapper/" + m.Name); err == nil {
			t.Logf("%+v ready %v", r, r.Ready())
		}
	}
	if _, err := c.Status(event.Dev{Major: 1, Minor: 3}); !errors.Is(err, ErrNotMapping) {
		t.Errorf("status of a device that is no mapping: %v", err)
	}
}

// kernel answers as Linux 6.1 (device-mapper 4.47) did, from the recorded
// files: KIND.bin or KIND-NAME.bin.
func kernel(t *testing.T, list string) *Control {
	t.Helper()
	kinds := map[uintptr]string{cmdVersion: "version", cmdDevStatus: "status", cmdTableDeps: "deps", cmdTableStatus: "table"}
	return &Control{call: func(cmd uintptr, buf []byte) error {
		if cmd == cmdListDevices {
			return answerFrom(buf, filepath.Join("testdata", list))
		}
		files, err := filepath.Glob("testdata/" + kinds[cmd] + "*.bin")
		if err != nil {
			return err
		}
		asked := decodeDev(binary.NativeEndian.Uint64(buf[offDev:]))
		for _, file := range files {
			answer := make([]byte, len(buf))
			if err := answerFrom(answer, file); err != nil {
				return err
			}
			if m, err := parseHeader(answer); err == nil && m.Dev == asked {
				copy(buf, answer)
				return nil
			}
		}
		return unix.ENXIO
	}}
}

func answerFrom(buf []byte, file string) error {
	answer, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if len(answer) > len(buf) {
		binary.NativeEndian.PutUint32(buf[offFlags:], uint32(FlagBufferFull))
		return nil
	}
	copy(buf, answer)
	return nil
}

func TestList(t *testing.T) {
	got, err := kernel(t, "list.bin").List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	type line struct {
		Name, Layer string
		Minor       uint32
		State       State
		Size        int64
		Open        int
		Table       []string
	}
	var lines []line
	for _, m := range got {
		id, _ := ParseLVMUUID(m.UUID)
		lines = append(lines, line{m.Name, id.Layer, m.Dev.Minor, m.State(), m.Size, m.OpenCount, m.Table()})
	}
	want := []line{
		{"asleep", "", 8, Suspended, 4096, 0, []string{"0 8 error"}},
		{"dm_73bd", "", 4, Live, 3 << 20, 0, []string{"0 2048 linear 7:0 8192", "2048 4096 linear 7:0 20480"}},
		{"loaded", "", 7, Loaded, 0, 0, nil},
		{`my\x20disk`, "", 9, Live, 4096, 0, []string{"0 8 error"}},
		{"nothing", "", 6, Created, 0, 0, nil},
		{"secret", "", 5, Live, 1 << 20, 0, []string{"0 2048 crypt aes-xts-plain64 [redacted] 0 7:0 300000"}},
		{"vg--data-snap", "", 3, Live, 16 << 20, 0, []string{"0 32768 snapshot 254:1 254:2 P 8"}},
		{"vg--data-snap-cow", "cow", 2, Live, 8 << 20, 1, []string{"0 16384 linear 7:0 34816"}},
		{"vg--data-web--01", "", 0, Live, 16 << 20, 0, []string{"0 32768 snapshot-origin 254:1"}},
		{"vg--data-web--01-real", "real", 1, Live, 16 << 20, 2, []string{"0 32768 linear 7:0 2048"}},
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

func TestListEmpty(t *testing.T) {
	if list, err := kernel(t, "list-empty.bin").List(context.Background()); err != nil || len(list) != 0 {
		t.Errorf("got %v, %v", list, err)
	}
}

func TestDeps(t *testing.T) {
	c := kernel(t, "list.bin")
	dm := func(minor uint32) event.Dev { return event.Dev{Major: 254, Minor: minor} }
	for minor, want := range map[uint32][]event.Dev{
		3: {dm(2), dm(1)},       // snapshot on its cow and origin
		4: {{Major: 7}},         // loop0
		7: nil,                  // no active table
		8: make([]event.Dev, 0), // the error target stands on nothing
	} {
		got, err := c.Deps(dm(minor))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("254:%d: %v %s", minor, err, diff)
		}
	}
}

func TestStatus(t *testing.T) {
	c := kernel(t, "list.bin")
	m, err := c.Status(event.Dev{Major: 254, Minor: 0})
	if err != nil || m.Name != "vg--data-web--01" || !m.Flags.Usable() {
		t.Errorf("got %+v, %v", m, err)
	}
	for _, dev := range []event.Dev{{Major: 254, Minor: 77}, {}} {
		if _, err := c.Status(dev); !errors.Is(err, ErrNotMapping) {
			t.Errorf("%v: %v, want ErrNotMapping", dev, err)
		}
	}
}

// By its uuid a mapping is found whatever its name is by now.
func TestWithUUID(t *testing.T) {
	c := kernel(t, "list.bin")
	byNumber := c.call
	c.call = func(cmd uintptr, buf []byte) error {
		if name, uuid := cString(buf[offName:offName+nameLen]), cString(buf[offUUID:offUUID+uuidFieldLen]); name != "" || uuid != "LVM-x" {
			return unix.ENXIO
		}
		binary.NativeEndian.PutUint64(buf[offDev:], 254<<8)
		return byNumber(cmd, buf)
	}
	if m, err := c.WithUUID("LVM-x"); err != nil || m.Name != "vg--data-web--01" {
		t.Errorf("got %+v, %v", m, err)
	}
	for _, uuid := range []string{"LVM-y", "", strings.Repeat("x", uuidFieldLen)} {
		if _, err := c.WithUUID(uuid); !errors.Is(err, ErrNotMapping) {
			t.Errorf("%q: %v, want ErrNotMapping", uuid, err)
		}
	}
}

// A buffer that is too small is grown, and a kernel that never has enough is
// given up.
func TestAnswerGrows(t *testing.T) {
	var sizes []int
	c := &Control{call: func(_ uintptr, buf []byte) error {
		sizes = append(sizes, len(buf))
		binary.NativeEndian.PutUint32(buf[offFlags:], uint32(FlagBufferFull))
		return nil
	}}
	if _, err := c.List(context.Background()); err == nil {
		t.Error("no error although no buffer was large enough")
	}
	if len(sizes) < 2 || sizes[len(sizes)-1] > maxAnswer {
		t.Errorf("buffers of %v bytes", sizes)
	}
}

func TestRegistered(t *testing.T) {
	for content, want := range map[string]bool{
		"237 loop-control\n236 device-mapper\n": true,
		"237 loop-control\n":                    false,
		"":                                      false,
	} {
		file := filepath.Join(t.TempDir(), "misc")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := registered(file); err != nil || got != want {
			t.Errorf("%q: %v, %v", content, got, err)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	files, err := filepath.Glob("testdata/*.bin")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		answer, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(answer)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		parseHeader(answer)
		parseNames(answer)
		parseTable(answer)
		parseDeps(answer)
	})
}

func recorder(dir string, call func(uintptr, []byte) error) func(uintptr, []byte) error {
	number := 0
	return func(cmd uintptr, buf []byte) error {
		err := call(cmd, buf)
		if err == nil {
			end := headerSize
			if data, perr := payload(buf); perr == nil {
				end = min(len(buf), headerSize+len(data))
			}
			number++
			name := filepath.Join(dir, fmt.Sprintf("%02d-cmd%d.bin", number, cmd))
			err = os.WriteFile(name, buf[:end], 0o644)
		}
		return err
	}
}
