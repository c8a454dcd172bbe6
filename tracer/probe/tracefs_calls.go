package probe

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/probe/procs"
)

var errClosed = errors.New("the probes are closed")

// calls turns hits, in the order of time, into events: it joins the entry of a
// call with its return, and knows who is a guest.
type calls struct {
	names      []string // of guests' programs
	openSymbol string
	described  bool // opens tell what was opened
	// byDescriptor says that an open ends with its descriptor, which that of an exec
	// does not get: see endsOfOpens.
	byDescriptor bool
	threadsTold  bool // the proc connector tells of new threads
	uncertain    event.Duration

	mu       sync.Mutex
	guests   map[int]bool     // processes
	threads  map[int]int      // of guests, to their process
	tasks    map[int]*started // every process that is known, until it ends
	opens    map[int]*hit     // under way, by thread
	links    map[int]*hit
	requests map[int]*request
	symlinks map[int]symlink
	opened   map[uint32]bool     // mappings whose first open was told
	devices  map[string]identity // mappings, by name
	major    uint32
	control  *devmap.Control
	captured map[int]*started  // processes as read right after their exec
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

// started is a process as it was found right after its exec, or later.
type started struct {
	proc  event.Proc
	args  []byte     // of a guest all, of others the beginning
	found event.Time // when it was read; 0 if it was not
	// unread is set as long as it was not worth reading.
	unread bool
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

func newCalls(names []string) calls {
	return calls{
		names: names, guests: map[int]bool{}, threads: map[int]int{}, tasks: map[int]*started{},
		opens: map[int]*hit{}, links: map[int]*hit{}, requests: map[int]*request{},
		symlinks: map[int]symlink{}, opened: map[uint32]bool{}, devices: map[string]identity{},
		captured: map[int]*started{}, missed: map[string]uint64{}, missedFrom: map[string]event.Time{},
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
	clear(c.symlinks)
}

// capture reads a process that has just begun a program. By the time that its
// acts are looked at it may have ended.
func (c *calls) capture(pid int) *started {
	found := event.Now()
	p, err := readProc(pid)
	if err != nil {
		return nil
	}
	args, err := cmdline(pid)
	if err != nil {
		return nil
	}
	if !guest.Matches(c.names, p.Comm) {
		args = bytes.Clone(args[:min(len(args), callerArgsMax)])
	}
	return &started{proc: p, args: args, found: found}
}

// captureIf is capture of a program that is of interest: of all others no more than the
// name is read, since that is most of what an exec costs the host.
func (c *calls) captureIf(pid int) *started {
	if !c.ofInterest(readComm(pid)) {
		return nil
	}
	return c.capture(pid)
}

// ofInterest reports whether a program of that name is a guest, or a tool of storage: who
// made a mapping is part of the record, and such tools are short. Any other program that
// makes one is known by its name, and by all else if it is still there when its request
// is looked at, a moment later.
func (c *calls) ofInterest(comm string) bool {
	return guest.Matches(c.names, comm) || guest.StorageTool(comm)
}

// remember keeps what was read of new programs until their exec's own record
// comes: by another way, and maybe later.
func (c *calls) remember(queue []procEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range queue {
		if s := queue[i].guest; s != nil {
			c.captured[s.proc.PID] = s
		}
	}
}

func (c *calls) addGuest(s *started) {
	c.tasks[s.proc.PID] = s
	c.guests[s.proc.PID] = true
	c.threads[s.proc.PID] = s.proc.PID
}

func (c *calls) removeGuest(pid int) {
	if !c.guests[pid] {
		return
	}
	delete(c.guests, pid)
	for tid, of := range c.threads {
		if of == pid {
			delete(c.threads, tid)
		}
	}
}

// handle returns the events that follow from a hit.
func (c *calls) handle(h *hit) []event.Event {
	name := h.event
	switch {
	case name == "":
		return c.process(&h.proc)
	case name == evExec:
		return c.exec(h)
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

// event begins an event that happened between from and the hit, as far as the
// clocks agree.
func (c *calls) event(kind event.Kind, from event.Time, h *hit, p event.Proc) event.Event {
	e := event.Event{At: h.at, From: from, Kind: kind, Src: srcTracefs, Proc: &p}
	if c.uncertain > 0 {
		if from == 0 {
			e.From = h.at
		}
		e.From, e.At = e.From.Add(-c.uncertain), e.At.Add(c.uncertain)
	}
	return e
}

// isGuestThread reports whether a thread belongs to a guest.
func (c *calls) isGuestThread(tid int) bool {
	if pid, ok := c.threads[tid]; ok {
		return c.guests[pid]
	}
	if c.threadsTold || len(c.guests) == 0 {
		return false
	}
	p, err := readProc(tid)
	if err != nil || !c.guests[p.PID] {
		return false
	}
	c.threads[tid] = p.PID
	return true
}

// who is the process of a thread.
func (c *calls) who(tid int) *started {
	pid, thread := c.threads[tid]
	if !thread {
		pid = tid
	}
	if s := c.tasks[pid]; s != nil {
		c.fill(pid, s)
		who := *s
		if tid != pid {
			who.proc.TID = tid
		}
		return &who
	}
	s := c.capture(tid)
	if s == nil {
		return &started{proc: event.Proc{PID: tid}} // it has ended
	}
	if s.proc.TID == 0 && c.threadsTold {
		c.tasks[tid] = s
	}
	return s
}

// fill reads what was not worth reading at the exec of a program, if it still runs.
func (c *calls) fill(pid int, s *started) {
	if !s.unread {
		return
	}
	s.unread = false
	if now := c.capture(pid); now != nil && now.proc.Comm == s.proc.Comm {
		*s = *now
	}
}

func (c *calls) exec(h *hit) []event.Event {
	// Whatever it was before, it is one thread with a new program now.
	c.removeGuest(h.tid)
	comm := commOf(h.path)
	s := c.captured[h.tid]
	switch {
	case s != nil && s.proc.Comm == comm:
		delete(c.captured, h.tid)
	case c.ofInterest(comm): // what was read belongs to the process's next program, if to any
		s = c.reread(h.tid, comm)
	default:
		s = c.unread(h.tid, comm)
	}
	isGuest := guest.Matches(c.names, comm)
	if isGuest || c.threadsTold { // else nobody tells when it ends
		c.tasks[h.tid] = s
	}
	if !isGuest {
		return nil
	}
	c.addGuest(s)
	e := c.event(event.Exec, 0, h, s.proc)
	e.Exec = &event.ExecInfo{Filename: h.path, Args: splitArgs(s.args), ArgsBytes: len(s.args), Truncated: len(s.args) == 0}
	return []event.Event{e}
}

// reread is for a program that was not read right after its exec, or was a
// script, whose interpreter the kernel names instead.
func (c *calls) reread(pid int, comm string) *started {
	s := c.capture(pid)
	if s == nil {
		s = c.unread(pid, comm)
		s.unread = false
	}
	return s
}

// unread is a process of which no more is known than what it executes, and what was
// known before of it, or of its parent.
func (c *calls) unread(pid int, comm string) *started {
	s := &started{proc: event.Proc{PID: pid, Comm: comm}, unread: true}
	if before := c.tasks[pid]; before != nil {
		s.proc.PPID, s.proc.UID = before.proc.PPID, before.proc.UID
	}
	return s
}

func (c *calls) process(q *procEvent) []event.Event {
	switch q.Kind {
	case procs.Fork:
		return c.fork(q)
	case procs.Exit:
		return c.exit(q)
	}
	return nil // the exec's own record tells
}

func (c *calls) fork(q *procEvent) []event.Event {
	// Of a thread the kernel names its process's parent.
	if q.PID != q.TID {
		if c.guests[q.PID] {
			c.threads[q.TID] = q.PID
		}
		return nil
	}
	if before := c.tasks[q.PID]; before == nil || before.found < q.At {
		// One that had the pid before: its end was not told.
		c.removeGuest(q.PID)
		delete(c.tasks, q.PID)
	}
	guest, parent := c.guests[q.Parent], c.tasks[q.Parent]
	if parent == nil {
		return nil // unknown to us, and so is the child
	}
	child := &started{proc: parent.proc, args: parent.args, unread: parent.unread}
	child.proc.PID, child.proc.PPID = q.PID, q.Parent
	c.tasks[q.PID] = child
	if !guest {
		return nil
	}
	c.addGuest(child)
	return []event.Event{c.event(event.Fork, 0, &hit{at: q.At}, child.proc)}
}

func (c *calls) exit(q *procEvent) []event.Event {
	delete(c.threads, q.TID)
	end(c, c.opens, q.TID, lossOpen)
	end(c, c.links, q.TID, lossLink)
	end(c, c.requests, q.TID, lossDM)
	delete(c.symlinks, q.TID)
	if q.TID != q.PID {
		return nil
	}
	guest, s := c.guests[q.PID], c.tasks[q.PID]
	c.removeGuest(q.PID)
	delete(c.tasks, q.PID)
	delete(c.captured, q.PID)
	if !guest || s == nil {
		return nil
	}
	e := c.event(event.Exit, 0, &hit{at: q.At}, s.proc)
	status := unix.WaitStatus(q.Code)
	e.Exit = &event.ExitInfo{}
	if status.Signaled() {
		e.Exit.Signal = int(status.Signal())
	} else {
		e.Exit.Status = int(q.Code>>8) & 0xff
	}
	return []event.Event{e}
}

func (c *calls) openDone(h *hit) []event.Event {
	in := c.opens[h.tid]
	delete(c.opens, h.tid)
	if in == nil || in.flags&fmodeExec != 0 {
		return nil
	}
	guest := c.isGuestThread(h.tid)
	if !guest && !strings.HasPrefix(in.path, "/dev/") {
		return nil
	}
	// The kernel adds O_LARGEFILE on its own, and keeps its own bits.
	open := &event.OpenInfo{Path: in.path, Flags: in.flags &^ (unix.O_LARGEFILE | largeFile), Size: -1}
	if h.ret < 0 && h.ret >= -maxErrno {
		open.Errno = int(-h.ret)
	} else if c.described {
		describe(open, &bpf.OpenEvent{Mode: h.mode, Dev: h.rdev, Size: sizeOf(in, h)})
	}
	if !keepOpen(open, guest) || !guest && !c.worthTelling(open) {
		return nil
	}
	e := c.event(event.Open, in.at, h, c.who(h.tid).proc)
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
		if len(c.symlinks) >= maxSymlinks {
			clear(c.symlinks)
		}
		c.symlinks[h.tid] = symlink{in.path, in.from}
		if isTemporary(in.path) {
			return nil
		}
	} else {
		made, ok := c.symlinks[h.tid]
		if !ok || made.path != in.from {
			return nil
		}
		delete(c.symlinks, h.tid)
		open.Target = made.target
	}
	e := c.event(event.Link, in.at, h, c.who(h.tid).proc)
	e.Open = open
	return []event.Event{e}
}
