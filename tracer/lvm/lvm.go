// Package lvm runs LVM's commands, and asks its reporting ones why a volume is
// not there: does LVM know it, may this host use its group, is anything missing
// or there twice, and which setting keeps it from being activated by itself.
//
// The questions only read. They run with --readonly, which takes no lock and
// looks at no state in the kernel, without LVM's hints file, at the lowest
// priority, and end after a time whatever they wait for.
//
// LVM answers as far as it can. One group that is exported, damaged or another
// host's makes the status of a whole report a failure, and messages stand in the
// middle of its JSON; the rows of all other groups are there all the same, and
// are used. What is not answered says why, volume by volume.
package lvm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
)

// Volume names a logical volume.
type Volume struct{ VG, LV string }

func (v Volume) String() string { return v.VG + "/" + v.LV }

// Valid reports whether LVM could have given these names (validate_name, lvm2
// lib/misc/lvm-string.c). None of them is an option to a command, or a path.
func (v Volume) Valid() bool { return validName(v.VG) && validName(v.LV) }

const maxName = 127 // NAME_LEN-1

func validName(s string) bool {
	if s == "" || s == "." || s == ".." || s[0] == '-' || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("+_.-", c) >= 0) {
			return false
		}
	}
	return true
}

// Limit is how long all questions of one Ask together may take: at the lowest
// priority that can be long.
const Limit = 2 * time.Minute

// Runner runs one of LVM's commands, "lvs" say. The output counts even where
// there is an error.
type Runner interface {
	Run(ctx context.Context, command string, args ...string) (Output, error)
}

// readOnly are the flags of every question.
var readOnly = []string{"--readonly", "--config", `devices { hints = "none" }`}

const (
	// shared has LVM report groups with a lock type, too, where lvmlockd does not
	// run. Without it LVM passes over them, as if they were not there.
	shared = "--shared"
	// foreign does the same for groups with another host's system ID.
	foreign = "--foreign"
)

// Ask asks LVM about volumes. There is an answer for each of them, in their
// order, and one with the configuration at the end. Where LVM cannot be asked,
// the answers say why.
func Ask(ctx context.Context, run Runner, volumes []Volume) []event.LVMInfo {
	ctx, cancel := context.WithTimeoutCause(ctx, Limit, fmt.Errorf("LVM took longer than %v", Limit))
	defer cancel()
	a := answers{}
	if a.groups, a.groupsErr = askGroups(ctx, run); a.groupsErr != nil && len(a.groups.rows) == 0 && !skipped(a.groups.said) {
		return unanswered(volumes, a.groupsErr)
	}
	a.ask(ctx, run, volumes)
	out := make([]event.LVMInfo, 0, len(volumes)+1)
	for _, v := range volumes {
		out = append(out, a.of(v))
	}
	if settings, err := Config(ctx, run); err == nil {
		out = append(out, event.LVMInfo{Config: settings})
	} else {
		out = append(out, event.LVMInfo{Why: reason(err.Error())})
	}
	return out
}

func unanswered(volumes []Volume, err error) []event.LVMInfo {
	out := make([]event.LVMInfo, 0, len(volumes))
	for _, v := range volumes {
		out = append(out, event.LVMInfo{VG: v.VG, LV: v.LV, Why: reason(err.Error())})
	}
	return out
}

// reason is text on one line, short enough for a log.
func reason(text string) string {
	const most = 200 // bytes
	s := strings.Join(strings.Fields(text), " ")
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

// answers are LVM's reports, and what went wrong with each.
type answers struct {
	groups     report
	groupsErr  error
	byName     map[string][]row // groups, by name: two can have the same
	foreign    map[string]row   // groups of other hosts
	foreignErr error
	volumes    map[Volume]row
	lvs        report
	volumesErr error
	pvs        map[string][]event.LVMPV // by group
}

// ask asks what the groups alone do not tell.
func (a *answers) ask(ctx context.Context, run Runner, volumes []Volume) {
	a.byName = map[string][]row{}
	for _, r := range a.groups.rows {
		a.byName[r["vg_name"]] = append(a.byName[r["vg_name"]], r)
	}
	var known []string
	unknown := false
	for _, v := range volumes {
		switch {
		case len(a.byName[v.VG]) == 0:
			unknown = unknown || !clustered(a.groups.said, v.VG)
		case !slices.Contains(known, v.VG):
			known = append(known, v.VG)
		}
	}
	if unknown {
		a.foreign, a.foreignErr = askForeign(ctx, run)
	}
	if len(known) == 0 {
		return
	}
	a.volumes = map[Volume]row{}
	a.lvs, a.volumesErr = askVolumes(ctx, run, known)
	for _, r := range a.lvs.rows {
		a.volumes[Volume{r["vg_name"], r["lv_name"]}] = r
	}
	a.pvs = askPVs(ctx, run, known)
}

// of is the answer about one volume.
func (a *answers) of(v Volume) event.LVMInfo {
	i := event.LVMInfo{VG: v.VG, LV: v.LV}
	groups := a.byName[v.VG]
	if len(groups) == 0 {
		a.noGroup(&i)
		return i
	}
	i.GroupFound = true
	g := groups[0]
	i.MissingPVs, i.LockType, i.PVs = number(g["vg_missing_pv_count"]), g["vg_lock_type"], a.pvs[v.VG]
	i.Exported = slices.ContainsFunc(groups, func(g row) bool { return g.on("vg_exported") })
	i.Clustered = g.on("vg_clustered")
	if len(groups) > 1 {
		i.SameName = len(groups)
	}
	r, ok := a.volumes[v]
	if !ok {
		if !i.Exported && (!a.lvs.whole || a.volumesErr != nil && !skipped(a.lvs.said)) {
			return event.LVMInfo{VG: v.VG, LV: v.LV, Why: why(v, "lvs", &a.lvs, a.volumesErr)}
		}
		i.Damaged = damage(a.lvs.said)
		return i
	}
	i.Found = true
	i.SkipActivation = r.on("lv_skip_activation")
	i.NoAutoActivation = g.off("vg_autoactivation") || r.off("lv_autoactivation")
	_, property := r["lv_autoactivation"]
	i.NoProperty = !property
	i.Pool, i.Health = r["pool_lv"], r["lv_health_status"]
	i.Tags = append(g.list("vg_tags"), r.list("lv_tags")...)
	return i
}

// noGroup says why a group is not among those that this host may use.
func (a *answers) noGroup(i *event.LVMInfo) {
	r, isForeign := a.foreign[i.VG]
	v := Volume{i.VG, i.LV}
	switch {
	case isForeign:
		i.GroupFound, i.Owner = true, reason(r["vg_systemid"])
	case clustered(a.groups.said, i.VG):
		i.GroupFound, i.Clustered = true, true
	case a.groupsErr != nil && !skipped(a.groups.said), !a.groups.whole:
		i.Why = why(v, "vgs", &a.groups, a.groupsErr)
	case a.foreignErr != nil:
		i.Why = reason(a.foreignErr.Error())
	default:
		i.Damaged = damage(a.groups.said)
	}
}

// why is what LVM said of a volume or its group, else how the command ended.
func why(v Volume, command string, r *report, err error) string {
	for _, line := range r.said {
		if mentions(line, v.String()) || mentions(line, v.VG) {
			return reason(command + ": " + line)
		}
	}
	switch {
	case err != nil:
		return reason(err.Error())
	case !r.whole:
		return reason(command + ": LVM's report is damaged, or ends early, and the volume is not in the rest")
	}
	return ""
}

// mentions reports whether a message has a name as a word.
func mentions(line, name string) bool {
	for word := range strings.FieldsSeq(line) {
		word = strings.Trim(word, `"'(),:;`)
		if word == name || strings.TrimSuffix(word, ".") == name {
			return true
		}
	}
	return false
}

// clustered reports whether LVM passed over a group because clvmd looked after
// it: "Skipping clustered VG vg." (2.02.99 and later), "Skipping clustered
// volume group vg" (earlier).
func clustered(said []string, vg string) bool {
	return slices.ContainsFunc(said, func(line string) bool { return isSkip(line) && mentions(line, vg) })
}

func isSkip(line string) bool {
	return strings.HasPrefix(line, "Skipping clustered ") || strings.HasPrefix(line, "Cannot access clustered ")
}

// skipped reports whether LVM complained of nothing but clustered groups: of all
// others it has said everything.
func skipped(said []string) bool {
	found := false
	for _, line := range said {
		switch {
		case isSkip(line):
			found = true
		case strings.HasPrefix(line, "WARNING:"), strings.HasPrefix(line, "See lvmlockd"):
		default:
			return false
		}
	}
	return found
}

// damage is what LVM said of metadata that it could not read, empty if nothing.
func damage(said []string) string {
	for _, line := range said {
		lower := strings.ToLower(line)
		for _, sign := range []string{"checksum error", "bad metadata", "invalid metadata", "invalid summary", "failed to read metadata", "couldn't read volume group metadata", "read failed", "failed to read", "input/output error"} {
			if strings.Contains(lower, sign) {
				return reason(line)
			}
		}
	}
	return ""
}

func number(s string) int {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0
	}
	return max(int(n), 0)
}

// fields of the reports. The last of the first two came with LVM 2.03.12.
var (
	groupFields  = []string{"vg_name", "vg_missing_pv_count", "vg_exported", "vg_clustered", "vg_lock_type", "vg_tags", "vg_autoactivation"}
	volumeFields = []string{"vg_name", "lv_name", "lv_skip_activation", "pool_lv", "lv_health_status", "lv_tags", "lv_autoactivation"}
)

func askGroups(ctx context.Context, run Runner) (report, error) {
	older := groupFields[:len(groupFields)-1]
	return ask(ctx, run, "vgs", "vg",
		[]string{shared, "-o", strings.Join(groupFields, ",")},
		[]string{shared, "-o", strings.Join(older, ",")},
		[]string{"-o", strings.Join(older, ",")})
}

// askForeign asks for the groups of other hosts. An LVM that has no such option
// knows no system IDs, and then there are none.
func askForeign(ctx context.Context, run Runner) (map[string]row, error) {
	r, err := ask(ctx, run, "vgs", "vg",
		[]string{foreign, shared, "-o", "vg_name,vg_systemid"},
		[]string{foreign, "-o", "vg_name,vg_systemid"})
	if refused(err) || len(r.rows) > 0 || skipped(r.said) {
		err = nil
	}
	out := map[string]row{}
	for _, row := range r.rows {
		if row.on("vg_systemid") {
			out[row["vg_name"]] = row
		}
	}
	return out, err
}

// askVolumes asks for the volumes of groups. It selects them: where groups are
// named, one that is exported makes the command fail.
func askVolumes(ctx context.Context, run Runner, groups []string) (report, error) {
	older := volumeFields[:len(volumeFields)-1]
	selected := selection(groups)
	return ask(ctx, run, "lvs", "lv",
		slices.Concat([]string{shared, "-o", strings.Join(volumeFields, ",")}, selected),
		slices.Concat([]string{shared, "-o", strings.Join(older, ",")}, selected),
		slices.Concat([]string{"-o", strings.Join(older, ",")}, selected),
		[]string{"-o", strings.Join(older, ",")})
}

// selection restricts a report to groups, if they are few enough for a command
// line.
func selection(groups []string) []string {
	const most = 64
	if len(groups) > most || slices.ContainsFunc(groups, func(g string) bool { return !validName(g) }) {
		return nil
	}
	return []string{"-S", "vg_name=" + strings.Join(groups, " || vg_name=")}
}

// maxPVs is how many physical volumes of a group go into an answer.
const maxPVs = 32

// askPVs asks for the physical volumes of groups. Without that answer only
// something is missing that might explain more.
func askPVs(ctx context.Context, run Runner, groups []string) map[string][]event.LVMPV {
	const oldest = "pv_name,vg_name,pv_missing"
	r, _ := ask(ctx, run, "pvs", "pv", // -a: without it LVM leaves out duplicates
		[]string{shared, "-a", "-o", oldest + ",pv_duplicate,pv_major,pv_minor"},
		[]string{"-a", "-o", oldest + ",pv_duplicate"},
		[]string{"-a", "-o", oldest})
	out := map[string][]event.LVMPV{}
	for _, p := range r.rows {
		vg := p["vg_name"]
		if !slices.Contains(groups, vg) {
			continue
		}
		pv := event.LVMPV{Name: reason(p["pv_name"]), Duplicate: p.on("pv_duplicate"), Missing: p.on("pv_missing")}
		major, err1 := strconv.ParseUint(p["pv_major"], 10, 32)
		minor, err2 := strconv.ParseUint(p["pv_minor"], 10, 32)
		if err1 == nil && err2 == nil && major != 0 {
			pv.Dev = &event.Dev{Major: uint32(major), Minor: uint32(minor)}
		}
		out[vg] = append(out[vg], pv)
	}
	for vg, pvs := range out {
		slices.SortStableFunc(pvs, func(a, b event.LVMPV) int { return faults(&b) - faults(&a) })
		out[vg] = pvs[:min(len(pvs), maxPVs)]
	}
	return out
}

func faults(p *event.LVMPV) int {
	if p.Duplicate || p.Missing {
		return 1
	}
	return 0
}

// ask runs one report: as an LVM of today can, and where it refuses that, as
// older ones can.
func ask(ctx context.Context, run Runner, command, object string, attempts ...[]string) (report, error) {
	var r report
	var err error
	for _, options := range attempts {
		r, err = askOnce(ctx, run, command, object, slices.Concat(readOnly, options))
		if len(r.rows) > 0 || !refused(err) {
			break
		}
	}
	return r, err
}

func askOnce(ctx context.Context, run Runner, command, object string, args []string) (report, error) {
	out, err := run.Run(ctx, command, append([]string{"--reportformat", "json"}, args...)...)
	r, parseErr := parse(out, object)
	if err == nil && parseErr != nil {
		err = fmt.Errorf("%s: %w", command, parseErr)
	}
	return r, err
}

// refused reports whether LVM did not understand the question: a field or an
// option is newer than it.
func refused(err error) bool {
	if err == nil {
		return false
	}
	text := strings.ToLower(err.Error())
	for _, sign := range []string{"unrecognised", "unrecognized", "invalid option", "error during parsing of command line"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// Config reads the settings that decide about activation. A list that is not
// set is not in the result.
func Config(ctx context.Context, run Runner) (map[string]string, error) {
	out, err := run.Run(ctx, "lvmconfig", "--typeconfig", "full")
	if err != nil {
		return nil, err
	}
	return parseConfig(out.Stdout), nil
}

// State is what decides whether one volume may be activated now.
type State struct {
	// Active is set where it is active on this host.
	Active bool
	// Skip is its flag, AutoActivationOff its or its group's property.
	Skip, AutoActivationOff bool
	// Shared is set for a group that lvmlockd or clvmd looks after.
	Shared bool
}

// errNoVolume says that LVM's answer has not exactly one volume.
var errNoVolume = errors.New("LVM reports no such volume")

// Look asks for the state of one volume. Unlike Ask it looks at the kernel's.
func Look(ctx context.Context, run Runner, v Volume) (State, error) {
	const older = "lv_active,lv_skip_activation,vg_lock_type,vg_clustered"
	var s State
	for _, fields := range []string{older + ",lv_autoactivation,vg_autoactivation", older} {
		r, err := askOnce(ctx, run, "lvs", "lv", []string{"-o", fields, v.String()})
		switch {
		case len(r.rows) == 1:
			return stateOf(r.rows[0]), nil
		case refused(err):
		case err != nil:
			return s, err
		default:
			return s, errNoVolume
		}
	}
	return s, errNoVolume
}

func stateOf(r row) State {
	active, lock := r["lv_active"], r["vg_lock_type"]
	return State{
		Active:            strings.Contains(active, "active") && !strings.HasPrefix(active, "remotely"),
		Skip:              r.on("lv_skip_activation"),
		AutoActivationOff: r.off("lv_autoactivation") || r.off("vg_autoactivation"),
		Shared:            lock != "" && lock != "none" || r.on("vg_clustered"),
	}
}
