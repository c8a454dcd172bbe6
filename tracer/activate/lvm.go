package activate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// maxOutput bounds what is kept of LVM's output, in bytes.
const maxOutput = 4 << 10

// grace is how long LVM may take to end when it is told to: it finishes what
// must not be left half done.
const grace = 10 * time.Second

// lvm runs LVM's program.
type lvm struct{ program string }

// run returns what LVM said, in whichever way it ended.
func (l lvm) run(ctx context.Context, args ...string) (string, error) {
	stdout, stderr, err := l.start(ctx, args)
	return tail(append(stdout, stderr...)), err
}

func (l lvm) start(ctx context.Context, args []string) (stdout, stderr []byte, err error) {
	cmd := exec.CommandContext(ctx, l.program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("lvm %s took too long", args[0])
	case err != nil:
		err = fmt.Errorf("lvm %s: %w: %s", args[0], err, oneLine(errs.Bytes()))
	}
	return out.Bytes(), errs.Bytes(), err
}

func tail(b []byte) string {
	if len(b) > maxOutput {
		b = b[len(b)-maxOutput:]
	}
	return strings.TrimSpace(string(b))
}

func oneLine(b []byte) string { return strings.Join(strings.Fields(tail(b)), " ") }

// report is what LVM says about a volume. A flag that is not set is an empty
// string.
type report struct {
	Active   string `json:"lv_active"`
	Skip     string `json:"lv_skip_activation"`
	LockType string `json:"vg_lock_type"`
	// Clustered is what a volume group is that clvmd looked after, before LVM
	// 2.03.
	Clustered string `json:"vg_clustered"`
	// Auto is nil where LVM is older than autoactivation's flag (2.03.12).
	Auto      *string `json:"lv_autoactivation"`
	GroupAuto *string `json:"vg_autoactivation"`
}

// active reports whether the volume is active on this host.
func (r *report) active() bool {
	return strings.Contains(r.Active, "active") && !strings.HasPrefix(r.Active, "remotely")
}

func (r *report) shared() bool {
	return r.LockType != "" && r.LockType != "none" || r.Clustered != ""
}

func (r *report) autoactivationOff() bool {
	return r.Auto != nil && *r.Auto == "" || r.GroupAuto != nil && *r.GroupAuto == ""
}

const (
	oldFields = "lv_active,lv_skip_activation,vg_lock_type,vg_clustered"
	newFields = oldFields + ",lv_autoactivation,vg_autoactivation"
)

// errUnknownVolume says that LVM's answer has not exactly one volume.
var errUnknownVolume = errors.New("LVM reports no such volume")

// report asks for the flags that the rules go by. A version that does not know
// a field refuses the whole question.
func (l lvm) report(ctx context.Context, v Volume) (report, error) {
	r, err := l.fields(ctx, v, newFields)
	if err != nil && strings.Contains(strings.ToLower(err.Error()), "unrecognised field") {
		return l.fields(ctx, v, oldFields)
	}
	return r, err
}

func (l lvm) fields(ctx context.Context, v Volume, fields string) (report, error) {
	out, _, err := l.start(ctx, []string{"lvs", "--reportformat", "json", "-o", fields, v.String()})
	if err != nil {
		return report{}, err
	}
	return parseReport(out)
}

func parseReport(out []byte) (report, error) {
	var all struct {
		Report []struct {
			LV []report `json:"lv"`
		} `json:"report"`
	}
	if err := json.Unmarshal(out, &all); err != nil {
		return report{}, fmt.Errorf("read LVM's report: %w", err)
	}
	if len(all.Report) != 1 || len(all.Report[0].LV) != 1 {
		return report{}, errUnknownVolume
	}
	return all.Report[0].LV[0], nil
}
