package readiness

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/mounts"
	"github.com/bootrace/bootrace/tracer/timeline"
	"github.com/bootrace/bootrace/tracer/udev"
	"github.com/bootrace/bootrace/tracer/view"
)

// Held and judged agree: random boots go through readiness, which lets guests
// start, and through the timeline, which judges that afterwards. Both see the
// same made-up host, in simulated time.
//
//   - What the hold lets go on is no race.
//   - A guest that is still held in the end has disks that the timeline finds
//     wanting, too.
//   - Whoever becomes ready is woken by an event, unless readiness itself says
//     that nothing tells of what is waited for.
var (
	agreeSeed  = flag.Uint64("agree.seed", 0, "run this one random boot, and print its events where it fails")
	agreeBoots = flag.Int("agree.boots", 10_000, "how many random boots")
)

func TestHeldAndJudgedAgree(t *testing.T) {
	if *agreeSeed != 0 {
		s := simulate(*agreeSeed)
		if s.wrong != "" {
			t.Errorf("%s\n%s", s.wrong, s.story())
		}
		return
	}
	boots := *agreeBoots
	if testing.Short() {
		boots /= 10
	}
	var next, released, kept, waited atomic.Int64
	var failed sync.Map
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for seed := next.Add(1); seed <= int64(boots); seed = next.Add(1) {
				s := simulate(uint64(seed))
				if s.wrong != "" {
					failed.Store(seed, s.wrong)
				}
				for _, g := range s.guests {
					switch {
					case g.released == 0:
						kept.Add(1)
					case g.released > g.started:
						waited.Add(1)
					default:
						released.Add(1)
					}
				}
			}
		})
	}
	workers.Wait()
	n := 0
	for seed, why := range failed.Range {
		if n++; n <= 5 {
			t.Errorf("go test ./tracer/readiness -run Agree -agree.seed=%v: %v", seed, why)
		}
	}
	if n > 0 {
		t.Errorf("%d of %d boots failed", n, boots)
	}
	t.Logf("%d guests started at once, %d after a wait, %d never", released.Load(), waited.Load(), kept.Load())
	for what, count := range map[string]int64{"started at once": released.Load(), "waited": waited.Load(), "never started": kept.Load()} {
		if count < int64(boots)/100 {
			t.Errorf("only %d guests %s: the boots are too uniform to prove anything", count, what)
		}
	}
}

// sim is one random boot.
type sim struct {
	rng    *rand.Rand
	w      *world
	now    event.Time
	agenda []task
	log    []event.Event
	busy   map[event.Dev]event.Time // until when udev is at work on a device
	made   map[event.Dev]bool       // udev has made what is there now ready
	guests []*simGuest
	slow   bool // it takes seconds for all
	wrong  string
}

type task struct {
	at event.Time
	do func()
}

type simGuest struct {
	pid      int
	request  Request
	started  event.Time
	released event.Time // 0: not
	watch    *Watch
	looked   event.Time
	silent   bool
	words    []string
}

func simulate(seed uint64) *sim {
	s := &sim{rng: rand.New(rand.NewPCG(seed, 7)), w: newWorld(), now: event.Time(time.Second), busy: map[event.Dev]event.Time{}, made: map[event.Dev]bool{}}
	s.w.now = func() event.Time { return s.now }
	s.w.tracker.found = func(event.Event) {}
	for _, name := range []string{"ebpf", "uevent", "udev", "snapshot", mounts.SourceName} {
		info := &event.SourceInfo{Name: name, State: "attached"}
		if name == mounts.SourceName {
			info.Abilities = []event.Ability{{Name: mounts.Ability, OK: true}}
		}
		if name == "ebpf" {
			for _, ability := range []string{"dm", "open", "exec", "exit", "link"} {
				info.Abilities = append(info.Abilities, event.Ability{Name: ability, OK: true})
			}
		}
		s.record(event.Event{At: 1, Kind: event.Source, Source: info})
	}
	s.slow = s.chance(30)
	var disks []simDisk
	for i := range 1 + s.rng.IntN(4) {
		disks = append(disks, s.device(i))
	}
	for i := range 1 + s.rng.IntN(3) {
		s.guest(i, disks)
	}
	s.run()
	s.judge()
	return s
}

func (s *sim) record(e event.Event) {
	if e.At == 0 {
		e.At = s.now
	}
	s.log = append(s.log, e)
}

func (s *sim) in(delay event.Duration, do func()) {
	s.agenda = append(s.agenda, task{s.now.Add(delay), do})
}

// soon is a delay of milliseconds as a rule, and of seconds now and then.
func (s *sim) soon() event.Duration {
	limit := 20
	switch s.rng.IntN(10) {
	case 0:
		limit = 5000
	case 1, 2:
		limit = 500
	}
	return event.Duration(1+s.rng.IntN(limit)) * time.Millisecond
}

func (s *sim) someTime() event.Duration { return event.Duration(1+s.rng.IntN(8000)) * time.Millisecond }

func (s *sim) chance(percent int) bool { return s.rng.IntN(100) < percent }

// run works off the agenda. At each instant the tracker reads what is queued, as
// a rule, and who was woken looks.
func (s *sim) run() {
	for len(s.agenda) > 0 && s.wrong == "" {
		slices.SortStableFunc(s.agenda, func(a, b task) int { return int(a.at - b.at) })
		next := s.agenda[0]
		s.agenda = s.agenda[1:]
		s.now = next.at
		next.do()
		if len(s.agenda) > 0 && s.agenda[0].at == s.now {
			continue
		}
		if s.chance(80) || len(s.agenda) == 0 {
			s.w.deliver()
		}
		s.looks()
	}
	s.w.deliver()
	s.looks()
	for range 40 { // who is looked at again from time to time gets his look
		s.now = s.now.Add(time.Second)
		s.looks()
	}
}

// looks has the guests looked at that were woken, or whose time it is.
func (s *sim) looks() {
	for _, g := range s.guests {
		if g.watch == nil {
			continue
		}
		woken := false
		select {
		case <-g.watch.dirty:
			woken = true
		default:
		}
		recheck := DefaultRecheck
		if g.silent {
			recheck = silentRecheck
		}
		due := s.now.Sub(g.looked) >= recheck
		pending := len(s.w.queue) > 0
		v := s.look(g)
		if v.Ready && !woken && !due && !pending && !g.silent {
			s.wrong = fmt.Sprintf("guest %d was ready at %.3f and nothing woke it; it waited for %q", g.pid, s.now.Seconds(), g.words)
		}
		if v.Ready && (woken || due || pending) {
			s.release(g)
		}
	}
}

// look is Watch.look in one goroutine.
func (s *sim) look(g *simGuest) Verdict {
	for {
		l := s.w.tracker.newLook(context.Background(), &g.request, s.w)
		v := l.take(&g.request)
		if grown := s.w.tracker.index(g.watch, l.keys); v.Ready || !grown {
			if !v.Ready {
				g.silent, g.words = l.silent, v.Words()
			}
			s.news()
			return v
		}
	}
}

// news takes over what the tracker tells of udev's records.
func (s *sim) news() {
	for {
		select {
		case n := <-s.w.tracker.news:
			s.record(n.event())
		default:
			return
		}
	}
}

// guest has a guest start at some time, on some of the disks.
func (s *sim) guest(i int, disks []simDisk) {
	g := &simGuest{pid: 1000 + i}
	for range 1 + s.rng.IntN(2) {
		d := disks[s.rng.IntN(len(disks))]
		image := Path(d.paths[s.rng.IntN(len(d.paths))])
		image.Format = "raw"
		g.request.Disks = append(g.request.Disks, image)
		if last := d.remembered(image.Path); last != nil {
			g.request.Memory = append(g.request.Memory, *last)
		}
	}
	s.guests = append(s.guests, g)
	s.in(s.someTime(), func() {
		g.started, g.looked = s.now, s.now
		g.watch = &Watch{t: s.w.tracker, request: g.request, files: s.w, dirty: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
		if s.look(g).Ready {
			s.release(g)
		}
	})
}

// release lets a guest start: it opens its disks in the same instant.
func (s *sim) release(g *simGuest) {
	g.released = s.now
	s.w.tracker.index(g.watch, nil)
	g.watch = nil
	for i := range g.request.Disks {
		if place, err := s.w.Walk(g.request.Disks[i].Path); err == nil && place.Block() && !s.made[place.Dev] {
			s.wrong = fmt.Sprintf("guest %d was let go at %.3f before udev had made %s ready", g.pid, s.now.Seconds(), g.request.Disks[i].Path)
		}
	}
	s.start(g)
}

func (s *sim) start(g *simGuest) {
	proc := &event.Proc{PID: g.pid, PPID: 1, Comm: "qemu-system-x86"}
	args := []string{"qemu-system-x86_64", "-name", fmt.Sprint("g", g.pid)}
	for i := range g.request.Disks {
		args = append(args, "-drive", "format=raw,file="+g.request.Disks[i].Path)
	}
	s.record(event.Event{Kind: event.Exec, Proc: proc, Exec: &event.ExecInfo{Filename: "/usr/bin/qemu-system-x86_64", Args: args}})
	if g.request.Memory != nil {
		s.record(event.Event{At: s.now + 1, Kind: event.Memory, Proc: proc,
			Memory: &event.MemoryInfo{Guest: fmt.Sprint("name:g", g.pid), Boot: "before", Disks: g.request.Memory}})
	}
	for i := range g.request.Disks {
		open := s.w.opened(g.request.Disks[i].Path)
		s.record(event.Event{At: s.now + event.Time(2+i), Kind: event.Open, Proc: proc, Open: &open})
	}
}

// opened is what an open of a path comes to.
func (h *world) opened(path string) event.OpenInfo {
	o := event.OpenInfo{Path: path, Size: -1}
	place, err := h.Walk(path)
	switch {
	case err != nil:
		o.Errno = int(unix.ENOENT)
	case !place.Block():
		o.Type, o.Size = "file", 1<<20
	default:
		dev := place.Dev
		o.Type, o.Dev, o.Size = "block", &dev, 0
		d, err := h.Device(dev)
		m, mapped := h.mappings[dev]
		switch {
		case err != nil:
			o.Errno, o.Type, o.Dev = int(unix.ENXIO), "", nil
		case mapped && m.Flags&devmap.FlagActive != 0:
			o.Size = 1 << 30
		case !mapped:
			o.Size = blockdev.Size(&d)
		}
	}
	return o
}

// judge has the timeline judge the boot.
func (s *sim) judge() {
	if s.wrong != "" {
		return
	}
	for _, g := range s.guests {
		if g.released == 0 {
			s.start(g) // as if the hold had let it go in the end
		}
	}
	for i := range s.log {
		s.log[i].ID = uint64(i + 1)
	}
	tl := timeline.Build(timeline.Boot{ID: "agree", Current: true}, timeline.Options{}, slices.Values(s.log))
	raced, outcome, early := map[int]*timeline.Finding{}, map[int]timeline.Outcome{}, map[int]string{}
	for _, g := range tl.Guests {
		for i := range g.Disks {
			if d := &g.Disks[i]; len(d.Uses) > 0 && d.Uses[0].Margin.Negative() {
				early[g.PID] = d.Path
			}
		}
		for _, f := range tl.Findings {
			if f.Race && g.ID == f.GuestID {
				raced[g.PID] = f
			}
		}
		for _, v := range tl.Verdicts {
			if v.GuestID == g.ID {
				outcome[g.PID] = v.Outcome
			}
		}
	}
	for _, g := range s.guests {
		f, came := raced[g.pid], outcome[g.pid]
		switch {
		case g.released != 0 && f != nil:
			s.wrong = fmt.Sprintf("guest %d was let go at %.3f, and the timeline says %s of %s (state %s, withheld %q)",
				g.pid, g.released.Seconds(), f.Kind, f.Disk, f.State, f.Withheld)
		case g.released != 0 && came == timeline.OutcomeFailed:
			s.wrong = fmt.Sprintf("guest %d was let go at %.3f, and the timeline says that it failed", g.pid, g.released.Seconds())
		case g.released != 0 && early[g.pid] != "":
			s.wrong = fmt.Sprintf("guest %d was let go at %.3f, and by the timeline %s was ready later", g.pid, g.released.Seconds(), early[g.pid])
		case g.released == 0 && came != timeline.OutcomeFailed && came != timeline.OutcomeUnknown:
			s.wrong = fmt.Sprintf("guest %d is held for ever for %q, and the timeline says that it is %s", g.pid, g.words, came)
		}
	}
}

// story prints the events of a boot.
func (s *sim) story() string {
	var b strings.Builder
	slices.SortStableFunc(s.log, func(a, b event.Event) int { return int(a.At - b.At) })
	for i := range s.log {
		if s.log[i].Kind == event.Source {
			continue
		}
		text, err := json.Marshal(&s.log[i])
		if err != nil {
			text = []byte(err.Error())
		}
		fmt.Fprintf(&b, "%s\n", text)
	}
	return b.String()
}

// simDisk is what a guest can have as a disk.
type simDisk struct {
	paths []string
	last  *event.MemoryDisk // what a guest is remembered to have run on, nil: the paths say enough
}

func (d *simDisk) remembered(path string) *event.MemoryDisk {
	if d.last == nil {
		return nil
	}
	last := *d.last
	last.Path = path
	return &last
}

// device makes a device, or a file, that comes, goes and changes.
func (s *sim) device(i int) simDisk {
	switch n := s.rng.IntN(20); {
	case n < 5:
		return s.mapping(i)
	case n < 7:
		return s.file(i)
	case n < 9:
		return s.foreign(i)
	default:
		return s.otherKind(i, n-9)
	}
}

// otherKind makes a device that is no mapping: n of 11 says which.
func (s *sim) otherKind(i, n int) simDisk {
	minor := uint32(16 * (i + 1))
	switch n {
	case 0:
		return s.other(fmt.Sprint("md", 120+i), event.Dev{Major: 9, Minor: uint32(120 + i)}, fmt.Sprint("/dev/md/r", i))
	case 1:
		return s.other(fmt.Sprint("loop", i), event.Dev{Major: 7, Minor: uint32(i)}, "")
	case 2:
		return s.other(fmt.Sprintf("nvme%dn1", i), event.Dev{Major: 259, Minor: uint32(i)}, fmt.Sprint("/dev/disk/by-id/nvme-eui.", i))
	case 3:
		return s.other(fmt.Sprint("nbd", i), event.Dev{Major: 43, Minor: minor}, "")
	case 4:
		return s.other(fmt.Sprint("zram", i), event.Dev{Major: 251, Minor: uint32(i)}, "")
	case 5:
		return s.other(fmt.Sprint("drbd", i), event.Dev{Major: 147, Minor: uint32(i)}, fmt.Sprintf("/dev/drbd/by-res/r%d/0", i))
	case 6:
		return s.other(fmt.Sprint("rbd", i), event.Dev{Major: 250, Minor: minor}, fmt.Sprint("/dev/rbd/pool/image", i))
	case 7:
		return s.other(fmt.Sprint("zd", minor), event.Dev{Major: 230, Minor: minor}, fmt.Sprint("/dev/zvol/tank/vm", i))
	case 8:
		return s.other(fmt.Sprint("bcache", i), event.Dev{Major: 249, Minor: minor}, fmt.Sprint("/dev/bcache/by-uuid/", i))
	case 9:
		return s.other(fmt.Sprintf("sd%c1", 'b'+i), event.Dev{Major: 8, Minor: minor + 1}, fmt.Sprintf("/dev/disk/by-id/wwn-0x%d-part1", i))
	default:
		return s.other(fmt.Sprintf("sd%c", 'b'+i), event.Dev{Major: 8, Minor: minor}, fmt.Sprint("/dev/disk/by-id/wwn-0x", i))
	}
}

// foreign is a device by a link of somebody else's making, which comes at its own
// time.
func (s *sim) foreign(i int) simDisk {
	var below simDisk
	last := &event.MemoryDisk{}
	if s.chance(50) {
		below = s.mapping(i)
		last.Name, last.UUID = fmt.Sprint("vg0-lv", i), uuidOf(fmt.Sprint("vg0-lv", i))
	} else {
		name := fmt.Sprint("sd", string(rune('b'+i)))
		below = s.other(name, event.Dev{Major: 8, Minor: uint32(16 * (i + 1))}, fmt.Sprint("/dev/disk/by-id/wwn-0x", i))
		last.DeviceKind, last.Name, last.UUID = string(blockdev.SCSI), name, "serial:"+name
	}
	path := fmt.Sprintf("/one/%d/disk.0", i)
	make := func() { s.w.link(path, below.paths[0]) }
	if s.chance(50) {
		make()
	} else {
		s.in(s.someTime(), make)
	}
	return simDisk{paths: []string{path}, last: last}
}

// file is one on a file system that is mounted at some time.
func (s *sim) file(i int) simDisk {
	point := fmt.Sprint("/srv/", i)
	path := point + "/a.raw"
	var d simDisk
	d.paths = []string{path}
	if s.chance(50) {
		s.w.plans = append(s.w.plans, point)
	} else {
		d.last = &event.MemoryDisk{DeviceKind: fileKind, Mount: point, UUID: "fs"}
	}
	comes := s.chance(80)
	if d.last != nil && s.chance(20) { // a file of that name below the mount point
		s.w.nodes[path] = view.Place{}
	}
	if comes {
		s.in(s.someTime(), func() { s.mount(point, path) })
	}
	return d
}

func (s *sim) mount(point, path string) {
	s.record(event.Event{Kind: event.Mount, Mount: &event.MountInfo{Action: event.MountMade, Point: point, Root: "/", FSType: "xfs", Dev: event.Dev{Minor: 99}}})
	s.w.mounted = append(s.w.mounted, mounts.Mounted{Point: point, FSType: "xfs"})
	s.w.nodes[path] = view.Place{}
	s.w.tracker.wake([]key{mountKey})
	if !s.chance(15) {
		return
	}
	s.in(s.someTime(), func() {
		s.record(event.Event{Kind: event.Mount, Mount: &event.MountInfo{Action: event.MountGone, Point: point, Root: "/", FSType: "xfs", Dev: event.Dev{Minor: 99}}})
		s.w.mounted = slices.DeleteFunc(s.w.mounted, func(m mounts.Mounted) bool { return m.Point == point })
		delete(s.w.nodes, path)
		s.w.tracker.wake([]key{mountKey})
		s.in(s.someTime(), func() { s.mount(point, path) })
	})
}

// announce has the kernel announce something, and udev handle it later: in order
// for each device.
func (s *sim) announce(d event.DevInfo, action string, handle func(d *event.DevInfo)) {
	s.w.seq++
	d.Subsystem, d.Action, d.Seq = "block", action, s.w.seq
	s.emit(event.Uevent, d, s.now)
	began := s.now
	start := max(s.now, s.busy[*d.Dev])
	done := start.Add(s.soon())
	if s.slow {
		done = done.Add(s.someTime() / 4)
	}
	sent := done
	if s.chance(50) {
		sent = done.Add(s.soon())
	}
	s.busy[*d.Dev] = sent
	u := d
	s.in(done.Sub(s.now), func() {
		handle(&u)
		if action != "remove" && s.w.records[*u.Dev] != nil {
			s.w.deliver()
			s.w.tracker.stored(*u.Dev)
			s.news()
		}
		if sent == done {
			s.answer(u, began)
			return
		}
		s.in(sent.Sub(s.now), func() { s.answer(u, began) })
	})
}

// answer sends udev's event. Attributes are those of the time at which it is read.
func (s *sim) answer(u event.DevInfo, began event.Time) {
	u.Attrs = nil
	if now, err := s.w.Device(*u.Dev); err == nil && u.Action != "remove" && blockdev.DeviceKind(&u) != blockdev.Mapping {
		u.Attrs = now.Attrs
	}
	s.emit(event.Udev, u, began)
}

func (s *sim) emit(kind event.Kind, d event.DevInfo, from event.Time) {
	e := event.Event{Kind: kind, At: s.now, From: from, Dev: &d}
	s.record(e)
	s.w.queue = append(s.w.queue, e)
}

// links has udev make or remove the links of a device.
func (s *sim) relink(node string, links []string) {
	for path, target := range maps.Clone(s.w.links) {
		if target == node && strings.HasPrefix(path, "/dev/") && !slices.Contains(links, path) {
			delete(s.w.links, path)
		}
	}
	for _, path := range links {
		if s.w.links[path] != node {
			s.w.links[path] = node
			s.record(event.Event{Kind: event.Link, Proc: &event.Proc{PID: 300, Comm: "systemd-udevd"}, Open: &event.OpenInfo{Path: path, Target: node}})
		}
	}
}

// simMapping is a logical volume in one of its lives.
type simMapping struct {
	s      *sim
	i      int
	name   string
	minor  uint32
	live   bool
	gone   bool
	rename int
}

func (s *sim) mapping(i int) simDisk {
	if s.chance(90) {
		s.in(s.someTime(), func() { s.create(i) })
	}
	return simDisk{paths: []string{fmt.Sprint("/dev/vg0/lv", i), fmt.Sprint("/dev/mapper/vg0-lv", i)}}
}

func (m *simMapping) info() event.DMInfo {
	dev := number(m.minor)
	return event.DMInfo{Name: m.name, UUID: uuidOf(fmt.Sprint("vg0-lv", m.i)), Dev: &dev, Size: 1 << 30}
}

func (m *simMapping) dm(kind event.Kind, change func(*event.DMInfo)) {
	info := m.info()
	if change != nil {
		change(&info)
	}
	m.s.record(event.Event{Kind: kind, Proc: &event.Proc{PID: 200, Comm: "lvm"}, DM: &info})
}

func (m *simMapping) set(flags devmap.Flags) {
	dev := number(m.minor)
	m.s.w.mappings[dev] = devmap.Mapping{Name: m.name, UUID: m.info().UUID, Dev: dev, Flags: flags}
	m.s.w.nodes[node(m.minor)] = view.Place{Mode: os.ModeDevice, Dev: dev}
}

func (m *simMapping) links() []string {
	return []string{"/dev/vg0/" + strings.TrimPrefix(m.name, "vg0-"), "/dev/mapper/" + m.name}
}

func (m *simMapping) device() event.DevInfo {
	dev := number(m.minor)
	return event.DevInfo{Name: mappingName(dev), Dev: &dev}
}

// announce: udev's rules ask device-mapper what the mapping is when they run.
func (m *simMapping) announce(action string) {
	m.s.announce(m.device(), action, func(u *event.DevInfo) {
		dev := number(m.minor)
		switch {
		case action == "remove":
			if !m.s.taken(m) {
				m.s.relink(node(m.minor), nil)
			}
			delete(m.s.w.records, dev)
			u.Props = map[string]string{"DM_NAME": m.name, "DM_UUID": m.info().UUID}
			return
		case m.gone:
			return
		}
		u.Props = properties(m.name)
		u.Props["DM_UUID"] = m.info().UUID
		if action == "add" || !m.live {
			u.Props = map[string]string{"DM_UDEV_DISABLE_OTHER_RULES_FLAG": "1", "SYSTEMD_READY": "0"}
		} else {
			m.s.made[dev] = true
			u.Links = m.links()
			m.s.relink(node(m.minor), u.Links)
		}
		m.s.w.records[dev] = &udev.Record{Initialized: uint64(m.s.now / 1000), Props: u.Props, Links: u.Links}
	})
}

// taken reports whether another mapping has the number of a removed one.
func (s *sim) taken(m *simMapping) bool {
	_, ok := s.w.mappings[number(m.minor)]
	return ok
}

func (s *sim) create(i int) {
	minor := uint32(0)
	for ; ; minor++ {
		if _, used := s.w.mappings[number(minor)]; !used {
			break
		}
	}
	m := &simMapping{s: s, i: i, name: fmt.Sprint("vg0-lv", i), minor: minor}
	s.made[number(minor)] = false
	m.dm(event.DMCreate, nil)
	m.set(0)
	m.announce("add")
	s.in(s.soon(), func() {
		m.dm(event.DMLoad, nil)
		m.set(devmap.FlagInactive)
		s.in(s.soon(), m.resume)
	})
}

func (m *simMapping) resume() {
	m.live = true
	m.dm(event.DMResume, func(i *event.DMInfo) { i.LiveAt, i.Flags = m.s.now, uint32(devmap.FlagActive) })
	m.set(devmap.FlagActive)
	m.announce("change")
	m.later()
}

// later decides what becomes of a live mapping.
func (m *simMapping) later() {
	s := m.s
	switch n := s.rng.IntN(100); {
	case n < 25:
		s.in(s.someTime(), func() {
			m.dm(event.DMSuspend, nil)
			m.set(devmap.FlagActive | devmap.FlagSuspend)
			s.in(s.soon(), m.resume)
		})
	case n < 45:
		s.in(s.someTime(), m.remove)
	case n < 53 && m.rename == 0:
		s.in(s.someTime(), func() {
			name := m.name + "new"
			m.dm(event.DMRename, func(i *event.DMInfo) { i.NewName = name })
			m.name, m.rename = name, 1
			m.set(devmap.FlagActive)
			m.announce("change")
			m.later()
		})
	}
}

func (m *simMapping) remove() {
	s := m.s
	m.dm(event.DMRemove, nil)
	m.gone = true
	delete(s.w.mappings, number(m.minor))
	delete(s.w.nodes, node(m.minor))
	m.announce("remove")
	if s.chance(60) {
		s.in(s.soon(), func() { s.create(m.i) })
	}
}

// simDevice is a device that is no mapping.
type simDevice struct {
	s    *sim
	name string
	dev  event.Dev
	link string
	kind blockdev.Kind
	here bool
	life int
	role bool // it has a disk, and lacks its role
}

func (s *sim) other(name string, dev event.Dev, link string) simDisk {
	kind, _ := blockdev.KindOf(name)
	d := &simDevice{s: s, name: name, dev: dev, link: link, kind: kind}
	if s.chance(90) {
		s.in(s.someTime(), d.come)
	}
	paths := []string{"/dev/" + name}
	if link != "" {
		paths = append(paths, link)
	}
	return simDisk{paths: paths}
}

// late: the device is there before something is behind it.
func (d *simDevice) late() bool {
	return d.kind.Late() || d.kind == blockdev.DRBD // which gets its role later
}

func (d *simDevice) set(used bool) {
	d.s.made[d.dev] = false
	attrs := map[string]string{blockdev.AttrSize: "0"}
	if used {
		attrs[blockdev.AttrSize] = "1048576"
	}
	if d.kind == blockdev.Array {
		attrs[blockdev.AttrArrayState] = "clear"
		if used {
			attrs[blockdev.AttrArrayState] = "clean"
		}
	}
	if d.kind == blockdev.DRBD {
		attrs[blockdev.AttrDRBDVersion], attrs[blockdev.AttrReadOnly] = "8.4.11", "0"
		if d.role = used && d.s.chance(50); d.role { // attached, and not primary yet
			attrs[blockdev.AttrReadOnly] = "1"
		}
	}
	d.s.w.disk(d.name, d.dev, attrs)
}

func (d *simDevice) used() bool {
	now, err := d.s.w.Device(d.dev)
	return err == nil && blockdev.UsableBy(&now) == blockdev.InUse
}

func (d *simDevice) announce(action string) {
	life := d.life
	dev := d.dev
	u := event.DevInfo{Name: d.name, Type: "disk", Dev: &dev}
	if d.kind == blockdev.Partition {
		u.Type = "partition"
	}
	if now, err := d.s.w.Device(dev); err == nil && action != "remove" {
		u.Attrs = now.Attrs
	}
	d.s.announce(u, action, func(u *event.DevInfo) {
		switch {
		case action == "remove":
			d.s.relink("/dev/"+d.name, nil)
			delete(d.s.w.records, d.dev)
			return
		case life != d.life || !d.here:
			return
		}
		u.Props = map[string]string{"ID_SERIAL": d.name}
		d.s.made[d.dev] = d.used()
		switch {
		case !d.used() && d.late():
			u.Props["SYSTEMD_READY"] = "0"
			d.s.relink("/dev/"+d.name, nil)
		case d.link != "":
			u.Links = []string{d.link}
			d.s.relink("/dev/"+d.name, u.Links)
		}
		d.s.w.records[d.dev] = &udev.Record{Initialized: uint64(d.s.now / 1000), Props: u.Props, Links: u.Links}
	})
}

func (d *simDevice) come() {
	d.life++
	d.here = true
	d.set(!d.late())
	d.announce("add")
	switch {
	case d.late():
		d.s.in(d.s.someTime(), d.use)
	case d.s.chance(25):
		d.s.in(d.s.someTime(), d.leave)
	}
}

// use puts something behind the device.
func (d *simDevice) use() {
	d.set(true)
	d.changed()
	switch {
	case d.role:
		d.s.in(d.s.someTime(), d.promote)
	case d.s.chance(25):
		d.s.in(d.s.someTime(), func() {
			d.set(false)
			d.changed()
			d.s.in(d.s.soon(), d.use)
		})
	}
}

// changed: a size that was 0, or is now, is announced by each kind of driver itself,
// and not by zram's (set_capacity_and_notify, block/genhd.c).
func (d *simDevice) changed() {
	if d.kind == blockdev.Zram {
		d.s.made[d.dev] = d.used()
		return
	}
	d.announce("change")
}

func (d *simDevice) promote() {
	d.role = false
	d.s.w.disks[d.dev].Attrs[blockdev.AttrReadOnly] = "0"
	d.announce("change")
}

func (d *simDevice) leave() {
	d.here = false
	delete(d.s.w.disks, d.dev)
	delete(d.s.w.nodes, "/dev/"+d.name)
	d.announce("remove")
	if d.s.chance(60) {
		d.s.in(d.s.soon(), d.come)
	}
}
