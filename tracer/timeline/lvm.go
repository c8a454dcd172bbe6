package timeline

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
)

// LVM is what LVM said, when it was asked.
type LVM struct {
	Instant
	event.LVMInfo
}

// Settings of LVM that keep a volume from being activated by itself, and states
// that keep it from being activated at all. The first are LVM's answers; the
// last, from SettingNotAnnounced on, follow from the record.
const (
	SettingNoGroup         = "no-such-group"
	SettingNoVolume        = "no-such-volume"
	SettingDamaged         = "damaged-metadata" // LVM could not read a disk's metadata
	SettingFilter          = "filter"           // devices/filter or global_filter may hide the group's disks
	SettingDevicesFile     = "devices-file"     // devices/use_devicesfile may, too
	SettingForeign         = "foreign-group"    // another host's, by its system ID
	SettingClustered       = "clustered-group"  // clvmd has to run
	SettingSameName        = "same-name"        // two groups have the name
	SettingDuplicate       = "duplicate-pv"     // a physical volume is there twice
	SettingExported        = "exported"
	SettingIncomplete      = "incomplete-group"     // physical volumes are missing
	SettingUnhealthy       = "unhealthy"            // it failed, such as a thin volume whose pool did
	SettingSkip            = "skip-flag"            // lvchange --setactivationskip y
	SettingAutoActivation  = "autoactivation-off"   // --setautoactivation n
	SettingAutoList        = "auto-activation-list" // activation/auto_activation_volume_list
	SettingVolumeList      = "volume-list"          // activation/volume_list
	SettingEventActivation = "event-activation-off" // global/event_activation=0
	SettingShared          = "shared-group"         // lvmlockd has to start its lock space

	SettingNotAnnounced   = "not-announced"    // udev did not call a disk of the group LVM's
	SettingFilterLinks    = "filter-by-link"   // the filter accepts a disk only by a link
	SettingPool           = "pool-failed"      // the thin pool's metadata came and went, without the pool
	SettingPoolUnfinished = "pool-unfinished"  // its parts are live, the pool is not
	SettingPoolPart       = "pool-part-active" // a part of it is active by itself
	SettingPoolGivenUp    = "pool-given-up"    // it came up, and the same command took it down
	SettingPoolTakenDown  = "pool-taken-down"  // it came up, and another command did

	configAutoList        = "activation/auto_activation_volume_list"
	configVolumeList      = "activation/volume_list"
	configEventActivation = "global/event_activation"
	configFilter          = "devices/filter"
	configGlobalFilter    = "devices/global_filter"
	configDevicesFile     = "devices/use_devicesfile"
)

// LVMDetail is what the words about a Cause's settings need beside their names.
type LVMDetail struct {
	Owner   string   `json:"owner,omitempty"`   // the system ID that the group belongs to
	Pool    string   `json:"pool,omitempty"`    // the thin pool, VG/LV
	Part    string   `json:"part,omitempty"`    // the part of it that is active, VG/LV
	Devices []string `json:"devices,omitempty"` // physical volumes that a setting is about
	Filter  string   `json:"filter,omitempty"`  // as lvmconfig prints it
	Said    string   `json:"said,omitempty"`    // LVM's message
}

func (d *LVMDetail) equal(o *LVMDetail) bool {
	if d == nil || o == nil {
		return d == o
	}
	return d.Owner == o.Owner && d.Pool == o.Pool && d.Part == o.Part && d.Filter == o.Filter && d.Said == o.Said &&
		slices.Equal(d.Devices, o.Devices)
}

// Inferred reports whether a setting follows from the record, and is not what
// LVM answered.
func Inferred(setting string) bool {
	switch setting {
	case SettingNotAnnounced, SettingFilterLinks, SettingPool, SettingPoolUnfinished, SettingPoolPart, SettingPoolGivenUp, SettingPoolTakenDown:
		return true
	}
	return false
}

// lvmFacts are all that LVM said, in order of time.
type lvmFacts struct {
	all     []lvmFact
	answers map[lvmKey][]*lvmFact // about a volume
	none    map[lvmKey][]*lvmFact // in which it gave no answer
	configs []*lvmFact
	filters map[string]filter // by their text: one serves many volumes
}

type lvmKey struct{ vg, lv string }

func (b *Builder) lvmFacts() *lvmFacts {
	l := &lvmFacts{all: slices.Clone(b.lvm), answers: map[lvmKey][]*lvmFact{}, none: map[lvmKey][]*lvmFact{}, filters: map[string]filter{}}
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
	case SettingNoGroup, SettingNoVolume, SettingDamaged, SettingFilter, SettingDevicesFile, SettingDuplicate, SettingIncomplete, SettingUnhealthy, SettingPool:
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
	return append(volumeSettings(volume), configSettings(volume, config)...)
}

func volumeSettings(i *event.LVMInfo) []string {
	var out []string
	// Of a group that LVM does not open it does not say what is in it.
	opened := i.Owner == "" && (i.Found || !i.Clustered && !i.Exported)
	for _, s := range []struct {
		name string
		set  bool
	}{
		{SettingNoGroup, !i.GroupFound},
		{SettingNoVolume, i.GroupFound && !i.Found && opened},
		{SettingDamaged, i.Damaged != "" && !i.Found && opened},
		{SettingForeign, i.Owner != ""},
		{SettingClustered, i.Clustered},
		{SettingSameName, i.SameName > 1},
		{SettingExported, i.Exported},
		{SettingDuplicate, slices.ContainsFunc(i.PVs, func(p event.LVMPV) bool { return p.Duplicate })},
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
	if !i.GroupFound || i.MissingPVs > 0 { // what may hide its disks
		if filterOf(config) != "" {
			out = append(out, SettingFilter)
		}
		if config[configDevicesFile] == "1" {
			out = append(out, SettingDevicesFile)
		}
	}
	if !i.Found {
		return out
	}
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

// ask looks up what LVM said about the volume, and what the record says of it
// in the light of that.
func (r *record) ask(f *Finding, c *Cause) {
	vg, lv, ok := devmap.Volume(f.Disk)
	if m := r.mappings[f.Mapping]; m != nil && m.VG != "" {
		vg, lv, ok = m.VG, m.LV, true
	}
	if !ok {
		return
	}
	s := stamp{from: f.At, at: f.At}
	if f.Ready != nil {
		// Of a volume that came, LVM is best heard after that: what it did not
		// know while the disk was still away is no reason.
		s.at = max(s.at, f.Ready.At)
	}
	var evidence []uint64
	c.Settings, evidence, c.Asked = r.lvm.settings(vg, lv, s)
	if !c.Asked {
		c.NoAnswer = r.lvm.refusal(vg, lv, s)
		return
	}
	if f.Ready != nil && r.lvm.askedBefore(vg, lv, s) {
		c.Settings = slices.DeleteFunc(c.Settings, passing)
		if len(c.Settings) == 0 {
			evidence = evidence[:1] // the configuration says nothing then
		}
	}
	info := r.lvm.volume(vg, lv, s)
	config, configID := r.lvm.config(vg, lv, s)
	d := LVMDetail{Owner: info.Owner, Said: info.Damaged}
	if f.Ready == nil && info.Found {
		evidence = append(evidence, r.infer(info, config, c, &d)...)
	}
	if slices.Contains(c.Settings, SettingFilterLinks) {
		evidence = append(evidence, configID)
	}
	if slices.Contains(c.Settings, SettingFilter) {
		d.Filter = filterOf(config)
	}
	if slices.Contains(c.Settings, SettingDuplicate) {
		d.Devices = names(info.PVs, func(p *event.LVMPV) bool { return p.Duplicate })
	}
	if slices.Contains(c.Settings, SettingUnhealthy) && info.Pool != "" {
		d.Pool = info.VG + "/" + info.Pool
	}
	if !d.equal(&LVMDetail{}) {
		c.LVM = &d
	}
	c.Evidence = append(c.Evidence, evidence...)
}

// infer adds what the record of this boot has against a volume that LVM knows,
// and that nothing made: first its thin pool's fate, then what kept LVM's rule
// of udev from looking at its disks.
func (r *record) infer(info *event.LVMInfo, config map[string]string, c *Cause, d *LVMDetail) (evidence []uint64) {
	if fault := r.poolFault(info.VG, info.Pool); fault != nil {
		c.Settings = append([]string{fault.setting}, c.Settings...)
		d.Pool, c.By = info.VG+"/"+info.Pool, fault.by
		if fault.part != "" {
			d.Part = info.VG + "/" + fault.part
		}
		evidence = append(evidence, fault.evidence...)
	}
	if len(c.Settings) > 0 {
		return evidence
	}
	for i := range info.PVs {
		p := &info.PVs[i]
		if p.Dev == nil || p.Missing || p.Duplicate {
			continue
		}
		disk := r.disks[*p.Dev]
		if e := disk.unannounced(); e != nil {
			c.Settings = union(c.Settings, []string{SettingNotAnnounced})
			d.Devices = union(d.Devices, []string{p.Name})
			evidence = append(evidence, e.id)
		}
		if disk == nil || len(disk.events) == 0 {
			continue
		}
		node := "/dev/" + r.h.names.get(disk.events[len(disk.events)-1].name)
		for _, key := range []string{configGlobalFilter, configFilter} {
			if r.lvm.filter(config[key]).rejects(node) { // LVM sees the disk: it accepts it by another name
				c.Settings = union(c.Settings, []string{SettingFilterLinks})
				d.Devices, d.Filter = union(d.Devices, []string{p.Name}), key+"="+config[key]
			}
		}
	}
	return evidence
}

func names(pvs []event.LVMPV, is func(*event.LVMPV) bool) []string {
	var out []string
	for i := range pvs {
		if is(&pvs[i]) {
			out = append(out, pvs[i].Name)
		}
	}
	return out
}

// config is the configuration that goes with the answer about a volume.
func (l *lvmFacts) config(vg, lv string, s stamp) (config map[string]string, id uint64) {
	v := pick(l.answers[lvmKey{vg, lv}], s)
	if v == nil {
		return nil, 0
	}
	if c := pick(l.configs, stamp{from: v.from, at: v.from}); c != nil {
		return c.info.Config, c.id
	}
	return nil, 0
}

// unannounced returns udev's last word on a disk that is a physical volume, if
// udev does not call it one there. LVM's rule then did not run for it: the rule
// goes by ID_FS_TYPE (69-dm-lvm.rules, before lvm2 2.03.14 69-dm-lvm-metad.rules).
// What udev said before does not count: the number may have been another disk's,
// as that of a loop device, and pvcreate itself has udev look.
func (f *diskFact) unannounced() *diskEvent {
	if f == nil {
		return nil
	}
	for i := range slices.Backward(f.events) {
		e := &f.events[i]
		switch {
		case e.removed, !e.done && !e.found:
		case e.pv || e.usable == blockdev.Empty:
			return nil
		default:
			return e
		}
	}
	return nil
}

// poolFault is what kept a thin pool from being there.
type poolFault struct {
	setting  string
	part     string
	by       *event.Proc
	evidence []uint64
}

// atOnce is how soon after it became live a pool is gone that its command gave
// up, where the record does not tell which process did it.
const atOnce = 2 * time.Second

// poolFault says what became of a thin pool in this boot, nil if it runs, or if
// nobody began to make it. LVM makes the parts first, has the metadata checked
// (thin_check), makes the pool, compares its transaction_id, and takes all of it
// down again where something is wrong. It refuses a pool of which a part is
// active already.
func (r *record) poolFault(vg, pool string) *poolFault {
	if pool == "" {
		return nil
	}
	meta, data := r.lastLife(vg, pool+"_tmeta", "tmeta"), r.lastLife(vg, pool+"_tdata", "tdata")
	top := r.lastLife(vg, pool, "tpool")
	if top != nil && top.Live != nil && top.Removed == nil {
		return nil
	}
	if top != nil && top.Live != nil && (meta == nil || begun(meta) <= top.Removed.At) {
		return takenDown(top)
	}
	switch {
	case running(meta) && running(data):
		return &poolFault{setting: SettingPoolUnfinished, evidence: []uint64{meta.Live.Event, data.Live.Event}}
	case running(meta):
		return &poolFault{setting: SettingPoolPart, part: pool + "_tmeta", evidence: []uint64{meta.Live.Event}}
	case running(data):
		return &poolFault{setting: SettingPoolPart, part: pool + "_tdata", evidence: []uint64{data.Live.Event}}
	case meta == nil:
		return nil
	case meta.Live != nil && meta.Removed != nil:
		return &poolFault{setting: SettingPool, by: maker(meta), evidence: []uint64{meta.Live.Event, meta.Removed.Event}}
	case meta.Created != nil:
		return &poolFault{setting: SettingPoolUnfinished, evidence: []uint64{meta.Created.Event}}
	}
	return nil
}

// takenDown tells the command that gave its pool up from one that came later.
func takenDown(top *Life) *poolFault {
	out := &poolFault{setting: SettingPoolTakenDown, evidence: []uint64{top.Live.Event, top.Removed.Event}}
	made := maker(top)
	for i := range top.Steps {
		if s := &top.Steps[i]; s.Kind == StepRemoved {
			out.by = s.By
		}
	}
	same := made != nil && out.by != nil && made.PID == out.by.PID
	if unknown := made == nil || out.by == nil; same || unknown && top.Removed.At.Sub(top.Live.At) < atOnce {
		out.setting = SettingPoolGivenUp
	}
	return out
}

func maker(l *Life) *event.Proc {
	for i := range l.Steps {
		if s := &l.Steps[i]; s.Kind == StepCreated {
			return s.By
		}
	}
	return nil
}

func running(l *Life) bool { return l != nil && l.Live != nil && l.Removed == nil }

// begun is when the life began, or was first seen.
func begun(l *Life) event.Time {
	if l.Created != nil {
		return l.Created.At
	}
	if len(l.Steps) > 0 {
		return l.Steps[0].At
	}
	return 0
}

// lastLife returns the last life of a volume's layer in this boot.
func (r *record) lastLife(vg, lv, layer string) *Life {
	var found *Life
	for _, m := range r.mappings {
		if m.VG != vg || m.LV != lv || m.Layer != layer {
			continue
		}
		for _, l := range m.Lives {
			if found == nil || begun(l) >= begun(found) {
				found = l
			}
		}
	}
	return found
}

// filterOf returns the filter that is set, global_filter first, empty if none
// is.
func filterOf(config map[string]string) string {
	for _, key := range []string{configGlobalFilter, configFilter} {
		if list := patterns(config[key]); len(list) > 0 && !list[0].all() {
			return key + "=" + config[key]
		}
	}
	return ""
}

// pattern is one of a filter: it accepts or rejects the names that it matches
// (lvm.conf(5), devices/filter).
type pattern struct {
	accepts bool
	text    string
}

// all reports whether it accepts everything, as the default does.
func (p pattern) all() bool {
	return p.accepts && slices.Contains([]string{"", ".", ".*", "^.*", ".*$", "^.*$", "/"}, p.text)
}

// patterns reads a list of texts in quotes, each an "a" or "r" and an expression
// between delimiters.
func patterns(value string) []pattern {
	var out []pattern
	for {
		_, rest, ok := strings.Cut(value, `"`)
		if !ok {
			return out
		}
		text, rest, ok := strings.Cut(rest, `"`)
		if !ok || len(text) < 2 {
			return out
		}
		value = rest
		closing := text[1]
		if i := strings.IndexByte("([{", closing); i >= 0 {
			closing = ")]}"[i]
		}
		text, accepts := text[:1]+text[2:], text[0] == 'a'
		end := strings.LastIndexByte(text, closing)
		out = append(out, pattern{accepts, text[1:max(end, 1)]})
	}
}

// filter is a filter's patterns, compiled; nil where one is no expression that
// is understood here.
type filter []struct {
	*regexp.Regexp
	accepts bool
}

func (l *lvmFacts) filter(value string) filter {
	f, ok := l.filters[value]
	if !ok {
		f = compile(patterns(value))
		l.filters[value] = f
	}
	return f
}

func compile(list []pattern) filter {
	f := make(filter, len(list))
	for i, p := range list {
		re, err := regexp.Compile(p.text)
		if err != nil {
			return nil
		}
		f[i].Regexp, f[i].accepts = re, p.accepts
	}
	return f
}

// rejects reports whether a filter rejects a device that has only this one name
// yet: the first pattern that matches decides. False if that cannot be told.
func (f filter) rejects(name string) bool {
	for i := range f {
		if f[i].MatchString(name) {
			return !f[i].accepts
		}
	}
	return false
}

// neverRemedies: where a setting is known, that; else LVM's own message is the
// next to look at. It is not known that nobody asked for the volume, so nothing
// is said of an order.
func (c *Cause) neverRemedies() []string {
	if len(c.Settings) > 0 {
		return c.settingRemedies()
	}
	if cure := c.maker(); cure != "" {
		return []string{cure}
	}
	if !c.Asked {
		return []string{CureAskAgain}
	}
	return []string{CureActivate}
}

// Remedies has the cures for each setting, in their order: what can destroy last.
var Remedies = map[string][]string{
	SettingNoGroup: {CureFindGroup}, SettingNoVolume: {CureFindVolume}, SettingDamaged: {CureMetadata},
	SettingFilter: {CureFilter}, SettingDevicesFile: {CureDevicesFile}, SettingForeign: {CureSystemID}, SettingClustered: {CureCluster},
	SettingSameName: {CureRenameGroup}, SettingDuplicate: {CureDuplicate}, SettingExported: {CureImport},
	SettingIncomplete: {CureMissingPV}, SettingUnhealthy: {CureHealth, CureRepair}, SettingSkip: {CureSkip},
	SettingAutoActivation: {CureAutoActivation}, SettingAutoList: {CureAutoList}, SettingVolumeList: {CureVolumeList},
	SettingEventActivation: {CureEventActivation}, SettingShared: {CureLockStart},
	SettingNotAnnounced: {CureUdevRule}, SettingFilterLinks: {CureFilterLinks},
	SettingPool: {CurePoolMessage, CureRepair}, SettingPoolUnfinished: {CureThinCheck, CurePoolMessage}, SettingPoolPart: {CurePoolPart},
	SettingPoolGivenUp: {CurePoolMessage}, SettingPoolTakenDown: {CureFindRemover},
}

// settingRemedies puts what can destroy last. What hides a group's disks comes
// before all else that may have become of them.
func (c *Cause) settingRemedies() []string {
	var out, last []string
	for _, s := range c.Settings {
		for _, cure := range Remedies[s] {
			if cure == CureRepair || cure == CureFindGroup {
				last = union(last, []string{cure})
			} else {
				out = union(out, []string{cure})
			}
		}
	}
	if len(c.Settings) == 1 && c.Settings[0] == SettingNoGroup && strings.HasPrefix(c.Disks[0], "/dev/mapper/") {
		last = append(last, CureRecreate) // it can be named like LVM's and be none
	}
	return append(out, last...)
}
