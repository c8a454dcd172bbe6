// Package inspector looks inside the disks of guests while a host boots, beside
// everything else and never in its way, and tells the record what it saw.
//
// A guest's disks are looked at when they are there, as far as it is remembered which
// they are; before a held start goes on; and at the guest's exec. What is read, and
// what may be opened, is for packages inspect and image to say: headers and the ends
// of logs, 4 MiB of a disk at most, and nothing that the guest's own open would not
// have led to.
//
// # Bounds
//
// A few looks are taken at a time, and users have their turns one after the other: one
// user's guests have a share of the workers, of the looks, and of what is recorded. A
// look has 5 seconds; storage that does not answer keeps one worker until it does, and
// that is told. The same disks are looked at once for many starts within 10 seconds, and
// what is kept in memory of one user's looks has a share, too. Who writes to disks is
// found by one look at all processes for all that ask; a user who has more open than
// image.Census takes in makes that unknown for no disks but those he may write to.
package inspector

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/inspect"
	"github.com/bootrace/bootrace/tracer/memory"
)

// SourceName is Event.Src of what an inspector records.
const SourceName = "inspector"

const (
	// patience is how long a look may take.
	patience = 5 * time.Second
	// fresh is how long what was seen serves for further starts.
	fresh = 10 * time.Second
	// window is the time that the shares of looks are of.
	window = 10 * time.Minute
)

// Bounds.
const (
	workers      = 8
	ownerWorkers = 2   // of one user other than root
	rootWorkers  = 6   // of root: some are left for others
	earlyWorkers = 1   // for disks whose guests have not started yet
	mostDisks    = 64  // of one guest
	mostWaiting  = 256 // looks of one user that wait; root 4096
	rootWaiting  = 4096
	mostLooks    = 512 // of one user within a window; root 8192
	rootLooks    = 8192
	mostTold     = 2000 // events of one user in a boot; root 20,000
	rootTold     = 20_000
	mostOwners   = 256     // users; the others are one
	mostKept     = 8 << 20 // bytes that looks of one user take, as costOf estimates; root 128 MiB
	rootKept     = 128 << 20
	mostSaid     = 1 << 13 // things said that are known not to be said again, of one user; root 65,536
	rootSaid     = 1 << 16
)

// others stands for all users beyond mostOwners.
const others = ^uint32(0)

// Host is where paths lead to.
type Host interface {
	image.Host
	// Status returns a mapping's state, and how often it is open.
	Status(dev event.Dev) (devmap.Mapping, error)
}

// Options say where an Inspector gets its knowledge from.
type Options struct {
	Host   Host
	Record func(event.Event)
	// Memory takes what is to be remembered of disks, and knows which disks guests
	// have.
	Memory *memory.Store
	// On reports whether to look at all.
	On  func() bool
	Log *slog.Logger
	// Dir returns a process's working directory, empty where it is not to be had;
	// nil: nobody knows.
	Dir func(pid int) string

	patience   time.Duration        // but in tests
	takeCensus func() *image.Census // but in tests
}

// Inspector looks inside disks. Its methods may be called at the same time, and none
// waits.
type Inspector struct {
	Options
	mu     sync.Mutex
	owners map[uint32]*owner
	turns  []uint32 // owners with looks that wait, the next first
	busy   int      // workers
	early  []*Look  // for disks whose guests have not started
	ahead  int      // workers that have such a look
	recent map[digest]*Look
	seed   maphash.Seed
	// devices has what is remembered of guests by what identifies a disk of theirs,
	// and started the guests that have started in this boot.
	devices map[string][]*event.MemoryInfo
	started map[string]bool

	censusMu sync.Mutex
	census   *image.Census
	serves   time.Time     // until when
	coming   chan struct{} // closed when the next one is there; nil: none is being taken
}

// owner is one user.
type owner struct {
	waiting []*Look
	busy    int
	fresh   []*Look             // that are over and serve further starts, the oldest first
	kept    int                 // bytes that these take, and those that are not over
	said    map[uint64]struct{} // hashes of what was told
	begun   time.Time           // of the window
	looks   int                 // within it
	told    int
	// untold counts the looks that were not recorded, of which untoldTold are told as
	// losses; untoldFrom is when the time of the others begins.
	untold, untoldTold uint64
	untoldFrom         event.Time
}

// Look is one look at the disks of a guest.
type Look struct {
	key    digest
	cost   int // bytes
	owner  uint32
	disks  []guest.Image
	left   string // the first disk of those that are not looked into, empty: none
	beyond int    // how many these are
	dir    string
	pid    int // of a process whose working directory that is
	where  map[string]event.Dev
	early  *event.MemoryInfo
	askers []asker
	done   chan struct{}
	again  bool // tell only what was not told before
	over   bool
	at     time.Time // of its end
	// From and At are its window, Infos what was seen, a disk each: once Done.
	From, At event.Time
	Infos    []*event.InsideInfo
	// inspected has the same as Infos.
	inspected []*inspect.InspectedDisk
}

// asker is a start that a look is for.
type asker struct {
	pid   int
	uid   uint32
	guest string // its identity
}

// Done is closed when the look is over.
func (l *Look) Done() <-chan struct{} { return l.done }

// Disks returns what was seen. It must be over.
func (l *Look) Disks() []*inspect.InspectedDisk { return l.inspected }

// New returns an Inspector.
func New(o Options) *Inspector {
	if o.patience == 0 {
		o.patience = patience
	}
	if o.takeCensus == nil {
		o.takeCensus = func() *image.Census { return image.TakeCensus() }
	}
	return &Inspector{
		Options: o, owners: map[uint32]*owner{}, recent: map[digest]*Look{}, seed: maphash.MakeSeed(), devices: map[string][]*event.MemoryInfo{}, started: map[string]bool{},
	}
}

// Start is a guest that starts.
type Start struct {
	Guest *guest.Guest
	PID   int
	UID   uint32 // who runs it
	Dir   string // that relative paths begin in, empty: not known
	// Where has the device numbers that paths lead to in the guest's own view, as far
	// as they are known: what leads elsewhere on the host is not looked into.
	Where map[string]event.Dev
	// Again is set where what was seen a moment ago is not enough.
	Again bool
}

// Disks lists the disks of a guest that are looked into. Media that somebody puts in,
// and firmware, are not.
func Disks(g *guest.Guest) []guest.Image {
	var list []guest.Image
	for i := range g.Disks {
		if d := &g.Disks[i]; d.Kind == guest.KindDisk && (d.Path != "" || len(d.Members) > 0) {
			list = append(list, d.Image)
		}
	}
	return list
}

// Start begins a look at the disks of a guest that starts, or joins one. It is nil
// where there is nothing to look at, where looking is off, or where the guest's owner
// had his share; that is told.
func (i *Inspector) Start(s Start) *Look {
	disks := Disks(s.Guest)
	if len(disks) == 0 || !i.On() {
		return nil
	}
	who := asker{pid: s.PID, uid: s.UID}
	if name := s.Guest.Identity.String(); len(name) <= maxIdentity {
		who.guest = strings.Clone(name)
	}
	l := &Look{owner: event.UserOf(s.UID), dir: s.Dir, pid: s.PID, where: map[string]event.Dev{}, again: s.Again, done: make(chan struct{}), askers: []asker{who}}
	if len(disks) > mostDisks {
		l.left, l.beyond = strings.Clone(disks[mostDisks].Path), len(disks)-mostDisks
		disks = disks[:mostDisks]
	}
	l.of(disks)
	for path, dev := range s.Where {
		l.where[strings.Clone(path)] = dev
		l.cost += len(path) + costOfPath
	}
	i.mu.Lock()
	if who.guest != "" && len(i.started) < mostGuests {
		i.started[who.guest] = true
	}
	if known := i.recent[l.key]; known != nil && !s.Again && (!known.over || time.Since(known.at) < fresh) {
		tell := i.join(known, who)
		i.mu.Unlock()
		if tell {
			i.tell(known, who, false)
		}
		return known
	}
	why := i.enqueue(l)
	i.mu.Unlock()
	if why != "" {
		l.fail(why)
		l.From = event.Now()
		l.At = l.From
		i.tell(l, who, false)
		return nil
	}
	return l
}

// join adds a start to a look, and reports whether it is to be told by itself.
func (i *Inspector) join(l *Look, who asker) bool {
	if slices.Contains(l.askers, who) || len(l.askers) >= mostWaiting {
		return false
	}
	l.askers = append(l.askers, who)
	l.cost += len(who.guest)
	i.ownerOf(&l.owner).kept += len(who.guest)
	return l.over
}

// enqueue has a look wait for a worker. The answer says why not, empty where it does.
func (i *Inspector) enqueue(l *Look) string {
	o := i.ownerOf(&l.owner)
	waiting, looks := mostWaiting, mostLooks
	if l.owner == 0 {
		waiting, looks = rootWaiting, rootLooks
	}
	now := time.Now()
	if now.Sub(o.begun) > window {
		o.begun, o.looks = now, 0
	}
	i.forget()
	switch {
	case len(o.waiting) >= waiting:
		return "too many disks of its owner's guests wait to be looked at"
	case o.looks >= looks:
		return fmt.Sprintf("%d looks at disks of its owner's guests were taken within %s, which is the most", looks, window)
	case !i.room(o, l):
		return "what waits of its owner's guests, or was just looked at, takes too much memory"
	}
	o.looks++
	o.waiting = append(o.waiting, l)
	i.recent[l.key] = l
	if len(o.waiting) == 1 {
		i.turns = append(i.turns, l.owner)
	}
	i.dispatch()
	return ""
}

// ownerOf finds a user; from mostOwners on all are one.
func (i *Inspector) ownerOf(uid *uint32) *owner {
	o := i.owners[*uid]
	if o == nil && len(i.owners) >= mostOwners {
		*uid = others
		o = i.owners[*uid]
	}
	if o == nil {
		o = &owner{}
		i.owners[*uid] = o
	}
	return o
}

// dispatch gives workers what waits: starts in turn of their owners, and then disks
// whose guests have not started.
func (i *Inspector) dispatch() {
	for skipped := 0; skipped < len(i.turns) && i.busy < workers; {
		uid := i.turns[0]
		o := i.owners[uid]
		i.turns = i.turns[1:]
		share := ownerWorkers
		if uid == 0 {
			share = rootWorkers
		}
		if o.busy >= share {
			i.turns = append(i.turns, uid)
			skipped++
			continue
		}
		l := o.waiting[0]
		o.waiting = o.waiting[1:]
		if len(o.waiting) > 0 {
			i.turns = append(i.turns, uid)
		}
		o.busy++
		i.busy++
		skipped = 0
		go i.run(l, o)
	}
	for len(i.early) > 0 && len(i.turns) == 0 && i.ahead < earlyWorkers && i.busy < workers-ownerWorkers {
		l := i.early[0]
		i.early = i.early[1:]
		if i.started[l.early.Guest] {
			i.end(l)
			close(l.done)
			continue
		}
		i.ahead++
		i.busy++
		go i.run(l, nil)
	}
}

// run takes a look. It is over after patience at the latest; the worker is free again
// when the storage has answered.
func (i *Inspector) run(l *Look, o *owner) {
	ctx, cancel := context.WithTimeout(context.Background(), i.patience)
	defer cancel()
	reading := &sync.WaitGroup{}
	seen := make(chan []inspect.InspectedDisk, 1)
	l.From = event.Now()
	go func() {
		defer i.release(o)
		defer reading.Wait()
		defer func() {
			if p := recover(); p != nil {
				i.Log.Error("a look into a guest's disks panicked", "panic", p, "stack", string(debug.Stack()))
				seen <- nil
			}
		}()
		seen <- i.look(ctx, l, reading)
	}()
	grace := time.NewTimer(i.patience + i.patience/10)
	defer grace.Stop()
	select {
	case disks := <-seen:
		l.take(disks)
	case <-grace.C:
		l.fail(fmt.Sprintf("its storage did not answer within %s", i.patience))
	}
	l.At = event.Now()
	i.finish(l)
}

// release gives a worker back.
func (i *Inspector) release(o *owner) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.busy--
	if o != nil {
		o.busy--
	} else {
		i.ahead--
	}
	i.dispatch()
}

func (i *Inspector) look(ctx context.Context, l *Look, reading *sync.WaitGroup) []inspect.InspectedDisk {
	if l.dir == "" && l.pid != 0 && i.Dir != nil {
		l.dir = i.Dir(l.pid)
	}
	var host image.Host = i.Host
	if len(l.where) > 0 {
		host = viewed{i.Host, l.where}
	}
	reader := image.Reader{Host: host, Dir: l.dir}
	pid := l.pid
	beside := inspect.Beside{Reading: reading, Writers: func(ctx context.Context, c *image.Chain) ([]image.Use, bool) { return i.writers(ctx, c, pid) }}
	return beside.Inspect(ctx, reader, l.disks)
}

// viewed is the host for a guest with a view of its own.
type viewed struct {
	image.Host
	where map[string]event.Dev
}

// Resolve fails where a path leads elsewhere for the guest.
func (v viewed) Resolve(path string) (devmap.Resolution, error) {
	at, err := v.Host.Resolve(path)
	if dev, known := v.where[path]; err == nil && known && (!at.IsBlock() || at.Dev != dev) {
		return at, fmt.Errorf("%s leads to another device on the host than for the guest", path)
	}
	return at, err
}

// take takes in what was seen; nil where the look failed.
func (l *Look) take(disks []inspect.InspectedDisk) {
	if len(disks) != len(l.disks) {
		l.fail("it could not be looked into")
		return
	}
	for n := range disks {
		l.inspected = append(l.inspected, &disks[n])
		l.Infos = append(l.Infos, disks[n].Recorded())
	}
	l.leave()
}

// leave notes what was not looked into.
func (l *Look) leave() {
	if l.beyond == 0 {
		return
	}
	info := &event.InsideInfo{Disk: l.left, Why: fmt.Sprintf("this and %d more are not looked into: the first %d disks of a guest are", l.beyond-1, mostDisks)}
	l.Infos = append(l.Infos, info)
	l.inspected = append(l.inspected, inspect.Replay(info))
}

// fail notes that nothing was seen, and why.
func (l *Look) fail(why string) {
	for n := range l.disks {
		info := &event.InsideInfo{Disk: l.disks[n].Path, Why: why}
		l.Infos = append(l.Infos, info)
		l.inspected = append(l.inspected, inspect.Replay(info))
	}
	l.leave()
}

// finish tells all that the look was for.
func (i *Inspector) finish(l *Look) {
	i.mu.Lock()
	i.end(l)
	askers := slices.Clone(l.askers)
	if l.early != nil && i.started[l.early.Guest] {
		l.early = nil // its own start tells more
	}
	i.mu.Unlock()
	close(l.done)
	if l.early != nil {
		i.tell(l, asker{guest: l.early.Guest}, false)
	}
	for _, who := range askers {
		i.tell(l, who, l.again)
	}
}

// tell records what a look saw for one start, where news is set without what it was
// told before, and has it remembered.
func (i *Inspector) tell(l *Look, who asker, news bool) {
	for n, info := range l.Infos {
		if len(info.Disk) > maxPath || who.pid == 0 && info.Why != "" {
			continue // what is not there yet is looked at when it comes
		}
		if said := i.say(l.owner, who, info); said && news {
			continue
		}
		if !i.record(l.owner) {
			return
		}
		d := l.inspected[n]
		if info.Why == "" && who.guest != "" {
			i.note(who.guest, d)
		}
		told := *info
		told.Guest = who.guest
		e := event.Event{From: l.From, At: l.At, Kind: event.Inside, Src: SourceName, Inside: &told}
		if who.pid != 0 {
			e.Proc = &event.Proc{PID: who.pid, UID: who.uid}
		}
		i.Record(e)
	}
}

// maxPath is PATH_MAX: nothing longer is ever opened.
const maxPath = 4096

// maxIdentity is how long what identifies a guest may be here. One beyond goes by its
// process.
const maxIdentity = 1024

// note has remembered what holds.
func (i *Inspector) note(guest string, d *inspect.InspectedDisk) {
	if digest := d.Digest(); i.Memory != nil && (digest != nil || d.Short()) {
		i.Memory.Inspected(guest, d.Path, memory.Sight{Layers: digest, Short: d.Short()})
	}
}

// record reports whether an event of that owner finds room in the record.
func (i *Inspector) record(uid uint32) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	o, most := i.ownerOf(&uid), mostTold
	if uid == 0 {
		most = rootTold
	}
	o.told++
	if o.told <= most {
		return true
	}
	now := event.Now()
	if o.untold == 0 {
		i.Log.Warn("what is inside disks is no longer recorded for this user in this boot", "user", uid, "most", most)
		o.untoldFrom = now
	}
	o.untold++
	if o.untold&(o.untold-1) == 0 { // told at 1, 2, 4, ...: what is left out is bounded, and so is telling it
		loss := &event.LossInfo{Source: SourceName, What: lossInside, Count: o.untold - o.untoldTold, UID: uid,
			Why: fmt.Sprintf("%d looks into disks of one user's guests are recorded in a boot, which is the most", most)}
		if uid == others {
			loss.UID = 0
		}
		o.untoldTold = o.untold
		i.Record(event.Event{From: o.untoldFrom, At: now, Kind: event.Loss, Src: SourceName, Loss: loss})
		o.untoldFrom = now
	}
	return false
}

// lossInside is LossInfo.What of looks that were not recorded.
const lossInside = "inside"
