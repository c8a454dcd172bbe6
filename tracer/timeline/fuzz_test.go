package timeline

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline/histories"
)

// eventSize is how many bytes of a fuzzer's input make an event.
const eventSize = 6

// kinds are those that a fuzzer's event can have.
var kinds = []event.Kind{
	event.DMCreate, event.DMLoad, event.DMResume, event.DMSuspend, event.DMRename, event.DMRemove,
	event.Uevent, event.Udev, event.Link, event.Open, event.Open, event.Exec, event.Fork, event.Exit,
	event.Backfill, event.Source, event.Loss, event.Mark, event.Hold, event.Release, "later-version",
}

// decodeEvents makes events of arbitrary bytes, from so few names, numbers and
// instants that they get in each other's way.
func decodeEvents(data []byte) []event.Event {
	var out []event.Event
	for chunk := range slices.Chunk(data, eventSize) {
		if len(chunk) == eventSize {
			out = append(out, decodeEvent(chunk, uint64(len(out)+1)))
		}
	}
	return out
}

func decodeEvent(c []byte, id uint64) event.Event {
	which, a, b := c[2], int(c[3]), int(c[4])
	e := event.Event{
		ID: id, Kind: kinds[int(c[0])%len(kinds)], At: event.Time(c[1]) * 1e8,
		Proc: &event.Proc{PID: 1 + a%4, PPID: 1 + b%4},
	}
	if which&1 != 0 {
		e.From = max(e.At-event.Time(c[5])*1e7, 0)
	}
	lv := fmt.Sprintf("vg/lv%d", a%3)
	name, uuid := histories.LVNames(lv)
	dev := &event.Dev{Major: 253, Minor: uint32(b % 3)}
	switch e.Kind {
	case event.Backfill:
		e.DM = decodeDM(which, name, uuid, dev, c[5])
		if which&16 != 0 {
			e.DM, e.Dev = nil, decodeDev(which, name, uuid, dev, lv)
		}
	case event.Uevent, event.Udev:
		e.Dev = decodeDev(which, name, uuid, dev, lv)
	case event.Link:
		e.Open = &event.OpenInfo{Path: "/dev/" + lv, Target: fmt.Sprintf("../dm-%d", b%3)}
	case event.Open:
		e.Open = &event.OpenInfo{Path: "/dev/" + lv, Errno: int(which>>2) % 7, Size: int64(c[5]) - 1}
		if e.Open.Errno == 0 && which&2 != 0 {
			e.Open.Dev, e.Open.Type = dev, "block"
		}
	case event.Exec:
		e.Exec = &event.ExecInfo{Args: []string{"qemu-system-x86_64", "-drive", "file=/dev/" + lv, "-name", lv}}
	case event.Exit:
		e.Exit = &event.ExitInfo{Status: b}
	case event.Source:
		e.Source = &event.SourceInfo{
			Name: []string{"ebpf", "udev", "uevent", "snapshot"}[a%4], State: []string{"attached", "upgraded", "ended"}[b%3],
			Abilities: []event.Ability{{Name: "dm", OK: true}, {Name: "open", OK: true}, {Name: "exec", OK: true}, {Name: "exit"}},
		}
	case event.Loss:
		e.Loss = &event.LossInfo{Source: "ebpf", What: []string{"dm", "open", "udev", "?"}[a%4]}
	case event.Mark:
		e.Mark = &event.MarkInfo{Name: []string{"start", "stop"}[a%2]}
	default:
		e.DM = decodeDM(which, name, uuid, dev, c[5])
	}
	return e
}

func decodeDM(which byte, name, uuid string, dev *event.Dev, extra byte) *event.DMInfo {
	d := &event.DMInfo{Name: name, Flags: uint32(extra) << 1, State: []string{"created", "loaded", "live", "suspended"}[extra%4]}
	if which&2 != 0 {
		d.UUID = uuid
	}
	if which&4 != 0 {
		d.Dev = dev
	}
	if which&8 != 0 {
		d.Name = ""
	}
	if which&32 != 0 {
		d.NewName = "vg-lv9"
	}
	if which&64 != 0 {
		d.Table = []string{fmt.Sprintf("0 8 linear 253:%d 0", extra%3)}
	}
	if which&128 != 0 {
		d.LiveAt = event.Time(extra) * 1e8
	}
	return d
}

func decodeDev(which byte, name, uuid string, dev *event.Dev, lv string) *event.DevInfo {
	d := &event.DevInfo{Action: "change", Name: fmt.Sprintf("dm-%d", dev.Minor), Dev: dev, Props: map[string]string{}}
	if which&2 != 0 {
		d.Props["DM_NAME"], d.Props["DM_UUID"] = name, uuid
	}
	if which&4 != 0 {
		d.Links = []string{"/dev/" + lv}
	}
	if which&8 != 0 {
		d.Props["DM_ACTIVATION"] = "1"
	}
	if which&32 != 0 {
		d.Action = "remove"
	}
	if which&64 != 0 {
		d.Name = "sda"
	}
	return d
}

// FuzzBuild: whatever the events, building does not panic, does not depend on
// the order of arrival, and the verdicts keep their promises.
func FuzzBuild(f *testing.F) {
	f.Add([]byte{0, 10, 6, 0, 0, 0, 1, 11, 6, 0, 0, 0, 2, 12, 6, 0, 0, 16, 7, 13, 14, 0, 0, 0, 11, 1, 0, 1, 1, 0, 9, 2, 8, 1, 0, 0})
	f.Add([]byte("a boot that makes no sense at all, but that is what logs can be like"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 200*eventSize {
			t.Skip()
		}
		events := decodeEvents(data)
		want := buildOf(events)
		checkPromises(t, want)
		slices.Reverse(events)
		if got := buildOf(events); !reflect.DeepEqual(want, got) {
			t.Fatalf("the order of arrival matters (-sorted +reversed):\n%s", cmp.Diff(want, got))
		}
	})
}

func checkPromises(t *testing.T, tl *Timeline) {
	for _, f := range tl.Races() {
		if f.Margin != nil && !f.Margin.Negative() && f.State != "suspended" {
			t.Errorf("a race with an uncertain margin: %+v %+v", f, f.Margin)
		}
	}
	for _, m := range tl.Mappings {
		if len(m.Lives) == 0 {
			t.Errorf("mapping %q has no life", m.ID)
		}
	}
	for _, g := range tl.Guests {
		for _, d := range g.Disks {
			for _, u := range d.Uses {
				if u.Margin != nil && u.Margin.Width < 0 {
					t.Errorf("negative error: %+v of %+v", u.Margin, u)
				}
			}
		}
	}
}
