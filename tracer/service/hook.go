package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/hold"
	"github.com/bootrace/bootrace/tracer/readiness"
)

// HookStart is what libvirt's hook keeps back: the JSON of control.HookHold's
// argument "start".
type HookStart struct {
	Guest    string     `json:"guest"`
	Identity string     `json:"identity"`
	Since    event.Time `json:"since_ns"`
	Deadline event.Time `json:"deadline_ns"`
	// Deny is set where the start is denied at the deadline.
	Deny bool `json:"deny,omitempty"`
	// Blockers are the first of what the domain waits for, More is how many there
	// are beside these.
	Blockers []readiness.Blocker `json:"blockers"`
	More     int                 `json:"more,omitempty"`
}

// HookEnd is how that ended: the JSON of control.HookHeld's argument "end".
type HookEnd struct {
	HookStart
	Reason  event.HoldReason  `json:"reason"`
	Outcome event.HoldOutcome `json:"outcome"`
}

// hooks are the starts that libvirt's hook keeps back now, by the process of the
// hook. The hook does the waiting; the service knows of it, records it, and can end
// it.
type hooks struct {
	s *Service

	mu     sync.Mutex
	held   map[int]*hooked
	counts hold.Counts // of those that are over, too
}

type hooked struct {
	start HookStart
	free  chan event.HoldReason // that it is to go on, and why
	over  bool
}

// maxHooked bounds them: libvirt starts domains one after the other, or some at a
// time.
const maxHooked = 1024

// goneAfter is how long a hook that has hung up may take to say how its hold
// ended.
const goneAfter = 2 * time.Second

// wait records a hold of the hook's, and returns when the start is to go on.
func (h *hooks) wait(ctx context.Context, pid int, text string) (any, error) {
	var start HookStart
	if err := json.Unmarshal([]byte(text), &start); err != nil {
		return nil, fmt.Errorf("read what libvirt's hook holds: %w", err)
	}
	if h.s.config().Mode != config.Enforcing {
		return event.ReleaseTraceMode, nil
	}
	one := &hooked{start: start, free: make(chan event.HoldReason, 1)}
	h.mu.Lock()
	if h.held[pid] != nil || len(h.held) >= maxHooked {
		h.mu.Unlock()
		return nil, errors.New("too many holds of libvirt's hook")
	}
	h.held[pid] = one
	h.counts.Seen++
	h.counts.Held++
	h.mu.Unlock()
	h.s.rec.Record(hookEvent(event.Hold, start.Since, pid, &start, event.HoldInfo{Reason: event.HoldDisks}))
	h.s.log.Info("libvirt's hook holds a start", "guest", start.Guest)
	select {
	case why := <-one.free:
		time.AfterFunc(goneAfter, func() { h.end(pid, one, &HookEnd{start, why, event.HoldAllowed}) })
		return why, nil
	case <-ctx.Done():
		time.AfterFunc(goneAfter, func() { h.end(pid, one, &HookEnd{start, event.ReleaseKilled, event.HoldGone}) })
		return nil, ctx.Err()
	}
}

// over takes in how a hold of the hook's ended. Where the service has not known of
// it, as one that was started since, it is recorded from its begin.
func (h *hooks) over(pid int, text string) error {
	var end HookEnd
	if err := json.Unmarshal([]byte(text), &end); err != nil {
		return fmt.Errorf("read how a hold of libvirt's hook ended: %w", err)
	}
	h.mu.Lock()
	one := h.held[pid]
	if one == nil {
		one = &hooked{start: end.HookStart}
		h.held[pid] = one
		h.counts.Seen++
		h.counts.Held++
		h.mu.Unlock()
		h.s.rec.Record(hookEvent(event.Hold, end.Since, pid, &end.HookStart, event.HoldInfo{Reason: event.HoldDisks}))
	} else {
		h.mu.Unlock()
	}
	h.end(pid, one, &end)
	return nil
}

// end records the end of a hold, once.
func (h *hooks) end(pid int, one *hooked, end *HookEnd) {
	h.mu.Lock()
	if one.over {
		h.mu.Unlock()
		return
	}
	one.over = true
	delete(h.held, pid)
	switch end.Outcome {
	case event.HoldDenied:
		h.counts.Denied++
	case event.HoldGone:
		h.counts.Gone++
	default:
		h.counts.Allowed++
	}
	h.mu.Unlock()
	h.s.rec.Record(hookEvent(event.Release, event.Now(), pid, &end.HookStart, event.HoldInfo{Reason: end.Reason, Outcome: end.Outcome}))
	h.s.log.Info("a start that libvirt's hook held is over", "guest", end.Guest, "outcome", string(end.Outcome), "why", string(end.Reason))
}

func hookEvent(kind event.Kind, at event.Time, pid int, s *HookStart, info event.HoldInfo) event.Event {
	var more int
	info.Blockers, more = hold.Words(s.Blockers)
	info.More = more + s.More
	info.Guest, info.Identity, info.Deadline, info.Hook = s.Guest, s.Identity, s.Deadline, true
	if len(s.Blockers) > 0 {
		info.Disk = s.Blockers[0].Path
	}
	return event.Event{At: at, Kind: kind, Src: hold.Source, Hold: &info, Proc: &event.Proc{PID: pid, Comm: "bootrace"}}
}

// release lets go those that are called so, all of them for "", and returns their
// names.
func (h *hooks) release(who string, why event.HoldReason) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var released []string
	for pid, one := range h.held {
		if who != "" && !one.called(who, pid) || one.free == nil {
			continue
		}
		select {
		case one.free <- why:
			released = append(released, one.start.Guest)
		default: // it is let go already
		}
	}
	slices.Sort(released)
	return released
}

func (o *hooked) called(who string, pid int) bool {
	_, value, _ := strings.Cut(o.start.Identity, ":")
	return who == o.start.Guest || who == o.start.Identity || strings.EqualFold(who, value) || who == strconv.Itoa(pid)
}

// add adds them to what the status says of holds.
func (h *hooks) add(st *hold.Status) {
	now := event.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for pid, one := range h.held {
		s := &one.start
		held := hold.Held{
			Guest: s.Guest, Identity: s.Identity, PID: pid, Since: s.Since, Age: now.Sub(s.Since), Left: max(s.Deadline.Sub(now), 0),
			OnTimeout: string(config.Allow), Reason: event.HoldDisks, Hook: true, More: s.More,
		}
		if s.Deny {
			held.OnTimeout = string(config.Deny)
		}
		held.SetBlockers(s.Blockers)
		st.Holds = append(st.Holds, held)
	}
	slices.SortStableFunc(st.Holds, func(a, b hold.Held) int { return int(min(max(a.Since-b.Since, -1), 1)) })
	st.Counts.Seen += h.counts.Seen
	st.Counts.Held += h.counts.Held
	st.Counts.Allowed += h.counts.Allowed
	st.Counts.Denied += h.counts.Denied
	st.Counts.Gone += h.counts.Gone
	st.Counts.Holding += uint64(len(h.held))
}

// used reports whether there is anything to add.
func (h *hooks) used() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counts.Held > 0
}

// domain records that libvirt's hook was called at the start of a domain.
func (s *Service) domain(pid int, text string) {
	var info event.DomainInfo
	if text == "" {
		return // of a hook of an older version
	}
	if err := json.Unmarshal([]byte(text), &info); err != nil {
		s.log.Warn("a domain is not recorded", "error", err)
		return
	}
	s.rec.Record(event.Event{At: event.Now(), Kind: event.Domain, Src: "libvirt", Domain: &info, Proc: &event.Proc{PID: pid, Comm: "bootrace"}})
}

// hookOver is what libvirt's hook says at the end of a hold.
func (s *Service) hookOver(pid int, args map[string]string) error {
	if holder, _ := s.enforcer.holder(); holder != nil && args["let-go"] != "" {
		holder.LetGo(args["let-go"])
	}
	if args["end"] == "" { // a hook of an older version
		s.log.Info("libvirt's hook held a start", "what", args["text"])
		s.rec.Record(mark("held in libvirt's hook", args["text"]))
		return nil
	}
	return s.hooks.over(pid, args["end"])
}
