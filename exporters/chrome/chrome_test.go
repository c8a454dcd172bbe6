package chrome

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/exporters/internal/samples"

	"github.com/bootrace/bootrace/exporters/tracks"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// nanos is a time in microseconds as whole nanoseconds.
func nanos(t *testing.T, n json.Number) int64 {
	t.Helper()
	r, ok := new(big.Rat).SetString(string(n))
	if !ok {
		t.Fatalf("%q is no number", n)
	}
	r.Mul(r, big.NewRat(1000, 1))
	if !r.IsInt() {
		t.Fatalf("%q µs are no whole nanoseconds", n)
	}
	return r.Num().Int64()
}

// TestWrite checks that viewers can load it: no two slices of a track overlap,
// every track has a name, and nothing got lost on the way.
func TestWrite(t *testing.T) {
	for _, name := range []string{"demo", "held", "hostile", "incomplete", "kinds", "large", "empty", "verdicts", "neverstarted", "queue", "shrunk"} {
		t.Run(name, func(t *testing.T) {
			tl := samples.Load(t, name)
			var b bytes.Buffer
			if err := Write(&b, tl); err != nil {
				t.Fatal(err)
			}
			var trace struct {
				Unit   string       `json:"displayTimeUnit"`
				Events []traceEvent `json:"traceEvents"`
			}
			dec := json.NewDecoder(&b)
			dec.UseNumber()
			if err := dec.Decode(&trace); err != nil {
				t.Fatal(err)
			}
			type place struct{ pid, tid int }
			names, slicesOf, instants := map[place]string{}, map[place][]traceEvent{}, 0
			for _, e := range trace.Events {
				at := place{e.PID, e.TID}
				switch e.Phase {
				case "M":
					names[at] = e.Args["name"]
				case "X":
					slicesOf[at] = append(slicesOf[at], e)
				case "i":
					instants++
				default:
					t.Errorf("phase %q", e.Phase)
				}
			}
			wantSlices, wantInstants, gotSlices := 0, 0, 0
			for _, track := range tracks.Of(tl) {
				wantSlices += len(track.Slices)
				wantInstants += len(track.Instants)
			}
			for at, list := range slicesOf {
				gotSlices += len(list)
				if names[at] == "" {
					t.Errorf("track %v has no name", at)
				}
				slices.SortFunc(list, func(a, b traceEvent) int { return cmp.Compare(nanos(t, a.Time), nanos(t, b.Time)) })
				for i := 1; i < len(list); i++ {
					if end := nanos(t, list[i-1].Time) + nanos(t, list[i-1].Duration); end > nanos(t, list[i].Time) {
						t.Errorf("track %q: %q and %q overlap", names[at], list[i-1].Name, list[i].Name)
					}
				}
			}
			if gotSlices != wantSlices || instants != wantInstants {
				t.Errorf("%d slices and %d instants, want %d and %d", gotSlices, instants, wantSlices, wantInstants)
			}
		})
	}
}

func TestNanoseconds(t *testing.T) {
	tl := &timeline.Timeline{Last: 5e9, Marks: []timeline.Mark{{Instant: timeline.Instant{At: 1_234_567_891}}}}
	tl.Marks[0].Name = "start"
	var b bytes.Buffer
	if err := Write(&b, tl); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), `"ts":1234567.891`) {
		t.Errorf("the nanoseconds are lost: %s", b.String())
	}
}

var errFull = errors.New("no space left")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWriteError(t *testing.T) {
	if err := Write(full{}, samples.Load(t, "demo")); !errors.Is(err, errFull) {
		t.Errorf("%v, want %v", err, errFull)
	}
}
