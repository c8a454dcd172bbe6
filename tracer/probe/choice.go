package probe

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/ebpf"
	"github.com/bootrace/bootrace/tracer/probe/tasks"
	"github.com/bootrace/bootrace/tracer/probe/tracefs"
)

// Choice says which backend to use.
type Choice string

// The choices.
const (
	Auto    Choice = "auto"    // the best that attaches
	EBPF    Choice = "ebpf"    // eBPF programs, on trampolines or on tracepoints
	Tracefs Choice = "tracefs" // kprobe events, for kernels without eBPF
	None    Choice = "none"    // no probes: process events, uevents and udev only
)

// opener opens one backend.
type opener func(context.Context, Options) (Backend, error)

// by makes an opener of the function with which a package opens its own kind.
func by[B Backend](open func(context.Context, Options) (B, error)) opener {
	return func(ctx context.Context, opts Options) (Backend, error) {
		b, err := open(ctx, opts)
		if err != nil {
			return nil, err
		}
		return b, nil
	}
}

// Open opens the backend of that choice. Auto takes the first, from the best
// on, that has all decisive abilities, else the one that has most of them: what
// a kernel can do is found by doing it, never by its version. It never fails
// with None, which is what is left on a host that allows nothing.
func Open(ctx context.Context, c Choice, opts Options) (Backend, error) {
	byEBPF, byTracefs := by(ebpf.Open), by(tracefs.Open)
	switch c {
	case EBPF:
		return byEBPF(ctx, opts)
	case Tracefs:
		return byTracefs(ctx, opts)
	case None:
		return tasks.Open(opts, "probes are turned off"), nil
	}
	return best(ctx, opts.WithDefaults(), []opener{byEBPF, byTracefs})
}

// best tries the openers in their order.
func best(ctx context.Context, opts Options, openers []opener) (Backend, error) {
	var found Backend
	var reasons []error
	for _, open := range openers {
		b, err := open(ctx, opts)
		if ctx.Err() != nil {
			return nil, errors.Join(context.Cause(ctx), err, closeAny(b), closeAny(found))
		}
		if err != nil {
			opts.Log.Info("these probes cannot be used", "err", err)
			reasons = append(reasons, err)
			continue
		}
		worse := b
		if score(b) > score(found) {
			found, worse = b, found
		}
		if err := closeAny(worse); err != nil {
			opts.Log.Warn("detach probes that are not used", "err", err)
		}
		if len(NotSeen(found.Info())) == 0 {
			return found, nil
		}
		opts.Log.Info("not all is seen with these probes", "probes", b.Info().Name, "why", unseen(b.Info()))
	}
	if found != nil {
		return found, nil
	}
	why := oneLine(reasons)
	opts.Log.Warn("no probes: opens, and the instants of device-mapper's changes, are not seen", "err", why)
	return tasks.Open(opts, why), nil
}

func oneLine(reasons []error) string {
	var texts []string
	for _, r := range reasons {
		texts = append(texts, strings.ReplaceAll(r.Error(), "\n", "; "))
	}
	return strings.Join(texts, "; ")
}

func closeAny(b Backend) error {
	if b == nil {
		return nil
	}
	return b.Close()
}

// score tells the better of two backends: the one that lacks less of what verdicts need.
func score(b Backend) int {
	if b == nil {
		return math.MinInt
	}
	return -len(NotSeen(b.Info()))
}

// NotSeen says what a backend cannot see, empty if nothing that a verdict
// needs.
func NotSeen(info event.SourceInfo) []string { return backend.NotSeen(info.Abilities) }

// unseen says why a backend cannot see what a verdict needs.
func unseen(info event.SourceInfo) string {
	var texts []string
	for _, name := range NotSeen(info) {
		i := slices.IndexFunc(info.Abilities, func(a event.Ability) bool { return a.Name == name })
		if i >= 0 {
			name += ": " + info.Abilities[i].Why
		}
		texts = append(texts, name)
	}
	return strings.Join(texts, "; ")
}

// IsBackend reports whether a source of that name is one of the backends.
func IsBackend(source string) bool {
	return slices.Contains([]string{ebpf.Name, tracefs.Name, tasks.Name}, source)
}
