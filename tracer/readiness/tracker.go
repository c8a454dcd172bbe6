package readiness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/mounts"
	"github.com/bootrace/bootrace/tracer/udev"
)

// DefaultRecheck is how often a disk that is not ready is looked at again
// without a reason, about: an event wakes whoever waits for what is announced.
const DefaultRecheck = 30 * time.Second

// silentRecheck is that for a disk that waits for what nothing announces: a file
// or a link of somebody's own making, the end of a suspension by the kernel, a
// removal that is called off, a mount in a namespace of its own.
const silentRecheck = time.Second

// Source is Event.Src of what a Tracker finds.
const Source = "readiness"

// maxLooks is how many looks are taken at the same time. A look at dead storage
// takes as long as the storage lets it, and a thread.
const maxLooks = 1024

// Options configure a Tracker. The zero value is ready.
type Options struct {
	// Recheck is how often, at least, what is not ready is looked at again
	// without a reason; 0 means DefaultRecheck.
	Recheck time.Duration
	// Found, if set, is called with a backfill event for each record of udev's
	// database by which a device that somebody waits for became ready. Udev's
	// own event of that comes later, and may come after the guest's open. It
	// must not wait.
	Found func(event.Event)
	// Log may be nil.
	Log *slog.Logger
}

// Tracker knows what is ready on this host, for any number of watches.
type Tracker struct {
	recheck  time.Duration
	began    time.Time
	log      *slog.Logger
	uevents  uevents
	host     host
	closing  func() error
	found    func(event.Event)
	news     chan stored
	devices  devices
	turns    turns         // to look
	deaf     atomic.Bool   // events are not read
	noMounts atomic.Bool   // nor are changes of mounts
	mounting chan struct{} // closed once somebody waits for a mount

	mu           sync.Mutex
	watches      map[key]map[*Watch]struct{}
	open         int // watches that have not ended
	mountsWanted bool
	closed       bool
}

// uevents is udev.Source.
type uevents interface {
	Run(ctx context.Context, emit func(event.Event)) error
	CatchUp(ctx context.Context) error
	FollowStores(on bool) error
	Close() error
}

// Open subscribes to uevents and udev events: from then on nothing is missed.
// It needs no rights; with CAP_NET_ADMIN the queue is longer, and as root
// device-mapper is asked directly.
func Open(options Options) (*Tracker, error) {
	h := newLocal()
	t := newTracker(options, h)
	t.closing = h.close
	source, err := udev.Open(udev.Options{Resync: t.resync, Stored: t.stored, Log: t.log})
	if err != nil {
		return nil, fmt.Errorf("follow the readiness of disks: %w", errors.Join(err, h.close()))
	}
	t.uevents = source
	return t, nil
}

func newTracker(options Options, h host) *Tracker {
	t := &Tracker{
		recheck: options.Recheck, began: time.Now(), found: options.Found, log: options.Log, host: h, mounting: make(chan struct{}),
		news: make(chan stored, maxNews), watches: make(map[key]map[*Watch]struct{}),
	}
	if t.recheck == 0 {
		t.recheck = DefaultRecheck
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.devices.forget()
	return t
}

// Run reads uevents until ctx is done, which is no error; it runs once. Without
// it watches still work, by looking again from time to time.
func (t *Tracker) Run(ctx context.Context) error {
	var helpers sync.WaitGroup
	helpers.Go(t.tell)
	defer helpers.Wait()
	defer close(t.news)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	helpers.Go(func() { t.followMounts(ctx) })
	err := t.uevents.Run(ctx, t.observe)
	t.deaf.Store(true)
	return err
}

// followMounts wakes those who wait for a mount, from when there are any.
func (t *Tracker) followMounts(ctx context.Context) {
	select {
	case <-t.mounting:
	case <-ctx.Done():
		return
	}
	wake := func() { t.wake([]key{mountKey}) }
	if err := mounts.Changes(ctx, wake, wake); err != nil {
		t.log.Warn("mounts are noticed late", "error", err)
	}
	t.noMounts.Store(true)
}

// pause is how long a disk that is not ready is left alone where no event comes. The
// disks are looked at in groups: with one group for all, a look that an event asks for
// would wait behind all others; with one for each, the service would be woken for each,
// which costs more than the look.
func (t *Tracker) pause(silent bool) time.Duration {
	longest, earlier := t.recheck, rand.Int64N(3) // groups
	if silent || t.deaf.Load() {
		longest, earlier = min(t.recheck, silentRecheck), 0
	}
	apart := max(longest/8, 1)
	return longest - time.Duration(earlier)*apart - time.Since(t.began)%apart
}

// Close ends the subscription. Run must have returned, and all watches must be
// closed; one whose look at dead storage is still under way ends by itself.
func (t *Tracker) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	return errors.Join(t.uevents.Close(), t.closing())
}

// observe takes note of one event and wakes those whom it concerns.
func (t *Tracker) observe(e event.Event) {
	u := e.Dev
	if u == nil || u.Dev == nil {
		return
	}
	if e.Kind == event.Uevent {
		t.devices.announced(u, e.Earliest())
	} else {
		t.devices.handled(u)
	}
	t.wake(keysOf(*u.Dev, u.Props["DM_NAME"], u.Links, pathKey("/dev/"+u.Name)))
}

func keysOf(dev event.Dev, name string, links []string, more ...key) []key {
	keys := append(more, devKey(dev), nameKey(name))
	for _, link := range links {
		keys = append(keys, pathKey(link))
	}
	return keys
}

// stored is a record of udev's database by which a device became ready.
type stored struct {
	device event.DevInfo
	from   event.Time // when the kernel announced the device, 0: not seen
	at     event.Time // when it was read
}

// maxNews is how many of them wait to be told. More are left out: they only
// make the record of the boot more exact.
const maxNews = 1024

// stored wakes those who wait for a device whose record udev has just stored.
// A goroutine of its own tells it to others.
func (t *Tracker) stored(dev event.Dev) {
	record, err := t.host.Record(dev)
	if err != nil || record == nil {
		return // udev's event comes in any case
	}
	at := t.host.Now()
	watches := t.concerned(keysOf(dev, record.Props["DM_NAME"], record.Links))
	if len(watches) > 0 && t.found != nil {
		t.note(dev, record, at)
	}
	for _, w := range watches { // woken last, and so the first to run where there is one processor
		w.poke()
	}
}

// note has a record told that says that a device is ready.
func (t *Tracker) note(dev event.Dev, record *udev.Record, at event.Time) {
	name := mappingName(dev)
	if record.Props["DM_NAME"] == "" {
		d, err := t.host.Device(dev)
		if err != nil {
			return
		}
		name = d.Name
	}
	d := described(name, dev, record)
	if blockdev.UdevProgress(d) != blockdev.Finished || blockdev.UsableBy(d) == blockdev.Empty {
		return
	}
	record.Fill(d, event.MonotonicOffset())
	select {
	case t.news <- stored{*d, t.devices.get(dev).announced, at}:
	default:
	}
}

func (t *Tracker) tell() {
	for n := range t.news {
		t.found(n.event())
	}
}

// event is a backfill: what the record holds now it came to hold after the
// kernel announced the device.
func (s *stored) event() event.Event {
	return event.Event{Kind: event.Backfill, Src: Source, From: max(s.from, 1), At: s.at, Dev: &s.device}
}

// resync starts anew after events were lost: udev's database has what they
// said.
func (t *Tracker) resync() {
	t.devices.forget()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, set := range t.watches {
		for w := range set {
			w.poke()
		}
	}
}

// key is something whose change can change a verdict: a path, a device, a
// mapping's name.
type key struct {
	kind byte
	text string
	dev  event.Dev
}

func pathKey(path string) key  { return key{kind: 'p', text: path} }
func nameKey(name string) key  { return key{kind: 'n', text: name} }
func devKey(dev event.Dev) key { return key{kind: 'd', dev: dev} }

// mountKey is for all mounts: the kernel does not tell which changed.
var mountKey = key{kind: 'm'}

func (t *Tracker) wake(keys []key) {
	for _, w := range t.concerned(keys) {
		w.poke()
	}
}

// concerned returns the watches that these keys concern; one can be there more
// than once.
func (t *Tracker) concerned(keys []key) []*Watch {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*Watch
	for _, k := range keys {
		for w := range t.watches[k] {
			list = append(list, w)
		}
	}
	return list
}

// count keeps the number of open watches: udev's database is only followed
// while there are any.
func (t *Tracker) count(change int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.open
	t.open += change
	if t.closed || (before == 0) == (t.open == 0) {
		return
	}
	if err := t.uevents.FollowStores(t.open > 0); err != nil {
		t.log.Warn("that udev has finished is noticed late", "error", err)
	}
}

// index makes w wake for these keys and no others. It reports whether there
// are new ones among them.
func (t *Tracker) index(w *Watch, keys map[key]struct{}) (grown bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range w.keys {
		if _, still := keys[k]; still {
			continue
		}
		delete(t.watches[k], w)
		if len(t.watches[k]) == 0 {
			delete(t.watches, k)
		}
	}
	for k := range keys {
		if _, already := w.keys[k]; already {
			continue
		}
		grown = true
		if t.watches[k] == nil {
			t.watches[k] = make(map[*Watch]struct{})
		}
		if k == mountKey && !t.mountsWanted {
			t.mountsWanted = true
			close(t.mounting)
		}
		t.watches[k][w] = struct{}{}
	}
	w.keys = keys
	return grown
}

// knowsLink reports whether udev made the path, as a link to dev.
func (t *Tracker) knowsLink(dev event.Dev, path string) bool {
	record, err := t.host.Record(dev)
	return err == nil && record != nil && slices.Contains(record.Links, path)
}

var _ Mappings = (*devmap.Control)(nil)
