package tracefs

import (
	"math"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/procs"
	"github.com/bootrace/bootrace/tracer/probe/syscalls"
	"github.com/bootrace/bootrace/tracer/probe/tasks"
)

// calls turns hits, in the order of time, into events: it joins the entry of a
// call with its return. Whose call it is, it asks tasks.
type calls struct {
	openSymbol string
	described  bool // opens tell what was opened
	// byDescriptor says that an open ends with its descriptor, which that of an exec
	// does not get: see endsOfOpens.
	byDescriptor bool

	mu       sync.Mutex
	tasks    *tasks.Table
	opens    map[int]*hit // under way, by thread
	links    map[int]*hit
	requests map[int]*request
	made     syscalls.Links
	opened   map[uint32]bool     // mappings whose first open was told
	devices  map[string]identity // mappings, by name
	major    uint32
	control  *devmap.Control
	missed   map[string]uint64 // calls whose return was never told, by what they tell
	// missedFrom is when the first of them began that were not reported yet.
	missedFrom map[string]event.Time
	returns    event.Time // from when on the returns of device-mapper's requests are told
}

// never is when nothing is told.
const never = event.Time(math.MaxInt64)

// returnsFrom says from when on the returns of device-mapper's requests are told.
func (c *calls) returnsFrom(at event.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.returns = at
}

// identity is what stays of a mapping beside its name.
type identity struct {
	dev  event.Dev // 0:0 where it is not known
	uuid string
}

// request is a device-mapper request under way.
type request struct {
	hit
	live event.Time
}

// newCalls returns calls of which none is under way. names are those of guests' programs.
func newCalls(names []string) calls {
	return calls{
		tasks: tasks.NewTable(Name, names),
		opens: map[int]*hit{}, links: map[int]*hit{}, requests: map[int]*request{},
		opened: map[uint32]bool{}, devices: map[string]identity{},
		missed: map[string]uint64{}, missedFrom: map[string]event.Time{},
	}
}

func (c *calls) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.control != nil {
		c.control.Close()
	}
}

// forget drops the calls that are under way: their returns will not be told.
func (c *calls) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.opens)
	clear(c.links)
	clear(c.requests)
	c.made.Forget()
}

// remember keeps what was read of new programs until their exec's own record
// comes.
func (c *calls) remember(queue []procEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range queue {
		if e.read != nil {
			c.tasks.Remember(e.read)
		}
	}
}

// handle returns the events that follow from a hit.
func (c *calls) handle(h *hit) []event.Event {
	name := h.event
	switch {
	case name == "":
		return c.process(h.proc.Event)
	case name == evExec:
		return c.tasks.Exec(h.at, h.tid, h.path)
	case name == evOpen && c.byDescriptor && h.flags&fmodeExec != 0:
	case name == evOpen:
		begin(c, c.opens, h.tid, h.keep(), lossOpen)
	case name == evOpened, name == evFile, name == evFailed:
		return c.openDone(h)
	case name == evStatus:
		return c.status(h)
	case name == evLive:
		if r := c.requests[h.tid]; r != nil && h.ret == 0 {
			r.live = h.at
		}
	case name == evRequest:
		c.request(h)
	case name == evRequest+suffixReturn:
		return c.requestDone(h)
	case strings.HasSuffix(name, suffixReturn):
		return c.linkDone(h)
	default:
		// Before Linux 4.17 one of these system calls calls another.
		if under := c.links[h.tid]; under != nil && under.event != name {
			delete(c.links, h.tid)
		}
		begin(c, c.links, h.tid, h.keep(), lossLink)
	}
	return nil
}

// underWay is a call between its entry and its return.
type underWay interface{ since() event.Time }

func (h *hit) since() event.Time { return h.at }

// begin notes a call under way. A thread does one at a time: where there is one
// already, its return was missed. The kernel's statistics don't tell before Linux
// 5.14, and count faults for it: the return of an open that failed has no file to
// look at.
func begin[T underWay](c *calls, under map[int]T, tid int, call T, what string) {
	end(c, under, tid, what)
	under[tid] = call
}

// end drops a call whose return was missed, if there is one: its thread begins
// another, or has ended, which it cannot do within a call.
func end[T underWay](c *calls, under map[int]T, tid int, what string) {
	call, ok := under[tid]
	if !ok {
		return
	}
	delete(under, tid)
	c.missed[what]++
	if first, ok := c.missedFrom[what]; !ok || call.since() < first {
		c.missedFrom[what] = call.since()
	}
}

// takeMissedFrom returns when the first began of the calls that were missed since it was
// last asked, at most now: it may have been long before that was noticed.
func (c *calls) takeMissedFrom(what string, now event.Time) event.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	from, ok := c.missedFrom[what]
	delete(c.missedFrom, what)
	if !ok {
		return now
	}
	return min(from, now)
}

func (h *hit) keep() *hit {
	k := *h
	return &k
}

// event begins an event that happened between from and the hit.
func (c *calls) event(kind event.Kind, from event.Time, h *hit, p event.Proc) event.Event {
	return c.tasks.Event(kind, from, h.at, p)
}

// process takes a process event. A thread that ends was in none of its calls any more.
func (c *calls) process(e procs.Event) []event.Event {
	if e.Kind == procs.Exit {
		end(c, c.opens, e.TID, lossOpen)
		end(c, c.links, e.TID, lossLink)
		end(c, c.requests, e.TID, lossDM)
		c.made.Ended(uint32(e.TID))
	}
	return c.tasks.Process(e)
}

func (c *calls) openDone(h *hit) []event.Event {
	in := c.opens[h.tid]
	delete(c.opens, h.tid)
	if in == nil || in.flags&fmodeExec != 0 {
		return nil
	}
	guest := c.tasks.IsGuest(h.tid)
	if !guest && !strings.HasPrefix(in.path, "/dev/") {
		return nil
	}
	// The kernel adds O_LARGEFILE on its own, and keeps its own bits.
	open := &event.OpenInfo{Path: in.path, Flags: in.flags &^ (unix.O_LARGEFILE | largeFile), Size: -1}
	if h.ret < 0 && h.ret >= -maxErrno {
		open.Errno = int(-h.ret)
	} else if c.described {
		syscalls.Describe(open, h.mode, h.rdev, sizeOf(in, h))
	}
	if !syscalls.KeepOpen(open, guest) || !guest && !c.worthTelling(open) {
		return nil
	}
	e := c.event(event.Open, in.at, h, c.tasks.Who(h.tid).Proc)
	e.Open = open
	return []event.Event{e}
}

// maxErrno is the kernel's MAX_ERRNO: pointers above are errors.
const maxErrno = 4095

// largeFile is O_LARGEFILE of x86, which package unix has as 0 for 64-bit
// programs; the kernel sets it for them.
const largeFile = 0o100000

// sizeOf: an O_PATH open does not open the device.
func sizeOf(in, out *hit) int64 {
	if in.flags&unix.O_PATH != 0 {
		return -1
	}
	return out.size
}

// worthTelling is the same question as in bpf/open.h, about opens under /dev by
// others than guests.
func (c *calls) worthTelling(o *event.OpenInfo) bool {
	if o.Errno != 0 {
		return true
	}
	if o.Type != "block" || o.Flags&unix.O_PATH != 0 || o.Dev == nil || c.major == 0 || o.Dev.Major != c.major {
		return false
	}
	if c.opened[o.Dev.Minor] {
		return false
	}
	c.opened[o.Dev.Minor] = true
	return true
}

func (c *calls) linkDone(h *hit) []event.Event {
	in := c.links[h.tid]
	delete(c.links, h.tid)
	if in == nil || in.event+suffixReturn != h.event || h.ret != 0 {
		return nil
	}
	open := &event.OpenInfo{Path: in.path, Target: in.from, Size: -1}
	if strings.HasPrefix(in.event, "symlink") {
		if !c.made.Made(uint32(h.tid), in.path, in.from) {
			return nil
		}
	} else {
		target, ok := c.made.Renamed(uint32(h.tid), in.from)
		if !ok {
			return nil
		}
		open.Target = target
	}
	e := c.event(event.Link, in.at, h, c.tasks.Who(h.tid).Proc)
	e.Open = open
	return []event.Event{e}
}
