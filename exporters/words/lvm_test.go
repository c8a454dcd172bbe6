package words

import (
	"slices"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

func teller() *Teller {
	return &Teller{Signs: ASCII, Name: func(s string, _ int) string { return s }}
}

// What keeps a volume from being activated is told with the names that it is
// about, and what helps with the right ones of them.
func TestTellLVM(t *testing.T) {
	tests := []struct {
		name  string
		cause timeline.Cause
		says  []string
		never []string
	}{
		{"a part of the pool is active", timeline.Cause{
			Settings: []string{timeline.SettingPoolPart}, LVM: &timeline.LVMDetail{Pool: "vg/pool", Part: "vg/pool_tmeta"}, Cures: []string{timeline.CurePoolPart},
		}, []string{"vg/pool_tmeta, a part of its thin pool vg/pool, is active by itself", "lvchange -an vg/pool_tmeta, then lvchange -ay vg/thin."}, []string{"LVM says that", "repair", "nobody"}},
		{"the pool was given up", timeline.Cause{
			Settings: []string{timeline.SettingPoolGivenUp}, LVM: &timeline.LVMDetail{Pool: "vg/pool"}, By: &event.Proc{PID: 50, Comm: "vgchange"}, Cures: []string{timeline.CurePoolMessage},
		}, []string{"vg/pool came up and was taken down at once by the same command, vgchange (process 50): LVM gave it up", "lvchange -ay vg/pool says"}, []string{"repair", "run after"}},
		{"the check failed", timeline.Cause{
			Settings: []string{timeline.SettingPool}, LVM: &timeline.LVMDetail{Pool: "vg/pool"}, Cures: []string{timeline.CurePoolMessage, timeline.CureRepair},
		}, []string{"lvchange -ay vg/pool says; or: only if that shows damage, and after a copy of the disks: lvconvert --repair vg/pool."}, []string{"--repair vg/thin"}},
		{"another host's", timeline.Cause{
			Settings: []string{timeline.SettingForeign}, LVM: &timeline.LVMDetail{Owner: "hosta"}, Cures: []string{timeline.CureSystemID},
		}, []string{"LVM says that the volume group belongs to another host, system ID hosta."}, []string{"dmsetup"}},
		{"hidden by a filter", timeline.Cause{
			Settings: []string{timeline.SettingNoGroup, timeline.SettingFilter}, LVM: &timeline.LVMDetail{Filter: `devices/global_filter=["r|/dev/sdx|"]`}, Cures: []string{timeline.CureFilter, timeline.CureFindGroup},
		}, []string{`it knows no such volume group and that a filter is set, which can hide disks from it (devices/global_filter=["r|/dev/sdx|"]).`, "To do: look whether that filter"}, []string{"dmsetup"}},
		{"udev did not announce a disk", timeline.Cause{
			Settings: []string{timeline.SettingNotAnnounced}, LVM: &timeline.LVMDetail{Devices: []string{"/dev/sdb"}}, Cures: []string{timeline.CureUdevRule},
		}, []string{"udev did not tell that /dev/sdb is LVM's", "an order alone does not help"}, []string{"LVM says that"}},
		{"a duplicate", timeline.Cause{
			Settings: []string{timeline.SettingDuplicate}, LVM: &timeline.LVMDetail{Devices: []string{"/dev/sdc"}}, Cures: []string{timeline.CureDuplicate},
		}, []string{"a physical volume of the group is there twice, again on /dev/sdc, and so it activates nothing of the group."}, nil},
		{"not known", timeline.Cause{Asked: true, Cures: []string{timeline.CureActivate}}, []string{"Why nothing activated it is not known.", "lvchange -ay vg/thin says"}, []string{"nobody asked", "run after"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.cause
			c.Kind, c.Disks = timeline.CauseNeverActivated, []string{"/dev/vg/thin"}
			text := teller().Cause(&timeline.Verdict{Guest: "vm", GuestID: "1", Causes: []*timeline.Cause{&c}}, &c)
			got := text.String()
			for _, s := range tt.says {
				if !strings.Contains(got, s) {
					t.Errorf("it does not say %q:\n%s", s, got)
				}
			}
			for _, s := range tt.never {
				if strings.Contains(got, s) {
					t.Errorf("it says %q:\n%s", s, got)
				}
			}
		})
	}
}

// A disk's appearance is an instant of the boot, whatever came before it.
func TestTellAppeared(t *testing.T) {
	for kind, want := range map[string]string{
		timeline.StepDisk:      "the device beneath it, /dev/sdb, appeared only 11.500 s after the boot began",
		timeline.StepGroupDisk: "LVM's command ran right after another physical volume, /dev/sdb, had appeared, 11.500 s after the boot began",
	} {
		got := teller().clause(&timeline.AccountStep{Kind: kind, Detail: "/dev/sdb", From: 5.2e9, To: 11.5e9})
		if got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}

// Each setting and cure has words.
func TestLVMWords(t *testing.T) {
	for s, remedies := range timeline.Remedies {
		_, told := settingTexts[s]
		_, inferred := inferredTexts[s]
		if told == inferred || inferred != timeline.Inferred(s) {
			t.Errorf("setting %s: told %v, inferred %v", s, told, inferred)
		}
		for _, cure := range remedies {
			if cures[cure].text == "" {
				t.Errorf("setting %s: cure %s has no words", s, cure)
			}
		}
		if i := slices.Index(remedies, timeline.CureRepair); i == 0 {
			t.Errorf("setting %s: what can destroy comes first", s)
		}
	}
}
