package probe

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/event"
)

const (
	srcEBPF = "ebpf"

	dmSuspendFlag = 1 << 1  // DM_SUSPEND_FLAG
	dmUUIDFlag    = 1 << 14 // DM_UUID_FLAG
)

// decoder turns records of the ring buffer into events.
type decoder struct {
	// cmdline returns the present command line of a process, for arguments too
	// long for a record.
	cmdline func(pid int) ([]byte, error)
	// symlinks has the last link that each thread made, until it renames it.
	symlinks map[uint32]symlink
}

type symlink struct{ path, target string }

// maxSymlinks bounds decoder.symlinks: threads that made a link and then
// nothing. udev runs far fewer workers than this.
const maxSymlinks = 1024

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
		Src:  srcEBPF,
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
	args := splitArgs(whole)
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
	status := unix.WaitStatus(e.Code)
	ev := newEvent(event.Exit, &e.Header)
	ev.Exit = &event.ExitInfo{}
	if status.Signaled() {
		ev.Exit.Signal = int(status.Signal())
	} else {
		ev.Exit.Status = int(e.Code>>8) & 0xff
	}
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
		Errno: errno(e.Ret),
		Size:  -1,
	}
	if open.Errno == 0 {
		describe(open, &e)
	}
	if open.Path == "" || !keepOpen(open, e.Guest != 0) {
		return event.Event{}, false, nil
	}
	ev := newEvent(event.Open, &e.Header)
	ev.Open = open
	return ev, true, nil
}

// describe fills in what was opened.
func describe(open *event.OpenInfo, e *bpf.OpenEvent) {
	open.Type = fileType(e.Mode)
	switch open.Type {
	case "block":
		open.Dev = &event.Dev{Major: e.Dev >> 20, Minor: e.Dev & (1<<20 - 1)}
		open.Size = e.Size
	case "file":
		open.Size = e.Size
	}
}

// fileType names a mode; nothing for 0, a file that was closed too soon.
func fileType(mode uint32) string {
	switch mode & unix.S_IFMT {
	case 0:
		return ""
	case unix.S_IFBLK:
		return "block"
	case unix.S_IFCHR:
		return "char"
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "dir"
	}
	return "other"
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
		if len(d.symlinks) >= maxSymlinks {
			clear(d.symlinks)
		}
		d.symlinks[e.TID] = symlink{path: ev.Open.Path, target: from}
		return ev, !isTemporary(ev.Open.Path), nil
	case bpf.LinkRename:
		made, ok := d.symlinks[e.TID]
		if !ok || made.path != from {
			return event.Event{}, false, nil // no link, as far as is known
		}
		delete(d.symlinks, e.TID)
		ev.Open.Target = made.target
	}
	return ev, true, nil
}

// isTemporary reports whether a link bears one of the names under which systemd makes
// it, to rename it at once: ".#NAME" and random digits, before version 250 "NAME.tmp-"
// and a device's number. Nobody opens that.
func isTemporary(link string) bool {
	name := path.Base(link)
	return strings.HasPrefix(name, ".#") || strings.Contains(name, ".tmp-")
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
	if e.Nr == bpf.DMRemoveAll {
		return removedAll(&e)
	}
	kind, ok := dmKind(&e)
	if !ok {
		return event.Event{}, false, fmt.Errorf("device-mapper request of unknown number %d", e.Nr)
	}
	ev := newEvent(kind, &e.Header)
	ev.Proc.Args = callerArgs(&e)
	ev.DM = dmInfo(&e)
	switch kind {
	case event.DMLoad:
		t := parseTable(specs, e.Targets)
		ev.DM.Table, ev.DM.Size, ev.DM.TableCut = t.lines, t.size, t.cut
	case event.DMRename:
		if e.FlagsIn&dmUUIDFlag != 0 {
			ev.DM.NewUUID = cstring(e.NewName[:])
		} else {
			ev.DM.NewName = cstring(e.NewName[:])
		}
	case event.DMResume:
		if ev.DM.Errno == 0 {
			ev.DM.LiveAt = event.Time(e.Live)
		}
	}
	return ev, true, nil
}

func dmKind(e *bpf.DMEvent) (event.Kind, bool) {
	switch e.Nr {
	case bpf.DMDevCreate:
		return event.DMCreate, true
	case bpf.DMDevRemove:
		return event.DMRemove, true
	case bpf.DMDevRename:
		return event.DMRename, true
	case bpf.DMTableLoad:
		return event.DMLoad, true
	case bpf.DMDevResume:
		if e.FlagsIn&dmSuspendFlag != 0 {
			return event.DMSuspend, true
		}
		return event.DMResume, true
	}
	return "", false
}

func dmInfo(e *bpf.DMEvent) *event.DMInfo {
	dm := &event.DMInfo{
		Name:  cstring(e.IO.Name[:]),
		UUID:  cstring(e.IO.UUID[:]),
		Errno: errno(e.Ret),
	}
	switch e.Nr {
	case bpf.DMDevResume, bpf.DMDevRename, bpf.DMDevRemove: // those that announce it in a uevent
		dm.Cookie = e.Cookie
	}
	if e.IO.Dev != 0 {
		dm.Dev = &event.Dev{Major: unix.Major(e.IO.Dev), Minor: unix.Minor(e.IO.Dev)}
	}
	if dm.Errno == 0 {
		dm.Flags = e.IO.Flags
	}
	return dm
}

// removedAll: the kernel does not say which mappings "dmsetup remove_all" took
// away. That is no dm_remove of anything; it is something that was missed.
func removedAll(e *bpf.DMEvent) (event.Event, bool, error) {
	if errno(e.Ret) != 0 {
		return event.Event{}, false, nil
	}
	ev := newEvent(event.Loss, &e.Header)
	ev.Loss = &event.LossInfo{
		Source: srcEBPF,
		What:   string(event.DMRemove),
		Why:    fmt.Sprintf("process %d (%s) removed all unused mappings at once", ev.Proc.PID, ev.Proc.Comm),
	}
	ev.Proc = nil
	return ev, true, nil
}

func callerArgs(e *bpf.DMEvent) []string {
	n := min(e.ArgsLen, uint32(len(e.Args)))
	return redactTableArgs(splitArgs(e.Args[:n]))
}

// splitArgs splits an argument area, whose arguments end with NUL each.
func splitArgs(area []byte) []string {
	s := strings.TrimSuffix(string(area), "\x00")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\x00")
}

func errno(ret int32) int {
	if ret < 0 {
		return -int(ret)
	}
	return 0
}

// cstring returns b up to its first NUL.
func cstring(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
