package check

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/kernels"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/lvm"
	"github.com/bootrace/bootrace/tracer/memory"
	"github.com/bootrace/bootrace/tracer/rights"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// kernel says whether this kernel's series is one that bootrace is tested with.
// What it can do is tried all the same.
func kernel(release string) Item {
	const name = "kernel"
	for _, k := range kernels.All() {
		if strings.HasPrefix(release, k.Name+".") || strings.HasPrefix(release, k.Name+"-") {
			return Item{Name: name, Grade: Good, Text: release + ": bootrace is tested with the series " + k.Name + " of " + k.Of}
		}
	}
	return Item{Name: name, Grade: Good, Text: release + ": not a series that bootrace is tested with; what it can do was tried"}
}

// lockdown says what the kernel's lockdown forbids.
func lockdown(root string) []Item {
	const name = "lockdown"
	mode := rights.Lockdown(root)
	switch mode {
	case "":
		return nil // not built in
	case rights.Confidentiality:
		return []Item{{name, Warning, mode + ": the kernel forbids probes", "boot with lockdown=integrity, or none"}}
	}
	return []Item{{Name: name, Grade: Good, Text: mode}}
}

// lsm looks at the security modules for what keeps bootrace from its work. It
// needs none of them.
func lsm(root string) []Item {
	const name = "security modules"
	list, err := os.ReadFile(filepath.Join(root, "sys/kernel/security/lsm"))
	if err != nil {
		return nil // not told
	}
	item := Item{Name: name, Grade: Good, Text: strings.TrimSpace(string(list))}
	is := func(path, value string) bool {
		text, err := os.ReadFile(filepath.Join(root, path))
		return err == nil && strings.TrimSpace(string(text)) == value
	}
	switch {
	case is("proc/sys/kernel/yama/ptrace_scope", "3"):
		item.Grade = Warning
		item.Text += "; yama forbids to read any process, so the disks of a start that is being held are not known"
		item.Remedy = "for enforce mode, boot with kernel.yama.ptrace_scope at 2 or less: it cannot be lowered in a running kernel"
	case is("sys/fs/selinux/enforce", "1"):
		item.Text += "; SELinux enforces: what it denies bootrace is in the audit log (ausearch -m avc -c bootraced)"
	}
	return []Item{item}
}

// settingTexts say what keeps a volume from being activated by itself, and what
// to do; {volume} is VG/LV.
var settingTexts = map[string]struct{ text, remedy string }{
	timeline.SettingNoGroup:         {"LVM knows no such group", "look for its physical volumes: pvs -a; the devices file (lvmdevices) and filters can hide them"},
	timeline.SettingNoVolume:        {"LVM knows no such volume", "look for it: lvs -a"},
	timeline.SettingDamaged:         {"LVM could not read the metadata of a disk", "look at what vgs and pvck say of it before anything is written to it"},
	timeline.SettingFilter:          {"a filter in lvm.conf can hide its disks", "look whether the filter rejects them; the initramfs has its own copy"},
	timeline.SettingDevicesFile:     {"LVM looks only at disks in its devices file", "lvmdevices; lvmdevices --adddev DISK"},
	timeline.SettingForeign:         {"its group belongs to another host, by its system ID", "start the guest there; vgchange --systemid only if no other host uses it"},
	timeline.SettingClustered:       {"its group is clustered, and LVM passes over it unless clvmd runs", "start clvmd before guests, or make it a shared group (lvmlockd(8))"},
	timeline.SettingSameName:        {"more than one group has its group's name", "rename one by its UUID: vgs -o +vg_uuid; vgrename UUID NAME"},
	timeline.SettingDuplicate:       {"a physical volume of its group is there twice", "pvs -a -o +pv_duplicate: multipath, a filter, or vgimportclone"},
	timeline.SettingExported:        {"its group is exported", "vgimport the group"},
	timeline.SettingIncomplete:      {"physical volumes of its group are missing", "bring them back; the devices file (lvmdevices) and filters can hide them"},
	timeline.SettingUnhealthy:       {"it is not healthy", "lvs -o +lv_health_status {volume}"},
	timeline.SettingSkip:            {"it has the flag to skip activation", "lvchange --setactivationskip n {volume}"},
	timeline.SettingAutoActivation:  {"autoactivation is off for it or its group", "lvchange --setautoactivation y {volume}, unless something else activates it"},
	timeline.SettingAutoList:        {"activation/auto_activation_volume_list does not name it", "add {volume} to the list in lvm.conf, and rebuild the initramfs"},
	timeline.SettingVolumeList:      {"activation/volume_list does not name it", "add {volume} to the list in lvm.conf, and rebuild the initramfs"},
	timeline.SettingEventActivation: {"global/event_activation is 0, so no device that appears activates anything", "set it to 1 in lvm.conf, or have a unit run vgchange -aay before guests start"},
	timeline.SettingShared:          {"its group is shared, so lvmlockd has to start its locks first", "start lvmlockd and its lock spaces before guests"},
}

// volumes warns of each logical volume that a guest last ran on and that
// nothing will activate by itself.
func (o Options) volumes(ctx context.Context, root string) []Item {
	const name = "lvm"
	run := o.LVM
	if run == nil {
		run = lvm.Command{}
	}
	used, err := guestVolumes(o.StateDir)
	if err != nil {
		return []Item{{Name: name, Grade: Warning, Text: "what guests ran on is not known: " + err.Error()}}
	}
	units := activationUnits(root)
	config, err := lvm.Config(ctx, run)
	if lvm.Missing(err) {
		return []Item{{Name: name, Grade: Good, Text: "not installed"}}
	}
	if err != nil {
		return []Item{{Name: name, Grade: Warning, Text: "its settings are not known: " + err.Error()}}
	}
	if len(used) == 0 {
		return []Item{settings(config, units), {Name: "guest volumes", Grade: Good, Text: "none is known yet: no recorded guest ran on a logical volume"}}
	}
	answers := lvm.Ask(ctx, run, used)
	items := []Item{settings(config, units)}
	unanswered := map[string][]string{} // volumes, by the reason
	for i := range answers {
		switch v := &answers[i]; {
		case v.VG == "":
		case v.Why != "":
			unanswered[v.Why] = append(unanswered[v.Why], v.VG+"/"+v.LV)
		default:
			items = append(items, volume(v, config, units)...)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(unanswered)) {
		items = append(items, Item{Name: "guest volumes", Grade: Warning, Text: "LVM gave no answer about " + some(unanswered[why]) + ": " + why})
	}
	if len(items) == 1 {
		items = append(items, Item{Name: "guest volumes", Grade: Good, Text: fmt.Sprintf("all %d that guests last ran on are activated by themselves", len(used))})
	}
	return items
}

// some names the first of a list, and says how many more there are.
func some(list []string) string {
	const most = 8
	text := strings.Join(list[:min(len(list), most)], ", ")
	if more := len(list) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// activationUnits says whether systemd has units that activate everything once
// where event activation is off: LVM's generator makes them, in the versions
// that have one.
func activationUnits(root string) bool {
	for _, dir := range []string{"usr/lib", "lib"} {
		if _, err := os.Stat(filepath.Join(root, dir, "systemd/system-generators/lvm2-activation-generator")); err == nil {
			return true
		}
	}
	return false
}

// settings are those that hold for all volumes.
func settings(config map[string]string, units bool) Item {
	var parts []string
	for _, key := range []string{"global/event_activation", "activation/auto_activation_volume_list", "activation/volume_list", "devices/use_devicesfile", "devices/global_filter", "devices/filter"} {
		if value, set := config[key]; set {
			parts = append(parts, key+"="+value)
		}
	}
	item := Item{Name: "lvm", Grade: Good, Text: strings.Join(parts, ", ")}
	if item.Text == "" {
		item.Text = "defaults"
	}
	if config["global/event_activation"] == "0" {
		item.Grade = Warning
		item.Remedy = settingTexts[timeline.SettingEventActivation].remedy
		if units {
			item.Text += "; units of systemd activate once what is there when they run, and nothing that comes later"
		}
	}
	return item
}

func volume(v *event.LVMInfo, config map[string]string, units bool) []Item {
	id := v.VG + "/" + v.LV
	item := func(text, remedy string) Item {
		return Item{"volume " + id, Warning, "a guest's, and nothing activates it: " + text, strings.ReplaceAll(remedy, "{volume}", id)}
	}
	var items []Item
	var texts, remedies []string
	settings := timeline.Settings(v, config)
	for _, setting := range settings {
		if setting == timeline.SettingEventActivation && units {
			continue
		}
		t := settingTexts[setting]
		items = append(items, item(t.text, t.remedy))
		texts, remedies = append(texts, t.text), append(remedies, t.remedy)
	}
	if len(items) > 1 && settings[0] == timeline.SettingNoGroup { // the others can be why
		return []Item{item(strings.Join(texts, "; "), strings.Join(remedies, "; "))}
	}
	return items
}

// guestVolumes lists the logical volumes that guests last ran on, by the memory
// in the state folder.
func guestVolumes(dir string) ([]lvm.Volume, error) {
	list, err := memory.Read(dir)
	if err != nil && list == nil {
		return nil, err
	}
	var volumes []lvm.Volume
	for i := range list {
		for _, d := range list[i].Disks {
			if _, isLVM := devmap.ParseLVMUUID(d.UUID); !isLVM {
				continue
			}
			vg, lv, layer, ok := devmap.SplitName(d.Name)
			if v := (lvm.Volume{VG: vg, LV: lv}); ok && layer == "" && !slices.Contains(volumes, v) {
				volumes = append(volumes, v)
			}
		}
	}
	slices.SortFunc(volumes, func(a, b lvm.Volume) int { return strings.Compare(a.VG+"/"+a.LV, b.VG+"/"+b.LV) })
	return volumes, nil
}
