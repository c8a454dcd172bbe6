package check

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/hold"
	"github.com/bootrace/bootrace/tracer/lvm"
	"github.com/bootrace/bootrace/tracer/memory"
	"github.com/bootrace/bootrace/tracer/probe"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// lvmHost answers for LVM.
type lvmHost map[string]string

func (h lvmHost) Run(_ context.Context, command string, _ ...string) (lvm.Output, error) {
	text, ok := h[command]
	if !ok {
		return lvm.Output{}, exec.ErrNotFound
	}
	return lvm.Output{Stdout: []byte(text)}, nil
}

const (
	twoGroups = `{"report":[{"vg":[{"vg_name":"vg0","vg_missing_pv_count":"0","vg_exported":"","vg_lock_type":"","vg_tags":"","vg_autoactivation":"enabled"},
		{"vg_name":"vg1","vg_missing_pv_count":"0","vg_exported":"","vg_lock_type":"","vg_tags":"","vg_autoactivation":"enabled"}]}]}`
	twoVolumes = `{"report":[{"lv":[{"vg_name":"vg0","lv_name":"web-a","lv_skip_activation":"","pool_lv":"","lv_health_status":"","lv_tags":"","lv_autoactivation":"enabled"},
		{"vg_name":"vg1","lv_name":"db","lv_skip_activation":"","pool_lv":"","lv_health_status":"","lv_tags":"","lv_autoactivation":""}]}]}`
	allEvents = "global {\n\tevent_activation=1\n}\n"
)

// remembered is a state folder whose memory has a guest on vg0/web-a and
// vg1/db.
func remembered(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	uuid := func(c string) string { return "LVM-" + strings.Repeat(c, 64) }
	s := memory.NewStore("b0070001-0000-4000-8000-000000000001")
	s.Remember("uuid:1", "web", []event.MemoryDisk{
		{Path: "/dev/vg0/web-a", Name: "vg0-web--a", UUID: uuid("a")},
		{Path: "/dev/vg1/db", Name: "vg1-db", UUID: uuid("b")},
		{Path: "/dev/mapper/dm_1", Name: "dm_1"}, // LVM knows nothing of it
	})
	if err := s.Open(dir); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Save(), s.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestVolumes(t *testing.T) {
	answers := func(config string) lvmHost {
		return lvmHost{"lvmconfig": config, "vgs": twoGroups, "lvs": twoVolumes}
	}
	for name, tt := range map[string]struct {
		lvm  lvmHost
		want map[string]want // by item
	}{
		"a list that excludes a guest's group": {answers(allEvents + "activation {\n\tauto_activation_volume_list=[\"vg1\"]\n}\n"), map[string]want{
			"lvm":              {Good, `activation/auto_activation_volume_list=["vg1"]`, ""},
			"volume vg0/web-a": {Warning, "nothing activates it: activation/auto_activation_volume_list does not name it", "add vg0/web-a to the list in lvm.conf"},
			"volume vg1/db":    {Warning, "autoactivation is off", "lvchange --setautoactivation y vg1/db"},
		}},
		"event activation off": {answers("global {\n\tevent_activation=0\n}\n"), map[string]want{
			"lvm":              {Warning, "global/event_activation=0", "vgchange -aay"},
			"volume vg0/web-a": {Warning, "no device that appears activates anything", "lvm.conf"},
		}},
		"no LVM": {lvmHost{}, map[string]want{"lvm": {Good, "not installed", ""}}},
		"one row is damaged": {lvmHost{"lvmconfig": allEvents, "vgs": twoGroups, "lvs": strings.Replace(twoVolumes, `"web-a"`, `?`, 1)}, map[string]want{
			"guest volumes": {Warning, "gave no answer about vg0/web-a: lvs: LVM's report is damaged", ""},
			"volume vg1/db": {Warning, "autoactivation is off", "lvchange --setautoactivation y"},
		}},
		"LVM says nothing": {lvmHost{"lvmconfig": allEvents}, map[string]want{"guest volumes": {Warning, "gave no answer", ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			items := map[string]Item{}
			for _, i := range (Options{StateDir: remembered(t), LVM: tt.lvm}).volumes(t.Context(), t.TempDir()) {
				items[i.Name] = i
			}
			for name, w := range tt.want {
				w.check(t, items[name])
			}
		})
	}
	// Where systemd activates them all the same, once, no volume is warned of.
	const generator = "usr/lib/systemd/system-generators/lvm2-activation-generator*"
	items := Options{StateDir: remembered(t), LVM: answers("global {\n\tevent_activation=0\n}\n")}.volumes(t.Context(), host(t, map[string]string{generator: ""}))
	want{Warning, "units of systemd activate once", "vgchange -aay"}.check(t, items[0])
	if slices.ContainsFunc(items, func(i Item) bool { return i.Name == "volume vg0/web-a" }) {
		t.Errorf("a volume that systemd activates: %+v", items)
	}
	none := Options{StateDir: t.TempDir(), LVM: answers(allEvents)}.volumes(t.Context(), t.TempDir())
	if len(none) != 2 || !strings.Contains(none[1].Text, "none is known yet") {
		t.Errorf("without a memory: %+v", none)
	}
}

// Each answer of LVM's has words here.
func TestSettingTexts(t *testing.T) {
	for s := range timeline.Remedies {
		if text := settingTexts[s]; !timeline.Inferred(s) && (text.text == "" || text.remedy == "") {
			t.Errorf("no words for %s", s)
		}
	}
}

func TestLibvirt(t *testing.T) {
	if items := libvirt(t.TempDir()); items != nil {
		t.Errorf("without libvirt: %+v", items)
	}
	const hooks = "etc/libvirt/hooks/"
	const el7, focal, rhel83 = "usr/lib64/libvirt.so.0.4005.0", "usr/lib/x86_64-linux-gnu/libvirt.so.0.6000.0", "usr/lib64/libvirt.so.0.6006.0"
	for name, tt := range map[string]struct {
		files []string
		want  want
	}{
		"no hook":               {[]string{rhel83}, want{Warning, "without bootrace's hook", "make install LIBVIRT=yes, then systemctl reload libvirtd"}},
		"as installed":          {[]string{rhel83, "qemu.d/bootrace*"}, want{Good, "its hook calls bootrace", ""}},
		"not executable":        {[]string{rhel83, "qemu.d/bootrace"}, want{Warning, "without bootrace's hook", "make install"}},
		"version not known":     {[]string{"qemu.d/bootrace*"}, want{Good, "its hook calls bootrace", ""}},
		"and a link":            {[]string{"qemu.d/bootrace*", "link"}, want{Good, "its hook calls bootrace", ""}},
		"a link left behind":    {[]string{rhel83, "qemu.d/bootrace*", "link"}, want{Warning, "more than once", "rm /etc/libvirt/hooks/qemu"}},
		"before 6.5":            {[]string{el7, "qemu.d/bootrace*"}, want{Warning, "4.5 runs no hook but /etc/libvirt/hooks/qemu", "ln -s qemu.d/bootrace /etc/libvirt/hooks/qemu && systemctl reload libvirtd"}},
		"and no hook":           {[]string{focal}, want{Warning, "6.0 runs no hook but", "make install LIBVIRT=yes, then ln -s"}},
		"and the link":          {[]string{focal, "qemu.d/bootrace*", "link"}, want{Good, "its hook calls bootrace", ""}},
		"and another's hook":    {[]string{el7, "qemu.d/bootrace*", "qemu*"}, want{Warning, "does not call bootrace", `standard input: /etc/libvirt/hooks/qemu.d/bootrace "$@"`}},
		"and a hook that calls": {[]string{el7, "qemu.d/bootrace*", "qemu* bootrace"}, want{Good, "its hook calls bootrace", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			files, links := map[string]string{"usr/sbin/libvirtd*": ""}, map[string]string{}
			for _, f := range tt.files {
				switch {
				case strings.Contains(f, ".so."):
					files[f] = ""
					links[filepath.Join(filepath.Dir(f), "libvirt.so.0")] = filepath.Base(f)
				case f == "link":
					links[hooks+"qemu"] = "qemu.d/bootrace"
				case strings.HasPrefix(f, "qemu.d/"), f == "qemu* bootrace":
					files[hooks+strings.TrimSuffix(f, " bootrace")] = "#!/bin/sh\nexec bootrace libvirt-hook -- \"$@\"\n"
				default:
					files[hooks+f] = "#!/bin/sh\n"
				}
			}
			root := host(t, files)
			for link, target := range links {
				if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
					t.Fatal(err)
				}
			}
			tt.want.check(t, libvirt(root)[0])
		})
	}
}

// The command that a libvirt before 6.5 is helped with is one that helps.
func TestLibvirtRemedy(t *testing.T) {
	files := map[string]string{"usr/sbin/libvirtd*": "", "usr/lib64/libvirt.so.0.4005.0": "", "etc/libvirt/hooks/qemu.d/bootrace*": "#!/bin/sh\nexec bootrace\n"}
	root := host(t, files)
	if err := os.Symlink("libvirt.so.0.4005.0", filepath.Join(root, "usr/lib64/libvirt.so.0")); err != nil {
		t.Fatal(err)
	}
	command, _, _ := strings.Cut(libvirt(root)[0].Remedy, " &&")
	out, err := exec.Command("sh", "-ec", strings.ReplaceAll(command, "/etc/", root+"/etc/")).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v, %s", command, err, out)
	}
	want{Good, "its hook calls bootrace", ""}.check(t, libvirt(root)[0])
}

func TestLockdown(t *testing.T) {
	const file = "sys/kernel/security/lockdown"
	if items := lockdown(t.TempDir()); items != nil {
		t.Errorf("not built in: %+v", items)
	}
	want{Good, "integrity", ""}.check(t, lockdown(host(t, map[string]string{file: "none [integrity] confidentiality\n"}))[0])
	want{Warning, "forbids probes", "lockdown=integrity"}.check(t, lockdown(host(t, map[string]string{file: "none integrity [confidentiality]\n"}))[0])
}

func TestLSM(t *testing.T) {
	const file, yama, selinux = "sys/kernel/security/lsm", "proc/sys/kernel/yama/ptrace_scope", "sys/fs/selinux/enforce"
	if items := lsm(t.TempDir()); items != nil {
		t.Errorf("not told: %+v", items)
	}
	files := map[string]string{file: "lockdown,capability,yama,bpf", yama: "1\n"}
	want{Good, "lockdown,capability,yama,bpf", ""}.check(t, lsm(host(t, files))[0])
	files[yama] = "3\n"
	want{Warning, "forbids to read any process", "ptrace_scope"}.check(t, lsm(host(t, files))[0])
	want{Good, "SELinux enforces", ""}.check(t, lsm(host(t, map[string]string{file: "selinux", selinux: "1"}))[0])
}

func TestKernel(t *testing.T) {
	for release, text := range map[string]string{
		"3.10.0-862.el7.x86_64": "series 3.10 of CentOS 7", "6.1.0-50-amd64": "series 6.1 of Debian 12",
		"6.12.117+deb13-amd64": "6.12 of Debian 13", "6.10.3": "not a series",
	} {
		if i := kernel(release); i.Grade != Good || !strings.Contains(i.Text, text) {
			t.Errorf("%s: %+v", release, i)
		}
	}
}

// Without what verdicts are made of a host cannot be traced, however it is
// watched; and with tracefs it can.
func TestBackend(t *testing.T) {
	able := func(names ...string) []event.Ability {
		var list []event.Ability
		for _, n := range names {
			list = append(list, event.Ability{Name: n, OK: true})
		}
		return list
	}
	all := able(backend.AbilityExec, backend.AbilityExit, backend.AbilityDM, backend.AbilityOpen)
	want{Good, "eBPF", ""}.check(t, watchedBy(event.SourceInfo{Name: "ebpf", Abilities: all}))
	want{Good, "tracefs", ""}.check(t, watchedBy(event.SourceInfo{Name: "tracefs", Abilities: all}))
	want{Bad, "not seen: dm, open", "CONFIG_KPROBE_EVENTS"}.check(t, watchedBy(event.SourceInfo{Name: "process", Abilities: all[:2]}))
}

// Starts can be held where this kernel can, and there is a program to hold; a
// service that is to hold them has the last word.
func TestHold(t *testing.T) {
	root := host(t, map[string]string{"usr/bin/qemu-system-x86_64*": ""})
	able := func(context.Context) (hold.Bound, error) { return hold.Bound{}, nil }
	bounded := func(context.Context) (hold.Bound, error) {
		return hold.Bound{Longest: 20 * time.Second, Because: "a held start can't be killed"}, nil
	}
	unable := func(context.Context) (hold.Bound, error) {
		return hold.Bound{}, fmt.Errorf("try: %w", &hold.UnsupportedError{})
	}
	usual := config.Default().Enforce.Binaries
	for name, tt := range map[string]struct {
		options Options
		want    want
	}{
		"possible":                    {Options{Hold: able, Binaries: usual}, want{Good, "can be held", ""}},
		"not for long":                {Options{Hold: bounded, Binaries: usual}, want{Good, "none for longer than 20s on this kernel, whatever its deadline: a held start can't be killed", ""}},
		"not possible":                {Options{Hold: unable, Binaries: usual}, want{Warning, "can't be held", "trace mode does not need it"}},
		"not possible, but wanted":    {Options{Hold: unable, Binaries: usual, Mode: config.Enforcing}, want{Warning, "can't be held", "set mode: trace"}},
		"no program":                  {Options{Hold: able, Binaries: []string{"/opt/qemu/*"}}, want{Warning, "leads to no program", "in enforce.binaries"}},
		"the service holds":           {Options{Service: "process 7", Held: &hold.Status{Programs: []string{"/usr/bin/kvm"}}}, want{Good, "the service does", ""}},
		"the service holds nothing":   {Options{Service: "process 7", Hold: able, Binaries: usual, Held: &hold.Status{}}, want{Warning, "leads to no program", "in enforce.binaries"}},
		"the service can't":           {Options{Service: "process 7", Hold: able, Binaries: usual, HoldErr: "no kprobes"}, want{Warning, "the service holds no start: no kprobes", "trace mode"}},
		"the service was not told":    {Options{Service: "process 7", Hold: able, Binaries: usual, Mode: config.Enforcing}, want{Warning, "configured, and the service holds no start", "systemctl reload bootrace"}},
		"a service in trace mode":     {Options{Service: "process 7", Hold: able, Binaries: usual, Mode: config.Trace}, want{Good, "can be held", ""}},
		"a service that does not run": {Options{Hold: able, Binaries: usual, Mode: config.Enforcing}, want{Good, "can be held", ""}},
		"a service that hangs":        {Options{ServiceErr: errors.New("i/o timeout"), Hold: able, Binaries: usual}, want{Warning, "not known", "service"}},
	} {
		t.Run(name, func(t *testing.T) {
			tt.want.check(t, tt.options.hold(t.Context(), root))
		})
	}
}

// This machine, whatever it is: each item fits on a line and says what to do
// where something can be done, and the verdict follows from them.
func TestThisHost(t *testing.T) {
	r := Host(t.Context(), Options{StateDir: t.TempDir(), Probes: probe.None})
	if r.Trace || r.Enforce {
		t.Error("without probes no verdict is possible")
	}
	for _, i := range r.Items {
		if i.Name == "" || i.Text == "" || strings.Contains(i.Text+i.Remedy, "\n") {
			t.Errorf("%+v does not fit on lines", i)
		}
	}
}

// A kernel made for one purpose, such as that of many virtual machines, which
// has eBPF and neither device-mapper nor kprobes: each lack is told, with what
// to do.
func TestOddKernel(t *testing.T) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	if devmap.Registered("/") || devmap.Available("/", unix.ByteSliceToString(u.Release[:])) {
		t.Skip("NOT TESTED: this kernel has device-mapper")
	}
	find := func(r Report, name string) Item {
		i := slices.IndexFunc(r.Items, func(i Item) bool { return i.Name == name })
		if i < 0 {
			t.Fatalf("no item %s in %+v", name, r)
		}
		return r.Items[i]
	}
	r := Host(t.Context(), Options{StateDir: t.TempDir()})
	want{Bad, "has none, so it has no logical volumes", "CONFIG_BLK_DEV_DM"}.check(t, find(r, "device-mapper"))
	if r.Trace || r.Enforce {
		t.Errorf("there is nothing to trace: %+v", r)
	}
	if _, err := os.Stat("/sys/kernel/tracing/kprobe_events"); err == nil || os.Geteuid() != 0 {
		t.Skip("NOT TESTED: this kernel has kprobes, or this is not root")
	}
	r = Host(t.Context(), Options{StateDir: t.TempDir(), Probes: probe.Tracefs})
	want{Bad, "no kprobe events", "set probes: auto"}.check(t, find(r, "probes"))
}
