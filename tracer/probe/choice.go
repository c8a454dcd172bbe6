package probe

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
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

// decisive are the abilities without which verdicts are not possible.
var decisive = []string{AbilityExec, AbilityExit, AbilityDM, AbilityOpen}

// Open opens the backend of that choice. Auto takes the first, from the best
// on, that has all decisive abilities, else the one that has most of them: what
// a kernel can do is found by doing it, never by its version. It never fails
// with None, which is what is left on a host that allows nothing.
func Open(ctx context.Context, c Choice, opts Options) (Backend, error) {
	switch c {
	case EBPF:
		return OpenEBPF(ctx, opts)
	case Tracefs:
		return OpenTracefs(ctx, opts)
	case None:
		return openProcess(opts.withDefaults()), nil
	}
	return best(ctx, opts.withDefaults(), []func(context.Context, Options) (Backend, error){OpenEBPF, OpenTracefs})
}

// best tries the ways in their order.
func best(ctx context.Context, opts Options, ways []func(context.Context, Options) (Backend, error)) (Backend, error) {
	var found Backend
	var reasons []error
	for _, open := range ways {
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
		if score(found) == len(decisive) {
			return found, nil
		}
		opts.Log.Info("not all is seen with these probes", "probes", b.Info().Name, "why", unseen(b.Info()))
	}
	if found != nil {
		return found, nil
	}
	p := openProcess(opts)
	p.why = oneLine(reasons)
	opts.Log.Warn("no probes: opens, and the instants of device-mapper's changes, are not seen", "err", p.why)
	return p, nil
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

// score is how many of the decisive abilities a backend has.
func score(b Backend) int {
	if b == nil {
		return -1
	}
	n := 0
	for _, a := range b.Info().Abilities {
		if a.OK && slices.Contains(decisive, a.Name) {
			n++
		}
	}
	return n
}

// NotSeen says what a backend cannot see, empty if nothing that a verdict
// needs.
func NotSeen(info event.SourceInfo) []string {
	var missing []string
	for _, name := range decisive {
		i := slices.IndexFunc(info.Abilities, func(a event.Ability) bool { return a.Name == name && a.OK })
		if i < 0 {
			missing = append(missing, name)
		}
	}
	return missing
}

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
	return slices.Contains([]string{srcEBPF, srcTracefs, srcProcess}, source)
}
