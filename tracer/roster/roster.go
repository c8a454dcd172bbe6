// Package roster follows the guests that run. For each it tells the record what
// the command line cannot: what the headers of its disks' images name, where the
// paths of its disks lead, and what it last ran on. And it remembers what a guest runs on, once that has proved
// good: the guest has lived for a while, or ended well.
//
// It works beside the record: it takes events without ever keeping their source
// waiting, and what it does not get done is missing from the record, and no
// more. Reading a header can take as long as the storage below does, so a few
// workers do that; if all of them hang, guests start as ever, and nothing is
// read or remembered any more.
package roster

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/memory"
	"github.com/bootrace/bootrace/tracer/snapshot"
)

// SourceName is Event.Src of what a roster records.
const SourceName = "roster"

const (
	// firstLook is when a guest's disks are open, as a rule: what it runs on
	// is known then, should it end well soon after.
	firstLook = 2 * time.Second
	// settled is when a guest has really run on what it has open.
	settled = 30 * time.Second
	// pause is how long mappings are left alone after a change, before guests
	// are looked at again: a resize is several changes.
	pause = 5 * time.Second
	// retry is how soon a chain that is not all there is looked at again, after
	// something has happened.
	retry = 100 * time.Millisecond
	// gather is how long news wait to be written together.
	gather = time.Second
)

// Bounds.
const (
	workers = 4
	backlog = 4096 // notes that wait
	most    = 8192 // guests
)

// Options say where a Roster gets its knowledge from.
type Options struct {
	Memory *memory.Store
	// Record takes the events that it makes.
	Record func(event.Event)
	Log    *slog.Logger
	// Host is where the paths of guests lead to; nil means this host.
	Host Host
	// Held returns the block devices that a process has open, Files the regular
	// files; nil means /proc.
	Held  func(pid int) ([]event.OpenInfo, error)
	Files func(pid int) ([]memory.HeldFile, error)
	// Ways looks where paths lead for a guest; nil means LookAt.
	Ways func(pids []int, paths map[string]string) []Sight
	// Dir returns a process's working directory, empty where it is not to be
	// had; nil means /proc.
	Dir func(pid int) string
	// Started is told of each guest that begins to run, or was found running; Recalls
	// that what guests should run on is known now. They must not wait. nil: nobody
	// wants to know.
	Started func(Start)
	Recalls func()
}

// Start is a guest that begins to run.
type Start struct {
	Guest *guest.Guest
	PID   int
	UID   uint32
	Dir   string // its working directory, empty where it is not known yet
}

// Host is where paths lead to.
type Host interface {
	image.Host
	memory.Host
}

// Roster follows guests.
type Roster struct {
	Options
	notes   chan note
	nudge   chan struct{} // something happened that a chain may wait for
	changed chan struct{} // a mapping is another, or of another size
	pending atomic.Int64  // guests with a chain that is not all there

	// The rest belongs to Run.
	guests map[int]*entry // by each of their processes
	early  []*entry       // that nobody could recall yet
	opened bool           // the memory is there
	saveAt time.Time      // zero: nothing to save
	done   chan func()    // what is left to do when a worker is through
	free   int            // workers

	running  sync.Map       // pids of guests, for those who only want to know whether
	failures chan failure   // failed opens
	waiting  []*entry       // for a look at their paths
	sighted  chan func()    // done, of looks
	lookers  int            // workers that are free
	told     map[uint32]int // ways of this boot, by user
}

// note is an event, as far as it matters here.
type note struct {
	kind         event.Kind
	pid          int
	parent       int
	uid          uint32
	exit         event.ExitInfo
	program, cwd string
	args         []string
	dir          string // the state folder, of Opened
}

// New returns a Roster. It takes events from now on, and works on them once Run
// is called.
func New(o Options) *Roster {
	r := &Roster{
		Options: o, notes: make(chan note, backlog), nudge: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		guests: map[int]*entry{}, done: make(chan func(), workers), free: workers,
		failures: make(chan failure, failures), sighted: make(chan func(), lookers), lookers: lookers,
	}
	if r.Host == nil {
		r.Host = &localHost{}
	}
	if r.Held == nil {
		r.Held = snapshot.OpenFiles
	}
	if r.Files == nil {
		r.Files = memory.HeldFiles
	}
	if r.Dir == nil {
		r.Dir = WorkingDir
	}
	if r.Ways == nil {
		r.Ways = LookAt
	}
	return r
}

// Observe takes an event of the record. It never waits.
func (r *Roster) Observe(e *event.Event) {
	switch e.Kind {
	case event.Exec, event.Backfill:
		if e.Exec != nil && e.Proc != nil {
			r.note(note{kind: event.Exec, pid: e.Proc.PID, parent: e.Proc.PPID, uid: e.Proc.UID, program: e.Exec.Filename, args: e.Exec.Args, cwd: e.Exec.Cwd})
		}
	case event.Fork:
		if e.Proc != nil {
			r.note(note{kind: event.Fork, pid: e.Proc.PID, parent: e.Proc.PPID})
		}
	case event.Exit:
		if e.Proc != nil && e.Exit != nil {
			r.note(note{kind: event.Exit, pid: e.Proc.PID, exit: *e.Exit})
		}
	case event.Open, event.Udev:
		r.failed(e)
		r.wake()
	case event.DMResume, event.DMRename:
		r.wake()
		poke(r.changed)
	}
}

// Opened says that the state folder is there now.
func (r *Roster) Opened(dir string) { r.note(note{dir: dir}) }

func (r *Roster) note(n note) {
	select {
	case r.notes <- n:
	default:
		r.Log.Warn("a guest's start or end is not followed: too many at once", "pid", n.pid)
	}
}

func (r *Roster) wake() {
	if r.pending.Load() > 0 {
		poke(r.nudge)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is under way
	}
}

// Run follows guests until ctx ends. It does not wait for a worker that hangs.
func (r *Roster) Run(ctx context.Context) {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			r.save()
			return
		case n := <-r.notes:
			r.take(n)
		case finish := <-r.done:
			r.free++
			finish()
		case f := <-r.failures:
			if g := r.guests[f.pid]; g != nil && slices.Contains(g.ways.paths, f.path) {
				r.ask(g)
			}
		case finish := <-r.sighted:
			finish()
		case <-r.nudge:
			r.each(func(g *entry) { g.soon(&g.readAt, retry) })
		case <-r.changed:
			r.each(func(g *entry) {
				if g.settled {
					g.soon(&g.lookAt, pause)
				}
			})
		case <-next.C:
		}
		next.Reset(r.work(ctx))
	}
}

// each calls f for each guest, once.
func (r *Roster) each(f func(*entry)) {
	for pid, g := range r.guests {
		if g.pids[0] == pid {
			f(g)
		}
	}
}

// take takes in a note.
func (r *Roster) take(n note) {
	switch g := r.guests[n.pid]; {
	case n.dir != "":
		r.open(n.dir)
	case n.kind == event.Exec:
		if g != nil {
			r.leave(n.pid, g)
		}
		r.enter(n)
	case n.kind == event.Fork:
		if parent := r.guests[n.parent]; parent != nil && g == nil {
			parent.pids = append(parent.pids, n.pid)
			r.guests[n.pid] = parent
			r.running.Store(n.pid, nil)
		}
	case n.kind == event.Exit && g != nil:
		r.leave(n.pid, g)
		if len(g.pids) == 0 && n.exit == (event.ExitInfo{}) && !g.settled {
			r.remember(g)
		}
		if len(g.pids) == 0 && n.exit != (event.ExitInfo{}) {
			r.ask(g)
		}
	}
}

// enter begins to follow a guest.
func (r *Roster) enter(n note) {
	parsed := guest.Parser{Program: n.program, Watched: true}.Parse(n.args)
	if !parsed.IsGuest {
		return
	}
	if len(r.guests) >= most {
		r.Log.Warn("a guest is not followed: there are too many", "pid", n.pid)
		return
	}
	now := time.Now()
	g := &entry{
		pids: []int{n.pid}, pid: n.pid, parent: n.parent, uid: n.uid, guest: &parsed, cwd: n.cwd,
		start: now, readAt: now, lookAt: now.Add(firstLook),
		ways: looking{paths: imagePaths(&parsed)},
	}
	r.guests[n.pid] = g
	r.running.Store(n.pid, nil)
	if r.Started != nil {
		r.Started(Start{Guest: &parsed, PID: n.pid, UID: n.uid, Dir: n.cwd})
	}
	r.ask(g)
	r.recall(g)
}

// leave notes that a process is no longer a guest's.
func (r *Roster) leave(pid int, g *entry) {
	delete(r.guests, pid)
	r.running.Delete(pid)
	g.pids = slices.DeleteFunc(g.pids, func(p int) bool { return p == pid })
	if len(g.pids) == 0 {
		r.setPending(g, false)
	}
}

func (r *Roster) setPending(g *entry, pending bool) {
	if g.pending != pending {
		g.pending = pending
		r.pending.Add(map[bool]int64{true: 1, false: -1}[pending])
	}
}

// open opens the memory, and recalls what the guests that run already last ran
// on.
func (r *Roster) open(dir string) {
	if err := r.Memory.Open(dir); err != nil {
		r.Log.Error("what guests last ran on is not known", "error", err)
	}
	r.opened = true
	for _, g := range r.early {
		r.recall(g)
	}
	r.early = nil
	if r.Recalls != nil {
		r.Recalls()
	}
}

// recall tells the record what a guest last ran on.
func (r *Roster) recall(g *entry) {
	if !r.opened {
		if len(r.early) < most {
			r.early = append(r.early, g)
		}
		return
	}
	if last := r.Memory.Last(g.guest.Identity.String()); last != nil {
		r.tell(g, event.Event{Kind: event.Memory, Memory: last})
	}
}

func (r *Roster) tell(g *entry, e event.Event) {
	e.At, e.Src, e.Proc = event.Now(), SourceName, g.proc()
	r.Record(e)
}

// remember notes what a guest ran on.
func (r *Roster) remember(g *entry) {
	if r.Memory.Remember(g.guest.Identity.String(), g.guest.Name, g.runsOn) && r.saveAt.IsZero() {
		r.saveAt = time.Now().Add(gather)
	}
}

func (r *Roster) save() {
	if err := r.Memory.Save(); err != nil {
		r.Log.Error("what guests ran on is not remembered", "error", err)
	}
}

// work gives the workers what is due, and returns how long until the next thing
// is.
func (r *Roster) work(ctx context.Context) time.Duration {
	now, next := time.Now(), time.Hour
	isDue := func(at time.Time) bool {
		if at.IsZero() {
			return false
		}
		if at.After(now) || r.free == 0 {
			next = min(next, max(at.Sub(now), retry))
			return false
		}
		return true
	}
	if isDue(r.saveAt) {
		r.saveAt = time.Time{}
		r.start(func() func() { r.save(); return func() {} })
	}
	r.each(func(g *entry) {
		if left := r.due(g); left > 0 {
			next = min(next, left)
		}
		switch {
		case g.busy:
		case isDue(g.readAt):
			g.readAt = time.Time{}
			r.read(ctx, g)
		case isDue(g.lookAt):
			g.lookAt = time.Time{}
			r.look(g)
		}
	})
	r.startLooks()
	return next
}

// start has a worker do something that may take its time; what it returns is
// done by Run.
func (r *Roster) start(something func() func()) {
	r.free--
	go func() { r.done <- something() }()
}
