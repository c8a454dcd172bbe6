package readiness

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// judge looks once, and returns the blockers as "kind path".
func judge(h *world, paths ...string) []string {
	var r Request
	for _, p := range paths {
		r.Disks = append(r.Disks, Path(p))
	}
	return judgeRequest(h, &r)
}

func judgeRequest(h *world, r *Request) []string {
	v := h.tracker.newLook(context.Background(), r, h).take(r)
	var list []string
	for _, b := range v.Blockers {
		list = append(list, string(b.Kind)+" "+b.Path)
	}
	return list
}

func with(props map[string]string, more ...string) map[string]string {
	for i := 0; i < len(more); i += 2 {
		props[more[i]] = more[i+1]
	}
	return props
}

const lv = "/dev/vg0/web"

// Each case makes a host; want is what the guest waits for, empty where its
// start goes on.
func TestVerdicts(t *testing.T) {
	live := func(h *world) { h.set(1, "vg0-web", devmap.FlagActive) }
	linked := func(h *world) { live(h); h.link(lv, node(1)) }
	ready := func(h *world) { linked(h); h.record(1, properties("vg0-web"), lv) }
	for _, tc := range []struct {
		name string
		path string // empty: lv
		make func(h *world)
		want string
	}{
		{name: "nothing there", make: func(*world) {}, want: "missing"},
		{name: "created", make: func(h *world) { h.set(1, "vg0-web", 0) }, want: "no-table"},
		{name: "loaded", make: func(h *world) { h.set(1, "vg0-web", devmap.FlagInactive); h.link(lv, node(1)) }, want: "no-table"},
		{name: "live, not linked, udev has it", make: func(h *world) { live(h); h.record(1, properties("vg0-web")) }, want: "link"},
		{name: "live, not linked", make: live, want: "udev"},
		{name: "live and linked, udev not finished", make: linked, want: "udev"},
		{name: "ready", make: ready},
		{name: "suspended", make: func(h *world) { ready(h); h.set(1, "vg0-web", devmap.FlagActive|devmap.FlagSuspend) }, want: "suspended"},
		{name: "internally suspended", make: func(h *world) { ready(h); h.set(1, "vg0-web", devmap.FlagActive|devmap.FlagInternalSuspend) }, want: "suspended"},
		{name: "removal due", make: func(h *world) { ready(h); h.set(1, "vg0-web", devmap.FlagActive|devmap.FlagDeferredRemove) }, want: "removing"},
		{name: "only the creation was handled", make: func(h *world) {
			linked(h)
			h.record(1, map[string]string{"DM_UDEV_DISABLE_OTHER_RULES_FLAG": "1", "SYSTEMD_READY": "0"})
		}, want: "udev"},
		{name: "private", make: func(h *world) {
			linked(h)
			h.record(1, with(properties("vg0-web"), "DM_UDEV_DISABLE_OTHER_RULES_FLAG", "1"), lv)
		}, want: "private"},
		{name: "no rules wanted", make: func(h *world) {
			linked(h)
			h.record(1, with(properties("vg0-web"), "DM_UDEV_DISABLE_DM_RULES_FLAG", "1", "DM_UDEV_DISABLE_OTHER_RULES_FLAG", "1"))
		}},
		{name: "no rules installed", make: func(h *world) { linked(h); h.record(1, nil) }},
		{name: "asked for again", make: func(h *world) {
			linked(h)
			h.record(1, with(properties("vg0-web"), "DM_ACTIVATION", ""), lv)
		}},
		{name: "the record is of an earlier owner of the number", make: func(h *world) { linked(h); h.record(1, properties("vg0-old"), lv) }, want: "udev"},
		{name: "the link leads to another mapping", make: func(h *world) {
			live(h)
			h.record(1, properties("vg0-web"), lv)
			h.set(2, "vg0-other", devmap.FlagActive)
			h.record(2, properties("vg0-other"))
			h.link(lv, node(2))
		}, want: "elsewhere"},
		{name: "a link of one's own", path: "/dev/cloud/disk", make: func(h *world) { ready(h); h.link("/dev/cloud/disk", node(1)) }},
		{name: "a stale node in a private /dev", make: func(h *world) {
			h.set(2, "vg0-other", devmap.FlagActive)
			h.record(2, properties("vg0-other"))
			h.nodes[lv] = h.nodes[node(2)]
		}, want: "elsewhere"},
		{name: "a node without a device", make: func(h *world) { h.set(1, "vg0-web", 0); h.nodes[lv] = h.nodes[node(1)]; h.unset(1) }, want: "missing"},
		{name: "a link from elsewhere, to nothing yet", path: "/srv/one/disk.0", make: func(h *world) { h.link("/srv/one/disk.0", lv) }, want: "missing"},
		{name: "a link that leads nowhere yet", make: func(h *world) { h.link(lv, node(7)) }, want: "missing"},
		{name: "by uuid", path: "/dev/disk/by-uuid/x", make: func(*world) {}, want: "missing"},
		{name: "a file", path: "/srv/image", make: func(*world) {}},
		{name: "another block device", path: "/dev/sda", make: func(*world) {}},
		{name: "a file that does not exist", path: "/srv/typo", make: func(*world) {}},
		{name: "a disk that does not exist", path: "/dev/sdb", make: func(*world) {}, want: "missing"},
		{name: "a loop", make: func(h *world) { h.link(lv, "/dev/b"); h.link("/dev/b", lv) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			tc.make(h)
			path := tc.path
			if path == "" {
				path = lv
			}
			var want []string
			if tc.want != "" {
				want = []string{tc.want + " " + path}
			}
			if diff := cmp.Diff(want, judge(h, path)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNoUdev(t *testing.T) {
	h := newHost(t)
	h.set(1, "vg0-web", devmap.FlagActive)
	h.link(lv, node(1))
	h.noUdev = true
	if got := judge(h, lv); got != nil {
		t.Errorf("waits for %v, which nobody will bring", got)
	}
}

// The order of announcements decides what udev's words are about.
func TestLives(t *testing.T) {
	h := newHost(t)
	expect := func(step string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, judge(h, lv)); diff != "" {
			t.Errorf("%s: %s", step, diff)
		}
	}
	h.activate(1, "vg0-web", lv)
	expect("activated")

	// Down and up again, before udev has handled anything: link and record are
	// the old ones, and so is the number.
	removed := h.announce(event.Uevent, "remove", 1, 0, nil)
	h.announce(event.Uevent, "add", 1, 0, nil)
	changed := h.announce(event.Uevent, "change", 1, 0, nil)
	expect("up again, nothing handled", "udev "+lv)
	h.unrecord(1)
	h.announce(event.Udev, "remove", 1, removed, properties("vg0-web"))
	expect("the removal handled", "udev "+lv)
	h.record(1, properties("vg0-web"), lv)
	expect("the record is there, the event is still on the way")
	h.announce(event.Udev, "change", 1, changed, properties("vg0-web"), lv)
	expect("handled")

	h.announce(event.Uevent, "change", 1, 0, nil)
	h.announce(event.Uevent, "add", 1, 0, map[string]string{"SYNTH_UUID": "0"})
	h.announce(event.Uevent, "add", 1, 0, nil) // before Linux 4.13
	expect("asked for again, not handled yet")

	h.deactivate(1, "vg0-web", lv)
	expect("down", "missing "+lv)
	h.activate(1, "vg0-other", "/dev/vg0/other")
	expect("another has the number", "missing "+lv)
	h.activate(2, "vg0-web", lv)
	expect("up, with another number")

	h.tracker.resync()
	expect("after a loss")
}

func TestWatch(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	w := h.tracker.watch(Request{Disks: []guest.Image{Path(lv)}}, h)
	defer w.Close()
	<-w.Changed()
	if v := w.Verdict(); v.Ready || v.Blockers[0].Kind != Missing {
		t.Fatalf("%+v", v)
	}
	done := make(chan Verdict, 1)
	go func() {
		v, err := w.Wait(ctx)
		if err != nil {
			t.Error(err)
		}
		done <- v
	}()
	h.activate(1, "vg0-web", lv)
	h.deliver()
	v := <-done
	if !v.Ready || len(v.Members) != 1 || v.Members[0].Mapping != "vg0-web" || v.Members[0].Node != node(1) {
		t.Errorf("%+v", v)
	}
	short, stop := context.WithTimeout(t.Context(), time.Millisecond)
	defer stop()
	late := h.tracker.watch(Request{Disks: []guest.Image{Path("/dev/vg0/never")}}, h)
	defer late.Close()
	if _, err := late.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// An event wakes those whom it concerns, and nobody else.
func TestIndex(t *testing.T) {
	h := newHost(t)
	const n = 500
	watches := make([]*Watch, n)
	for i := range watches {
		watches[i] = h.tracker.watch(Request{Disks: []guest.Image{Path(fmt.Sprintf("/dev/vg0/lv%d", i))}}, h)
		defer watches[i].Close()
		<-watches[i].Changed()
	}
	before := make([]event.Time, n)
	for i, w := range watches {
		before[i] = w.Verdict().At
	}
	h.activate(7, "vg0-lv7", "/dev/vg0/lv7")
	h.deliver()
	if _, err := watches[7].Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, w := range watches {
		if looked := w.Verdict().At != before[i]; looked != (i == 7) {
			t.Errorf("watch %d looked again: %v", i, looked)
		}
	}
	for _, w := range watches {
		w.Close()
	}
	for len(watches) > 0 { // what a closed watch was indexed by is forgotten
		h.tracker.mu.Lock()
		left := len(h.tracker.watches)
		h.tracker.mu.Unlock()
		if left == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestWords(t *testing.T) {
	b := Blocker{Kind: Missing, Path: "/dev/vg0/\x1b]0;x\a", Disk: "/dev/vg0/web", Detail: "does not exist"}
	if got, want := b.String(), `"/dev/vg0/\x1b]0;x\a": does not exist (backing file of /dev/vg0/web)`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
