package twin

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// pack is a capture with a manifest, or whatever the entries are.
func pack(tb testing.TB, entries ...[2]string) []byte {
	tb.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		tb.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, e := range entries {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: e[0], Size: int64(len(e[1])), Mode: 0o600}); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, e[1]); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func manifest(tb testing.TB, change func(*Manifest)) string {
	tb.Helper()
	m := Manifest{FormatVersion: FormatVersion, Disks: []Disk{{Name: "vda", Bus: Virtio, Size: 1 << 40}}, Root: Root{Disk: "vda", Size: 1 << 30}}
	if change != nil {
		change(&m)
	}
	text, err := json.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

var nothing = Sink{
	File:  func(*tar.Header, io.Reader) error { return nil },
	Boot:  func(string, io.Reader) error { return nil },
	Piece: func(string, int64, io.Reader) error { return nil },
}

// What a capture names becomes files and options of a machine: what can't be a host's is
// refused.
func TestReadRefuses(t *testing.T) {
	good := [2]string{ManifestName, manifest(t, nil)}
	if _, err := Read(bytes.NewReader(pack(t, [2]string{"disks/vda/512", "x"}, good)), nothing); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	for name, entries := range map[string][][2]string{
		"a disk outside":     {{"disks/../x/0", "x"}, good},
		"a disk with a path": {{"disks/a/b/0", "x"}, good},
		"a negative offset":  {{"disks/vda/-1", "x"}, good},
		"an entry of no use": {{"other", "x"}, good},
		"another format":     {{ManifestName, manifest(t, func(m *Manifest) { m.FormatVersion = 99 })}},
		"no disk":            {{ManifestName, manifest(t, func(m *Manifest) { m.Disks = nil })}},
		"a disk's name":      {{ManifestName, manifest(t, func(m *Manifest) { m.Disks[0].Name = "a,b" })}},
		"a disk's size":      {{ManifestName, manifest(t, func(m *Manifest) { m.Disks[0].Size = -1 })}},
		"a disk twice":       {{ManifestName, manifest(t, func(m *Manifest) { m.Disks = append(m.Disks, m.Disks[0]) })}},
		"a bus":              {{ManifestName, manifest(t, func(m *Manifest) { m.Disks[0].Bus = "floppy" })}},
		"a root elsewhere":   {{ManifestName, manifest(t, func(m *Manifest) { m.Root.Disk = "vdb" })}},
		"a broken manifest":  {{ManifestName, "{"}},
		"none":               {{"disks/vda/0", "x"}},
	} {
		if _, err := Read(bytes.NewReader(pack(t, entries...)), nothing); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("disks/vda/512", "x", manifest(f, nil))
	f.Add("root/etc/../../x", "x", "{}")
	f.Fuzz(func(t *testing.T, name, text, m string) {
		if len(name) == 0 || len(name) > 90 {
			return
		}
		sink := nothing
		sink.Piece = func(disk string, offset int64, _ io.Reader) error {
			if !diskName(disk) || offset < 0 {
				t.Errorf("piece %q at %d", disk, offset)
			}
			return nil
		}
		got, err := Read(bytes.NewReader(pack(t, [2]string{name, text}, [2]string{ManifestName, m})), sink)
		if err == nil && got.check() != nil {
			t.Errorf("a manifest that can't be a host's is taken: %+v", got)
		}
	})
}
