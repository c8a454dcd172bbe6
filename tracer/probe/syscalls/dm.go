package syscalls

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/event"
)

// Flags of a request, as in linux/dm-ioctl.h.
const (
	DMSuspend = 1 << 1  // DM_SUSPEND_FLAG: a resume that suspends
	DMNewUUID = 1 << 14 // DM_UUID_FLAG: a rename that sets the UUID
)

// DMFunction is the kernel function of all requests: (struct file *, unsigned int
// command, the caller's struct dm_ioctl *), the same from Linux 3.10 to 7.2.
const DMFunction = "dm_ctl_ioctl"

// Request is a request of device-mapper that has ended: what was asked for, and what the
// kernel has answered in its struct dm_ioctl. LVM often gives only the name or only the
// number of a mapping; the answer has all that the kernel knows of it.
type Request struct {
	Nr     uint32 // bpf.DMDevCreate, ...
	Flags  uint32 // as the caller gave them
	Ret    int32  // of the system call
	Cookie uint32 // with which udev's event is to be announced
	Name   string
	UUID   string
	Dev    uint64 // the mapping's, in the encoding of user space; 0: not known
}

// Kind is what a request does, false for one that changes nothing, and for remove_all,
// see RemovedAll.
func (r *Request) Kind() (event.Kind, bool) {
	switch r.Nr {
	case bpf.DMDevCreate:
		return event.DMCreate, true
	case bpf.DMDevRemove:
		return event.DMRemove, true
	case bpf.DMDevRename:
		return event.DMRename, true
	case bpf.DMTableLoad:
		return event.DMLoad, true
	case bpf.DMDevResume:
		if r.Flags&DMSuspend != 0 {
			return event.DMSuspend, true
		}
		return event.DMResume, true
	}
	return "", false
}

// Info tells of the request, and of the mapping as far as the request names it.
func (r *Request) Info() *event.DMInfo {
	dm := &event.DMInfo{Name: r.Name, UUID: r.UUID, Errno: Errno(int64(r.Ret))}
	switch r.Nr {
	case bpf.DMDevResume, bpf.DMDevRename, bpf.DMDevRemove: // those that announce it in a uevent
		dm.Cookie = r.Cookie
	}
	if r.Dev != 0 {
		dm.Dev = &event.Dev{Major: unix.Major(r.Dev), Minor: unix.Minor(r.Dev)}
	}
	return dm
}

// Rename fills in what a rename has set: the new name, or a UUID.
func (r *Request) Rename(dm *event.DMInfo, to string) {
	if r.Flags&DMNewUUID != 0 {
		dm.NewUUID = to
	} else {
		dm.NewName = to
	}
}

// RemovedAll is the loss that "dmsetup remove_all" makes: the kernel does not say which
// mappings it took away. That is no removal of anything; it is something that was missed.
func RemovedAll(source string, by event.Proc) *event.LossInfo {
	return &event.LossInfo{
		Source: source,
		What:   string(event.DMRemove),
		Why:    fmt.Sprintf("process %d (%s) removed all unused mappings at once", by.PID, by.Comm),
	}
}
