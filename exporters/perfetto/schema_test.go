package perfetto

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// field is a field of Perfetto's schema: its name, number and type; a type that
// is no scalar is a message. many is set where it is repeated.
type field struct {
	name   string
	number int32
	kind   string
	many   bool
}

// schema is what Perfetto's published schema says of the messages that a trace
// of ours can have, by the names in
// https://github.com/google/perfetto/tree/main/protos/perfetto/trace
// (trace.proto, trace_packet.proto, clock_snapshot.proto, track_event/*.proto).
// What is written is decoded with it, and must leave nothing that it does not
// know. All its fields are optional where not repeated; enums are numbers here.
var schema = map[string][]field{
	"Trace": {{"packet", 1, "TracePacket", true}},
	"TracePacket": {
		{"clock_snapshot", 6, "ClockSnapshot", false},
		{"timestamp", 8, "uint64", false},
		{"trusted_packet_sequence_id", 10, "uint32", false},
		{"track_event", 11, "TrackEvent", false},
		{"sequence_flags", 13, "uint32", false},
		{"timestamp_clock_id", 58, "uint32", false},
		{"track_descriptor", 60, "TrackDescriptor", false},
	},
	"ClockSnapshot": {{"clocks", 1, "Clock", true}, {"primary_trace_clock", 2, "int32", false}},
	"Clock": {
		{"clock_id", 1, "uint32", false}, {"timestamp", 2, "uint64", false},
		{"is_incremental", 3, "bool", false}, {"unit_multiplier_ns", 4, "uint64", false},
	},
	"TrackDescriptor": {{"uuid", 1, "uint64", false}, {"name", 2, "string", false}, {"parent_uuid", 5, "uint64", false}},
	"TrackEvent": {
		{"category_iids", 3, "uint64", true}, {"debug_annotations", 4, "DebugAnnotation", true}, {"type", 9, "int32", false},
		{"name_iid", 10, "uint64", false}, {"track_uuid", 11, "uint64", false}, {"categories", 22, "string", true},
		{"name", 23, "string", false}, {"flow_ids", 47, "fixed64", true}, {"terminating_flow_ids", 48, "fixed64", true},
	},
	"DebugAnnotation": {
		{"name_iid", 1, "uint64", false}, {"bool_value", 2, "bool", false}, {"uint_value", 3, "uint64", false},
		{"int_value", 4, "int64", false}, {"double_value", 5, "double", false}, {"string_value", 6, "string", false},
		{"name", 10, "string", false},
	},
}

var scalars = map[string]descriptorpb.FieldDescriptorProto_Type{
	"uint64": descriptorpb.FieldDescriptorProto_TYPE_UINT64, "uint32": descriptorpb.FieldDescriptorProto_TYPE_UINT32,
	"int64": descriptorpb.FieldDescriptorProto_TYPE_INT64, "int32": descriptorpb.FieldDescriptorProto_TYPE_INT32,
	"bool": descriptorpb.FieldDescriptorProto_TYPE_BOOL, "double": descriptorpb.FieldDescriptorProto_TYPE_DOUBLE,
	"string": descriptorpb.FieldDescriptorProto_TYPE_STRING, "fixed64": descriptorpb.FieldDescriptorProto_TYPE_FIXED64,
}

// traceDescriptor is the schema's Trace.
func traceDescriptor(t *testing.T) protoreflect.MessageDescriptor {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("perfetto.proto"), Package: proto.String("perfetto.protos"), Syntax: proto.String("proto2"),
	}
	for name, fields := range schema {
		m := &descriptorpb.DescriptorProto{Name: proto.String(name)}
		for _, f := range fields {
			d := &descriptorpb.FieldDescriptorProto{Name: proto.String(f.name), Number: proto.Int32(f.number), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
			if f.many {
				d.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
			}
			if kind, ok := scalars[f.kind]; ok {
				d.Type = kind.Enum()
			} else {
				d.Type = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum()
				d.TypeName = proto.String(".perfetto.protos." + f.kind)
			}
			m.Field = append(m.Field, d)
		}
		file.MessageType = append(file.MessageType, m)
	}
	fd, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return fd.Messages().ByName("Trace")
}

// unknown reports a field that the schema does not have.
func unknown(t *testing.T, m protoreflect.Message) {
	t.Helper()
	if u := m.GetUnknown(); len(u) > 0 {
		t.Errorf("%s has fields that the schema does not know: %x", m.Descriptor().Name(), u)
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Kind() != protoreflect.MessageKind:
		case fd.IsList():
			for i := range v.List().Len() {
				unknown(t, v.List().Get(i).Message())
			}
		default:
			unknown(t, v.Message())
		}
		return true
	})
}
