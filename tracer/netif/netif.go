// Package netif follows the network links that guests use: tap devices, macvtap
// and veth, and the bridges and bonds they hang on.
//
// A guest whose tap device was made, raised and given a carrier is running its
// network: that tells a guest that started from one that hangs on its disk.
package netif

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// SourceName is Event.Src of this source.
const SourceName = "net"

// receiveBuffer is the size of the socket's queue in bytes. A message about a
// link has 1 to 2 KiB, and a guest's start causes about ten.
const receiveBuffer = 4 << 20

// Actions of a link.
const (
	actionNew = "new" // exists, is new or has changed
	actionDel = "del"
)

// Options configure a Source. The zero value is ready.
type Options struct {
	Log *slog.Logger // may be nil
}

// Source receives changes of network links in this network namespace.
type Source struct {
	socket *nl.NetlinkSocket
	forced bool
	opened event.Time
	last   event.Time // last message's receipt
	// overrun is last at the moment that the kernel reported a full queue, 0
	// in normal times.
	overrun event.Time
	log     *slog.Logger
	list    func() ([]netlink.Link, error)
	known   map[int]event.NetInfo // by index: what was emitted last
}

// Open subscribes: from then on changes wait for Run.
func Open(options Options) (*Source, error) {
	s := &Source{
		log: options.Log, opened: event.Now(), list: netlink.LinkList,
		known: make(map[int]event.NetInfo),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.last = s.opened
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
	if err != nil {
		return nil, fmt.Errorf("subscribe to network links: %w", err)
	}
	s.socket = socket
	s.forced = socket.SetReceiveBufferSize(receiveBuffer, true) == nil
	if !s.forced {
		if err := socket.SetReceiveBufferSize(receiveBuffer, false); err != nil {
			socket.Close()
			return nil, fmt.Errorf("subscribe to network links: set receive buffer to %d bytes: %w", receiveBuffer, err)
		}
	}
	return s, nil
}

// Close ends the subscription, and Run with it.
func (s *Source) Close() error {
	s.socket.Close()
	return nil
}

// Info describes the source, attached since Open.
func (s *Source) Info() event.SourceInfo {
	ability := event.Ability{Name: "net", OK: true}
	if !s.forced {
		ability.Why = "the receive buffer could not be raised (needs CAP_NET_ADMIN): losses are likelier"
	}
	return event.SourceInfo{Name: SourceName, State: "attached", Abilities: []event.Ability{ability}}
}

// Run emits the links that exist, as new at some time since the boot, and then
// every change, until ctx is done or the source is closed, which is no error.
// After a loss it lists them again. It does not survive ctx: the socket is
// closed with it.
func (s *Source) Run(ctx context.Context, emit func(event.Event)) error {
	defer context.AfterFunc(ctx, s.socket.Close)()
	if err := s.refresh(bootStart, emit); err != nil {
		s.log.Warn("cannot list network links", "error", err)
	}
	for {
		messages, from, err := s.socket.Receive()
		switch {
		case ctx.Err() != nil || errors.Is(err, os.ErrClosed):
			return nil
		case errors.Is(err, unix.ENOBUFS):
			err = s.overrunBegins()
		case errors.Is(err, unix.EAGAIN):
			s.overrunEnds(emit)
			err = s.socket.SetReceiveTimeout(&unix.Timeval{})
		case errors.Is(err, unix.EINTR):
			err = nil
		case err == nil && from.Pid == nl.PidKernel:
			s.last = event.Now()
			s.handle(messages, emit)
		}
		if err != nil {
			return fmt.Errorf("read network links: %w", err)
		}
	}
}

// bootStart is the earliest instant there is: 0 would mean an exact time.
const bootStart event.Time = 1

// drained is how long an empty queue is waited on after a loss, to know that it
// is empty.
const drained = time.Millisecond

// overrunBegins: the kernel has dropped a message, and drops all further ones
// until the queue has been emptied (NETLINK_S_CONGESTED). Only then is the loss
// over, and a listing complete.
func (s *Source) overrunBegins() error {
	if s.overrun == 0 {
		s.overrun = s.last
	}
	timeout := unix.NsecToTimeval(int64(drained))
	return s.socket.SetReceiveTimeout(&timeout)
}

// overrunEnds makes up for a loss, as far as states go.
func (s *Source) overrunEnds(emit func(event.Event)) {
	if s.overrun == 0 {
		return
	}
	since := s.overrun
	s.overrun = 0
	err := s.refresh(since, emit)
	if err != nil {
		s.log.Warn("cannot list network links after a loss", "error", err)
	}
	emit(event.Event{
		Kind: event.Loss, Src: SourceName, From: since, At: event.Now(),
		Loss: &event.LossInfo{
			Source: SourceName, What: SourceName, Why: "the receive queue was full (ENOBUFS)", Recovered: err == nil,
		},
	})
}

// refresh emits what differs from what is known: it happened after since.
func (s *Source) refresh(since event.Time, emit func(event.Event)) error {
	links, err := s.list()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return err
	}
	complete := err == nil
	now := event.Now()
	gone := make(map[int]bool, len(s.known))
	for index := range s.known {
		gone[index] = true
	}
	for _, link := range links {
		delete(gone, link.Attrs().Index)
		s.update(link, actionNew, since, now, emit)
	}
	if !complete {
		return nil // changed while it was read: those changes come as messages
	}
	for index := range gone {
		s.remove(index, since, now, emit)
	}
	return nil
}

func (s *Source) handle(messages []syscall.NetlinkMessage, emit func(event.Event)) {
	for _, m := range messages {
		action := actionNew
		switch m.Header.Type {
		case unix.RTM_NEWLINK:
		case unix.RTM_DELLINK:
			action = actionDel
		default:
			continue
		}
		// A bridge tells about its ports under its own family, too: "deleted"
		// there means taken off the bridge.
		if len(m.Data) < unix.SizeofIfInfomsg || m.Data[0] != unix.AF_UNSPEC {
			continue
		}
		header := unix.NlMsghdr(m.Header)
		link, err := netlink.LinkDeserialize(&header, m.Data)
		if err != nil {
			s.log.Warn("cannot read a message about a network link", "error", err)
			emit(event.Event{Kind: event.Loss, Src: SourceName, At: s.last, Loss: &event.LossInfo{
				Source: SourceName, What: SourceName, Count: 1, Why: err.Error(),
			}})
			continue
		}
		s.update(link, action, 0, s.last, emit)
	}
}

// update emits a link's state if a guest may use it and it says something new;
// statistics and addresses cause many messages that do not.
func (s *Source) update(link netlink.Link, action string, from, at event.Time, emit func(event.Event)) {
	info := describe(link)
	if action == actionDel {
		s.remove(info.Index, from, at, emit)
		return
	}
	if !ofGuests(info.Type) || s.known[info.Index] == info {
		return
	}
	s.known[info.Index] = info
	emit(event.Event{Kind: event.Net, Src: SourceName, From: from, At: at, Net: &info})
}

func (s *Source) remove(index int, from, at event.Time, emit func(event.Event)) {
	info, ok := s.known[index]
	if !ok {
		return
	}
	delete(s.known, index)
	info.Action, info.Up, info.Carrier = actionDel, false, false
	emit(event.Event{Kind: event.Net, Src: SourceName, From: from, At: at, Net: &info})
}

func describe(link netlink.Link) event.NetInfo {
	a := link.Attrs()
	kind := link.Type()
	if kind == "tuntap" { // the library's word; the kernel's IFLA_INFO_KIND is tun
		kind = "tun"
	}
	return event.NetInfo{
		Action:  actionNew,
		Index:   a.Index,
		Name:    a.Name,
		Type:    kind,
		Master:  a.MasterIndex,
		Up:      a.RawFlags&unix.IFF_UP != 0,
		Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0,
	}
}

// ofGuests names the kinds of links that guests are attached with, and those
// that can be their masters.
func ofGuests(kind string) bool {
	switch kind {
	case "tun", "macvtap", "ipvtap", "veth", "bridge", "bond", "openvswitch":
		return true
	}
	return false
}
