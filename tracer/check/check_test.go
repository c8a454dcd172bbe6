package check

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/hold"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/rights"
)

// host makes a root of files; those whose names end in * can be executed.
func host(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name, program := strings.CutSuffix(name, "*")
		path := filepath.Join(root, name)
		mode := os.FileMode(0o644)
		if program {
			mode = 0o755
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

type want struct {
	grade        Grade
	text, remedy string // parts
}

func (w want) check(t *testing.T, i Item) {
	t.Helper()
	if i.Grade != w.grade || !strings.Contains(i.Text, w.text) || !strings.Contains(i.Remedy, w.remedy) || (w.remedy == "") != (i.Remedy == "") {
		t.Errorf("got %+v, want %+v", i, w)
	}
	if i.Name == "" || i.Text == "" || strings.Contains(i.Text+i.Remedy, "\n") {
		t.Errorf("%+v does not fit on lines", i)
	}
}

func TestDeviceMapper(t *testing.T) {
	const misc = " 63 device-mapper\n183 hw_random\n"
	for name, tt := range map[string]struct {
		files map[string]string
		want  want
	}{
		"loaded":   {map[string]string{"proc/misc": misc}, want{Good, "loaded", ""}},
		"built in": {map[string]string{"proc/misc": "183 hw_random\n", "lib/modules/6.1.0/modules.builtin": "kernel/drivers/md/dm-mod.ko\n"}, want{Good, "not loaded yet", ""}},
		"a module": {map[string]string{"lib/modules/6.1.0/modules.dep": "kernel/drivers/md/dm-mod.ko.xz: kernel/x.ko.xz\n"}, want{Good, "not loaded yet", ""}},
		"other kernel's module": {map[string]string{"lib/modules/5.10.0/modules.dep": "kernel/drivers/md/dm-mod.ko:\n"},
			want{Bad, "kernel 6.1.0 has none", "CONFIG_BLK_DEV_DM, or install its modules under /lib/modules/6.1.0"}},
		"none": {map[string]string{"lib/modules/6.1.0/modules.dep": "kernel/fs/xfs/xfs.ko:\n"}, want{Bad, "has none", "CONFIG_BLK_DEV_DM"}},
	} {
		t.Run(name, func(t *testing.T) {
			tt.want.check(t, deviceMapper(host(t, tt.files), "6.1.0"))
		})
	}
}

func TestUdev(t *testing.T) {
	want{Good, "runs", ""}.check(t, udevd(host(t, map[string]string{"run/udev/control": ""})))
	want{Warning, "nothing becomes ready", "start systemd-udevd"}.check(t, udevd(t.TempDir()))
}

func TestEarly(t *testing.T) {
	const tools, dracut = "usr/share/initramfs-tools/", "usr/lib/dracut/"
	const script, module = tools + "scripts/init-top/bootrace*", dracut + "modules.d/90bootrace/module-setup.sh*"
	for name, tt := range map[string]struct {
		files   []string
		options Options
		want    want
	}{
		"initramfs-tools":    {[]string{tools + "init", script}, Options{}, want{Good, "initramfs-tools starts bootrace (after update-initramfs -u)", ""}},
		"without ours":       {[]string{tools + "init"}, Options{}, want{Warning, "not installed", "make install INITRAMFS=yes, then update-initramfs -u"}},
		"dracut":             {[]string{tools + "hooks/lvm2*", dracut + "dracut-functions.sh", module}, Options{}, want{Good, "dracut starts bootrace", ""}},
		"dracut without":     {[]string{dracut + "dracut-functions.sh", script}, Options{}, want{Warning, "not installed", "make install DRACUT=yes, then dracut --force"}},
		"neither":            {nil, Options{}, want{Warning, "neither initramfs-tools nor dracut", ""}},
		"it was there":       {nil, Options{Service: "process 7", FromInitramfs: true}, want{Good, "in this boot it was there from the initramfs on", ""}},
		"installed too late": {[]string{dracut + "dracut-functions.sh", module}, Options{Service: "process 7"}, want{Warning, "in this boot it was not there", "dracut --force, and reboot"}},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			for _, f := range tt.files {
				files[f] = ""
			}
			tt.want.check(t, tt.options.early(host(t, files)))
		})
	}
}

func TestState(t *testing.T) {
	dir := t.TempDir()
	// A folder that does not exist yet is made on the disk of its parent.
	for _, path := range []string{dir, filepath.Join(dir, "lib", "bootrace")} {
		i := state(path)
		if i.Name != "state folder" || !strings.HasPrefix(i.Text, path+", ") || !strings.Contains(i.Text, " free") {
			t.Errorf("got %+v", i)
		}
	}
}

// The programs that run guests are those of the configuration, too; one that is
// not traced or not held by it is told, with what to add.
func TestPrograms(t *testing.T) {
	const elf, kvm, one, mine = "\x7fELF", "usr/bin/qemu-system-x86_64", "usr/bin/qemu-lite-system-x86_64", "opt/vm/my-own-vmm-of-2026"
	root := host(t, map[string]string{
		kvm + "*": elf, "usr/bin/qemu-img*": "", "usr/bin/ls*": "", "usr/bin/qemu-system-arm": "not executable",
		"usr/libexec/qemu-kvm*": elf, "usr/local/qemu-2.12.1/bin/qemu-system-x86_64*": elf, "usr/bin/qemu-system-x/file": "",
		"usr/bin/kvm-spice*": "#!/bin/sh\nexec qemu-system-x86_64 -enable-kvm \"$@\"\n", mine + "*": elf,
		"usr/bin/qemu-system-i386*": "#!/bin/sh\nexec /usr/libexec/qemu-system-i386 \"$@\"\n", "usr/libexec/qemu-system-i386*": elf,
	})
	defaults := config.Default()
	o := Options{Guests: defaults.GuestBinaries, Binaries: defaults.Enforce.Binaries}
	got := o.programs(root)
	all := root + "/" + strings.Join([]string{"usr/bin/kvm-spice", "usr/bin/qemu-system-i386", kvm, "usr/libexec/qemu-kvm", "usr/libexec/qemu-system-i386", "usr/local/qemu-2.12.1/bin/qemu-system-x86_64"}, ", "+root+"/")
	if len(got) != 1 || got[0].Grade != Good || got[0].Text != all {
		t.Errorf("got %+v, want %s", got, all)
	}

	file := filepath.Join(root, one)
	if err := os.WriteFile(file, []byte(elf), 0o755); err != nil {
		t.Fatal(err)
	}
	gap := func(path string, o Options) Item {
		t.Helper()
		for _, i := range o.programs(root) {
			if i.Name == "program "+filepath.Join(root, path) {
				return i
			}
		}
		return Item{}
	}
	want{Warning, "guest-binaries does not name it, so its guests are not seen; enforce.binaries does not name it", "add qemu-lite-system-x86_64 to guest-binaries; add " + file + " to enforce.binaries"}.check(t, gap(one, o))
	o.Guests = append(o.Guests, "qemu-lite-system-x86_64", "my-own-vmm-of-2026")
	want{Warning, "enforce.binaries does not name it, so its starts can't be held", "add " + file + " to enforce.binaries"}.check(t, gap(one, o))
	o.Binaries = append(o.Binaries, "/usr/bin/qemu-lite-system-x86_64", "/opt/vm/*")
	for _, path := range []string{one, mine} {
		if i := gap(path, o); i != (Item{}) || !strings.Contains(o.programs(root)[0].Text, path) {
			t.Errorf("%s is configured: %+v", path, i)
		}
	}
	// The service goes by what it found, and what it was configured to when it
	// last looked.
	o.Held = &hold.Status{Programs: []string{filepath.Join(root, kvm)}}
	want{Warning, "the service does not hold its starts", "systemctl reload bootrace"}.check(t, gap(one, o))
	if i := gap(kvm, o); i != (Item{}) {
		t.Errorf("the service holds it: %+v", i)
	}

	none := o.programs(t.TempDir())
	want{Warning, "no program that runs guests", "guest-binaries, and its path to enforce.binaries"}.check(t, none[0])
}

func TestService(t *testing.T) {
	want{Warning, "does not run", "systemctl enable --now bootrace"}.check(t, Options{}.service())
	want{Good, "process 7", ""}.check(t, Options{Service: "process 7"}.service())
	want{Warning, "gives no answer: it hangs", "systemctl restart bootrace"}.check(t, Options{ServiceErr: errors.New("it hangs")}.service())
	want{Warning, "only root may", "run it as root"}.check(t, Options{ServiceErr: fmt.Errorf("ask: %w (only root may)", fs.ErrPermission)}.service())
}

func TestAbilities(t *testing.T) {
	items := abilities(event.SourceInfo{Name: "ebpf", Abilities: []event.Ability{
		{Name: "dm", OK: true},
		{Name: "open", OK: true, Why: "not seen: io_uring"},
		{Name: "link", Why: "no such function"},
		{Name: backend.AbilityDMLiveInstant, Why: "dm_mod is not loaded yet"},
	}})
	for i, w := range []want{
		{Bad, "eBPF; not seen: exec, exit, so no verdict is possible", "CONFIG_KPROBE_EVENTS"},
		{Good, "attached", ""}, {Good, "attached; not seen: io_uring", ""},
		{Warning, "no such function", ""}, {Warning, "dm_mod is not loaded yet: the instant of an activation is known as a window", ""},
	} {
		w.check(t, items[i])
	}
}

// Where there are no probes the reason is told once, with its remedy.
func TestNoProbes(t *testing.T) {
	for why, remedy := range map[string]string{
		"start eBPF probes: not permitted: run as root; start tracefs probes: not permitted": "on the host, not in a container",
		"start eBPF probes: kernel has no BTF type information; no kprobe events":            "CONFIG_KPROBE_EVENTS",
	} {
		items := abilities(event.SourceInfo{Name: "process", Abilities: []event.Ability{
			{Name: "exec", OK: true}, {Name: "exit", Why: "connection refused"},
			{Name: "dm", Why: why}, {Name: "open", Why: why}, {Name: "link", Why: why}, {Name: backend.AbilityDMLiveInstant, Why: why},
		}})
		if len(items) != 3 {
			t.Fatalf("%d items: %+v", len(items), items)
		}
		want{Bad, "not seen: exit, dm, open, so no verdict is possible: connection refused; " + why, remedy}.check(t, items[0])
		want{Good, "attached", ""}.check(t, items[1])
		want{Warning, "connection refused", ""}.check(t, items[2])
	}
}

func TestOwn(t *testing.T) {
	want{Good, "root", ""}.check(t, own(rights.Rights{Root: true}))
	want{Bad, "not root", "sudo"}.check(t, own(rights.Rights{Missing: []string{"CAP_SYS_ADMIN"}}))
	want{Warning, "root without CAP_SYS_ADMIN; in a container", "--privileged --pid=host"}.check(t, own(rights.Rights{Root: true, Missing: []string{"CAP_SYS_ADMIN"}, Own: []string{"pid"}}))
}

// Each reason why probes can't be attached has its own remedy, also when it
// comes wrapped.
func TestRemedy(t *testing.T) {
	for err, want := range map[error]string{
		backend.ErrNotPermitted: "sudo",
		backend.ErrNoBTF:        "CONFIG_DEBUG_INFO_BTF",
		backend.ErrNoTracefs:    "mount -t tracefs",
		backend.ErrNotSupported: "5.8 or newer",
		backend.ErrRealTime:     "boot such a kernel",
	} {
		if got := (Options{}).remedy(fmt.Errorf("attach: %w", err)); !strings.Contains(got, want) {
			t.Errorf("%v: %s", err, got)
		}
	}
}

// With a running service its sources are reported, and nothing is tried.
func TestRunningService(t *testing.T) {
	o := Options{StateDir: t.TempDir(), Service: "process 7, since 3.000 s after the boot", Sources: []event.SourceInfo{
		{Name: "uevent", Abilities: []event.Ability{{Name: "uevent", OK: true}}},
		{Name: "ebpf", Abilities: []event.Ability{{Name: "dm", OK: true}}},
	}}
	r := Host(t.Context(), o)
	names := map[string]Item{}
	for _, i := range r.Items {
		names[i.Name] = i
	}
	if i := names["probe dm"]; i.Grade != Good {
		t.Errorf("probe: %+v", i)
	}
	if i := names["service"]; i.Grade != Good || i.Text != o.Service {
		t.Errorf("service: %+v", i)
	}
	if _, ok := names["probe open"]; ok {
		t.Error("the probes were tried")
	}
	if r.Kernel == "" || len(names) != len(r.Items) {
		t.Errorf("report %+v", r)
	}
	for _, i := range r.Items {
		if i.Grade == Bad && r.Trace {
			t.Errorf("can be traced in spite of %+v", i)
		}
	}
}

// Where starts can be held, it is said which launchers wait; elsewhere it is no subject.
func TestLaunchers(t *testing.T) {
	items := launchers(Item{Grade: Good})
	if len(items) != 1 || items[0].Grade != Good || !strings.Contains(items[0].Text, "wait one after the other") {
		t.Errorf("where starts can be held: %+v", items)
	}
	if items := launchers(Item{Grade: Bad}); len(items) > 0 {
		t.Errorf("where they can't: %+v", items)
	}
}
