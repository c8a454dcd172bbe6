package netif

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// namespace moves the test into a network namespace of its own. The thread is
// not given back, so it ends with the test.
func namespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("make a network namespace: %v", err)
	}
}

// make a guest's links as a launcher does.
func makeLinks(t *testing.T) (tap, bridge netlink.Link) {
	t.Helper()
	bridge = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Skipf("add a bridge: %v", err)
	}
	tap = &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "vnet0"}, Mode: netlink.TUNTAP_MODE_TAP, NonPersist: false}
	if err := netlink.LinkAdd(tap); err != nil {
		t.Skipf("add a tap device: %v", err)
	}
	for _, err := range []error{
		netlink.LinkSetMaster(tap, bridge), netlink.LinkSetUp(bridge), netlink.LinkSetUp(tap), netlink.LinkDel(tap),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return tap, bridge
}

func TestLinks(t *testing.T) {
	namespace(t)
	s, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.list = func() ([]netlink.Link, error) { return nil, nil } // only what the socket says
	tap, bridge := makeLinks(t)
	var got []event.NetInfo
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err = s.Run(ctx, func(e event.Event) {
		if e.Kind != event.Net || e.From != 0 || e.At < s.opened {
			t.Errorf("got %+v", e)
		}
		got = append(got, *e.Net)
		if e.Net.Action == actionDel {
			cancel()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := event.NetInfo{Action: "del", Index: tap.Attrs().Index, Name: "vnet0", Type: "tun"}
	last := got[len(got)-1]
	last.Master = 0 // depends on whether the bridge let it go first
	if diff := cmp.Diff(want, last); diff != "" {
		t.Error(diff)
	}
	var attached, up bool
	for i, info := range got {
		attached = attached || info.Name == "vnet0" && info.Master == bridge.Attrs().Index
		up = up || info.Name == "vnet0" && info.Up
		if i > 0 && info == got[i-1] {
			t.Errorf("%+v came twice", info)
		}
	}
	if !attached || !up {
		t.Errorf("attached %v, up %v: %+v", attached, up, got)
	}
}

// A full queue ends neither Run nor what is known.
func TestOverrun(t *testing.T) {
	namespace(t)
	s, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.socket.SetReceiveBufferSize(2048, false); err != nil {
		t.Fatal(err)
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Skipf("add a bridge: %v", err)
	}
	for range 20 {
		if err := errors.Join(netlink.LinkSetUp(bridge), netlink.LinkSetDown(bridge)); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var lost bool
	var last event.NetInfo
	err = s.Run(ctx, func(e event.Event) {
		switch {
		case e.Kind == event.Net:
			last = *e.Net
		case e.Kind == event.Loss && e.Loss.Recovered:
			lost = true
			cancel()
		}
	})
	if err != nil || !lost || last.Name != "br0" || !last.Up {
		t.Errorf("error %v, lost %v, last %+v", err, lost, last)
	}
}

func link(index int, name string, up bool) netlink.Link {
	a := netlink.NewLinkAttrs()
	a.Index, a.Name = index, name
	if up {
		a.RawFlags = unix.IFF_UP
	}
	return &netlink.Bridge{LinkAttrs: a}
}

// After a loss only the differences are told.
func TestRefresh(t *testing.T) {
	lists := [][]netlink.Link{
		{link(1, "br1", false), link(2, "br2", true), &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: 3}}},
		{link(1, "br1", true), link(4, "br4", true)},
	}
	s := &Source{known: make(map[int]event.NetInfo), last: 50}
	s.list = func() ([]netlink.Link, error) {
		list := lists[0]
		lists = lists[1:]
		return list, nil
	}
	var got []string
	emit := func(e event.Event) {
		switch e.Kind {
		case event.Net:
			got = append(got, e.Net.Action+" "+e.Net.Name)
		case event.Loss:
			got = append(got, "loss")
			if !e.Loss.Recovered || e.From != 50 {
				t.Errorf("got %+v %+v", e, e.Loss)
			}
		}
	}
	if err := s.refresh(bootStart, emit); err != nil {
		t.Fatal(err)
	}
	s.overrun = s.last
	s.overrunEnds(emit)
	want := []string{"new br1", "new br2", "new br1", "new br4", "del br2", "loss"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A listing that changed while it was read deletes nothing.
func TestInterruptedDump(t *testing.T) {
	s := &Source{known: map[int]event.NetInfo{7: {Index: 7, Type: "bridge"}}}
	s.list = func() ([]netlink.Link, error) { return nil, netlink.ErrDumpInterrupted }
	if err := s.refresh(1, func(e event.Event) { t.Errorf("got %+v", e) }); err != nil {
		t.Error(err)
	}
	failed := errors.New("no")
	s.list = func() ([]netlink.Link, error) { return nil, failed }
	if err := s.refresh(1, nil); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
}
