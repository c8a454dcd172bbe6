package perfetto

import (
	"bytes"
	"errors"
	"testing"

	"github.com/bootrace/bootrace/exporters/internal/samples"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/bootrace/bootrace/exporters/tracks"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// packets decodes what Write writes.
func packets(t *testing.T, tl *timeline.Timeline) protoreflect.List {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, tl); err != nil {
		t.Fatal(err)
	}
	trace := dynamicpb.NewMessage(traceDescriptor(t))
	if err := proto.Unmarshal(b.Bytes(), trace); err != nil {
		t.Fatal(err)
	}
	unknown(t, trace)
	return get(trace, "packet").List()
}

func get(m protoreflect.Message, name protoreflect.Name) protoreflect.Value {
	return m.Get(m.Descriptor().Fields().ByName(name))
}

func has(m protoreflect.Message, name protoreflect.Name) bool {
	return m.Has(m.Descriptor().Fields().ByName(name))
}

// TestWrite checks each packet by the schema's names: tracks exist before their
// events, which are in order, and each slice that begins ends.
func TestWrite(t *testing.T) {
	for _, name := range []string{"demo", "held", "hostile", "incomplete", "kinds", "large", "empty", "verdicts", "neverstarted", "queue", "shrunk"} {
		t.Run(name, func(t *testing.T) {
			tl := samples.Load(t, name)
			list := packets(t, tl)
			names, open, last := map[uint64]string{}, map[uint64]int{}, map[uint64]uint64{}
			slices, instants := 0, 0
			for i := range list.Len() {
				p := list.Get(i).Message()
				if i == 0 && (get(p, "sequence_flags").Uint() != stateCleared || !has(p, "clock_snapshot")) {
					t.Error("the first packet does not begin the sequence")
				}
				if has(p, "track_descriptor") {
					d := get(p, "track_descriptor").Message()
					id, parent := get(d, "uuid").Uint(), get(d, "parent_uuid").Uint()
					if _, twice := names[id]; twice || id == 0 {
						t.Errorf("track %q has the id %d, as %q has", get(d, "name"), id, names[id])
					}
					if _, ok := names[parent]; parent != 0 && !ok {
						t.Errorf("track %q comes before its group", get(d, "name"))
					}
					names[id] = get(d, "name").String()
				}
				if !has(p, "track_event") {
					continue
				}
				e, at := get(p, "track_event").Message(), get(p, "timestamp").Uint()
				id := get(e, "track_uuid").Uint()
				if _, ok := names[id]; !ok || at < last[id] {
					t.Errorf("event %q at %d in track %q, whose last was at %d", get(e, "name"), at, names[id], last[id])
				}
				last[id] = at
				switch get(e, "type").Int() {
				case 1: // TYPE_SLICE_BEGIN
					slices++
					if open[id]++; open[id] > 1 {
						t.Errorf("slices of track %q overlap", names[id])
					}
				case 2: // TYPE_SLICE_END
					if open[id]--; open[id] < 0 {
						t.Errorf("a slice of track %q ends that did not begin", names[id])
					}
				case 3: // TYPE_INSTANT
					instants++
				}
			}
			wantSlices, wantInstants := 0, 0
			for _, track := range tracks.Of(tl) {
				wantSlices += len(track.Slices)
				wantInstants += len(track.Instants)
			}
			if slices != wantSlices || instants != wantInstants {
				t.Errorf("%d slices and %d instants, want %d and %d", slices, instants, wantSlices, wantInstants)
			}
			for id, n := range open {
				if n != 0 {
					t.Errorf("%d slices of track %q do not end", n, names[id])
				}
			}
		})
	}
}

// TestClock checks that the boot's clock is tied to wall time.
func TestClock(t *testing.T) {
	tl := samples.Load(t, "demo")
	clocks := get(get(packets(t, tl).Get(0).Message(), "clock_snapshot").Message(), "clocks").List()
	times := map[uint64]uint64{}
	for i := range clocks.Len() {
		c := clocks.Get(i).Message()
		times[get(c, "clock_id").Uint()] = get(c, "timestamp").Uint()
	}
	boottime, realtime := times[6], times[1] // BUILTIN_CLOCK_BOOTTIME, BUILTIN_CLOCK_REALTIME
	if int64(realtime)-int64(boottime) != tl.Clock.WallOffset {
		t.Errorf("the clocks read %v, want %d between them", times, tl.Clock.WallOffset)
	}
}

// TestSame checks that a boot that is exported twice gives the same bytes.
func TestSame(t *testing.T) {
	var a, b bytes.Buffer
	if err := errors.Join(Write(&a, samples.Load(t, "demo")), Write(&b, samples.Load(t, "demo"))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the same boot gives other bytes")
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
