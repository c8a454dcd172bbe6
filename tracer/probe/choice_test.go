package probe

import (
	"context"
	"errors"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/tasks"
)

// fake is a backend with abilities and nothing else.
type fake struct {
	Backend
	name   string
	able   []string
	closed bool
}

func (f *fake) Info() event.SourceInfo {
	info := event.SourceInfo{Name: f.name}
	for _, a := range f.able {
		info.Abilities = append(info.Abilities, event.Ability{Name: a, OK: true})
	}
	return info
}

func (f *fake) Close() error {
	f.closed = true
	return nil
}

func TestBest(t *testing.T) {
	all := []string{backend.AbilityExec, backend.AbilityExit, backend.AbilityDM, backend.AbilityOpen, backend.AbilityLink}
	fails := errors.New("no such kernel")
	for name, tt := range map[string]struct {
		first, second []string // nil: fails
		want          string
	}{
		"the first can all":             {all, all, "first"},
		"links are no reason to change": {all[:4], all, "first"},
		"the second can more":           {all[:2], all, "second"},
		"both can as much":              {all[:2], all[:2], "first"},
		"the first fails":               {nil, all[:1], "second"},
		"the second fails":              {all[:1], nil, "first"},
		"nothing":                       {nil, nil, tasks.Name},
	} {
		t.Run(name, func(t *testing.T) {
			var opened []*fake
			way := func(name string, able []string) opener {
				return func(context.Context, Options) (Backend, error) {
					if able == nil {
						return nil, fails
					}
					f := &fake{name: name, able: able}
					opened = append(opened, f)
					return f, nil
				}
			}
			b, err := best(t.Context(), Options{}.WithDefaults(), []opener{way("first", tt.first), way("second", tt.second)})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if got := b.Info().Name; got != tt.want {
				t.Errorf("chose %s", got)
			}
			for _, f := range opened {
				if f.closed != (f.name != tt.want) {
					t.Errorf("%s closed: %v", f.name, f.closed)
				}
			}
		})
	}
}

// Stopped while it attaches, even by the last probe, it fails and leaves nothing
// attached.
func TestStoppedWhileAttaching(t *testing.T) {
	for name, able := range map[string][]string{"all is attached": {backend.AbilityExec, backend.AbilityExit, backend.AbilityDM, backend.AbilityOpen}, "not all is attached": {backend.AbilityExec}, "nothing is attached": nil} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			first, last := &fake{able: able[:min(len(able), 1)]}, &fake{able: able}
			b, err := best(ctx, Options{}.WithDefaults(), []opener{
				func(context.Context, Options) (Backend, error) { return first, nil },
				func(context.Context, Options) (Backend, error) {
					stop()
					if able == nil {
						return nil, context.Cause(ctx)
					}
					return last, nil
				},
			})
			if b != nil || !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, %v", b, err)
			}
			if !first.closed || last.closed != (able != nil) {
				t.Errorf("closed: the first %v, the last %v", first.closed, last.closed)
			}
		})
	}
}

// Where no probes are wanted there is still a backend, which says what it doesn't see.
func TestNone(t *testing.T) {
	b, err := Open(t.Context(), None, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if missing := NotSeen(b.Info()); len(missing) < 2 || !IsBackend(b.Info().Name) {
		t.Errorf("%s does not see %v", b.Info().Name, missing)
	}
}

// Whoever finds other probes in use than expected finds out why.
func TestUnseen(t *testing.T) {
	info := event.SourceInfo{Abilities: []event.Ability{
		{Name: backend.AbilityExec, Why: "the verifier refuses it"}, {Name: backend.AbilityExit, OK: true},
		{Name: backend.AbilityDM, OK: true, Why: "not seen: 32-bit programs"},
	}}
	if got, want := unseen(info), backend.AbilityExec+": the verifier refuses it; "+backend.AbilityOpen; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
