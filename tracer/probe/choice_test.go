package probe

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
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
	all := []string{AbilityExec, AbilityExit, AbilityDM, AbilityOpen, AbilityLink}
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
		"nothing":                       {nil, nil, srcProcess},
	} {
		t.Run(name, func(t *testing.T) {
			var opened []*fake
			way := func(name string, able []string) func(context.Context, Options) (Backend, error) {
				return func(context.Context, Options) (Backend, error) {
					if able == nil {
						return nil, fails
					}
					f := &fake{name: name, able: able}
					opened = append(opened, f)
					return f, nil
				}
			}
			b, err := best(t.Context(), Options{}.withDefaults(), []func(context.Context, Options) (Backend, error){way("first", tt.first), way("second", tt.second)})
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
	for name, able := range map[string][]string{"all is attached": decisive, "not all is attached": {AbilityExec}, "nothing is attached": nil} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			first, last := &fake{able: able[:min(len(able), 1)]}, &fake{able: able}
			b, err := best(ctx, Options{}.withDefaults(), []func(context.Context, Options) (Backend, error){
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

// Without probes the decisive abilities are missing, with a reason, and guests
// are still seen as they begin and end.
func TestNone(t *testing.T) {
	b, err := Open(t.Context(), None, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, a := range b.Info().Abilities {
		if !a.OK && a.Why == "" {
			t.Errorf("%s: no reason", a.Name)
		}
	}
	if missing := NotSeen(b.Info()); len(missing) < 2 {
		t.Errorf("not seen: %v", missing)
	}
	if b.(*process).source == nil || os.Geteuid() != 0 {
		t.Skip("NOT TESTED: process events are not delivered here")
	}
	guest := fakeGuest(t, "qemu-system-x86_64", "-name", "x")
	kinds := map[event.Kind]int{}
	events := trace(t, b, func() { _ = guest.Run() })
	for _, e := range events {
		if e.Proc == nil || e.Proc.PID != guest.Process.Pid {
			continue
		}
		kinds[e.Kind]++
		if e.Kind == event.Exit && e.Exit.Status != guestStatus {
			t.Errorf("ended with %+v", e.Exit)
		}
		if e.Kind == event.Exec && (len(e.Exec.Args) != 3 || e.Exec.Filename != guest.Path) {
			t.Errorf("began as %+v", e.Exec)
		}
	}
	if kinds[event.Exec] != 1 || kinds[event.Exit] != 1 {
		t.Errorf("seen: %v", kinds)
	}
}

// Whoever finds other probes in use than expected finds out why.
func TestUnseen(t *testing.T) {
	info := event.SourceInfo{Abilities: []event.Ability{
		{Name: AbilityExec, Why: "the verifier refuses it"}, {Name: AbilityExit, OK: true},
		{Name: AbilityDM, OK: true, Why: "not seen: 32-bit programs"},
	}}
	if got, want := unseen(info), AbilityExec+": the verifier refuses it; "+AbilityOpen; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
