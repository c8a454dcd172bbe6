package rehearse

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
	"github.com/bootrace/bootrace/tracer/twin"
)

func host() *twin.Manifest {
	late := 11 * time.Second
	now := event.Duration(0)
	return &twin.Manifest{
		FormatVersion: twin.FormatVersion, Host: "kvm7", Kernel: "6.1.0", Machine: "x86_64",
		CommandLine: "BOOT_IMAGE=/vmlinuz root=/dev/mapper/vg-root ro quiet crashkernel=256M bootrace.early=0",
		Root:        twin.Root{Disk: "vda", Size: 8 << 30, Type: "ext4", UUID: "6c61622d-726f-4f74-a000-000000000001"},
		Disks: []twin.Disk{
			{Name: "vda", Bus: twin.Virtio, Size: 8 << 30, Serial: "root", Came: &now},
			{Name: "sdb", Bus: twin.SCSI, Size: 64 << 40, Serial: "S2", WWN: "0x5000c500a1b2c3d4", Links: []string{"disk/by-id/wwn-0x5000c500a1b2c3d4"}, Came: &late},
		},
		Hypervisors: []twin.Hypervisor{{Path: "/usr/bin/qemu-system-x86_64", Mode: 0o755}},
		FileSystems: []twin.FileSystem{{Source: "UUID=x", Target: "/srv", Type: "xfs"}, {Source: "UUID=y", Target: "/var", Type: "xfs", InRoot: true}},
		Guests: []twin.Guest{
			{Name: "web", Identity: "uuid:web"},
			{Name: "thin", Identity: "uuid:thin", Disks: []twin.GuestDisk{{Path: "/dev/vg/thin", NotEmulated: "it lies on a thin pool"}}},
		},
	}
}

func TestParsePlan(t *testing.T) {
	m := host()
	for text, want := range map[string]time.Duration{
		"as-recorded":  11 * time.Second,
		"late:sdb=20s": 31 * time.Second,
		"late:/dev/disk/by-id/wwn-0x5000c500a1b2c3d4=20s": 31 * time.Second,
		"late:S2=1m": 71 * time.Second,
	} {
		p, err := ParsePlan(text, m)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if after, ok := p.comes(&m.Disks[1]); !ok || after != want {
			t.Errorf("%s: sdb comes after %v, %v, want %v", text, after, ok, want)
		}
		if after, ok := p.comes(&m.Disks[0]); !ok || after != 0 {
			t.Errorf("%s: the root comes after %v, %v", text, after, ok)
		}
	}
	p, err := ParsePlan("missing:/dev/sdb", m)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := p.comes(&m.Disks[1]); ok {
		t.Error("a disk that is missing comes")
	}
	for _, text := range []string{"", "late:sdb", "late:sdb=soon", "late:sdb=-1s", "late:sdb=2h", "late:sdz=1s", "missing:", "missing:vda", "throttled", "late:=1s"} {
		if _, err := ParsePlan(text, m); err == nil {
			t.Errorf("plan %q is taken", text)
		}
	}
}

func FuzzParsePlan(f *testing.F) {
	f.Add("late:sdb=20s,missing:S2")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePlan(text, host())
		if err == nil && strings.ContainsAny(p.file(1), "/\x00") {
			t.Errorf("plan %q becomes file %q", text, p.file(1))
		}
	})
}

func TestCommandLine(t *testing.T) {
	line, without := (&Twin{Manifest: host()}).commandLine()
	if want := "root=UUID=6c61622d-726f-4f74-a000-000000000001 bootrace.early=0 rw console=ttyS0 no_timer_check mitigations=off selinux=0"; line != want {
		t.Errorf("%q, want %q", line, want)
	}
	if strings.Join(without, " ") != "crashkernel=256M" {
		t.Errorf("left out: %q", without)
	}
}

// A disk of a capture becomes an option of QEMU: nothing in it may become another one.
func TestDevice(t *testing.T) {
	slot, unit := firstSlot, 0
	got, err := deviceOf(host().Disks[1], &slot, &unit)
	if want := "scsi-hd,bus=scsi.0,scsi-id=0,lun=0,drive=sdb,id=dev-sdb,serial=S2,wwn=0x5000c500a1b2c3d4"; err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	got, err = deviceOf(twin.Disk{Name: "vda", Bus: twin.Virtio, Serial: "a,file=/etc/shadow"}, &slot, &unit)
	if want := "virtio-blk-pci,addr=0x5,drive=vda,id=dev-vda"; err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	for slot <= lastSlot {
		if _, err := deviceOf(twin.Disk{Name: "vdb", Bus: twin.Virtio}, &slot, &unit); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := deviceOf(twin.Disk{Name: "vdb", Bus: twin.Virtio}, &slot, &unit); err == nil {
		t.Error("more disks than the machine has slots are taken")
	}
}

// What depends on something that the twin is not, and what never started, is not known.
func TestCells(t *testing.T) {
	tw := &Twin{Manifest: host()}
	margin := func(ns time.Duration) *timeline.Margin { return &timeline.Margin{NS: ns} }
	tl := &timeline.Timeline{
		Guests: []*timeline.Guest{{ID: "1", Disks: []timeline.Disk{{Path: "/dev/vg/web", Uses: []timeline.Use{{Margin: margin(-2 * time.Second)}}}}}},
		Verdicts: []*timeline.Verdict{
			{GuestID: "1", Identity: "uuid:web", Outcome: timeline.OutcomeFailed, Causes: []*timeline.Cause{{Kind: timeline.CauseTooLate}}},
			{GuestID: "2", Identity: "uuid:thin", Outcome: timeline.OutcomeFine},
		},
	}
	cells := tw.cells(tl)
	if c := cells[0]; c.Prediction != Race || *c.Margin != -2*time.Second || c.Disk != "/dev/vg/web" {
		t.Errorf("web: %+v", c)
	}
	if c := cells[1]; c.Prediction != NotKnown || !strings.Contains(c.Why, "thin pool") {
		t.Errorf("thin: %+v", c)
	}
	tl.Verdicts[0].Outcome = timeline.OutcomeUnknown
	tl.Verdicts[0].Unknown = []string{"events were lost"}
	if c := tw.cells(tl)[0]; c.Prediction != NotKnown || c.Why != "events were lost" {
		t.Errorf("not known: %+v", c)
	}
	if c := tw.cells(&timeline.Timeline{})[0]; c.Prediction != NotKnown || c.Why == "" {
		t.Errorf("never started: %+v", c)
	}
	// Nobody knows what the disks of a guest lie on that no recorded boot has.
	tl.Verdicts = append(tl.Verdicts, &timeline.Verdict{GuestID: "3", Guest: "new", Identity: "uuid:new", Outcome: timeline.OutcomeFailed})
	if list := tw.cells(tl); len(list) != 3 || list[2].Guest != "new" || list[2].Prediction != NotKnown || !strings.Contains(list[2].Why, "never") {
		t.Errorf("a guest that the capture doesn't have: %+v", list)
	}
	cells[0].scale(2)
	plans := []PlanResult{
		{Plan: AsRecorded, Guests: cells},
		{Plan: AsRecorded, Enforce: true, Guests: []Cell{cells[1], {Guest: "web", Identity: "uuid:web", Prediction: Held, Held: 3 * time.Second}}},
	}
	want := "web loses /dev/vg/web as things are: it looks 1.0 s before that is ready. Enforce mode holds it for 3.0 s, and it runs."
	if got := summary(plans); len(got) != 1 || got[0] != want {
		t.Errorf("%q, want %q", got, want)
	}
	if outcomeOf(plans[0]) != timeline.OutcomeFailed || outcomeOf(plans[1]) != timeline.OutcomeUnknown || outcomeOf(PlanResult{}) != timeline.OutcomeUnknown {
		t.Error("the outcome of a plan")
	}
}

// capture is one with these files of the root.
func capture(t *testing.T, m *twin.Manifest, files map[string]string) io.Reader {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	put := func(name, text string) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o644, Uid: os.Getuid(), Gid: os.Getgid()}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		put(name, text)
	}
	put(twin.ManifestName, string(text))
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return &b
}

func rootFiles() map[string]string {
	const modules = "root/usr/lib/modules/6.1.0/"
	return map[string]string{
		"kernel": "kernel", "initramfs": "initramfs", "root/etc/fstab": "UUID=x / ext4 defaults 0 1\nUUID=y /srv xfs defaults 0 2\n",
		"root/etc/systemd/system/sysinit.target.wants/bootrace.service": "unit", "root/etc/hostname": "kvm7\n",
		modules + "modules.builtin": "kernel/fs/ext4/ext4.ko\nkernel/drivers/scsi/sd_mod.ko\n",
		modules + "modules.dep":     "kernel/drivers/virtio/virtio_pci.ko.xz:\nkernel/drivers/block/virtio_blk.ko:\nkernel/drivers/scsi/virtio_scsi.ko:\n",
		"disks/sdb/4096":            "metadata-of-lvm",
	}
}

func TestBuild(t *testing.T) {
	if _, err := tool("mke2fs", "e2fsprogs"); err != nil {
		t.Skip("NOT RUN: " + err.Error())
	}
	debugfs, err := tool("debugfs", "e2fsprogs")
	if err != nil {
		t.Skip("NOT RUN: " + err.Error())
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("stand-in"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := host()
	m.Disks[1].Size = 4 << 40
	tw, err := Build(t.Context(), capture(t, m, rootFiles()), dir, program)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "sdb.img"))
	if err != nil || info.Size() != 4<<40 {
		t.Fatalf("sdb: %v, %v", info, err)
	}
	f, err := os.Open(filepath.Join(dir, "sdb.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 15)
	if _, err := f.ReadAt(b, 4096); err != nil || string(b) != "metadata-of-lvm" {
		t.Errorf("at 4096: %q, %v", b, err)
	}
	for name, want := range map[string]string{
		"/usr/bin/qemu-system-x86_64": "stand-in", "/etc/hostname": "kvm7\n",
		"/etc/fstab": "UUID=6c61622d-726f-4f74-a000-000000000001 / ext4 defaults 0 0\n",
	} {
		out, err := exec.CommandContext(t.Context(), debugfs, "-R", "cat "+name, filepath.Join(dir, "vda.img")).Output()
		if err != nil || string(out) != want {
			t.Errorf("%s: %q, %v, want %q", name, out, err, want)
		}
	}
	all := strings.Join(tw.Differences(), "\n")
	for _, want := range []string{"/srv: its file system is not there", "/var: its files are on the root", "crashkernel=256M", "qemu-system-x86_64: a stand-in"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not among the differences: %s", want, all)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	for want, change := range map[string]func(*twin.Manifest, map[string]string){
		"has no virtio_blk":   func(_ *twin.Manifest, f map[string]string) { f["root/usr/lib/modules/6.1.0/modules.dep"] = "" },
		"only x86_64":         func(m *twin.Manifest, _ map[string]string) { m.Machine = "aarch64" },
		"nothing to rehearse": func(m *twin.Manifest, _ map[string]string) { m.Hypervisors = nil },
		"bootrace.service is not enabled": func(_ *twin.Manifest, f map[string]string) {
			delete(f, "root/etc/systemd/system/sysinit.target.wants/bootrace.service")
			f["root/etc/systemd/system/x"] = ""
		},
		"path escapes from parent":           func(_ *twin.Manifest, f map[string]string) { f["root/../../outside"] = "x" },
		"has an entry \"disks/../../sdb/0\"": func(_ *twin.Manifest, f map[string]string) { f["disks/../../sdb/0"] = "x" },
	} {
		m, files := host(), rootFiles()
		change(m, files)
		if want == "has no virtio_blk" {
			want = "has no virtio"
		}
		_, err := Build(t.Context(), capture(t, m, files), t.TempDir(), "/proc/self/exe")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A stand-in opens what qemu opens, and fails with qemu's words where it can't.
func TestStandin(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	args := []string{"qemu-system-x86_64", "-name", "web", "-drive", "file=" + disk + ",format=raw,if=virtio"}
	if !IsStandin(args) || IsStandin([]string{"/usr/sbin/bootrace", "show"}) {
		t.Error("which program is a stand-in")
	}
	if err := Standin(t.Context(), args); err == nil || !strings.Contains(err.Error(), "Could not open '"+disk+"': no such file") {
		t.Errorf("without its disk: %v", err)
	}
	// qcow2, version 2, with a backing file that is not there
	header := make([]byte, 512)
	copy(header, "QFI\xfb\x00\x00\x00\x02")
	header[15], header[19], header[23] = 72, byte(len("/nowhere")), 16
	copy(header[72:], "/nowhere")
	if err := os.WriteFile(disk, header, 0o600); err != nil {
		t.Fatal(err)
	}
	args[4] = "file=" + disk + ",format=qcow2,if=virtio"
	if err := Standin(t.Context(), args); err == nil || !strings.Contains(err.Error(), "Could not open '/nowhere'") {
		t.Errorf("without its backing file: %v", err)
	}
	if err := Standin(t.Context(), []string{"qemu-system-x86_64", "-version"}); err == nil {
		t.Error("a question is taken for a guest")
	}
}

// QEMU's monitor greets, tells of events, and answers a person's commands with a text where
// they fail.
func TestQMP(t *testing.T) {
	here, there, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	go func() {
		defer there.Close()
		in := json.NewDecoder(there)
		_, _ = io.WriteString(there, `{"QMP": {"version": {}}}`)
		for _, answer := range []string{`{"return": {}}`, `{"event": "RESUME"} {"return": ""}`, `{"return": "Error: no slot\r\n"}`, `{"error": {"class": "GenericError", "desc": "no such command"}}`} {
			var request map[string]any
			if in.Decode(&request) != nil {
				return
			}
			_, _ = io.WriteString(there, answer)
		}
	}()
	q := newQMP(here)
	if err := q.execute("human-monitor-command", nil); err != nil {
		t.Errorf("it went well: %v", err)
	}
	for _, want := range []string{"Error: no slot", "no such command"} {
		if err := q.execute("human-monitor-command", nil); err == nil || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := q.execute("human-monitor-command", nil); err == nil {
		t.Error("the monitor is gone, and nothing is said")
	}
}

func TestNoMemory(t *testing.T) {
	if err := memory(1 << 40); err == nil || !strings.Contains(err.Error(), "--memory") {
		t.Errorf("%v", err)
	}
	if err := room(t.TempDir(), 1<<62); err == nil || !strings.Contains(err.Error(), "choose another folder") {
		t.Errorf("%v", err)
	}
}
