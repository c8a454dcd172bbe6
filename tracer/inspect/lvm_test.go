package inspect

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func writeFile(name, text string) error { return os.WriteFile(name, []byte(text), 0o600) }

// lvmTools runs LVM's own tools on files, behind loop devices, with a folder of
// their own for devices and locks: no device-mapper is needed as long as nothing
// is activated.
type lvmTools struct {
	t      *testing.T
	config string
	loops  []string
}

func newLVM(t *testing.T, images ...string) *lvmTools {
	t.Helper()
	need(t, "pvcreate", "losetup")
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: loop devices need root")
	}
	l := &lvmTools{t: t}
	var accept []string
	for _, image := range images {
		out, err := exec.Command("losetup", "-f", "--show", image).CombinedOutput()
		if err != nil {
			t.Skipf("NOT RUN: no loop device: %s", out)
		}
		loop := strings.TrimSpace(string(out))
		t.Cleanup(func() { run(t, "losetup", "-d", loop) })
		l.loops = append(l.loops, loop)
		accept = append(accept, fmt.Sprintf("%q", "a|^"+loop+"$|"))
	}
	dir := t.TempDir()
	l.config = fmt.Sprintf("devices { filter=[%s,\"r|.*|\"] global_filter=[%s,\"r|.*|\"] use_devicesfile=0 }\n"+
		"global { locking_dir=%q use_lvmlockd=0 event_activation=0 }\nbackup { backup=0 archive=0 }\nactivation { udev_sync=0 udev_rules=0 monitoring=0 }",
		strings.Join(accept, ","), strings.Join(accept, ","), filepath.Join(dir, "lock"))
	return l
}

func (l *lvmTools) run(tool string, args ...string) string {
	l.t.Helper()
	out, err := exec.Command(tool, append([]string{"--driverloaded", "n", "--config", l.config}, args...)...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s %v: %v\n%s", tool, args, err, out)
	}
	return string(out)
}

// pvArea is where LVM 2.03 puts the first extent.
const pvArea = mib

// Groups as LVM's own tools make them.
func TestLVM(t *testing.T) {
	const size = 256 * mib
	one, two := blank(t, size), blank(t, size)
	l := newLVM(t, one, two)
	l.run("pvcreate", "-q", l.loops[0], l.loops[1])
	l.run("vgcreate", "-q", "centos", l.loops[0], l.loops[1])
	l.run("lvcreate", "-q", "-an", "-Zn", "-Wn", "-n", "swap", "-L", "64M", "centos", l.loops[0])
	l.run("lvcreate", "-q", "-an", "-Zn", "-Wn", "-n", "fast", "-i", "2", "-I", "64k", "-L", "32M", "centos")
	l.run("lvcreate", "-q", "-an", "-Zn", "-Wn", "--type", "zero", "-n", "safe", "-L", "8M", "centos")
	l.run("lvcreate", "-q", "-an", "-Zn", "-Wn", "-n", "root", "-L", "300M", "centos")
	run(t, "sync", one, two)

	r := lookAt(t, one, two)
	pv := only(t, &r[0], KindPV)
	want(t, pv, "", 0)
	if pv.Name != "centos" || !strings.Contains(l.run("pvs", "--noheadings", "-o", "pv_uuid", l.loops[0]), pv.UUID) {
		t.Error(dump(pv))
	}
	volumes := map[string]*Layer{}
	for _, v := range append(all(r[0].Disk, KindLV), all(r[1].Disk, KindLV)...) {
		volumes[v.Name] = v
	}
	for name, needs := range map[string]int64{"swap": 64 * mib, "root": 300 * mib, "fast": 32 * mib} {
		if v := volumes[name]; v == nil || v.Needs != needs || v.Has != needs {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if v := volumes["safe"]; v == nil || v.State != StateUnknown || v.Has != -1 || v.Needs != 8*mib {
		t.Errorf("safe: %+v", v)
	}
	if len(volumes) != 4 {
		t.Errorf("%d volumes:\n%s%s", len(volumes), dump(r[0].Disk), dump(r[1].Disk))
	}

	// A file system over both disks is read in the right places.
	root := makeExt(t, "ext4", 300*mib)
	one, two = layOut(t, l, "root", root, one, two)
	fast := makeExt(t, "ext4", 32*mib)
	one, two = layOut(t, l, "fast", fast, one, two)
	r = lookAt(t, one, two)
	found := 0
	for _, v := range append(all(r[0].Disk, KindLV), all(r[1].Disk, KindLV)...) {
		if v.Name == "root" || v.Name == "fast" {
			want(t, v.Inside[0], StateClean, 0)
			if v.Inside[0].Kind == KindExt && v.Inside[0].Absent == nil {
				found++
			}
		}
	}
	if found != 2 {
		t.Errorf("%d file systems:\n%s%s", found, dump(r[0].Disk), dump(r[1].Disk))
	}

	// Without the second disk the rest is not known, and it is said which. It may be
	// there: nothing is called short.
	first := one
	if named(r[0].Disk, "root") == nil {
		first = two
	}
	r = lookAt(t, first)
	v := named(r[0].Disk, "root")
	if v == nil || len(v.Inside) == 0 || v.Short() != 0 || v.Inside[0].Short() != 0 || !strings.Contains(strings.Join(v.Unknown, ""), "is on none of the disks") {
		t.Error(dump(r[0].Disk))
	}
	d := InspectedDisk{Report: &r[0]}
	if d.judge(); len(d.CutOff()) > 0 || len(d.Unknown) == 0 {
		t.Errorf("troubles %+v, not known %q", d.Troubles, d.Unknown)
	}
	if notes := strings.Join(only(t, &r[0], KindPV).Notes, "\n"); !strings.Contains(notes, "is on none of the disks") {
		t.Errorf("notes %q", notes)
	}
	// A shorter one: the layer that falls short first is the physical volume.
	r = lookAt(t, one, cut(t, two, 100*mib))
	if pv := only(t, &r[1], KindPV); pv.Short() != 156*mib {
		t.Error(dump(r[1].Disk))
	}
	// Twins: two copies of one disk are not mixed up.
	r = lookAt(t, one, duplicate(t, one))
	if a, b := named(r[0].Disk, "swap"), named(r[1].Disk, "swap"); a == nil || b == nil {
		t.Errorf("%s%s", dump(r[0].Disk), dump(r[1].Disk))
	}
	want(t, only(t, &lookAt(t, flip(t, one, 600))[0], KindPV), StateUnknown, 0, "label")
	want(t, only(t, &lookAt(t, flip(t, one, 4096+100))[0], KindPV), StateUnknown, 0, "metadata")
}

func named(l *Layer, name string) *Layer {
	for _, v := range all(l, KindLV) {
		if v.Name == name {
			return v
		}
	}
	return nil
}

// layOut writes the bytes of a volume where LVM says that they are, as lvs
// reports its segments.
func layOut(t *testing.T, l *lvmTools, name, content, one, two string) (string, string) {
	t.Helper()
	images := map[string]string{l.loops[0]: duplicate(t, one), l.loops[1]: duplicate(t, two)}
	const extent = 4 * mib
	type leg struct {
		loop string
		at   int64
	}
	out := l.run("lvs", "--noheadings", "--separator", ";", "--units", "b", "--nosuffix", "-o", "seg_start,seg_size,stripe_size,devices", "--segments", "centos/"+name)
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), ";")
		if len(f) != 4 {
			continue
		}
		var start, size, stripe int64
		fmt.Sscan(f[0], &start)
		fmt.Sscan(f[1], &size)
		fmt.Sscan(f[2], &stripe)
		var legs []leg
		for d := range strings.SplitSeq(f[3], ",") {
			loop, rest, _ := strings.Cut(d, "(")
			var n int64
			fmt.Sscan(strings.TrimSuffix(rest, ")"), &n)
			legs = append(legs, leg{loop, pvArea + n*extent})
		}
		if stripe == 0 || len(legs) == 1 {
			stripe = size
		}
		for off, i := int64(0), int64(0); off < size; off, i = off+stripe, i+1 {
			data := readAt(t, content, start+off, int(min(stripe, size-off)))
			if zeros(data) {
				continue
			}
			g := legs[i%int64(len(legs))]
			f, err := os.OpenFile(images[g.loop], os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(data, g.at+i/int64(len(legs))*stripe); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
	}
	return images[l.loops[0]], images[l.loops[1]]
}

func TestLVMText(t *testing.T) {
	n, err := parseLVM([]byte("# c\nvg { id = \"a\\\"b\"\n n = 12 # x\n list = [\"x\", 3]\n empty = []\n in { a = -1 } }\nversion = 1\x00"))
	if err != nil {
		t.Fatal(err)
	}
	vg := n.section("vg")
	if vg.text("id") != `a"b` || vg.number("n") != 12 || len(vg.values["list"]) != 2 || vg.section("in").number("a") != -1 || n.number("version") != 1 {
		t.Errorf("%+v", vg)
	}
	for _, bad := range []string{"a {", "a = ", "a = \"x", "a = [1", "= 1", "a b", "a = 99999999999999999999", strings.Repeat("a{", 100)} {
		if _, err := parseLVM([]byte(bad)); err == nil {
			t.Errorf("%.20q is taken", bad)
		}
	}
	if _, err := parseLVM(bytes.Repeat([]byte("a=1 "), lvmMostValues)); err == nil {
		t.Error("there is no bound on values")
	}
}
