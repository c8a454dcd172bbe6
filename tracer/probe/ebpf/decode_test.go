package ebpf

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

var update = flag.Bool("update", false, "rewrite the expected events under testdata/records")

func testDecoder() *decoder {
	return &decoder{cmdline: func(int) ([]byte, error) { return nil, unix.ESRCH }}
}

func records(t testing.TB) (names []string) {
	t.Helper()
	names, err := filepath.Glob("testdata/records/*.bin")
	if err != nil || len(names) == 0 {
		t.Fatalf("no records: %v", err)
	}
	return names
}

// TestRecorded decodes what a 6.1 kernel sent, in its order: each .bin makes
// the event in the .json beside it, or none.
func TestRecorded(t *testing.T) {
	d := testDecoder()
	for _, name := range records(t) {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		e, ok, err := d.decode(raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if ok {
			got = append(e.AppendJSON(nil), '\n')
		}
		golden := strings.TrimSuffix(name, ".bin") + ".json"
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bytes.TrimSpace(got), bytes.TrimSpace(want)) {
			t.Errorf("%s:\ngot  %swant %s", name, got, want)
		}
	}
}

// bytesOf is the opposite of view.
func bytesOf[T any](record T, data ...byte) []byte {
	b := bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&record)), unsafe.Sizeof(record)))
	return append(b, data...)
}

func execRecord(area string, whole int) []byte {
	e := bpf.ExecEvent{Header: bpf.Header{Kind: bpf.KindExec, PID: 7}, ArgsLen: uint32(whole), Captured: uint32(len(area))}
	return bytesOf(e, []byte(area)...)
}

func TestLongArguments(t *testing.T) {
	const area = "qemu\x00-object\x00secret,id=s,da"
	const rest = "ta=x\x00-S\x00"
	for _, tt := range []struct {
		name      string
		cmdline   string
		err       error
		want      []string
		truncated bool
	}{
		{"still there", area + rest, nil, []string{"qemu", "-object", "secret,id=s,data=x", "-S"}, false},
		{"ended", "", unix.ESRCH, []string{"qemu", "-object"}, true},
		{"another program of that length", strings.Repeat("x", len(area+rest)), nil, []string{"qemu", "-object"}, true},
		{"changed", area + rest + "more", nil, []string{"qemu", "-object"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := testDecoder()
			d.cmdline = func(int) ([]byte, error) { return []byte(tt.cmdline), tt.err }
			e, _, err := d.decode(execRecord(area, len(area+rest)))
			if err != nil {
				t.Fatal(err)
			}
			want := &event.ExecInfo{Args: tt.want, ArgsBytes: len(area + rest), Truncated: tt.truncated}
			if diff := cmp.Diff(want, e.Exec); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDamagedRecords(t *testing.T) {
	for name, raw := range map[string][]byte{
		"empty":        nil,
		"no kind":      make([]byte, 64),
		"short":        bytesOf(bpf.Header{Kind: bpf.KindDM}),
		"short exec":   execRecord("qemu\x00", 5)[:unsafe.Sizeof(bpf.ExecEvent{})+2],
		"no path":      bytesOf(bpf.OpenEvent{Header: bpf.Header{Kind: bpf.KindOpen}, PathLen: 1 << 31}),
		"dm request 8": bytesOf(bpf.DMEvent{Header: bpf.Header{Kind: bpf.KindDM}, Nr: 8}),
	} {
		if _, ok, err := testDecoder().decode(raw); err == nil || ok {
			t.Errorf("%s: decoded", name)
		}
	}
}

func spec(start, length uint64, next uint32, kind, params string) []byte {
	b := binary.LittleEndian.AppendUint64(nil, start)
	b = binary.LittleEndian.AppendUint64(b, length)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, next)
	b = append(b, make([]byte, 16)...)
	copy(b[specType:], kind)
	return append(append(b, params...), 0)
}

func TestParseTable(t *testing.T) {
	two := append(append(spec(0, 8, 64, "linear", "8:16 2048"), make([]byte, 14)...), spec(8, 8, 0, "zero", "")...)
	for _, tt := range []struct {
		name  string
		specs []byte
		n     uint32
		want  dmTable
	}{
		{"none", nil, 0, dmTable{}},
		{"two", two, 2, dmTable{lines: []string{"0 8 linear 8:16 2048", "8 8 zero"}, size: 8192}},
		{"more than the count says", two, 1, dmTable{lines: []string{"0 8 linear 8:16 2048"}, size: 4096}},
		{"cut in a spec", two[:80], 2, dmTable{lines: []string{"0 8 linear 8:16 2048"}, cut: true}},
		{"cut in parameters", two[:45], 2, dmTable{cut: true}},
		{"next points backwards", spec(0, 8, 1, "zero", ""), 2, dmTable{lines: []string{"0 8 zero"}, cut: true}},
		{"next points far away", spec(0, 8, 1<<32-1, "zero", ""), 2, dmTable{lines: []string{"0 8 zero"}, cut: true}},
		{"a count of billions", spec(0, 8, 0, "zero", ""), 1<<32 - 1, dmTable{lines: []string{"0 8 zero"}, cut: true}},
		{"key", spec(0, 8, 0, "crypt", "aes-xts-plain64 00ff 0 8:1 0"), 1, dmTable{lines: []string{"0 8 crypt aes-xts-plain64 [redacted] 0 8:1 0"}, size: 4096}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, parseTable(tt.specs, tt.n), cmp.AllowUnexported(dmTable{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestGuestNames(t *testing.T) {
	compiled := guestNames(append(guest.Programs(), "a-very-long-name-of-a-program"))
	isGuest := func(program string) bool {
		var comm [16]byte
		copy(comm[:15], program)
		words := [2]uint64{binary.LittleEndian.Uint64(comm[:8]), binary.LittleEndian.Uint64(comm[8:])}
		return slices.ContainsFunc(compiled[:len(guest.Programs())+1], func(g bpf.GuestName) bool {
			return words[0]&g.Mask[0] == g.Value[0] && words[1]&g.Mask[1] == g.Value[1]
		})
	}
	for program, want := range map[string]bool{
		"qemu-system-x86_64": true, "qemu-system-": true, "qemu-kvm": true, "kvm": true,
		"a-very-long-name-of-a-program": true, // 15 bytes of it
		"qemu-img":                      false, "qemu-kvm-extra": false, "kvm_stat": false, "qemu-system": false, "": false,
	} {
		if got := isGuest(program); got != want {
			t.Errorf("%q is a guest: %v", program, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, name := range records(f) {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, ok, err := testDecoder().decode(raw)
		if ok && (err != nil || e.Kind == "" || e.Src == "") {
			t.Errorf("%+v: %v", e, err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, name := range []string{"00-exec", "06-open", "20-dm", "19-dm"} {
		raw, err := os.ReadFile("testdata/records/" + name + ".bin")
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			d := testDecoder()
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := d.decode(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
