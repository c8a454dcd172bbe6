package readiness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/udev"
)

// DefaultRecheck is how often a disk that is not ready is looked at again
// without a reason: for what no uevent announces.
const DefaultRecheck = time.Second

// Source is Event.Src of what a Tracker finds.
const Source = "readiness"

// maxLooks is how many looks are taken at the same time. A look at dead storage
// takes as long as the storage lets it, and a thread.
const maxLooks = 1024

// Options configure a Tracker. The zero value is ready.
type Options struct {
	// Recheck is how often what is not ready is looked at again without a
	// reason; 0 means DefaultRecheck.
	Recheck time.Duration
	// Found, if set, is called with a backfill event for each record of udev's
	// database by which a mapping that somebody waits for became ready. Udev's
	// own event of that comes later, and may come after the guest's open. It
	// must not wait.
	Found func(event.Event)
	// Log may be nil.
	Log *slog.Logger
}

// Tracker knows what is ready on this host, for any number of watches.
type Tracker struct {
	root     string // "/", but in tests
	recheck  time.Duration
	log      *slog.Logger
	uevents  uevents
	mappings Mappings
	closing  func() error
	found    func(event.Event)
	news     chan stored
	sys      sysfs
	devices  devices
	looks    chan struct{} // a slot for each look under way

	mu      sync.Mutex
	watches map[key]map[*Watch]struct{}
	open    int // watches that have not ended
	closed  bool
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
	k := &kernel{sys: sysfs{"/"}}
	t := newTracker("/", options, k)
	t.closing = k.close
	source, err := udev.Open(udev.Options{Resync: t.resync, Stored: t.stored, Log: t.log})
	if err != nil {
		return nil, fmt.Errorf("follow the readiness of disks: %w", err)
	}
	t.uevents = source
	return t, nil
}

func newTracker(root string, options Options, mappings Mappings) *Tracker {
	t := &Tracker{
		root: root, recheck: options.Recheck, found: options.Found, log: options.Log, mappings: mappings, sys: sysfs{root},
		looks: make(chan struct{}, maxLooks), news: make(chan stored, maxNews), watches: make(map[key]map[*Watch]struct{}),
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
	var teller sync.WaitGroup
	teller.Go(t.tell)
	defer teller.Wait()
	defer close(t.news)
	return t.uevents.Run(ctx, t.observe)
}

// Close ends the subscription. Run must have returned, and all watches must be
// closed; one whose look at dead storage is still under way ends by itself.
func (t *Tracker) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	return errors.Join(t.uevents.Close(), t.closing())
}

func (t *Tracker) catchUp(ctx context.Context) error { return t.uevents.CatchUp(ctx) }

// observe takes note of one event and wakes those whom it concerns.
func (t *Tracker) observe(e event.Event) {
	u := e.Dev
	if u == nil || u.Dev == nil {
		return
	}
	if _, err := fmt.Sscanf(u.Name, "dm-%d", new(uint32)); err == nil {
		if e.Kind == event.Uevent {
			t.devices.announced(u, e.Earliest())
		} else {
			t.devices.handled(u)
		}
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

// stored is a record of udev's database by which a mapping became ready.
type stored struct {
	dev    event.Dev
	record *udev.Record
	from   event.Time // when the kernel announced the device, 0: not seen
	at     event.Time // when it was read
}

// maxNews is how many of them wait to be told. More are left out: they only
// make the record of the boot more exact.
const maxNews = 1024

// stored wakes those who wait for a device whose record udev has just stored.
// A goroutine of its own tells it to others.
func (t *Tracker) stored(dev event.Dev) {
	record, err := udev.ReadRecord(t.root, dev)
	if err != nil || record == nil {
		return // udev's event comes in any case
	}
	at := event.Now()
	name := record.Props["DM_NAME"]
	watches := t.concerned(keysOf(dev, name, record.Links))
	if len(watches) > 0 && t.found != nil && name != "" && progressOf(record.Props, record.Links) == finished {
		select {
		case t.news <- stored{dev, record, t.devices.get(dev).announced, at}:
		default:
		}
	}
	for _, w := range watches { // woken last, and so the first to run where there is one processor
		w.poke()
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
	info := &event.DevInfo{Subsystem: "block", Name: fmt.Sprintf("dm-%d", s.dev.Minor), Dev: &s.dev}
	s.record.Fill(info, event.MonotonicOffset())
	return event.Event{Kind: event.Backfill, Src: Source, From: max(s.from, 1), At: s.at, Dev: info}
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
		t.watches[k][w] = struct{}{}
	}
	w.keys = keys
	return grown
}

// udevRuns reports whether there is anybody to wait for.
func (t *Tracker) udevRuns() bool {
	_, err := os.Stat(filepath.Join(t.root, "run/udev/control"))
	return err == nil
}

// knowsLink reports whether udev made the path, as a link to dev.
func (t *Tracker) knowsLink(dev event.Dev, path string) bool {
	record, err := udev.ReadRecord(t.root, dev)
	return err == nil && record != nil && slices.Contains(record.Links, path)
}

var _ Mappings = (*devmap.Control)(nil)
