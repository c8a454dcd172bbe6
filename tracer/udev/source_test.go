package udev

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pilebones/go-udev/netlink"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
)

// -record DIR keeps raw messages for -for, as testdata.
var (
	record    = flag.String("record", "", "write messages to this directory")
	recordFor = flag.Duration("for", 10*time.Second, "how long to record")
)

const testID = "b0074ace-0000-4000-8000-000000000001"

// trigger makes the kernel announce a change of a block device, as `udevadm
// trigger` does, with an id of ours (Linux 4.13).
func trigger(t *testing.T, times int) (name string) {
	t.Helper()
	files, err := filepath.Glob("/sys/class/block/*/uevent")
	if err != nil || len(files) == 0 {
		t.Skip("no block device here")
	}
	for range times {
		if err := os.WriteFile(files[0], []byte("change "+testID), 0); err != nil {
			t.Skipf("trigger a uevent: %v", err)
		}
	}
	return filepath.Base(filepath.Dir(files[0]))
}

// detachFilter lets a socket receive messages of all subsystems.
func detachFilter(t *testing.T, s *socket) {
	t.Helper()
	if err := unix.SetsockoptInt(s.conn.Fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, options Options) *Source {
	t.Helper()
	s, err := Open(options)
	if err != nil {
		t.Skipf("uevents are not to be had here: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// collect runs s until done says so.
func collect(t *testing.T, s *Source, done func(event.Event) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	found := false
	err := s.Run(ctx, func(e event.Event) {
		if !found && done(e) {
			found = true
			cancel()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		t.Fatal("the event did not come")
	}
}

func TestKernelEvent(t *testing.T) {
	s := open(t, Options{})
	before := event.Now()
	name := trigger(t, 1) // waits in the queue until Run
	queued := event.Now()
	time.Sleep(10 * time.Millisecond)
	var got event.Event
	collect(t, s, func(e event.Event) bool {
		got = e
		return e.Kind == event.Uevent && e.Dev.Name == name && e.Dev.Props["SYNTH_UUID"] == testID
	})
	d := got.Dev
	if d.Action != "change" || d.Subsystem != "block" || d.Seq == 0 || d.Dev == nil || d.Path == "" {
		t.Errorf("got %+v", d)
	}
	if got.From == 0 || got.From > before || got.At < queued {
		t.Errorf("window %d to %d does not hold %d to %d", got.From, got.At, before, queued)
	}
	if blockdev.DeviceKind(d) != blockdev.Mapping && blockdev.Size(d) < 0 {
		t.Errorf("no size: %v", d.Attrs)
	}
	if s.Stats().Kernel == 0 {
		t.Error("the message was not counted")
	}
}

// The context ends a Run that waits.
func TestRunEnds(t *testing.T) {
	s := open(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx, func(event.Event) {}) }()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Run did not end")
	}
}

func TestOverrun(t *testing.T) {
	var resyncs atomic.Int32
	s := open(t, Options{ReceiveBuffer: 4096, Resync: func() { resyncs.Add(1) }})
	const sent = 200
	name := trigger(t, sent)
	var received int
	collect(t, s, func(e event.Event) bool {
		if e.Kind == event.Uevent && e.Dev.Name == name {
			received++
		}
		if e.Kind != event.Loss || e.Loss.What != KernelSource {
			return false
		}
		if e.Loss.Count != uint64(sent-received) && s.Stats().Kernel == uint64(received) {
			t.Errorf("%d lost, %d of %d received", e.Loss.Count, received, sent)
		}
		if e.From == 0 || e.From >= e.At {
			t.Errorf("window %d to %d", e.From, e.At)
		}
		return true
	})
	if resyncs.Load() != 1 {
		t.Errorf("%d calls for a snapshot, want 1", resyncs.Load())
	}
	// And it goes on.
	trigger(t, 1)
	collect(t, s, func(e event.Event) bool { return e.Kind == event.Uevent && e.Dev.Name == name })
}

// udevMessage makes a message as udev does, of a device that does not exist.
func udevMessage(seq uint64, properties ...string) []byte {
	message := make([]byte, udevHeaderSize)
	copy(message, udevPrefix)
	binary.BigEndian.PutUint32(message[udevMagicOffset:], udevMagic)
	binary.BigEndian.PutUint32(message[udevSubsystemOffset:], subsystemHash("block"))
	binary.NativeEndian.PutUint32(message[12:], udevHeaderSize)
	binary.NativeEndian.PutUint32(message[udevPropOffset:], udevHeaderSize)
	for _, p := range append(properties, fmt.Sprintf("SEQNUM=%d", seq), "ACTION=change",
		"DEVPATH=/devices/virtual/block/bootrace-test", "SUBSYSTEM=block") {
		message = append(append(message, p...), 0)
	}
	return message
}

// dial returns a socket to send messages with.
func dial(t testing.TB) (fd int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func send(t *testing.T, mode netlink.Mode, message []byte) {
	t.Helper()
	fd := dial(t)
	defer unix.Close(fd)
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: uint32(mode)}); err != nil {
		t.Skipf("send to netlink group %d: %v", mode, err)
	}
}

// A process, even root's, cannot pose as the kernel; udev's group takes root.
func TestSenders(t *testing.T) {
	s := open(t, Options{})
	send(t, netlink.KernelEvent, []byte("add@/devices/virtual/block/bootrace-test\x00ACTION=add\x00"+
		"DEVPATH=/devices/virtual/block/bootrace-test\x00SUBSYSTEM=block\x00SEQNUM=1\x00"))
	send(t, netlink.UdevEvent, udevMessage(77, "DEVLINKS=/dev/a /dev/b", "ID_FS_TYPE=x=y"))
	send(t, netlink.UdevEvent, []byte("no event at all"))
	var got event.Event
	var losses int
	collect(t, s, func(e event.Event) bool {
		if e.Kind == event.Uevent && filepath.Base(e.Dev.Path) == "bootrace-test" {
			t.Error("a process was taken for the kernel")
		}
		if e.Kind == event.Udev && filepath.Base(e.Dev.Path) == "bootrace-test" {
			got = e
		}
		if e.Kind == event.Loss {
			losses++
		}
		return losses > 0
	})
	if got.Dev == nil || len(got.Dev.Links) != 2 || got.Dev.Props["ID_FS_TYPE"] != "x=y" || got.From != s.opened {
		t.Errorf("got %+v", got)
	}
	if stats := s.Stats(); stats.Foreign != 1 || stats.Unparsable != 1 {
		t.Errorf("got %+v", stats)
	}
}

// TestRecord writes raw messages of all subsystems to files, for other tests.
func TestRecord(t *testing.T) {
	if *record == "" {
		t.Skip("no -record DIR")
	}
	s := open(t, Options{})
	detachFilter(t, s.kernel)
	detachFilter(t, s.udev)
	number := 0
	for end := time.Now().Add(*recordFor); time.Now().Before(end); {
		for _, socket := range []*socket{s.kernel, s.udev} {
			message, err := socket.receive()
			if err != nil {
				time.Sleep(time.Millisecond)
				continue
			}
			number++
			name := filepath.Join(*record, fmt.Sprintf("%04d-%s.bin", number, socket.source))
			if err := os.WriteFile(name, message, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestWatch prints what comes for -for, to look at.
func TestWatch(t *testing.T) {
	if !testing.Verbose() || *record == "" {
		t.Skip("no -v -record DIR")
	}
	s := open(t, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), *recordFor)
	defer cancel()
	err := s.Run(ctx, func(e event.Event) {
		fmt.Printf("%.6f %.3fms %s %+v\n", e.At.Seconds(), float64(e.At-e.Earliest())/1e6, e.Kind, e.Dev)
	})
	fmt.Printf("%+v\n", s.Stats())
	if err != nil {
		t.Fatal(err)
	}
}
