package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The images in these tests are made by the real tools, and left dirty by the
// real kernel. Where a tool is missing the test says NOT RUN.

// Images are in memory where they can be: a loop device's file is synced all the
// time.
func TestMain(m *testing.M) {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		os.Setenv("TMPDIR", "/dev/shm")
	}
	os.Exit(m.Run())
}

func need(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("NOT RUN: %s is not installed: .ci/run has the list of packages", tool)
		}
	}
}

// run runs a tool and returns what it said.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// blank makes a sparse file.
func blank(t testing.TB, size int64) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "disk")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// mounted mounts an image on a folder of its own mount namespace, runs a script
// there, copies the image while it is mounted, and returns the copy: that is what
// a power cut leaves, but for what the kernel had not written yet.
func mounted(t testing.TB, image, options, script string) string {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "copy")
	text := `set -e
mount -o "loop,$3" "$1" "$2/at" || exit 77
cd "$2/at"
` + script + `
sync -f .
cp --sparse=always "$1" "$2/copy"
cd /
umount "$2/at"`
	if err := os.Mkdir(filepath.Join(dir, "at"), 0o700); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command("unshare", "-m", "sh", "-c", text, "sh", image, dir, options).CombinedOutput()
	if err != nil {
		if os.Geteuid() != 0 || strings.Contains(string(said), "mount") {
			t.Skipf("NOT RUN: this machine can't mount the image: %s", said)
		}
		t.Fatalf("%v: %s", err, said)
	}
	return out
}

// duplicate copies an image.
func duplicate(t testing.TB, image string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "copy")
	run(t, "cp", "--sparse=always", image, out)
	return out
}

// cut returns a copy of an image that ends earlier.
func cut(t testing.TB, image string, size int64) string {
	t.Helper()
	out := duplicate(t, image)
	if err := os.Truncate(out, size); err != nil {
		t.Fatal(err)
	}
	return out
}

// overwrite returns a copy of an image with some bytes changed.
func overwrite(t testing.TB, image string, at int64, data []byte) string {
	t.Helper()
	out := duplicate(t, image)
	f, err := os.OpenFile(out, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, at); err != nil {
		t.Fatal(err)
	}
	return out
}

// flip returns a copy of an image with one bit changed.
func flip(t testing.TB, image string, at int64) string {
	t.Helper()
	return overwrite(t, image, at, []byte{readAt(t, image, at, 1)[0] ^ 0x40})
}

func readAt(t testing.TB, image string, at int64, n int) []byte {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, n)
	if _, err := f.ReadAt(data, at); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return data
}

// lookAt looks at images as the disks of one guest.
func lookAt(t testing.TB, images ...string) []Report {
	t.Helper()
	var disks []Disk
	for _, image := range images {
		f, err := os.Open(image)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		disks = append(disks, Disk{Name: image, Bytes: f, Size: st.Size()})
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	reports := Look(ctx, disks)
	for _, r := range reports {
		if r.Reads > DefaultLimits.Reads || r.Bytes > DefaultLimits.Bytes {
			t.Errorf("%d reads, %d bytes: more than the limits", r.Reads, r.Bytes)
		}
		if r.Cut != "" {
			t.Errorf("not all was looked at: %s", r.Cut)
		}
	}
	return reports
}

// only returns the one layer of a kind that is in a report.
func only(t testing.TB, r *Report, kind Kind) *Layer {
	t.Helper()
	list := all(r.Disk, kind)
	if len(list) != 1 {
		t.Fatalf("%d layers of kind %s:\n%s", len(list), kind, dump(r.Disk))
	}
	return list[0]
}

func all(l *Layer, kind Kind) (list []*Layer) {
	if l.Kind == kind {
		list = append(list, l)
	}
	for _, in := range l.Inside {
		list = append(list, all(in, kind)...)
	}
	return list
}

// want checks a layer's state, size and headers. short is how much it lacks;
// damaged names the headers that have to be reported, and no others.
func want(t testing.TB, l *Layer, state State, short int64, damaged ...string) {
	t.Helper()
	if l.State != state || l.Short() != short || len(l.Damage) != len(damaged) {
		t.Errorf("state %s, short by %d, %d damaged; want %s, %d, %d:\n%s", l.State, l.Short(), len(l.Damage), state, short, len(damaged), dump(l))
		return
	}
	for i, d := range l.Damage {
		if !strings.Contains(d.What, damaged[i]) {
			t.Errorf("damaged is %s at %d, want %s", d.What, d.At, damaged[i])
		}
	}
}

// dump writes a layer for people who read a test's output.
func dump(l *Layer) string {
	var b bytes.Buffer
	var write func(*Layer, string)
	write = func(l *Layer, indent string) {
		b.WriteString(indent + sprint(l) + "\n")
		for _, in := range l.Inside {
			write(in, indent+"  ")
		}
	}
	write(l, "")
	return b.String()
}

func sprint(l *Layer) string {
	copied := *l
	copied.Inside = nil
	text, _ := json.Marshal(copied)
	return string(text)
}
