// Package check says whether a host can be traced, with what, and if not why
// not and what to do. It tries instead of guessing: the probes are attached
// for a moment, and detached again.
package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/hold"
	"github.com/bootrace/bootrace/tracer/lvm"
	"github.com/bootrace/bootrace/tracer/probe"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/rights"
)

// Grade is how a check came out.
type Grade string

// The grades.
const (
	Good    Grade = "good"
	Warning Grade = "warning" // tracing works, with this limit
	Bad     Grade = "bad"     // tracing does not work
)

// Item is one check.
type Item struct {
	Name  string `json:"name"`
	Grade Grade  `json:"grade"`
	Text  string `json:"text"`
	// Remedy is what to do about it, empty where there is nothing to do.
	Remedy string `json:"remedy,omitempty"`
}

// Report is what was found on a host. Its JSON form is printed by `bootrace
// check --format json`, which exporters/json/schema.json describes.
type Report struct {
	Kernel string `json:"kernel"` // release
	// Trace is set if this host can be traced.
	Trace bool `json:"trace"`
	// Enforce is set if starts of guests can be held here, too.
	Enforce bool   `json:"enforce"`
	Items   []Item `json:"items"`
}

// Options say what the host's service is configured to do.
type Options struct {
	Guests   []string // as in probe.Options
	Probes   probe.Choice
	StateDir string
	// Service describes the running service, empty if there is none: then its
	// sources are known and nothing needs to be tried.
	Service string
	Sources []event.SourceInfo
	// ServiceErr says why a service that is there, or may be, gave no answer.
	ServiceErr error
	// FromInitramfs is set if the running service was started there.
	FromInitramfs bool
	// Mode and Binaries are the configuration's: what the service is to do, and
	// the patterns of the programs whose starts it is to hold.
	Mode     config.Mode
	Binaries []string
	// Held is what the running service holds, nil where it holds nothing.
	// HoldErr says why not, although it should.
	Held    *hold.Status
	HoldErr string
	// LVM runs LVM's commands; nil means the host's own.
	LVM lvm.Runner
	// Hold finds out whether starts can be held, and for how long; nil means to try.
	Hold func(context.Context) (hold.Bound, error)
}

// Host checks this host. It never fails: what can't be found out is an Item.
func Host(ctx context.Context, o Options) Report {
	var u unix.Utsname
	r := Report{}
	if unix.Uname(&u) == nil {
		r.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	r.add(own(rights.Own("/")), kernel(r.Kernel), deviceMapper("/", r.Kernel))
	r.add(lockdown("/")...)
	r.add(lsm("/")...)
	r.add(o.probes(ctx)...)
	r.add(udevd("/"), o.early("/"), state(o.StateDir))
	r.add(o.programs("/")...)
	r.add(libvirt("/")...)
	r.add(o.volumes(ctx, "/")...)
	r.add(o.service())
	r.Trace = !slices.ContainsFunc(r.Items, func(i Item) bool { return i.Grade == Bad })
	enforce := o.hold(ctx, "/")
	r.add(enforce)
	r.add(launchers(enforce)...)
	r.Enforce = r.Trace && enforce.Grade == Good
	return r
}

func (r *Report) add(items ...Item) { r.Items = append(r.Items, items...) }

// launchers says, where starts can be held, which launchers stand still meanwhile:
// an operator may not know how his are made.
func launchers(enforce Item) []Item {
	if enforce.Grade != Good {
		return nil
	}
	return []Item{{Name: "launchers", Grade: Good, Text: "one that waits until its child has executed (Go's os/exec, Python's subprocess, vfork) stands still while that start is held, so guests that it starts one after the other wait one after the other"}}
}

// own says what this process lacks, without which the probes may attach all the
// same: that is tried.
func own(r rights.Rights) Item {
	const name = "rights"
	text := r.Complaint()
	switch {
	case text == "":
		return Item{Name: name, Grade: Good, Text: "root"}
	case !r.Root:
		return Item{name, Bad, text, r.Remedy()}
	}
	return Item{name, Warning, text, r.Remedy()}
}

// deviceMapper looks for device-mapper in the running kernel, or as a module
// that can still be loaded.
func deviceMapper(root, release string) Item {
	const name = "device-mapper"
	if devmap.Registered(root) {
		return Item{Name: name, Grade: Good, Text: "loaded"}
	}
	if devmap.Available(root, release) {
		return Item{Name: name, Grade: Good, Text: "a module that is not loaded yet: its first mapping will be seen"}
	}
	return Item{name, Bad, "kernel " + release + " has none, so it has no logical volumes",
		"boot a kernel with CONFIG_BLK_DEV_DM, or install its modules under /lib/modules/" + release}
}

// probes reports each ability of the probes.
func (o Options) probes(ctx context.Context) []Item {
	i := slices.IndexFunc(o.Sources, func(s event.SourceInfo) bool { return probe.IsBackend(s.Name) })
	if i >= 0 {
		return o.withReason(ctx, o.Sources[i].Name, abilities(o.Sources[i]))
	}
	b, err := probe.Open(ctx, o.Probes, probe.Options{Guests: o.Guests})
	if err != nil {
		return []Item{{"probes", Bad, err.Error(), o.remedy(err)}}
	}
	items := abilities(b.Info())
	if err := b.Close(); err != nil {
		items[0].Text += "; " + err.Error()
	}
	return o.withReason(ctx, b.Info().Name, items)
}

// withReason adds to the second best way why it is not the best one, where
// nobody insisted on it.
func (o Options) withReason(ctx context.Context, used string, items []Item) []Item {
	way := &items[0]
	if used != "tracefs" || o.Probes == probe.Tracefs || way.Grade != Good {
		return items
	}
	b, err := probe.Open(ctx, probe.EBPF, probe.Options{Guests: o.Guests})
	if err != nil {
		way.Grade, way.Remedy = Warning, o.remedy(err)
		way.Text += ": " + err.Error()
		return items
	}
	if err := b.Close(); err != nil {
		way.Text += "; " + err.Error()
	}
	return items
}

// backendTexts say what a way to watch the kernel is.
var backendTexts = map[string]string{
	"ebpf":    "eBPF",
	"tracefs": "tracefs: kprobe events and the proc connector, without eBPF; a little later and dearer than eBPF",
	"process": "none: only what the kernel tells of processes, uevents and udev is left",
}

// watchedBy says which way is used, and whether verdicts are possible with it.
func watchedBy(info event.SourceInfo) Item {
	const name = "probes"
	missing := probe.NotSeen(info)
	if len(missing) == 0 {
		return Item{Name: name, Grade: Good, Text: backendTexts[info.Name]}
	}
	item := Item{Name: name, Grade: Bad, Text: fmt.Sprintf("%s; not seen: %s, so no verdict is possible", backendTexts[info.Name], strings.Join(missing, ", "))}
	why := whyNot(info)
	if why != "" {
		item.Text += ": " + why
	}
	item.Remedy = cmp.Or(backendRemedy(why), "boot a kernel with kprobes (CONFIG_KPROBE_EVENTS), as all server distributions have, or with eBPF and BTF")
	return item
}

// whyNot is why what is missing is not seen.
func whyNot(info event.SourceInfo) string {
	var reasons []string
	for _, a := range info.Abilities {
		if !a.OK && a.Why != "" && slices.Contains(probe.NotSeen(info), a.Name) && !slices.Contains(reasons, a.Why) {
			reasons = append(reasons, a.Why)
		}
	}
	return strings.Join(reasons, "; ")
}

// backendRemedy is for rights: with them, the kernel may well have probes.
func backendRemedy(why string) string {
	if strings.Contains(why, "not permitted") {
		return "run it as root on the host, not in a container; kernel lockdown must not be \"confidentiality\""
	}
	return ""
}

// abilities has an item for the way in which the kernel is watched, and one for
// each ability of it. Where there are no probes, the first says so for all.
func abilities(info event.SourceInfo) []Item {
	items := []Item{watchedBy(info)}
	for _, a := range info.Abilities {
		item := Item{Name: "probe " + a.Name, Grade: Good, Text: "attached"}
		switch {
		case a.OK && a.Why != "":
			item.Text += "; " + a.Why
		case a.OK:
		case info.Name == "process" && !slices.Contains([]string{backend.AbilityExec, backend.AbilityExit}, a.Name):
			continue
		case a.Name == backend.AbilityDMLiveInstant:
			item.Grade, item.Text = Warning, a.Why+": the instant of an activation is known as a window, from entry to exit of the request"
		default:
			item.Grade, item.Text = Warning, a.Why
		}
		items = append(items, item)
	}
	return items
}

// remedy is for probes that can't be attached.
func (o Options) remedy(err error) string {
	switch {
	case errors.Is(err, backend.ErrNotPermitted):
		return "run it with sudo; in a container it needs CAP_SYS_ADMIN; kernel lockdown must not forbid eBPF"
	case errors.Is(err, backend.ErrNoBTF):
		return "boot a kernel with CONFIG_DEBUG_INFO_BTF: Debian 11, RHEL 8.2, Ubuntu 20.10 or newer have one"
	case errors.Is(err, backend.ErrNoTracefs):
		return "mount -t tracefs tracefs /sys/kernel/tracing"
	case errors.Is(err, backend.ErrRealTime):
		return "boot such a kernel" // the error says which
	case o.Probes == probe.Tracefs:
		return "boot a kernel with kprobes (CONFIG_KPROBE_EVENTS), or set probes: auto"
	default:
		return "boot kernel 5.8 or newer"
	}
}

func udevd(root string) Item {
	if _, err := os.Stat(filepath.Join(root, "run/udev/control")); err != nil {
		return Item{"udev", Warning, "does not run: no link under /dev will appear, and nothing becomes ready", "start systemd-udevd"}
	}
	return Item{Name: "udev", Grade: Good, Text: "runs"}
}

// makers are what makes an initramfs, in the order in which they are looked for.
// (Other packages have files for initramfs-tools where it is not installed.)
var makers = []struct{ name, there, installed, install, rebuild string }{
	{"initramfs-tools", "usr/share/initramfs-tools/init", "usr/share/initramfs-tools/scripts/init-top/bootrace", "make install INITRAMFS=yes", "update-initramfs -u"},
	{"dracut", "usr/lib/dracut/dracut-functions.sh", "usr/lib/dracut/modules.d/90bootrace/module-setup.sh", "make install DRACUT=yes", "dracut --force"},
}

// early says whether bootrace starts early enough on this host: before the first
// volume group comes up, and that is in the initramfs. Of this boot the running
// service knows.
func (o Options) early(root string) Item {
	const name, late = "early start", "volumes that come up in the initramfs are found later, not seen"
	if o.FromInitramfs {
		return Item{Name: name, Grade: Good, Text: "in this boot it was there from the initramfs on"}
	}
	has := func(path string) bool {
		_, err := os.Stat(filepath.Join(root, path))
		return err == nil
	}
	for _, m := range makers {
		switch {
		case !has(m.there):
		case !has(m.installed):
			return Item{name, Warning, "not installed: " + late, m.install + ", then " + m.rebuild}
		case o.Service != "":
			return Item{name, Warning, "installed, but in this boot it was not there from the initramfs on: " + late,
				m.rebuild + ", and reboot; the kernel command line must not say bootrace.early=0"}
		default:
			return Item{Name: name, Grade: Good, Text: m.name + " starts bootrace (after " + m.rebuild + ")"}
		}
	}
	return Item{Name: name, Grade: Warning, Text: "this host has neither initramfs-tools nor dracut: " + late}
}

func state(dir string) Item {
	const name = "state folder"
	existing := dir
	for {
		if _, err := os.Stat(existing); err == nil || existing == "/" {
			break
		}
		existing = filepath.Dir(existing)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(existing, &st); err != nil {
		return Item{name, Warning, fmt.Sprintf("%s: %v", dir, err), "make it a folder that root can write"}
	}
	free := st.Bavail * uint64(st.Bsize)
	text := fmt.Sprintf("%s, %s free", dir, humanize.IBytes(free))
	if st.Flags&unix.ST_RDONLY != 0 {
		return Item{name, Warning, text + ", read-only: logs stay in /run and end with the boot", "mount it writable"}
	}
	if free < 64<<20 {
		return Item{name, Warning, text, "make room: a boot's log takes some megabytes"}
	}
	return Item{Name: name, Grade: Good, Text: text}
}

func (o Options) service() Item {
	const name = "service"
	switch {
	case errors.Is(o.ServiceErr, fs.ErrPermission):
		return Item{name, Warning, o.ServiceErr.Error(), "run it as root"}
	case o.ServiceErr != nil:
		return Item{name, Warning, "gives no answer: " + o.ServiceErr.Error(), "journalctl -u bootrace; then systemctl restart bootrace"}
	case o.Service == "":
		return Item{name, Warning, "does not run", "systemctl enable --now bootrace"}
	}
	return Item{Name: name, Grade: Good, Text: o.Service}
}
