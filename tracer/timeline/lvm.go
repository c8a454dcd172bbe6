package timeline

import (
	"cmp"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
)

// LVM is what LVM said, when it was asked.
type LVM struct {
	Instant
	event.LVMInfo
}

// Settings of LVM that keep a volume from being activated by itself, and states
// that keep it from being activated at all.
const (
	SettingNoGroup         = "no-such-group"
	SettingNoVolume        = "no-such-volume"
	SettingExported        = "exported"
	SettingIncomplete      = "incomplete-group"     // physical volumes are missing
	SettingUnhealthy       = "unhealthy"            // a thin pool that needs repair, a RAID leg that is gone
	SettingSkip            = "skip-flag"            // lvchange --setactivationskip y
	SettingAutoActivation  = "autoactivation-off"   // --setautoactivation n
	SettingAutoList        = "auto-activation-list" // activation/auto_activation_volume_list
	SettingVolumeList      = "volume-list"          // activation/volume_list
	SettingEventActivation = "event-activation-off" // global/event_activation=0
	SettingShared          = "shared-group"         // lvmlockd has to start its lock space
	configAutoList         = "activation/auto_activation_volume_list"
	configVolumeList       = "activation/volume_list"
	configEventActivation  = "global/event_activation"
)

// lvmFacts are all that LVM said, in order of time.
type lvmFacts []lvmFact

func (b *Builder) lvmFacts() lvmFacts {
	out := slices.Clone(b.lvm)
	slices.SortFunc(out, func(a, b lvmFact) int {
		return cmp.Or(a.compare(&b.stamp), cmp.Compare(a.info.VG, b.info.VG), cmp.Compare(a.info.LV, b.info.LV))
	})
	return out
}

func (l lvmFacts) list() []LVM {
	out := []LVM{}
	for _, f := range l {
		out = append(out, LVM{f.instant(), f.info})
	}
	return out
}

// pick returns the first answer after s that fits, else the last before: a
// setting may have been changed since, and the nearest answer is the best.
func (l lvmFacts) pick(s stamp, fits func(*event.LVMInfo) bool) *lvmFact {
	var found *lvmFact
	for i := range l {
		if !fits(&l[i].info) {
			continue
		}
		found = &l[i]
		if found.at >= s.at {
			break
		}
	}
	return found
}

// volume returns what LVM said of a volume, nil if it was not asked.
func (l lvmFacts) volume(vg, lv string, s stamp) *event.LVMInfo {
	f := l.pick(s, func(i *event.LVMInfo) bool { return i.VG == vg && i.LV == lv && i.Why == "" })
	if f == nil {
		return nil
	}
	return &f.info
}

// settings returns what keeps a volume from being activated, as LVM said after
// s, and the events that say so. asked is false where it was not asked, or gave
// no answer.
func (l lvmFacts) settings(vg, lv string, s stamp) (list []string, evidence []uint64, asked bool) {
	v := l.pick(s, func(i *event.LVMInfo) bool { return i.VG == vg && i.LV == lv && i.Why == "" })
	if v == nil {
		return nil, nil, false
	}
	evidence = []uint64{v.id}
	list = volumeSettings(&v.info)
	if !v.info.Found {
		return list, evidence, true
	}
	if c := l.pick(s, func(i *event.LVMInfo) bool { return i.Config != nil }); c != nil {
		if more := configSettings(&v.info, c.info.Config); len(more) > 0 {
			list, evidence = append(list, more...), append(evidence, c.id)
		}
	}
	return list, evidence, true
}

// refusal is why LVM gave no answer about a volume.
func (l lvmFacts) refusal(vg, lv string, s stamp) string {
	f := l.pick(s, func(i *event.LVMInfo) bool { return i.VG == vg && i.LV == lv && i.Why != "" })
	if f == nil {
		return ""
	}
	return f.info.Why
}

func volumeSettings(i *event.LVMInfo) []string {
	switch {
	case !i.GroupFound:
		return []string{SettingNoGroup}
	case !i.Found:
		return []string{SettingNoVolume}
	}
	var out []string
	for _, s := range []struct {
		name string
		set  bool
	}{
		{SettingExported, i.Exported},
		{SettingIncomplete, i.MissingPVs > 0},
		{SettingUnhealthy, i.Health != "" && i.MissingPVs == 0},
		{SettingSkip, i.SkipActivation},
		{SettingAutoActivation, i.NoAutoActivation},
		{SettingShared, i.LockType == "sanlock" || i.LockType == "dlm"},
	} {
		if s.set {
			out = append(out, s.name)
		}
	}
	return out
}

func configSettings(i *event.LVMInfo, config map[string]string) []string {
	var out []string
	for _, s := range []struct{ name, key string }{
		{SettingAutoList, configAutoList}, {SettingVolumeList, configVolumeList},
	} {
		if value, set := config[s.key]; set && !selects(value, i) {
			out = append(out, s.name)
		}
	}
	if config[configEventActivation] == "0" {
		out = append(out, SettingEventActivation)
	}
	return out
}

// selects reports whether a list of lvm.conf names the volume: by group, by
// group and volume, or by a tag (lvm.conf(5), volume_list). "@*" stands for any
// tag that the host has itself, which is not known here: it gets the benefit of
// the doubt.
func selects(list string, i *event.LVMInfo) bool {
	for item := range strings.FieldsFuncSeq(list, func(r rune) bool { return strings.ContainsRune(`[], "`, r) }) {
		tag, isTag := strings.CutPrefix(item, "@")
		switch {
		case item == "@*", item == i.VG, item == i.VG+"/"+i.LV:
			return true
		case isTag && slices.Contains(i.Tags, tag):
			return true
		}
	}
	return false
}
