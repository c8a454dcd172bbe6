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
	"github.com/bootrace/bootrace/tracer/lvm"
	"github.com/bootrace/bootrace/tracer/readiness"
)

// Source is Event.Src of what this package reports.
const Source = "activate"

// Volumes returns the volumes among what is waited for that no one is
// activating yet, each once. A mapping that exists already, in whatever state,
// is in the hands of another command.
func Volumes(blockers []readiness.Blocker) []lvm.Volume {
	var list []lvm.Volume
	for _, b := range blockers {
		if b.Kind != readiness.Missing {
			continue
		}
		vg, lv, layer, ok := devmap.SplitName(b.Mapping)
		if v := (lvm.Volume{VG: vg, LV: lv}); ok && layer == "" && v.Valid() && !slices.Contains(list, v) {
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
	Volume  lvm.Volume
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
	lvm     lvm.Command
	log     *slog.Logger

	mu       sync.Mutex
	groups   map[string]chan struct{} // a slot for each group
	attempts map[lvm.Volume]*pending
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
		lvm: lvm.Command{Path: o.Program, Changes: true}, log: o.Log,
		groups: make(map[string]chan struct{}), attempts: make(map[lvm.Volume]*pending),
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
func (a *Activator) Activate(ctx context.Context, v lvm.Volume) (attempt Attempt, first bool, err error) {
	if !v.Valid() {
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
func (a *Activator) join(v lvm.Volume) (p *pending, first bool) {
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

func (a *Activator) run(ctx context.Context, v lvm.Volume, p *pending) {
	ctx, cancel := context.WithTimeoutCause(ctx, a.timeout, fmt.Errorf("it took too long: more than %s", a.timeout))
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
	state, err := lvm.Look(ctx, a.lvm, t.Volume)
	switch {
	case err != nil:
		t.fail(fmt.Errorf("ask LVM about it: %w", err))
		return
	case state.Active:
		t.Outcome = Activated // by somebody else, meanwhile
		return
	}
	if why := a.rules.forbid(state); why != "" {
		t.Outcome, t.Why = Left, why
		return
	}
	t.Command = a.rules.command(state, t.Volume)
	out, err := a.lvm.Run(ctx, t.Command[1], t.Command[2:]...)
	t.Output = said(out)
	if err != nil {
		t.fail(err)
		return
	}
	if state, err = lvm.Look(ctx, a.lvm, t.Volume); err != nil {
		t.fail(err)
		return
	}
	if !state.Active {
		t.Outcome, t.Why = Left, "LVM leaves it inactive: lvm.conf's auto_activation_volume_list does not name it, or a flag says so"
		return
	}
	t.Outcome = Activated
}

// maxOutput bounds what is kept of LVM's output, in bytes.
const maxOutput = 4 << 10

// said is the end of what LVM printed.
func said(out lvm.Output) string {
	all := slices.Concat(out.Stdout, out.Stderr)
	return strings.TrimSpace(string(all[max(0, len(all)-maxOutput):]))
}

// forbid returns the rule by which a volume is left alone, empty for none.
func (r Rules) forbid(s lvm.State) string {
	switch {
	case s.Shared && !r.Shared:
		return "its volume group is shared with other hosts"
	case s.Skip && !r.IgnoreSkip:
		return "its skip flag is set (lvchange --setactivationskip)"
	case s.AutoActivationOff && !r.IgnoreAutoactivation:
		return "its autoactivation is off (lvchange or vgchange --setautoactivation)"
	}
	return ""
}

// command returns lvchange's command line. -aay respects lvm.conf's list, and
// the flags once more.
func (r Rules) command(s lvm.State, volume lvm.Volume) []string {
	how := "-aay"
	switch {
	case s.Shared:
		how = "-aey"
	case r.IgnoreAutoactivation, s.Skip: // -aay would pass over the flag
		how = "-ay"
	}
	command := []string{"lvm", "lvchange", how}
	if s.Skip {
		command = append(command, "--ignoreactivationskip")
	}
	return append(command, volume.String())
}
