// Package perfetto writes a timeline as a trace for Perfetto's viewer
// (https://ui.perfetto.dev) and its SQL: TrackEvent packets, Perfetto's own
// stable form.
//
// There is no Go package of Perfetto's schema, and the messages that are needed
// are few, so they are written field by field. The numbers are those of the
// schema; a test decodes what is written by its names.
package perfetto

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"io"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/bootrace/bootrace/exporters/tracks"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Field numbers of protos/perfetto/trace: trace.proto, trace_packet.proto,
// clock_snapshot.proto and track_event/*.proto.
const (
	tracePacket protowire.Number = 1

	packetClockSnapshot   protowire.Number = 6
	packetTimestamp       protowire.Number = 8
	packetSequenceID      protowire.Number = 10
	packetTrackEvent      protowire.Number = 11
	packetSequenceFlags   protowire.Number = 13
	packetTimestampClock  protowire.Number = 58
	packetTrackDescriptor protowire.Number = 60

	snapshotClocks  protowire.Number = 1
	snapshotPrimary protowire.Number = 2
	clockID         protowire.Number = 1
	clockTimestamp  protowire.Number = 2

	trackUUID   protowire.Number = 1
	trackName   protowire.Number = 2
	trackParent protowire.Number = 5

	eventAnnotations protowire.Number = 4
	eventType        protowire.Number = 9
	eventTrackUUID   protowire.Number = 11
	eventCategories  protowire.Number = 22
	eventName        protowire.Number = 23
	eventFlows       protowire.Number = 47

	annotationString protowire.Number = 6
	annotationName   protowire.Number = 10
)

// Values of TrackEvent.Type, BuiltinClock and SequenceFlags.
const (
	typeSliceBegin = 1
	typeSliceEnd   = 2
	typeInstant    = 3

	clockRealtime = 1
	clockBoottime = 6

	stateCleared = 1
)

// sequence names the writer of all packets: there is one.
const sequence = 1

// Write writes tl.
func Write(w io.Writer, tl *timeline.Timeline) error {
	t := &writer{out: bufio.NewWriter(w), groups: make(map[string]uint64)}
	t.clock(tl)
	for i, track := range tracks.Of(tl) {
		t.track(&track, i)
	}
	if err := t.out.Flush(); err != nil {
		return fmt.Errorf("write the trace: %w", err)
	}
	return nil
}

// writer writes packets; an error stays in out until it is flushed.
type writer struct {
	out    *bufio.Writer
	begun  bool
	groups map[string]uint64
	buffer []byte
}

// packet writes one packet, which is what fields append.
func (t *writer) packet(fields ...func([]byte) []byte) {
	b := t.buffer[:0]
	b = number(b, packetSequenceID, sequence)
	if !t.begun {
		b = number(b, packetSequenceFlags, stateCleared)
		t.begun = true
	}
	for _, f := range fields {
		b = f(b)
	}
	head := protowire.AppendTag(nil, tracePacket, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(b)))
	_, _ = t.out.Write(head)
	_, _ = t.out.Write(b)
	t.buffer = b
}

// clock ties the boot's clock, which all times are of, to wall time.
func (t *writer) clock(tl *timeline.Timeline) {
	at := max(tl.First, 0)
	clocks := [][2]uint64{{clockBoottime, uint64(at)}}
	if c := tl.Clock; c != nil && int64(at)+c.WallOffset > 0 {
		clocks = append(clocks, [2]uint64{clockRealtime, uint64(int64(at) + c.WallOffset)})
	}
	var snapshot []byte
	for _, c := range clocks {
		snapshot = message(snapshot, snapshotClocks, number(number(nil, clockID, c[0]), clockTimestamp, c[1]))
	}
	snapshot = number(snapshot, snapshotPrimary, clockBoottime)
	t.packet(func(b []byte) []byte {
		b = number(b, packetTimestamp, uint64(at))
		return message(b, packetClockSnapshot, snapshot)
	})
}

// track writes a track with its slices and instants, under its group's.
func (t *writer) track(track *tracks.Track, index int) {
	parent, known := t.groups[track.Group]
	if !known {
		parent = uuid("group", track.Group, 0)
		t.groups[track.Group] = parent
		t.descriptor(parent, 0, track.Group)
	}
	id := uuid(track.Group, track.Name, index)
	t.descriptor(id, parent, track.Name)
	// In the order of time, and at one instant what ends before what begins.
	instants := track.Instants
	for _, s := range track.Slices {
		for len(instants) > 0 && instants[0].At < s.From {
			t.instant(id, track.Group, &instants[0])
			instants = instants[1:]
		}
		t.event(s.From, typeSliceBegin, id, track.Group, s.Name, s.Args, s.Flows)
		for len(instants) > 0 && instants[0].At < s.To {
			t.instant(id, track.Group, &instants[0])
			instants = instants[1:]
		}
		t.event(s.To, typeSliceEnd, id, "", "", nil, nil)
	}
	for i := range instants {
		t.instant(id, track.Group, &instants[i])
	}
}

func (t *writer) instant(track uint64, group string, i *tracks.Instant) {
	t.event(i.At, typeInstant, track, group, i.Name, i.Args, i.Flows)
}

func (t *writer) descriptor(id, parent uint64, name string) {
	d := number(nil, trackUUID, id)
	if parent != 0 {
		d = number(d, trackParent, parent)
	}
	d = text(d, trackName, name)
	t.packet(func(b []byte) []byte { return message(b, packetTrackDescriptor, d) })
}

func (t *writer) event(at event.Time, kind, track uint64, category, name string, args []tracks.Arg, flows []uint64) {
	e := number(nil, eventType, kind)
	e = number(e, eventTrackUUID, track)
	if kind != typeSliceEnd {
		e = text(e, eventCategories, category)
		e = text(e, eventName, name)
	}
	for _, a := range args {
		e = message(e, eventAnnotations, text(text(nil, annotationName, a.Name), annotationString, a.Value))
	}
	for _, f := range flows {
		e = protowire.AppendTag(e, eventFlows, protowire.Fixed64Type)
		e = protowire.AppendFixed64(e, f)
	}
	t.packet(func(b []byte) []byte {
		b = number(b, packetTimestamp, uint64(at))
		b = number(b, packetTimestampClock, clockBoottime)
		return message(b, packetTrackEvent, e)
	})
}

// uuid names a track, the same each time that a boot is exported.
func uuid(group, name string, index int) uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s\x00%s\x00%d", group, name, index)
	return h.Sum64() | 1 // 0 is the track of those that have none
}

func number(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func text(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func message(b []byte, field protowire.Number, m []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), m)
}
