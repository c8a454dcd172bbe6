package timeline

import (
	"cmp"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/devmap"
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
	SettingUnhealthy       = "unhealthy"            // it failed, such as a thin volume whose pool did
	SettingPool            = "pool-failed"          // the volume's thin pool did not come up
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
type lvmFacts struct {
	all     []lvmFact
	answers map[lvmKey][]*lvmFact // about a volume
	none    map[lvmKey][]*lvmFact // in which it gave no answer
	configs []*lvmFact
}

type lvmKey struct{ vg, lv string }

func (b *Builder) lvmFacts() *lvmFacts {
	l := &lvmFacts{all: slices.Clone(b.lvm), answers: map[lvmKey][]*lvmFact{}, none: map[lvmKey][]*lvmFact{}}
	slices.SortFunc(l.all, func(a, b lvmFact) int {
		return cmp.Or(a.compare(&b.stamp), cmp.Compare(a.info.VG, b.info.VG), cmp.Compare(a.info.LV, b.info.LV))
	})
	for i := range l.all {
		f := &l.all[i]
		key := lvmKey{f.info.VG, f.info.LV}
		switch {
		case f.info.Config != nil:
			l.configs = append(l.configs, f)
		case f.info.Why != "":
			l.none[key] = append(l.none[key], f)
		default:
			l.answers[key] = append(l.answers[key], f)
		}
	}
	return l
}

func (l *lvmFacts) list() []LVM {
	out := []LVM{}
	for i := range l.all {
		out = append(out, LVM{l.all[i].instant(), l.all[i].info})
	}
	return out
}

// pick returns the first answer to what was asked after s, else the last one: a
// setting may have been changed since, and the nearest answer is the best. LVM
// can take long, so the answer's own time says little.
func pick(list []*lvmFact, s stamp) *lvmFact {
	for _, f := range list {
		if f.from >= s.at {
			return f
		}
	}
	if n := len(list); n > 0 {
		return list[n-1]
	}
	return nil
}

// volume returns what LVM said of a volume, nil if it was not asked.
func (l *lvmFacts) volume(vg, lv string, s stamp) *event.LVMInfo {
	if f := pick(l.answers[lvmKey{vg, lv}], s); f != nil {
		return &f.info
	}
	return nil
}

// passing reports whether a setting is one of the group's present state, and not
// of its configuration.
func passing(setting string) bool {
	switch setting {
	case SettingNoGroup, SettingNoVolume, SettingIncomplete, SettingUnhealthy, SettingPool:
		return true
	}
	return false
}

// askedBefore reports whether all that LVM said of a volume was asked before s.
func (l *lvmFacts) askedBefore(vg, lv string, s stamp) bool {
	f := pick(l.answers[lvmKey{vg, lv}], s)
	return f != nil && f.from < s.at
}

// settings returns what keeps a volume from being activated, as LVM said after
// s, and the events that say so. asked is false where it was not asked, or gave
// no answer.
func (l *lvmFacts) settings(vg, lv string, s stamp) (list []string, evidence []uint64, asked bool) {
	v := pick(l.answers[lvmKey{vg, lv}], s)
	if v == nil {
		return nil, nil, false
	}
	evidence = []uint64{v.id}
	list = volumeSettings(&v.info)
	if !v.info.Found {
		return list, evidence, true
	}
	if c := pick(l.configs, stamp{from: v.from, at: v.from}); c != nil {
		if more := configSettings(&v.info, c.info.Config); len(more) > 0 {
			list, evidence = append(list, more...), append(evidence, c.id)
		}
	}
	return list, evidence, true
}

// refusal is why LVM gave no answer about a volume.
func (l *lvmFacts) refusal(vg, lv string, s stamp) string {
	if f := pick(l.none[lvmKey{vg, lv}], s); f != nil {
		return f.info.Why
	}
	return ""
}

// Settings returns what keeps a volume from being activated, by what LVM says
// of it and of its configuration.
func Settings(volume *event.LVMInfo, config map[string]string) []string {
	list := volumeSettings(volume)
	if volume.Found {
		list = append(list, configSettings(volume, config)...)
	}
	return list
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
		{SettingUnhealthy, i.Health == "failed"}, // "partial" is a missing physical volume
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

// ask looks up what LVM said about the volume.
func (r *record) ask(f *Finding, c *Cause) {
	vg, lv, ok := devmap.Volume(f.Disk)
	if m := r.mappings[f.Mapping]; m != nil && m.VG != "" {
		vg, lv, ok = m.VG, m.LV, true
	}
	if !ok {
		return
	}
	var evidence []uint64
	s := stamp{from: f.At, at: f.At}
	if f.Ready != nil {
		// Of a volume that came, LVM is best heard after that: what it did not
		// know while the disk was still away is no reason.
		s.at = max(s.at, f.Ready.At)
	}
	c.Settings, evidence, c.Asked = r.lvm.settings(vg, lv, s)
	if c.Asked && f.Ready != nil && r.lvm.askedBefore(vg, lv, s) {
		c.Settings = slices.DeleteFunc(c.Settings, passing)
	}
	if !c.Asked {
		c.NoAnswer = r.lvm.refusal(vg, lv, s)
	} else if layer := r.failedPool(vg, lv, s); layer != nil {
		c.Settings = append([]string{SettingPool}, c.Settings...)
		evidence = append(evidence, layer.Event)
	}
	c.Evidence = append(c.Evidence, evidence...)
}

// failedPool returns when the volume's thin pool was last begun to be made, if
// its metadata came up then and the pool itself did not become live since.
func (r *record) failedPool(vg, lv string, s stamp) *Instant {
	info := r.lvm.volume(vg, lv, s)
	if info == nil || info.Pool == "" {
		return nil
	}
	begun := r.latest(vg, info.Pool+"_tmeta", "tmeta", s, func(l *Life) *Instant { return l.Created })
	live := r.latest(vg, info.Pool, "tpool", s, func(l *Life) *Instant { return l.Live })
	if begun != nil && live != nil && live.At >= begun.At {
		return nil
	}
	return begun
}

// latest returns the last of the instants of a volume's layer up to s.
func (r *record) latest(vg, lv, layer string, s stamp, of func(*Life) *Instant) *Instant {
	var found *Instant
	for _, m := range r.mappings {
		if m.VG != vg || m.LV != lv || m.Layer != layer {
			continue
		}
		for _, l := range m.Lives {
			if i := of(l); i != nil && i.At <= s.at && (found == nil || i.compare(*found) > 0) {
				found = i
			}
		}
	}
	return found
}

func (c *Cause) neverRemedies() []string {
	if len(c.Settings) > 0 {
		return settingRemedies(c.Settings)
	}
	if cure := makerOf(c.Disks[0]); cure != "" {
		return []string{cure}
	}
	if !c.Asked {
		return []string{CureAskAgain}
	}
	return []string{CureOrder}
}

var remedyOf = map[string]string{
	SettingNoGroup: CureRecreate, SettingNoVolume: CureFindVolume, SettingExported: CureImport,
	SettingIncomplete: CureMissingPV, SettingUnhealthy: CureRepair, SettingPool: CureRepair, SettingSkip: CureSkip,
	SettingAutoActivation: CureAutoActivation, SettingAutoList: CureAutoList, SettingVolumeList: CureVolumeList,
	SettingEventActivation: CureEventActivation, SettingShared: CureLockStart,
}

func settingRemedies(settings []string) []string {
	var out []string
	for _, s := range settings {
		if cure, ok := remedyOf[s]; ok {
			out = union(out, []string{cure})
		}
	}
	return out
}
