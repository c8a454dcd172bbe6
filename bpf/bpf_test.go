package bpf

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// TestLayout needs no privileges: it compares the Go records with the BTF of
// the embedded object.
func TestLayout(t *testing.T) {
	spec, err := LoadProbes()
	if err != nil {
		t.Fatal(err)
	}
	for name, typ := range map[string]reflect.Type{
		"header":     reflect.TypeFor[Header](),
		"exec_event": reflect.TypeFor[ExecEvent](),
		"fork_event": reflect.TypeFor[ForkEvent](),
		"exit_event": reflect.TypeFor[ExitEvent](),
		"open_event": reflect.TypeFor[OpenEvent](),
		"link_event": reflect.TypeFor[LinkEvent](),
		"dm_ioctl":   reflect.TypeFor[DMIoctl](),
		"dm_event":   reflect.TypeFor[DMEvent](),
		"guest_name": reflect.TypeFor[GuestName](),
		"path_head":  reflect.TypeFor[PathHead](),
		"owner":      reflect.TypeFor[Owner](),
	} {
		t.Run(name, func(t *testing.T) {
			var c *btf.Struct
			if err := spec.Types.TypeByName(name, &c); err != nil {
				t.Fatal(err)
			}
			compareLayout(t, c, typ)
		})
	}
}

// compareLayout wants the same members in the same order: names may differ in
// case and underscores, padding and embedding in their names altogether.
func compareLayout(t *testing.T, c *btf.Struct, g reflect.Type) {
	t.Helper()
	if int(c.Size) != int(g.Size()) {
		t.Errorf("%s: %d bytes in C, %d in Go", c.Name, c.Size, g.Size())
	}
	if len(c.Members) != g.NumField() {
		t.Fatalf("%s: %d members in C, %d in Go", c.Name, len(c.Members), g.NumField())
	}
	for i, m := range c.Members {
		f := g.Field(i)
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			t.Fatal(err)
		}
		if int(m.Offset.Bytes()) != int(f.Offset) || size != int(f.Type.Size()) {
			t.Errorf("%s.%s: offset %d, size %d in C; %s: %d, %d in Go",
				c.Name, m.Name, m.Offset.Bytes(), size, f.Name, f.Offset, f.Type.Size())
		}
		same := strings.EqualFold(strings.ReplaceAll(m.Name, "_", ""), f.Name)
		if !same && !f.Anonymous && f.Name != "_" {
			t.Errorf("%s.%s is %s in Go", c.Name, m.Name, f.Name)
		}
	}
}

func TestKinds(t *testing.T) {
	spec, err := LoadProbes()
	if err != nil {
		t.Fatal(err)
	}
	var kinds *btf.Enum
	if err := spec.Types.TypeByName("kind", &kinds); err != nil {
		t.Fatal(err)
	}
	if len(kinds.Values) != int(KindMax) {
		t.Fatalf("%d kinds in C, %d in Go", len(kinds.Values), KindMax)
	}
	for _, v := range kinds.Values {
		want := strings.ToLower(strings.TrimPrefix(v.Name, "KIND_"))
		if want == "max" {
			want = "unknown"
		}
		if got := Kind(v.Value).String(); got != want {
			t.Errorf("%s (%d) is %q in Go", v.Name, v.Value, got)
		}
	}
	if got := spec.Variables[ProbesVarLosses].Size(); got != uint32(KindMax)*8 {
		t.Errorf("%d bytes of loss counters for %d kinds", got, KindMax)
	}
}
