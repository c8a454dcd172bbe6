package scenarios

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/bootrace/bootrace/kernels/lab"
	"github.com/bootrace/bootrace/tracer/timeline"
	"github.com/bootrace/bootrace/tracer/twin"
	"github.com/bootrace/bootrace/tracer/twin/rehearse"
)

// The demo's host is captured while its guests run, its reboot is rehearsed outside, and
// it really reboots: the twin has the findings and the verdicts of the real boot, in
// enforce mode, too. A disk that comes later has guests lose it, and enforce mode saves
// them.
func TestRehearse(t *testing.T) {
	if os.Getenv("BOOTRACE_REHEARSE") == "" {
		t.Skip("NOT RUN: boots a host and four twins of it; `make rehearse-test` runs it")
	}
	out, _ := play(t, "capture", func(o *lab.Options) { o.Timeout = time.Hour })
	capture := filepath.Join(out, "host.tar.zst")
	m := checkCapture(t, out, capture)
	if m.Record == nil || m.Record.ToGuest <= 0 {
		t.Fatalf("the capture has no pace of the host: %+v", m.Record)
	}

	// Later than the guests look for it, however fast the host was.
	late := fmt.Sprintf("late:/dev/vdb=%s", (m.Record.ToGuest + 30*time.Second).Round(time.Second))
	dir := filepath.Join(out, "rehearsal")
	cmd := exec.CommandContext(t.Context(), filepath.Join(repo(t), "build", "bootrace"), "rehearse", "--format", "json", "--enforce", "--plan", late, "-o", dir, capture)
	cmd.Stderr = progress{t}
	text, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Fatalf("a guest would lose as things are, and rehearse ended with %v: %s", err, text)
	}
	if err := os.WriteFile(filepath.Join(out, "rehearsal.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	var r rehearse.Result
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	t.Logf("pace %.2f, %v", r.Pace, r.Summary)
	for guest, want := range map[string][]rehearse.Prediction{
		// as recorded and late, each in the host's mode and in enforce mode
		"db-b":   {rehearse.InTime, "", rehearse.Race, rehearse.Held},
		"shop-c": {rehearse.InTime, "", rehearse.Race, rehearse.Held},
		// Its volume is activated once, whether the disk is there by then or not.
		"web-a": {rehearse.Race, rehearse.Held, "", ""},
	} {
		got := predictions(t, &r, guest)
		if len(got) != len(want) {
			t.Errorf("%s: %v in %d plans", guest, got, len(want))
			continue
		}
		for i := range want {
			if want[i] != "" && got[i] != want[i] {
				t.Errorf("%s in plan %d: %s, want %s", guest, i+1, got[i], want[i])
			}
		}
		if got[1].Loses() || got[1] == rehearse.NotKnown {
			t.Errorf("%s in enforce mode: %s, and really it ran", guest, got[1])
		}
		if !got[2].Loses() {
			t.Errorf("%s: %s though its disk comes after it looks", guest, got[2])
		}
	}

	sameBoot(t, readTimeline(t, filepath.Join(out, "trace.json")), logOf(t, &r.Plans[0]))
	sameBoot(t, readTimeline(t, filepath.Join(out, "enforce.json")), logOf(t, &r.Plans[1]))
}

// logOf is the timeline of a rehearsed boot, as all commands read its log.
func logOf(t *testing.T, p *rehearse.PlanResult) *timeline.Timeline {
	t.Helper()
	text, err := exec.CommandContext(t.Context(), filepath.Join(repo(t), "build", "bootrace"), "show", "--format", "json", p.Log).Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "timeline.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return readTimeline(t, path)
}

// sameBoot compares a real boot with its rehearsal: what was found, and the verdicts. For
// how long a start was held, or would have been, is no part of it: a start that comes
// while udev is busy with the disk once more is held for a moment, or is not.
func sameBoot(t *testing.T, real, rehearsed *timeline.Timeline) {
	t.Helper()
	found := func(tl *timeline.Timeline) []string {
		return slices.DeleteFunc(kinds(tl), func(k string) bool { return strings.HasSuffix(k, " would-hold") || strings.HasSuffix(k, " held") })
	}
	if a, b := found(real), found(rehearsed); !slices.Equal(a, b) {
		t.Errorf("the real boot has the findings %v, the twin's %v", a, b)
	}
	verdicts := func(tl *timeline.Timeline) map[string]string {
		list := map[string]string{}
		for _, v := range tl.Verdicts {
			text := string(v.Outcome)
			for _, c := range v.Causes {
				text += " " + c.Kind
			}
			list[v.Guest] = text
		}
		return list
	}
	if diff := cmp.Diff(verdicts(real), verdicts(rehearsed)); diff != "" {
		t.Errorf("verdicts of the real boot, and of the twin's:\n%s", diff)
	}
}

func predictions(t *testing.T, r *rehearse.Result, guest string) (list []rehearse.Prediction) {
	t.Helper()
	for _, p := range r.Plans {
		for _, c := range p.Guests {
			if c.Guest == guest {
				list = append(list, c.Prediction)
				margin := math.NaN()
				if c.Margin != nil {
					margin = c.Margin.Seconds()
				}
				t.Logf("%s %v: %s %s, margin %.3f s, held %v %s", p.Plan, p.Enforce, guest, c.Prediction, margin, c.Held, c.Why)
			}
		}
	}
	return list
}

// checkCapture: no guest's data and no secret is in it, and no disk was opened for writing.
func checkCapture(t *testing.T, out, path string) *twin.Manifest {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	for _, marker := range []string{"marker-in-a-volume", "marker-in-a-folder", "marker-password", "marker-key"} {
		if bytes.Contains(text, []byte(marker)) {
			t.Errorf("%s is in the capture", marker)
		}
	}
	opens, err := os.ReadFile(filepath.Join(out, "opens.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(opens), "O_RDONLY") {
		t.Errorf("no disk was opened: %s", opens)
	}
	for line := range strings.Lines(string(opens)) {
		if strings.Contains(line, "O_RDWR") || strings.Contains(line, "O_WRONLY") {
			t.Errorf("a disk was opened for writing: %s", line)
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	m, err := twin.Read(f, twin.Sink{
		File:  func(_ *tar.Header, _ io.Reader) error { return nil },
		Boot:  func(string, io.Reader) error { return nil },
		Piece: func(string, int64, io.Reader) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}
