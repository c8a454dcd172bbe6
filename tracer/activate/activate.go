// Package activate has LVM activate the logical volumes that a held guest waits
// for: exactly these, where the operator asked for it, and nothing that LVM has
// been told to leave alone.
//
// LVM itself does the work, with its own locks and its own synchronisation with
// udev. Left alone, unless Rules say otherwise, are volumes whose
// autoactivation is off (lvchange --setautoactivation n, or lvm.conf's
// auto_activation_volume_list), volumes with the skip flag (lvchange
// --setactivationskip y), and all volumes of a shared or clustered volume group:
// to activate one of these on this host can keep it from the host that it
// belongs to.
package activate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/readiness"
)

// Source is Event.Src of what this package reports.
const Source = "activate"

// Volume names a logical volume.
type Volume struct{ VG, LV string }

func (v Volume) String() string { return v.VG + "/" + v.LV }

// valid reports whether LVM could have given these names (validate_name, lvm2
// lib/misc/lvm-string.c). None of them is an option to a command, or a path.
func (v Volume) valid() bool { return validName(v.VG) && validName(v.LV) }

const maxName = 127 // NAME_LEN-1

func validName(s string) bool {
	if s == "" || s == "." || s == ".." || s[0] == '-' || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("+_.-", c) >= 0) {
			return false
		}
	}
	return true
}

// Volumes returns the volumes among what is waited for that no one is
// activating yet, each once. A mapping that exists already, in whatever state,
// is in the hands of another command.
func Volumes(blockers []readiness.Blocker) []Volume {
	var list []Volume
	for _, b := range blockers {
		if b.Kind != readiness.Missing {
			continue
		}
		vg, lv, layer, ok := devmap.SplitName(b.Mapping)
		if v := (Volume{vg, lv}); ok && layer == "" && v.valid() && !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}

// Rules are what the operator allows beyond the default.
type Rules struct {
	// IgnoreAutoactivation also activates volumes whose autoactivation is off.
	IgnoreAutoactivation bool
	// IgnoreSkip also activates volumes with the skip flag (lvchange -K).
	IgnoreSkip bool
	// Shared also activates volumes of shared and clustered volume groups,
	// exclusively (lvchange -aey).
	Shared bool
}

// Outcome says how an attempt ended.
type Outcome string

// The outcomes.
const (
	Activated Outcome = "activated"
	Left      Outcome = "left alone" // by a rule; Attempt.Why has it
	Failed    Outcome = "failed"
)

// Attempt is one attempt to have a volume activated.
type Attempt struct {
	Volume  Volume
	Outcome Outcome
	Why     string // empty where it was activated
	// Command is what was run last; Output what it said, at most maxOutput
	// bytes of the end.
	Command []string
	Output  string
	Start   event.Time
	End     event.Time
}

// Event is the record of the attempt: a mark named after the outcome.
func (a *Attempt) Event() event.Event {
	text := a.Volume.String()
	if a.Why != "" {
		text += ": " + a.Why
	}
	if a.Command != nil {
		text += " (" + strings.Join(a.Command, " ") + ")"
	}
	name := map[Outcome]string{Activated: "activated", Left: "not activated", Failed: "activation failed"}[a.Outcome]
	return event.Event{Kind: event.Mark, Src: Source, From: a.Start, At: a.End, Mark: &event.MarkInfo{Name: name, Text: text}}
}

// Defaults of Options.
const (
	DefaultTimeout = 30 * time.Second
	DefaultRetry   = 30 * time.Second
)

// Options configure an Activator. The zero value is ready.
type Options struct {
	Rules Rules
	// Timeout is how long one volume may take, waiting for LVM's locks
	// included; 0 means DefaultTimeout.
	Timeout time.Duration
	// Retry is how long the outcome of an attempt holds for others who ask for
	// the same volume; 0 means DefaultRetry.
	Retry time.Duration
	// Program is LVM's; empty means lvm, as PATH finds it.
	Program string
	// Log may be nil.
	Log *slog.Logger
}

// Activator activates volumes: one at a time in each volume group, for LVM
// would only have them wait for its lock.
type Activator struct {
	rules   Rules
	timeout time.Duration
	retry   time.Duration
	lvm     lvm
	log     *slog.Logger

	mu       sync.Mutex
	groups   map[string]chan struct{} // a slot for each group
	attempts map[Volume]*pending
}

// pending is an attempt that others who want the same can wait for.
type pending struct {
	done    chan struct{}
	attempt Attempt
}

// New returns an Activator.
func New(o Options) *Activator {
	a := &Activator{
		rules: o.Rules, timeout: cmp.Or(o.Timeout, DefaultTimeout), retry: cmp.Or(o.Retry, DefaultRetry),
		lvm: lvm{program: cmp.Or(o.Program, "lvm")}, log: o.Log,
		groups: make(map[string]chan struct{}), attempts: make(map[Volume]*pending),
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	return a
}

// ErrName says that a volume's name is none that LVM gives.
var ErrName = errors.New("not the name of a logical volume")

// Activate has v activated and returns what came of it. First is set for the
// one caller on whose behalf something was done: the others, who asked
// meanwhile or shortly after, get the same attempt. The error is ctx's, or
// ErrName.
func (a *Activator) Activate(ctx context.Context, v Volume) (attempt Attempt, first bool, err error) {
	if !v.valid() {
		return attempt, false, fmt.Errorf("activate %q: %w", v, ErrName)
	}
	p, first := a.join(v)
	if first {
		// It goes on without the one who asked: others may wait for it, and LVM
		// is not to be interrupted for nothing.
		go a.run(context.WithoutCancel(ctx), v, p)
	}
	select {
	case <-p.done:
		return p.attempt, first, nil
	case <-ctx.Done():
		return attempt, first, ctx.Err()
	}
}

// join returns the attempt that counts for v now, or a new one that the caller
// has to run.
func (a *Activator) join(v Volume) (p *pending, first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p = a.attempts[v]; p != nil {
		select {
		case <-p.done:
			if event.Now().Sub(p.attempt.End) < a.retry {
				return p, false
			}
		default:
			return p, false
		}
	}
	p = &pending{done: make(chan struct{})}
	a.attempts[v] = p
	return p, true
}

func (a *Activator) run(ctx context.Context, v Volume, p *pending) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	p.attempt = Attempt{Volume: v, Start: event.Now()}
	slot := a.slot(v.VG)
	select {
	case slot <- struct{}{}:
		a.attempt(ctx, &p.attempt)
		<-slot
	case <-ctx.Done():
		p.attempt.fail(fmt.Errorf("another volume of the group takes longer than %s", a.timeout))
	}
	p.attempt.End = event.Now()
	a.log.Info("activation", "volume", v.String(), "outcome", p.attempt.Outcome, "why", p.attempt.Why,
		"took", p.attempt.End.Sub(p.attempt.Start))
	close(p.done)
}

func (a *Activator) slot(vg string) chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.groups[vg] == nil {
		a.groups[vg] = make(chan struct{}, 1)
	}
	return a.groups[vg]
}

func (a *Attempt) fail(err error) { a.Outcome, a.Why = Failed, err.Error() }

// attempt asks LVM what the volume is, by the rules whether it may be
// activated, and then LVM to do it.
func (a *Activator) attempt(ctx context.Context, t *Attempt) {
	r, err := a.report(ctx, t)
	if err != nil {
		t.fail(err)
		return
	}
	if r.active() {
		t.Outcome = Activated // by somebody else, meanwhile
		return
	}
	if why := a.rules.forbid(&r); why != "" {
		t.Outcome, t.Why = Left, why
		return
	}
	t.Command = a.rules.command(&r, t.Volume)
	if t.Output, err = a.lvm.run(ctx, t.Command[1:]...); err != nil {
		t.fail(err)
		return
	}
	if r, err = a.lvm.report(ctx, t.Volume); err != nil {
		t.fail(err)
		return
	}
	if !r.active() {
		t.Outcome, t.Why = Left, "LVM leaves it inactive: lvm.conf's auto_activation_volume_list does not name it, or a flag says so"
		return
	}
	t.Outcome = Activated
}

func (a *Activator) report(ctx context.Context, t *Attempt) (report, error) {
	r, err := a.lvm.report(ctx, t.Volume)
	if err != nil {
		return r, fmt.Errorf("ask LVM about it: %w", err)
	}
	return r, nil
}

// forbid returns the rule by which a volume is left alone, empty for none.
func (r Rules) forbid(v *report) string {
	switch {
	case v.shared() && !r.Shared:
		return "its volume group is shared with other hosts"
	case v.Skip != "" && !r.IgnoreSkip:
		return "its skip flag is set (lvchange --setactivationskip)"
	case v.autoactivationOff() && !r.IgnoreAutoactivation:
		return "its autoactivation is off (lvchange or vgchange --setautoactivation)"
	}
	return ""
}

// command returns lvchange's command line. -aay respects lvm.conf's list, and
// the flags once more.
func (r Rules) command(v *report, volume Volume) []string {
	how := "-aay"
	switch {
	case v.shared():
		how = "-aey"
	case r.IgnoreAutoactivation, v.Skip != "": // -aay would pass over the flag
		how = "-ay"
	}
	command := []string{"lvm", "lvchange", how}
	if v.Skip != "" {
		command = append(command, "--ignoreactivationskip")
	}
	return append(command, volume.String())
}
