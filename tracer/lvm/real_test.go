package lvm

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/bootrace/bootrace/tracer/event"
)

var update = flag.Bool("update", false, "record what the real LVM prints, in testdata")

// state is a state of a host's volume groups, and what Ask is to make of it.
// The disks are /dev/disk0, /dev/disk1, and so on: LVM's own names for its loop
// devices are not in what is recorded.
type state struct {
	name string
	// make is a shell script. $D0, $D1, ... are disks, $F0, $F1, ... the files
	// behind them; "group" and "volume" make what their names say.
	make string
	ask  []Volume
	want []event.LVMInfo
}

func pvs(disks ...int) []event.LVMPV {
	var list []event.LVMPV
	for _, d := range disks {
		list = append(list, event.LVMPV{Name: fmt.Sprintf("/dev/disk%d", d), Dev: &event.Dev{Major: 7, Minor: uint32(d)}})
	}
	return list
}

var states = []state{
	{
		"exported", "group vgweb $D0; volume vgweb web; vgchange --setautoactivation n vgweb; group vgold $D1; volume vgold old; vgexport vgold",
		[]Volume{{"vgweb", "web"}, {"vgold", "old"}, {"vgweb", "none"}},
		[]event.LVMInfo{
			{VG: "vgweb", LV: "web", GroupFound: true, Found: true, NoAutoActivation: true, PVs: pvs(0)},
			{VG: "vgold", LV: "old", GroupFound: true, Exported: true, PVs: pvs(1)},
			{VG: "vgweb", LV: "none", GroupFound: true, PVs: pvs(0)},
		},
	},
	{
		"same-name", `group vgweb $D2; volume vgweb web; group vgx $D0; volume vgx one
		only='devices { filter = [ "a|^'$D1'$|", "r|.*|" ] hints = "none" }' conf; group vgx $D1; volume vgx two; conf`,
		[]Volume{{"vgx", "one"}, {"vgweb", "web"}},
		[]event.LVMInfo{
			{VG: "vgx", LV: "one", GroupFound: true, Found: true, SameName: 2, PVs: pvs(0, 1)},
			{VG: "vgweb", LV: "web", GroupFound: true, Found: true, PVs: pvs(2)},
		},
	},
	{
		"duplicate", "group vgdu $D0; volume vgdu x; cp $F0 $F1; group vgok $D2; volume vgok y",
		[]Volume{{"vgdu", "x"}, {"vgok", "y"}},
		[]event.LVMInfo{
			{VG: "vgdu", LV: "x", GroupFound: true, Found: true, PVs: append([]event.LVMPV{{Name: "/dev/disk1", Dev: &event.Dev{Major: 7, Minor: 1}, Duplicate: true}}, pvs(0)...)},
			{VG: "vgok", LV: "y", GroupFound: true, Found: true, PVs: pvs(2)},
		},
	},
	{
		"foreign", "conf 'global { system_id_source=\"lvmlocal\" } local { system_id = \"hosta\" }'; group vga $D0; volume vga x; conf 'global { system_id_source=\"lvmlocal\" } local { system_id = \"hostb\" }'; group vgb $D1; volume vgb y",
		[]Volume{{"vga", "x"}, {"vgb", "y"}, {"vgc", "z"}},
		[]event.LVMInfo{
			{VG: "vga", LV: "x", GroupFound: true, Owner: "hosta"},
			{VG: "vgb", LV: "y", GroupFound: true, Found: true, PVs: pvs(1)},
			{VG: "vgc", LV: "z"},
		},
	},
	{
		"clustered", "group vgcl $D0; volume vgcl x; group vgb $D1; volume vgb y; flag vgcl CLUSTERED",
		[]Volume{{"vgcl", "x"}, {"vgb", "y"}, {"vgc", "z"}},
		[]event.LVMInfo{
			{VG: "vgcl", LV: "x", GroupFound: true, Clustered: true},
			{VG: "vgb", LV: "y", GroupFound: true, Found: true, PVs: pvs(1)},
			{VG: "vgc", LV: "z"},
		},
	},
	{
		"missing", "group vgm $D0 $D1; volume vgm x; group vgb $D2; volume vgb y; rm -f $F1; detach $D1",
		[]Volume{{"vgm", "x"}, {"vgb", "y"}},
		[]event.LVMInfo{
			{VG: "vgm", LV: "x", GroupFound: true, Found: true, MissingPVs: 1, PVs: append([]event.LVMPV{{Name: "[unknown]", Missing: true}}, pvs(0)...)},
			{VG: "vgb", LV: "y", GroupFound: true, Found: true, PVs: pvs(2)},
		},
	},
	{
		"damaged", "group vgbad $D0; volume vgbad x; group vgb $D1; volume vgb y; tr '\\0' '#' </dev/zero | dd of=$F0 bs=1 seek=4608 count=4000 conv=notrunc status=none",
		[]Volume{{"vgbad", "x"}, {"vgb", "y"}},
		[]event.LVMInfo{
			{VG: "vgbad", LV: "x", Damaged: "WARNING: Checksum error on /dev/disk0"},
			{VG: "vgb", LV: "y", GroupFound: true, Found: true, PVs: pvs(1)},
		},
	},
	{
		"filtered", "group vgf $D0; volume vgf x; group vgb $D1; volume vgb y; conf \"devices { global_filter = [ \\\"r|$D0|\\\" ] }\"",
		[]Volume{{"vgf", "x"}, {"vgb", "y"}},
		[]event.LVMInfo{
			{VG: "vgf", LV: "x"},
			{VG: "vgb", LV: "y", GroupFound: true, Found: true, PVs: pvs(1)},
		},
	},
}

// What the real LVM printed is understood, without it.
func TestRecorded(t *testing.T) {
	for _, s := range states {
		t.Run(s.name, func(t *testing.T) {
			archive, err := txtar.ParseFile(filepath.Join("testdata", s.name+".txtar"))
			if err != nil {
				t.Fatal(err)
			}
			s.check(t, playback{archive})
		})
	}
}

// The real LVM on loop devices, without device-mapper.
func TestReal(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT RUN: takes ten seconds; leave out -short to run it")
	}
	for _, s := range states {
		t.Run(s.name, func(t *testing.T) {
			h := newHost(t)
			h.shell(s.make)
			rec := &recorder{host: h}
			s.check(t, rec)
			if *update && !t.Failed() {
				if err := os.WriteFile(filepath.Join("testdata", s.name+".txtar"), txtar.Format(&rec.archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func (s *state) check(t *testing.T, run Runner) {
	t.Helper()
	got := Ask(t.Context(), run, s.ask)
	if n := len(got); n != len(s.want)+1 || got[n-1].Config["global/event_activation"] != "1" {
		t.Fatalf("got %+v", got)
	}
	for i := range got { // which copy of the metadata it was
		got[i].Damaged, _, _ = strings.Cut(got[i].Damaged, " at offset")
	}
	if diff := cmp.Diff(s.want, got[:len(s.want)]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// realHost is LVM's view of some loop devices, and of nothing else.
type realHost struct {
	t      *testing.T
	env    []string
	system string // LVM_SYSTEM_DIR
	disks  []string
}

func newHost(t *testing.T) *realHost {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT RUN: needs root, for loop devices")
	}
	if _, err := exec.LookPath("lvm"); err != nil {
		t.Skip("NOT RUN: needs LVM: install lvm2")
	}
	h := &realHost{t: t, system: t.TempDir()}
	dir := t.TempDir()
	for i := range 3 {
		file := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, 64<<20); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("losetup", "--show", "-f", file).Output()
		if err != nil {
			t.Skipf("NOT RUN: needs a loop device: losetup: %v", err)
		}
		disk := strings.TrimSpace(string(out))
		t.Cleanup(func() { _ = exec.Command("losetup", "-d", disk).Run() })
		h.disks = append(h.disks, disk)
		h.env = append(h.env, fmt.Sprintf("D%d=%s", i, disk), fmt.Sprintf("F%d=%s", i, file))
	}
	t.Setenv("LVM_SYSTEM_DIR", h.system)
	return h
}

// helpers are the words that a state is made with. No command may talk to the
// kernel: there need be no device-mapper. "flag" adds a flag to a group's status.
const helpers = `set -e
base='activation { udev_sync = 0 udev_rules = 0 verify_udev_operations = 0 } backup { backup = 0 archive = 0 }'
only="devices { filter = [ \"a|^$D0\$|\", \"a|^$D1\$|\", \"a|^$D2\$|\", \"r|.*|\" ] hints = \"none\" }"
conf() { printf '%s\n' "$base" "$only" "$@" > $LVM_SYSTEM_DIR/lvm.conf; }
for c in vgcreate lvcreate vgexport vgrename vgchange vgcfgbackup vgcfgrestore; do eval "$c() { command $c --driverloaded n \"\$@\"; }"; done
group() { vgcreate "$@"; }
volume() { lvcreate -y -an -Wn -Zn -L 8M -n $2 $1; }
detach() { losetup -d $1; }
backup() { vgcfgbackup -f $LVM_SYSTEM_DIR/$1 $1; }
flag() { backup $1; sed -i "/^$1 {/,/flags/s/status = \[/status = [\"$2\", /" $LVM_SYSTEM_DIR/$1; vgcfgrestore -f $LVM_SYSTEM_DIR/$1 $1; }
conf
`

func (h *realHost) shell(script string) {
	h.t.Helper()
	cmd := exec.Command("bash", "-c", helpers+script)
	cmd.Env = append(append(os.Environ(), "LVM_SUPPRESS_FD_WARNINGS=1"), h.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// recorder runs the real LVM, and keeps what it prints, in which the disks have
// the names of a state.
type recorder struct {
	host    *realHost
	archive txtar.Archive
}

func (r *recorder) Run(ctx context.Context, command string, args ...string) (Output, error) {
	out, err := Command{}.Run(ctx, command, args...)
	out.Stdout, out.Stderr = r.neutral(out.Stdout), r.neutral(out.Stderr)
	add := func(part string, data []byte) {
		if len(data) > 0 {
			r.archive.Files = append(r.archive.Files, txtar.File{Name: question(command, args) + part, Data: data})
		}
	}
	if command == "lvmconfig" {
		add("", configOnly(out.Stdout))
	} else {
		add("", out.Stdout)
	}
	add(" stderr", out.Stderr)
	if err != nil {
		add(" error", []byte(err.Error()+"\n"))
	}
	return out, err
}

func (r *recorder) neutral(b []byte) []byte {
	for i, disk := range r.host.disks {
		b = bytes.ReplaceAll(b, []byte(disk), fmt.Appendf(nil, "/dev/disk%d", i))
		minor := strings.TrimPrefix(disk, "/dev/loop")
		b = bytes.ReplaceAll(b, []byte(`"pv_minor":"`+minor+`"`), fmt.Appendf(nil, `"pv_minor":"#%d"`, i))
	}
	return bytes.ReplaceAll(b, []byte(`"pv_minor":"#`), []byte(`"pv_minor":"`))
}

// configOnly leaves of lvmconfig's output what Ask goes by.
func configOnly(printed []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(printed) {
		for _, part := range []string{"{", "}", "filter=", "use_devicesfile", "event_activation", "volume_list", "use_lvmlockd"} {
			if bytes.Contains(line, []byte(part)) {
				out.Write(line)
				break
			}
		}
	}
	return out.Bytes()
}

// question names a command by what is special to it.
func question(command string, args []string) string {
	for _, a := range args {
		if a == foreign {
			return command + " " + foreign
		}
	}
	return command
}

// playback answers as the recorder has heard.
type playback struct{ archive *txtar.Archive }

func (p playback) Run(_ context.Context, command string, args ...string) (out Output, err error) {
	found := false
	for _, f := range p.archive.Files {
		switch question(command, args) {
		case f.Name:
			out.Stdout, found = f.Data, true
		case strings.TrimSuffix(f.Name, " stderr"):
			out.Stderr, found = f.Data, true
		case strings.TrimSuffix(f.Name, " error"):
			err, found = errors.New(strings.TrimSpace(string(f.Data))), true
		}
	}
	if !found {
		err = fmt.Errorf("%s: nothing is recorded", command)
	}
	return out, err
}
