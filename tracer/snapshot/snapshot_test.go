package snapshot

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/proc"
)

// As "guest" of TestLive the test's own program waits for the end of its input.
func TestMain(m *testing.M) {
	if os.Getenv("SNAPSHOT_TEST_GUEST") != "" {
		io.Copy(io.Discard, os.Stdin)
		return
	}
	os.Exit(m.Run())
}

// fixture makes files and, where the content begins with "->", links.
func fixture(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		name = filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		if len(content) > 2 && content[:2] == "->" {
			err = errors.Join(err, os.Symlink(content[2:], name))
		} else {
			err = errors.Join(err, os.WriteFile(name, []byte(content), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	guestStat = "812 (qemu-system-x86) S 1 812 812 0 -1 138412352 1 0 0 0 9 4 0 0 20 0 4 0 2345 3000000 500 18446744073709551615 1 1 0 0\n"
	guestArgs = "/usr/bin/qemu-system-x86_64\x00-uuid\x003aad3b6b\x00-drive\x00file=/dev/vg-data/web-01,if=none\x00-vnc\x00secret\x00"
)

// host is a small host: an LV, a guest on it, a kernel thread, a zombie, a shell.
var host = map[string]string{
	"sys/devices/virtual/block/dm-0/uevent":  "MAJOR=254\nMINOR=0\nDEVNAME=dm-0\nDEVTYPE=disk\nDISKSEQ=10\n",
	"sys/devices/virtual/block/loop0/uevent": "MAJOR=7\nMINOR=0\nDEVNAME=loop0\nDEVTYPE=disk\n",
	"sys/devices/virtual/block/loop0/size":   "8\n",
	"sys/devices/virtual/block/dm-0/size":    "32768\n",
	"sys/class/block/dm-0":                   "->../../devices/virtual/block/dm-0",
	"sys/class/block/loop0":                  "->../../devices/virtual/block/loop0",
	"sys/class/block/gone":                   "->../../devices/virtual/block/gone",
	"run/udev/data/b254:0":                   "S:vg-data/web-01\nS:mapper/vg--data-web--01\nI:10361764\nE:DM_NAME=vg--data-web--01\nE:ID_MODEL_ENC=x\nG:systemd\nV:1\n",
	"proc/stat":                              "cpu 1 2 3\n",
	"proc/812/stat":                          guestStat,
	"proc/812/status":                        "Name:\tqemu-system-x86\nTgid:\t812\nUid:\t64055\t64055\t64055\t64055\n",
	"proc/812/cmdline":                       guestArgs,
	"proc/812/exe":                           "->/usr/bin/qemu-system-x86_64 (deleted)",
	"proc/812/cwd":                           "->/var/lib/vm",
	"proc/812/fd/0":                          "->/dev/null",
	"proc/812/fd/3":                          "->socket:[1234]",
	"proc/40/stat":                           "40 (kvm-pit/812) S 2 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 30 0 0\n",
	"proc/40/cmdline":                        "",
	"proc/41/stat":                           "41 (qemu-system-x86) Z 1 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 30 0 0\n",
	"proc/900/stat":                          "900 (bash (kvm)) S 1 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 30 0 0\n",
	"proc/900/exe":                           "->/usr/bin/bash",
	"proc/950/stat":                          "950 (qemu-system-x86) S 1\n",
}

type mappings []devmap.Mapping

func (m mappings) List(context.Context) ([]devmap.Mapping, error) { return m, nil }

func TestTake(t *testing.T) {
	dm := event.Dev{Major: 254}
	got, err := Take(context.Background(), Options{
		Root: fixture(t, host),
		Mappings: mappings{{Name: "vg--data-web--01", UUID: "LVM-x", Dev: dm, Size: 16 << 20, Flags: devmap.FlagActive,
			Targets: []devmap.Target{{Length: 32768, Type: "linear", Params: "7:0 2048"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []event.Event{
		{From: 1, DM: &event.DMInfo{Name: "vg--data-web--01", UUID: "LVM-x", Dev: &dm, Size: 16 << 20,
			Table: []string{"0 32768 linear 7:0 2048"}, Flags: 0x20, State: "live"}},
		{From: 1, Dev: &event.DevInfo{Path: "/devices/virtual/block/dm-0", Subsystem: "block", Name: "dm-0", Type: "disk", Dev: &dm,
			Links: []string{"/dev/vg-data/web-01", "/dev/mapper/vg--data-web--01"},
			Props: map[string]string{"DM_NAME": "vg--data-web--01"}}},
		{From: 1, Dev: &event.DevInfo{Path: "/devices/virtual/block/loop0", Subsystem: "block", Name: "loop0", Type: "disk",
			Dev: &event.Dev{Major: 7}, Attrs: map[string]string{"size": "4096"}}},
		{From: 23450000000, Proc: &event.Proc{PID: 812, PPID: 1, UID: 64055, Comm: "qemu-system-x86"},
			Exec: &event.ExecInfo{Filename: "/usr/bin/qemu-system-x86_64", Cwd: "/var/lib/vm", ArgsBytes: len(guestArgs),
				Args: []string{"/usr/bin/qemu-system-x86_64", "-uuid", "3aad3b6b", "-drive", "file=/dev/vg-data/web-01,if=none", "-vnc", "secret"}}},
		{From: 1, Kind: event.Loss, Loss: &event.LossInfo{Source: "snapshot", What: "guest", Count: 1, Why: "process 950: stat of 4 fields: " + proc.ErrFormat.Error()}},
	}
	for i := range want {
		want[i].Src = SourceName
		if want[i].Kind == "" {
			want[i].Kind = event.Backfill
		}
	}
	ignore := cmp.Options{cmpopts.IgnoreFields(event.Event{}, "At"), cmpopts.IgnoreFields(event.DevInfo{}, "Initialized")}
	if diff := cmp.Diff(want, got, ignore); diff != "" {
		t.Error(diff)
	}
	for _, e := range got {
		if e.At < e.From && e.Exec == nil || e.At == 0 {
			t.Errorf("window %d to %d", e.From, e.At)
		}
	}
	if d := got[1].Dev; d.Initialized == 0 || got[2].Dev.Initialized != 0 {
		t.Error("when udev handled the devices is wrong")
	}
}

func TestTakeRefuses(t *testing.T) {
	denied := failing{fs.ErrPermission}
	root := fixture(t, host)
	events, err := Take(context.Background(), Options{Root: root, Mappings: denied})
	if !errors.Is(err, ErrPrivilege) || len(events) == 0 {
		t.Errorf("%d events, %v", len(events), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Take(ctx, Options{Root: root, Mappings: mappings{}}); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context was done: %v", err)
	}
}

type failing struct{ err error }

func (f failing) List(context.Context) ([]devmap.Mapping, error) { return nil, f.err }

// TestLive finds a program with a guest's name on the running host.
func TestLive(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	program := filepath.Join(t.TempDir(), "qemu-system-test")
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-uuid", "3aad3b6b")
	cmd.Env = []string{"SNAPSHOT_TEST_GUEST=1"}
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	device := openBlockDevice(t)
	cmd.ExtraFiles = []*os.File{device}
	before := event.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer input.Close()
	started := event.Now()
	events, err := Take(context.Background(), Options{Mappings: mappings{}})
	if err != nil {
		t.Skip(err)
	}
	for _, e := range events {
		if e.Exec == nil || e.Proc.PID != cmd.Process.Pid {
			continue
		}
		if e.At < before || e.From > started {
			t.Errorf("started between %d and %d, window %d to %d", before, started, e.From, e.At)
		}
		if e.Exec.Filename != program || len(e.Exec.Args) != 3 || e.Proc.PPID != os.Getpid() {
			t.Errorf("got %+v %+v", e.Proc, e.Exec)
		}
		if files := e.Exec.Files; len(files) != 1 || files[0].Path != device.Name() || files[0].Type != "block" || files[0].Dev == nil || files[0].Size != -1 {
			t.Errorf("files %+v", files)
		}
		return
	}
	t.Error("the guest was not found")
}

func openBlockDevice(t *testing.T) *os.File {
	t.Helper()
	names, err := filepath.Glob("/sys/class/block/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if file, err := os.Open("/dev/" + filepath.Base(name)); err == nil {
			t.Cleanup(func() { file.Close() })
			return file
		}
	}
	t.Skip("no block device can be opened here")
	return nil
}

func TestIsGuest(t *testing.T) {
	tk := &taker{Options: Options{Programs: []string{"qemu-system-x86_64", "qemu-kvm"}}}
	for name, want := range map[string]bool{
		"qemu-system-x86":    true, // comm of qemu-system-x86_64
		"qemu-system-x86_64": true, "qemu-kvm": true,
		"qemu-img": false, "qemu": false, "": false, "qemu-system-arm": false,
	} {
		if got := tk.isGuest(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func BenchmarkTake(b *testing.B) {
	options := Options{Root: fixture(b, host), Mappings: mappings{}}
	for b.Loop() {
		if _, err := Take(context.Background(), options); err != nil {
			b.Fatal(err)
		}
	}
}
