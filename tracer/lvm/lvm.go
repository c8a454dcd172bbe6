// Package lvm asks LVM's own reporting commands why a volume is not there: does
// LVM know it, is anything missing of its group, and which setting keeps it from
// being activated by itself.
//
// It only ever reads. The commands run with --readonly, which takes no lock and
// looks at no state in the kernel, without LVM's hints file, at the lowest
// priority, and end after a time whatever they wait for.
package lvm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
)

// Volume names a logical volume.
type Volume struct{ VG, LV string }

// Limit is how long all commands together may take: at the lowest priority that
// can be long.
const Limit = 2 * time.Minute

// Runner runs one of LVM's commands, "lvs" say, and returns what it printed. It
// bounds how much that is.
type Runner interface {
	Run(ctx context.Context, command string, args ...string) ([]byte, error)
}

// readOnly are the flags of every reporting command.
var readOnly = []string{
	"--readonly", "--config", `devices { hints = "none" }`, "--reportformat", "json",
}

// shared has LVM report groups with a lock type, too, where lvmlockd does not
// run. Without it LVM passes over them, as if they were not there.
const shared = "--shared"

// Ask asks LVM about volumes. There is an answer for each of them, in their
// order, and one with the configuration at the end. Where LVM cannot be asked,
// the answers say why.
func Ask(ctx context.Context, run Runner, volumes []Volume) []event.LVMInfo {
	ctx, cancel := context.WithTimeoutCause(ctx, Limit, fmt.Errorf("LVM took longer than %v", Limit))
	defer cancel()
	out, err := report(ctx, run, volumes)
	if err != nil {
		return unanswered(volumes, err)
	}
	if settings, err := Config(ctx, run); err == nil {
		out = append(out, event.LVMInfo{Config: settings})
	} else {
		out = append(out, event.LVMInfo{Why: reason(err)})
	}
	return out
}

func unanswered(volumes []Volume, err error) []event.LVMInfo {
	out := make([]event.LVMInfo, 0, len(volumes))
	for _, v := range volumes {
		out = append(out, event.LVMInfo{VG: v.VG, LV: v.LV, Why: reason(err)})
	}
	return out
}

// reason is err on one line, short enough for a log.
func reason(err error) string {
	const most = 200 // bytes
	s := strings.Join(strings.Fields(err.Error()), " ")
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

func report(ctx context.Context, run Runner, volumes []Volume) ([]event.LVMInfo, error) {
	groups, err := askGroups(ctx, run)
	if err != nil {
		return nil, err
	}
	var known []string
	for _, v := range volumes {
		if _, ok := groups[v.VG]; ok && !slices.Contains(known, v.VG) {
			known = append(known, v.VG)
		}
	}
	found := map[Volume]volumeRow{}
	if len(known) > 0 {
		if found, err = askVolumes(ctx, run, known); err != nil {
			return nil, err
		}
	}
	out := make([]event.LVMInfo, 0, len(volumes)+1)
	for _, v := range volumes {
		out = append(out, answer(v, groups, found))
	}
	return out, nil
}

func answer(v Volume, groups map[string]groupRow, found map[Volume]volumeRow) event.LVMInfo {
	i := event.LVMInfo{VG: v.VG, LV: v.LV}
	g, ok := groups[v.VG]
	if !ok {
		return i
	}
	i.GroupFound = true
	i.MissingPVs, i.Exported, i.LockType = int(g.missing), g.exported, g.lock
	row, ok := found[v]
	if !ok {
		return i
	}
	i.Found = true
	i.SkipActivation = row.skip
	i.NoAutoActivation = g.noAuto || row.noAuto
	i.Pool, i.Health = row.pool, row.health
	i.Tags = append(slices.Clone(g.tags), row.tags...)
	return i
}

// fields of the two reports. The last of each came with LVM 2.03.12; an older
// one is asked again without.
var (
	groupFields  = []string{"vg_name", "vg_missing_pv_count", "vg_exported", "vg_lock_type", "vg_tags", "vg_autoactivation"}
	volumeFields = []string{"vg_name", "lv_name", "lv_skip_activation", "pool_lv", "lv_health_status", "lv_tags", "lv_autoactivation"}
)

func askGroups(ctx context.Context, run Runner) (map[string]groupRow, error) {
	rows, err := ask(ctx, run, "vgs", "vg", groupFields)
	if err != nil {
		return nil, err
	}
	out := make(map[string]groupRow, len(rows))
	for _, r := range rows {
		out[r["vg_name"]] = groupOf(r)
	}
	return out, nil
}

func askVolumes(ctx context.Context, run Runner, groups []string) (map[Volume]volumeRow, error) {
	rows, err := ask(ctx, run, "lvs", "lv", volumeFields, groups...)
	if err != nil {
		return nil, err
	}
	out := make(map[Volume]volumeRow, len(rows))
	for _, r := range rows {
		out[Volume{r["vg_name"], r["lv_name"]}] = volumeOf(r)
	}
	return out, nil
}

// ask runs one report: as an LVM of today can, and where it refuses that, as an
// older one can, without the last field, and without shared groups.
func ask(ctx context.Context, run Runner, command, object string, fields []string, names ...string) ([]row, error) {
	older := fields[:len(fields)-1]
	attempts := [][]string{
		{shared, "-o", strings.Join(fields, ",")},
		{shared, "-o", strings.Join(older, ",")},
		{"-o", strings.Join(older, ",")},
	}
	var errs error
	for _, options := range attempts {
		printed, err := run.Run(ctx, command, slices.Concat(readOnly, options, names)...)
		if err == nil {
			return parseReport(printed, object)
		}
		errs = errors.Join(errs, fmt.Errorf("%s: %w", command, err))
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return nil, errs
}

// Config reads the settings that decide about activation. A list that is not
// set is not in the result.
func Config(ctx context.Context, run Runner) (map[string]string, error) {
	printed, err := run.Run(ctx, "lvmconfig", "--typeconfig", "full")
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("lvmconfig: %w", err)
	}
	return parseConfig(printed), nil
}
