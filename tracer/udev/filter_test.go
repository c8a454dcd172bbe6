package udev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pilebones/go-udev/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// kernelMessage makes a message as the kernel does.
func kernelMessage(action, path, subsystem string) []byte {
	return []byte(action + "@" + path + "\x00ACTION=" + action + "\x00DEVPATH=" + path +
		"\x00SUBSYSTEM=" + subsystem + "\x00SEQNUM=1\x00")
}

// devpath makes one that fills a header of n bytes with action add.
func devpath(n int) string {
	return "/devices/" + strings.Repeat("x", n-len("add@/devices/"))
}

func passes(t testing.TB, program []bpf.Instruction, message []byte) bool {
	t.Helper()
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	n, err := vm.Run(message)
	if err != nil {
		t.Fatal(err)
	}
	if n != 0 && n < len(message) && n != -1 { // accept is 2^32-1: -1 where int has 32 bits
		t.Errorf("cut to %d of %d bytes", n, len(message))
	}
	return n != 0
}

// Real messages: Linux 6.1 and 6.18, systemd 252.
var filtered = map[string]bool{
	"uevent-add-dm-0.bin": true, "uevent-change-dm-0.bin": true, "uevent-change-loop0.bin": true,
	"uevent-remove-zram1.bin": true, "uevent-add-dm_mod.bin": true,
	"uevent-add-bdi.bin": false, "uevent-change-lo.bin": false, "uevent-change-cpu0.bin": false,
	"udev-add-dm-0.bin": true, "udev-change-dm-0.bin": true, "udev-remove-dm-0.bin": true, "udev-change-loop0.bin": true,
	"udev-add-dm_mod.bin": false,
}

func TestFilterRecorded(t *testing.T) {
	for name, want := range filtered {
		program := kernelFilter()
		if strings.HasPrefix(name, "udev") {
			program = udevFilter()
		}
		if got := passes(t, program, read(t, name)); got != want {
			t.Errorf("%s: passes: %v", name, got)
		}
	}
}

// What the kernel does not write passes, but for what could not be read anyway.
func TestFilterUnexpected(t *testing.T) {
	block := string(kernelMessage("add", "/devices/virtual/block/dm-0", "block"))
	for name, tc := range map[string]struct {
		message string
		want    bool
	}{
		"empty":             {"", true},
		"short":             {"add@/x\x00", true},
		"no NUL":            {strings.Repeat("a", 300), true},
		"only NUL":          {strings.Repeat("\x00", 300), true},
		"high bytes":        {strings.Replace(string(kernelMessage("add", "/devices/xyz\xff", "net")), "xyz", "é", 2), true},
		"ends too early":    {"add@/devices/virtual/net/lo\x00ACTION=add\x00SEQNUM=1\x00", true},
		"other order":       {"add@/devices/virtual/net/lo\x00SUBSYSTEM=net\x00ACTION=add\x00DEVPATH=/devices/virtual/net/lo\x00", true},
		"other header":      {strings.Replace(block, "dm-0\x00", "dm-01\x00", 1), true},
		"no subsystem":      {strings.ReplaceAll(block, "SUBSYSTEM", "SUBSUBSYS"), true},
		"block first":       {string(kernelMessage("add", "/x", "blocks")), false},
		"block in the path": {string(kernelMessage("add", "/devices/SUBSYSTEM=block", "net")), false},
		"module":            {string(kernelMessage("add", "/module/dm_bufio", "module")), false},
		"module goes":       {string(kernelMessage("remove", "/module/dm_mod", "module")), false},
		"driver":            {string(kernelMessage("add", "/bus/virtio/drivers/virtio_blk", "drivers")), false},
	} {
		if got := passes(t, kernelFilter(), []byte(tc.message)); got != tc.want {
			t.Errorf("%s: passes: %v", name, got)
		}
	}
	change := read(t, "udev-add-dm_mod.bin")
	for n := range change {
		if got := passes(t, udevFilter(), change[:n]); got != (n < udevHeaderSize) {
			t.Errorf("%d bytes of udev's message: passes: %v", n, got)
		}
	}
	binary.BigEndian.PutUint32(change[udevMagicOffset:], 0xfeedcaff)
	if !passes(t, udevFilter(), change) {
		t.Error("another magic number does not pass")
	}
}

// Every length of a header is found, with subsystems of every length.
func TestFilterHeaderLengths(t *testing.T) {
	program := kernelFilter()
	for n := len("add@/devices/x"); n < headerSearched+40; n++ {
		for _, subsystem := range []string{"block", "b", "net", "bloc", "block0", "scsi_disk"} {
			message := kernelMessage("add", devpath(n), subsystem)
			want := subsystem == "block" || n >= headerSearched
			if got := passes(t, program, message); got != want {
				t.Errorf("header of %d bytes, %s: passes: %v", n, subsystem, got)
			}
		}
	}
	if !passes(t, program, kernelMessage("add", "/x", "block")) || passes(t, program, kernelMessage("a", "b", "c")) {
		t.Error("a short header is not found")
	}
}

func TestSubsystemHash(t *testing.T) {
	for _, file := range []string{"udev-change-loop0.bin", "udev-add-dm_mod.bin"} {
		message := read(t, file)
		u, err := parseUdev(message)
		if err != nil {
			t.Fatal(err)
		}
		want := binary.BigEndian.Uint32(message[udevSubsystemOffset:])
		if got := subsystemHash(u.Env["SUBSYSTEM"]); got != want && binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
			t.Errorf("%s: got %#x, udev has %#x", u.Env["SUBSYSTEM"], got, want)
		}
	}
}

// FuzzFilter compares the filters with what user space makes of a message: one
// that becomes an event or a loss is never refused.
func FuzzFilter(f *testing.F) {
	for name := range filtered {
		f.Add(read(f, name))
	}
	f.Add(kernelMessage("add", devpath(300), "block"))
	program := kernelFilter()
	f.Fuzz(func(t *testing.T, message []byte) {
		end := bytes.IndexByte(message, 0)
		header, rest, _ := bytes.Cut(message, []byte{0})
		action, path, _ := bytes.Cut(header, []byte{'@'})
		order := slices.Concat([]byte("ACTION="), action, []byte("\x00DEVPATH="), path, []byte("\x00SUBSYSTEM="))
		if end < 0 || !bytes.HasPrefix(rest, order) {
			return // not the kernel's
		}
		u, err := parseKernel(message)
		if err != nil {
			return
		}
		d, err := deviceInfo(u, 0)
		if err != nil {
			return
		}
		if subsystem, _, whole := bytes.Cut(rest[len(order):], []byte{0}); !whole || string(subsystem) != d.Subsystem {
			return // a second SUBSYSTEM
		}
		if wanted(d) && !passes(t, program, message) {
			t.Errorf("refused: %q", message)
		}
	})
}

// The kernel takes the programs, and does with real messages what the virtual
// machine does: here by udev's group, to which a process can send.
func TestFilterAttached(t *testing.T) {
	for prefix, program := range map[string][]bpf.Instruction{"uevent": kernelFilter(), "udev": udevFilter()} {
		s := openRaw(t, netlink.UdevEvent, program)
		if s.unfiltered != nil {
			t.Fatal(s.unfiltered)
		}
		var names []string
		for name, passes := range filtered {
			if !strings.HasPrefix(name, prefix+"-") {
				continue
			}
			send(t, netlink.UdevEvent, read(t, name))
			if passes {
				names = append(names, name)
			}
		}
		for _, name := range names {
			if got, err := s.receive(); err != nil || !bytes.Equal(got, read(t, name)) {
				t.Errorf("%s: got %q, %v", name, got, err)
			}
		}
		if got, err := s.receive(); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("not refused: %q, %v", got, err)
		}
	}
}

func openRaw(t testing.TB, mode netlink.Mode, program []bpf.Instruction) *socket {
	t.Helper()
	s, err := openSocket("test", mode, program, 1<<20)
	if err != nil {
		t.Skipf("uevents are not to be had here: %v", err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Messages that the filter refuses take no room in the queue, and are no loss.
func TestFilterIsNoLoss(t *testing.T) {
	s := open(t, Options{ReceiveBuffer: 4096})
	const sent = 200 // many times what the queue holds
	other, err := filepath.Glob("/sys/class/net/*/uevent")
	if err != nil || len(other) == 0 {
		t.Skip("no network device here")
	}
	for range sent {
		if err := os.WriteFile(other[0], []byte("change"), 0); err != nil {
			t.Skipf("trigger a uevent: %v", err)
		}
		send(t, netlink.UdevEvent, read(t, "udev-add-dm_mod.bin"))
	}
	name := trigger(t, 1)
	collect(t, s, func(e event.Event) bool {
		if e.Kind == event.Loss {
			t.Errorf("loss: %+v", e.Loss)
		}
		return e.Kind == event.Uevent && e.Dev.Name == name
	})
	if drops := s.kernel.newDrops() + s.udev.newDrops(); drops != 0 {
		t.Errorf("%d drops counted", drops)
	}
	if stats := s.Stats(); stats.Udev != 0 || stats.Kernel >= sent {
		t.Errorf("got %+v", stats)
	}
}

// BenchmarkFilter is one message of another subsystem, from being sent to being
// out of the way: read and thrown away, or refused.
func BenchmarkFilter(b *testing.B) {
	message := read(b, "uevent-change-lo.bin")
	for name, program := range map[string][]bpf.Instruction{"without": {accept}, "with": kernelFilter()} {
		b.Run(name, func(b *testing.B) {
			s := openRaw(b, netlink.UdevEvent, program)
			to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: uint32(netlink.UdevEvent)}
			fd := dial(b)
			defer unix.Close(fd)
			for b.Loop() {
				if err := unix.Sendto(fd, message, 0, to); err != nil {
					b.Skip(err)
				}
				if name == "without" {
					if _, err := s.receive(); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
