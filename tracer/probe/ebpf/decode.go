package ebpf

import (
	"bytes"
	"fmt"
	"unsafe"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/syscalls"
)

// decoder turns records of the ring buffer into events.
type decoder struct {
	// cmdline returns the present command line of a process, for arguments too
	// long for a record.
	cmdline func(pid int) ([]byte, error)
	links   syscalls.Links
}

// decode returns the event in raw, and whether there is one: some records say
// nothing that a timeline can use.
func (d *decoder) decode(raw []byte) (event.Event, bool, error) {
	h, _, err := view[bpf.Header](raw)
	if err != nil {
		return event.Event{}, false, err
	}
	switch h.Kind {
	case bpf.KindExec:
		return d.exec(raw)
	case bpf.KindFork:
		return newEvent(event.Fork, &h), true, nil
	case bpf.KindExit:
		return decodeExit(raw)
	case bpf.KindOpen:
		return decodeOpen(raw)
	case bpf.KindLink:
		return d.link(raw)
	case bpf.KindDM:
		return decodeDM(raw)
	}
	return event.Event{}, false, fmt.Errorf("record of unknown kind %d", h.Kind)
}

// view copies the record that raw begins with and returns the rest.
func view[T any](raw []byte) (record T, rest []byte, err error) {
	size := int(unsafe.Sizeof(record))
	if len(raw) < size {
		return record, nil, fmt.Errorf("record of %d bytes, a %T has %d", len(raw), record, size)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&record)), size), raw)
	return record, raw[size:], nil
}

// tail returns the first n bytes of what follows a record.
func tail(rest []byte, n uint32) ([]byte, error) {
	if uint64(n) > uint64(len(rest)) {
		return nil, fmt.Errorf("record with %d of %d bytes of data", len(rest), n)
	}
	return rest[:n], nil
}

func newEvent(kind event.Kind, h *bpf.Header) event.Event {
	p := &event.Proc{
		PID:  int(h.PID),
		PPID: int(h.PPID),
		UID:  h.UID,
		Comm: cstring(h.Comm[:]),
	}
	if h.TID != h.PID {
		p.TID = int(h.TID)
	}
	return event.Event{
		At:   event.Time(h.At),
		From: event.Time(h.From),
		Kind: kind,
		Src:  Name,
		Proc: p,
	}
}

func (d *decoder) exec(raw []byte) (event.Event, bool, error) {
	e, rest, err := view[bpf.ExecEvent](raw)
	if err != nil {
		return event.Event{}, false, err
	}
	area, err := tail(rest, e.Captured)
	if err != nil {
		return event.Event{}, false, err
	}
	whole := d.complete(int(e.PID), area, int(e.ArgsLen))
	args := syscalls.Args(whole)
	truncated := len(whole) < int(e.ArgsLen)
	if truncated && len(args) > 0 {
		// Half an argument misleads, and may be half a secret.
		args = args[:len(args)-1]
	}
	ev := newEvent(event.Exec, &e.Header)
	ev.Exec = &event.ExecInfo{
		Filename:  cstring(e.Filename[:]),
		Args:      args,
		ArgsBytes: int(e.ArgsLen),
		Truncated: truncated,
	}
	return ev, true, nil
}

// complete returns all n bytes of an argument area of which area is the
// beginning, if the process still has them, else area.
func (d *decoder) complete(pid int, area []byte, n int) []byte {
	if len(area) >= n {
		return area
	}
	whole, err := d.cmdline(pid)
	if err != nil || len(whole) != n || !bytes.HasPrefix(whole, area) {
		return area // it ended, or runs something else by now
	}
	return whole
}

func decodeExit(raw []byte) (event.Event, bool, error) {
	e, _, err := view[bpf.ExitEvent](raw)
	if err != nil {
		return event.Event{}, false, err
	}
	ev := newEvent(event.Exit, &e.Header)
	ev.Exit = syscalls.Exit(e.Code)
	return ev, true, nil
}

func decodeOpen(raw []byte) (event.Event, bool, error) {
	e, rest, err := view[bpf.OpenEvent](raw)
	if err != nil {
		return event.Event{}, false, err
	}
	name, err := tail(rest, e.PathLen)
	if err != nil {
		return event.Event{}, false, err
	}
	open := &event.OpenInfo{
		Path:  cstring(name),
		Flags: e.Flags,
		Errno: syscalls.Errno(int64(e.Ret)),
		Size:  -1,
	}
	if open.Errno == 0 {
		syscalls.Describe(open, e.Mode, e.Dev, e.Size)
	}
	if open.Path == "" || !syscalls.KeepOpen(open, e.Guest != 0) {
		return event.Event{}, false, nil
	}
	ev := newEvent(event.Open, &e.Header)
	ev.Open = open
	return ev, true, nil
}

func (d *decoder) link(raw []byte) (event.Event, bool, error) {
	e, _, err := view[bpf.LinkEvent](raw)
	if err != nil {
		return event.Event{}, false, err
	}
	ev := newEvent(event.Link, &e.Header)
	ev.Open = &event.OpenInfo{Path: cstring(e.Path[:]), Size: -1}
	from := cstring(e.From[:])
	switch e.Op {
	case bpf.LinkSymlink:
		ev.Open.Target = from
		return ev, d.links.Made(e.TID, ev.Open.Path, from), nil
	case bpf.LinkRename:
		target, ok := d.links.Renamed(e.TID, from)
		if !ok {
			return event.Event{}, false, nil // no link, as far as is known
		}
		ev.Open.Target = target
	}
	return ev, true, nil
}

func decodeDM(raw []byte) (event.Event, bool, error) {
	e, rest, err := view[bpf.DMEvent](raw)
	if err != nil {
		return event.Event{}, false, err
	}
	specs, err := tail(rest, e.TableLen)
	if err != nil {
		return event.Event{}, false, err
	}
	r := syscalls.Request{
		Nr: e.Nr, Flags: e.FlagsIn, Ret: e.Ret, Cookie: e.Cookie,
		Name: cstring(e.IO.Name[:]), UUID: cstring(e.IO.UUID[:]), Dev: e.IO.Dev,
	}
	if r.Nr == bpf.DMRemoveAll {
		return removedAll(&e)
	}
	kind, ok := r.Kind()
	if !ok {
		return event.Event{}, false, fmt.Errorf("device-mapper request of unknown number %d", e.Nr)
	}
	ev := newEvent(kind, &e.Header)
	ev.Proc.Args = syscalls.CallerArgs(e.Args[:min(e.ArgsLen, uint32(len(e.Args)))])
	ev.DM = r.Info()
	if ev.DM.Errno == 0 {
		ev.DM.Flags = e.IO.Flags
	}
	switch kind {
	case event.DMLoad:
		t := parseTable(specs, e.Targets)
		ev.DM.Table, ev.DM.Size, ev.DM.TableCut = t.lines, t.size, t.cut
	case event.DMRename:
		r.Rename(ev.DM, cstring(e.NewName[:]))
	case event.DMResume:
		if ev.DM.Errno == 0 {
			ev.DM.LiveAt = event.Time(e.Live)
		}
	}
	return ev, true, nil
}

// removedAll tells what a remove_all that succeeded has taken away: nobody knows.
func removedAll(e *bpf.DMEvent) (event.Event, bool, error) {
	if e.Ret < 0 {
		return event.Event{}, false, nil
	}
	ev := newEvent(event.Loss, &e.Header)
	ev.Loss = syscalls.RemovedAll(Name, *ev.Proc)
	ev.Proc = nil
	return ev, true, nil
}

// cstring returns b up to its first NUL.
func cstring(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
