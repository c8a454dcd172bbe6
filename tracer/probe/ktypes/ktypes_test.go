package ktypes_test

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/probe/ktypes"
)

// TestSameOffsets relocates each program against all types of this machine's
// kernel, and against the few: the results are to be equal.
func TestSameOffsets(t *testing.T) {
	full, err := btf.LoadKernelSpec()
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, btf.ErrNotSupported) {
		t.Skip("NOT TESTED: this kernel has no BTF:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	probes, err := bpf.LoadProbes()
	if err != nil {
		t.Fatal(err)
	}
	types, err := ktypes.ReadKernel(probes.Types)
	if err != nil {
		t.Fatal(err)
	}
	few, err := types.Spec()
	if err := errors.Join(err, types.Close()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for name, p := range probes.Programs {
		relocations := relocationsOf(p.Instructions)
		n += len(relocations)
		want, got := fixups(t, relocations, full), fixups(t, relocations, few)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-all +few):\n%s", name, diff)
		}
	}
	if n == 0 {
		t.Error("no program has a relocation")
	}
}

func relocationsOf(insns asm.Instructions) []*btf.CORERelocation {
	var relocations []*btf.CORERelocation
	for i := range insns {
		if r := btf.CORERelocationMetadata(&insns[i]); r != nil {
			relocations = append(relocations, r)
		}
	}
	return relocations
}

// fixups returns what relocating does, in words.
func fixups(t *testing.T, relocations []*btf.CORERelocation, kernel *btf.Spec) []string {
	t.Helper()
	none := func(btf.Type) (btf.TypeID, error) { return 0, errors.New("programs have ids of their own types") }
	fixups, err := btf.CORERelocate(relocations, []*btf.Spec{kernel}, binary.LittleEndian, none)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for i, f := range fixups {
		texts = append(texts, relocations[i].String()+": "+f.String())
	}
	return texts
}

var (
	intType  = &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	charType = &btf.Int{Name: "char", Size: 1}
	pointer  = &btf.Pointer{Target: intType}
)

// kernelTypes are types with everything that the kernel's have.
func kernelTypes() []btf.Type {
	counter := &btf.Typedef{Name: "atomic_t", Type: &btf.Struct{Size: 4, Members: []btf.Member{{Name: "counter", Type: intType}}}}
	inner := &btf.Union{Size: 8, Members: []btf.Member{
		{Name: "deep", Type: pointer},
		{Name: "bits", Type: intType, BitfieldSize: 3},
	}}
	types := []btf.Type{
		&btf.Enum{Name: "task", Size: 4, Values: []btf.EnumValue{{Name: "TASK", Value: 1}}},
		&btf.Struct{Name: "task", Size: 64, Members: []btf.Member{
			{Name: "unknown", Type: pointer},
			{Name: "live", Type: &btf.Const{Type: counter}, Offset: 64},
			{Type: &btf.Struct{Size: 16, Members: []btf.Member{{Name: "x", Type: pointer}, {Type: inner, Offset: 64}}}, Offset: 128},
			{Name: "comm", Type: &btf.Array{Index: intType, Type: charType, Nelems: 16}, Offset: 256},
			{Name: "state", Type: &btf.Enum{Name: "state", Size: 4, Values: []btf.EnumValue{{Name: "A"}}}, Offset: 384},
		}},
		&btf.Union{Name: "other", Size: 8, Members: []btf.Member{{Name: "a", Type: pointer}}},
		&btf.Func{Name: "go", Linkage: btf.StaticFunc, Type: &btf.FuncProto{Return: intType, Params: []btf.FuncParam{{Name: "a", Type: intType}}}},
	}
	for range 200 { // more than one stride
		types = append(types, &btf.Volatile{Type: &btf.Pointer{Target: charType}})
	}
	return append(types, &btf.Struct{Name: "late", Size: 8, Members: []btf.Member{{Name: "a", Type: pointer}}})
}

func localTypes(t testing.TB) *btf.Spec {
	t.Helper()
	return specOf(t,
		&btf.Struct{Name: "task", Size: 32, Members: []btf.Member{
			{Name: "live", Type: &btf.Struct{Size: 4, Members: []btf.Member{{Name: "counter", Type: intType}}}},
			{Name: "deep", Type: pointer, Offset: 64},
			{Name: "comm", Type: &btf.Array{Index: intType, Type: charType, Nelems: 16}, Offset: 128},
		}},
		&btf.Struct{Name: "task___old", Size: 4, Members: []btf.Member{{Name: "state", Type: intType}}},
		&btf.Struct{Name: "late", Size: 8, Members: []btf.Member{{Name: "a", Type: pointer}, {Name: "gone", Type: pointer}}},
		&btf.Struct{Name: "wire", Size: 4, Members: []btf.Member{{Name: "a", Type: intType}}})
}

func specOf(t testing.TB, types ...btf.Type) *btf.Spec {
	t.Helper()
	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.Spec()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func rawOf(t testing.TB, types ...btf.Type) []byte {
	t.Helper()
	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestSpec(t *testing.T) {
	types, err := ktypes.Read(rawOf(t, kernelTypes()...), localTypes(t))
	if err != nil {
		t.Fatal(err)
	}
	few, err := types.Spec()
	if err != nil {
		t.Fatal(err)
	}
	var task, late *btf.Struct
	if err := errors.Join(few.TypeByName("task", &task), few.TypeByName("late", &late)); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]btf.Bits)
	for _, m := range task.Members {
		got[m.Name] = m.Offset
	}
	want := map[string]btf.Bits{"live": 64, "deep": 128 + 64, "comm": 256, "state": 384}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("task (-want +got):\n%s", diff)
	}
	if task.Size != 64 || len(late.Members) != 1 || late.Members[0].Name != "a" {
		t.Errorf("task: %d bytes; late: %+v", task.Size, late.Members)
	}
	for _, name := range []string{"other", "wire"} {
		if _, err := few.AnyTypeByName(name); !errors.Is(err, btf.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFunction(t *testing.T) {
	file := &btf.Struct{Name: "file", Size: 8}
	proto := &btf.FuncProto{Return: intType, Params: []btf.FuncParam{
		{Name: "f", Type: &btf.Pointer{Target: &btf.Const{Type: file}}}, {Name: "n", Type: intType},
		{Name: "s", Type: &btf.Pointer{Target: charType}},
	}}
	twice := func() btf.Type { return &btf.Func{Name: "twice", Linkage: btf.StaticFunc, Type: proto} }
	raw := rawOf(t, &btf.Func{Name: "once", Linkage: btf.StaticFunc, Type: proto}, twice(), twice(), file)
	types, err := ktypes.Read(raw, localTypes(t), "once", "twice", "file")
	if err != nil {
		t.Fatal(err)
	}
	f, ok := types.Function("once")
	if want := []string{"file", "", ""}; !ok || f.ID == 0 || !slices.Equal(f.Params, want) {
		t.Errorf("once: %v, %+v", ok, f)
	}
	for _, name := range []string{"twice", "file", "never"} {
		if f, ok := types.Function(name); ok {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if !types.Has("file") || types.Has("never") {
		t.Error("what there is was not found, or what there is not")
	}
}

func TestMember(t *testing.T) {
	lock := func(name string) *btf.Typedef {
		return &btf.Typedef{Name: name, Type: &btf.Struct{Name: "lock", Size: 4, Members: []btf.Member{{Name: "val", Type: intType}}}}
	}
	raw := rawOf(t, append(kernelTypes(),
		&btf.Struct{Name: "ring", Size: 8, Members: []btf.Member{{Name: "n", Type: intType}, {Name: "lock", Type: lock("raw_lock_t"), Offset: 32}}},
		&btf.Struct{Name: "info", Size: 12, Members: []btf.Member{{Name: "type", Type: intType}, {Offset: 32, Type: &btf.Union{Size: 8, Members: []btf.Member{
			{Name: "one", Type: lock("lock_t")},
			{Name: "two", Type: &btf.Struct{Size: 8, Members: []btf.Member{{Name: "missed", Type: pointer}}}},
		}}}}})...)
	types, err := ktypes.Read(raw, localTypes(t), "ring", "info")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path []string
		want string
		ok   bool
	}{
		{[]string{"ring", "lock"}, "raw_lock_t", true},
		{[]string{"info", "one"}, "lock_t", true},
		{[]string{"info", "one", "val"}, "int", true},
		{[]string{"info", "two", "missed"}, "", true}, // a pointer has no name
		{[]string{"info", "one", "missed"}, "", false},
		{[]string{"info", "missed"}, "", false},
		{[]string{"ring", "n", "missed"}, "", false},
		{[]string{"rung", "lock"}, "", false},
		{[]string{"task", "live"}, "", true}, // nor has a const
	} {
		if got, ok := types.Member(tt.path[0], tt.path[1:]...); got != tt.want || ok != tt.ok {
			t.Errorf("%v: %q, %v", tt.path, got, ok)
		}
	}
}

func TestForeign(t *testing.T) {
	raw := rawOf(t, kernelTypes()...)
	big := append([]byte(nil), raw...)
	binary.BigEndian.PutUint16(big, 0xeb9f)
	unknown := append([]byte(nil), raw...)
	unknown[24+7] |= 0x1f
	for name, raw := range map[string][]byte{
		"nothing": nil, "half a header": raw[:12], "half": raw[:len(raw)/2],
		"big endian": big, "unknown kind": unknown,
	} {
		if _, err := ktypes.Read(raw, localTypes(t)); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(rawOf(f, kernelTypes()...))
	f.Add([]byte{})
	local := localTypes(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		types, err := ktypes.Read(raw, local, "go")
		if err != nil {
			return
		}
		types.Function("go")
		types.Member("task", "comm", "x")
		if spec, err := types.Spec(); err == nil && spec == nil {
			t.Error("neither types nor an error")
		}
	})
}

func BenchmarkRead(b *testing.B) {
	raw, err := os.ReadFile(ktypes.Path)
	if err != nil {
		b.Skip("NOT TESTED: this kernel has no BTF:", err)
	}
	probes, err := bpf.LoadProbes()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		types, err := ktypes.Read(raw, probes.Types)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := types.Spec(); err != nil {
			b.Fatal(err)
		}
	}
}
