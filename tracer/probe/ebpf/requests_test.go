package ebpf

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/link"
)

// fakeHost plays the kernel's part for requests.
type fakeHost struct {
	module    uint64
	hidden    bool // sysfs is out of sight
	noOwn     bool // nothing can be attached to dm_mod
	noGeneral bool
	underWay  uint64
	attached  []string
}

type fakeLink struct {
	link.Link
	host *fakeHost
	name string
}

func (l *fakeLink) Close() error {
	i := slices.Index(l.host.attached, l.name)
	if i < 0 {
		return fmt.Errorf("%s is not attached", l.name)
	}
	l.host.attached = slices.Delete(l.host.attached, i, i+1)
	return nil
}

func (h *fakeHost) attach(cannot *bool, names ...string) func() ([]link.Link, string, error) {
	return func() (links []link.Link, limits string, err error) {
		if *cannot {
			return nil, "", errors.New("no " + names[0])
		}
		for _, name := range names {
			h.attached = append(h.attached, name)
			links = append(links, &fakeLink{host: h, name: name})
		}
		return links, names[0], nil
	}
}

func (h *fakeHost) requests() *requests {
	return &requests{
		log: slog.New(slog.DiscardHandler),
		module: func() (uint64, error) {
			if h.hidden {
				return 0, errors.New("out of sight")
			}
			return h.module, nil
		},
		attachOwn:     h.attach(&h.noOwn, "own exit", "own entry"),
		attachGeneral: h.attach(&h.noGeneral, "exit", "entry"),
		underWay:      func() (uint64, error) { return h.underWay, nil },
	}
}

// TestRequestsFollowTheModule: no ioctl of others is looked at while dm_mod's own
// function can be, and no request is without a probe.
func TestRequestsFollowTheModule(t *testing.T) {
	const general, own = "exit entry", "own exit own entry"
	h := &fakeHost{}
	r := h.requests()
	step := func(what, want string, wantMissed bool) {
		t.Helper()
		missed, err := r.follow()
		if got := strings.Join(h.attached, " "); got != want || missed != wantMissed || err != nil {
			t.Fatalf("%s: attached %q, missed %v, %v; want %q, %v", what, got, missed, err, want, wantMissed)
		}
		if first, _, _ := strings.Cut(want, " "); !strings.HasPrefix(r.limits, first) && !r.leaving() {
			t.Errorf("%s: told of %q", what, r.limits)
		}
	}
	step("before dm_mod is loaded", general, false)
	step("nothing has changed", general, false)

	h.module, h.underWay = 7, 1
	step("loaded, and a request is under way that the general probes saw begin", "exit "+own, false)
	step("it still is", "exit "+own, false)
	if !r.due(1) {
		t.Error("nobody looks whether the request has ended")
	}
	h.underWay = 0
	step("it has ended", own, false)
	if r.due(1) {
		t.Error("there is something to do still")
	}

	h.hidden = true
	step("sysfs goes to the real root", own, false)
	if r.due(1) {
		t.Error("there is something to do while nothing is known")
	}
	h.hidden, h.module = false, 0
	if !r.due(1) {
		t.Error("the end of dm_mod is not seen")
	}
	step("unloaded", general, false)
	h.module = 9
	step("loaded again", own, false)
	h.module = 12
	step("unloaded and loaded again before anybody looked", own, true)

	h.module, h.noOwn = 13, true
	step("and cannot be attached to", general, true)
	step("which is not tried again", general, false)
	if err := r.close(); err != nil || len(h.attached) > 0 {
		t.Errorf("closed: %v, left: %q", err, h.attached)
	}
}

func TestRequestsAtTheStart(t *testing.T) {
	for _, tt := range []struct {
		name string
		host fakeHost
		want string
	}{
		{"dm_mod is loaded", fakeHost{module: 3}, "own exit own entry"},
		{"it cannot be probed", fakeHost{module: 3, noOwn: true}, "exit entry"},
		{"sysfs is not there", fakeHost{hidden: true}, "exit entry"},
		{"nothing can be probed", fakeHost{module: 3, noOwn: true, noGeneral: true}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := tt.host
			_, err := h.requests().follow()
			if got := strings.Join(h.attached, " "); got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("attached %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}
