package activate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/lvm"
	"github.com/bootrace/bootrace/tracer/readiness"
)

// fakeLVM is a program in LVM's place: lvs answers with a report in which the
// volume is active once lvchange was called, unless lvchange does nothing. Each
// call is a line in the file that is returned.
func fakeLVM(t *testing.T, report, lvchange string) (program, calls string) {
	t.Helper()
	dir := t.TempDir()
	program, calls = filepath.Join(dir, "lvm"), filepath.Join(dir, "calls")
	script := fmt.Sprintf(`#!/bin/sh
echo "$@" >>%[1]s/calls
case $1 in
lvs)
	active=; [ -e %[1]s/active ] && active=active
	echo '{"report":[{"lv":[{"lv_active":"'$active'",%[2]s}]}]}' ;;
lvchange) %[3]s ;;
esac
`, dir, report, strings.ReplaceAll(lvchange, "ACTIVATE", "touch "+dir+"/active"))
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return program, calls
}

func changes(t *testing.T, calls string) []string {
	t.Helper()
	data, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "lvchange") {
			list = append(list, strings.TrimSpace(line))
		}
	}
	return list
}

const (
	plain   = `"lv_skip_activation":"","vg_lock_type":"","vg_clustered":"","lv_autoactivation":"enabled","vg_autoactivation":"enabled"`
	old     = `"lv_skip_activation":"","vg_lock_type":"","vg_clustered":""`
	off     = `"lv_skip_activation":"","vg_lock_type":"","vg_clustered":"","lv_autoactivation":"","vg_autoactivation":"enabled"`
	groupOf = `"lv_skip_activation":"","vg_lock_type":"","vg_clustered":"","lv_autoactivation":"enabled","vg_autoactivation":""`
	skip    = `"lv_skip_activation":"skip activation","vg_lock_type":"","vg_clustered":"","lv_autoactivation":"enabled","vg_autoactivation":"enabled"`
	sanlock = `"lv_skip_activation":"","vg_lock_type":"sanlock","vg_clustered":"","lv_autoactivation":"enabled","vg_autoactivation":"enabled"`
	clvmd   = `"lv_skip_activation":"","vg_lock_type":"","vg_clustered":"clustered"`
)

func TestActivate(t *testing.T) {
	for _, tc := range []struct {
		name     string
		report   string
		lvchange string // what lvchange does
		rules    Rules
		want     Outcome
		why      string   // part of it
		calls    []string // of lvchange
	}{
		{"plain", plain, "ACTIVATE", Rules{}, Activated, "", []string{"lvchange -aay vg0/web"}},
		{"an old LVM", old, "ACTIVATE", Rules{}, Activated, "", []string{"lvchange -aay vg0/web"}},
		{"autoactivation off", off, "ACTIVATE", Rules{}, Left, "autoactivation is off", nil},
		{"of the group", groupOf, "ACTIVATE", Rules{}, Left, "autoactivation is off", nil},
		{"off, ignored", off, "ACTIVATE", Rules{IgnoreAutoactivation: true}, Activated, "", []string{"lvchange -ay vg0/web"}},
		{"skip", skip, "ACTIVATE", Rules{IgnoreAutoactivation: true, Shared: true}, Left, "skip flag", nil},
		{"skip, ignored", skip, "ACTIVATE", Rules{IgnoreSkip: true}, Activated, "", []string{"lvchange -ay --ignoreactivationskip vg0/web"}},
		{"shared", sanlock, "ACTIVATE", Rules{IgnoreAutoactivation: true, IgnoreSkip: true}, Left, "shared with other hosts", nil},
		{"shared, told to", sanlock, "ACTIVATE", Rules{Shared: true}, Activated, "", []string{"lvchange -aey vg0/web"}},
		{"clustered", clvmd, "ACTIVATE", Rules{}, Left, "shared with other hosts", nil},
		{"not in lvm.conf's list", plain, "true", Rules{}, Left, "auto_activation_volume_list", []string{"lvchange -aay vg0/web"}},
		{"locked elsewhere", sanlock, "echo '  LV locked by other host: vg0/web' >&2; exit 5", Rules{Shared: true}, Failed,
			"LV locked by other host: vg0/web", []string{"lvchange -aey vg0/web"}},
		{"hangs", plain, "exec sleep 60", Rules{}, Failed, "took too long", []string{"lvchange -aay vg0/web"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			program, calls := fakeLVM(t, tc.report, tc.lvchange)
			o := Options{Rules: tc.rules, Program: program}
			if tc.name == "hangs" {
				o.Timeout = 500 * time.Millisecond
			}
			attempt, first, err := New(o).Activate(t.Context(), lvm.Volume{VG: "vg0", LV: "web"})
			if err != nil || !first {
				t.Fatalf("first %v, %v", first, err)
			}
			if attempt.Outcome != tc.want || !strings.Contains(attempt.Why, tc.why) || (tc.why == "") != (attempt.Why == "") {
				t.Errorf("%s: %q, want %s: %q", attempt.Outcome, attempt.Why, tc.want, tc.why)
			}
			if diff := cmp.Diff(tc.calls, changes(t, calls)); diff != "" {
				t.Error(diff)
			}
			if e := attempt.Event(); e.From > e.At || e.Mark == nil || e.Mark.Name == "" {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// Many guests wait for one volume: it is activated once.
func TestOnce(t *testing.T) {
	program, calls := fakeLVM(t, plain, "ACTIVATE")
	a := New(Options{Program: program})
	var all sync.WaitGroup
	var count [20]int
	for i := range count {
		all.Go(func() {
			_, first, err := a.Activate(t.Context(), lvm.Volume{VG: "vg0", LV: "web"})
			if err != nil {
				t.Error(err)
			}
			if first {
				count[i]++
			}
		})
	}
	all.Wait()
	sum := 0
	for _, n := range count {
		sum += n
	}
	if sum != 1 || len(changes(t, calls)) != 1 {
		t.Errorf("%d firsts, calls %v", sum, changes(t, calls))
	}
}

func TestRefusals(t *testing.T) {
	a := New(Options{Program: filepath.Join(t.TempDir(), "absent")})
	for _, v := range []lvm.Volume{
		{}, {VG: "vg0"}, {VG: "-a", LV: "y"}, {VG: "vg0", LV: "--all"}, {VG: "..", LV: "x"}, {VG: "vg0", LV: "a b"}, {VG: "vg0", LV: "a/b"},
		{VG: "vg0", LV: strings.Repeat("x", 128)},
	} {
		if _, _, err := a.Activate(t.Context(), v); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", v, err)
		}
	}
	attempt, _, err := a.Activate(t.Context(), lvm.Volume{VG: "vg0", LV: "web"})
	if err != nil || attempt.Outcome != Failed || attempt.Why == "" {
		t.Errorf("without LVM: %+v, %v", attempt, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	program, _ := fakeLVM(t, plain, "ACTIVATE")
	if _, _, err := New(Options{Program: program}).Activate(ctx, lvm.Volume{VG: "vg0", LV: "web"}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestVolumes(t *testing.T) {
	got := Volumes([]readiness.Blocker{
		{Kind: readiness.Missing, Mapping: "vg0-web"},
		{Kind: readiness.Missing, Mapping: "vg0-web"},
		{Kind: readiness.Missing, Mapping: "my--vg-web--01"},
		{Kind: readiness.NoTable, Mapping: "vg0-busy"},
		{Kind: readiness.Udev, Mapping: "vg0-live"},
		{Kind: readiness.Missing, Mapping: "dm_plain"},
		{Kind: readiness.Missing, Mapping: "vg0-web-real"},
		{Kind: readiness.Missing, Mapping: `vg0-a\x20b`},
		{Kind: readiness.Missing},
	})
	if diff := cmp.Diff([]lvm.Volume{{VG: "vg0", LV: "web"}, {VG: "my-vg", LV: "web-01"}}, got); diff != "" {
		t.Error(diff)
	}
}
