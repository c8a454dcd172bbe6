package words

import (
	"slices"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/timeline"
	"github.com/bootrace/bootrace/tracer/timeline/histories"
)

// What histories of the timeline come to, in words.
func TestTellHistories(t *testing.T) {
	for _, tt := range []struct {
		history     string
		says, never []string
	}{
		{
			"cameback",
			[]string{
				"guest vm1 opened /dev/vg/a at 30.100 s, but the volume did not exist (ENOENT), after it had been ready from 1.009 s +-1.25 ms to " +
					"20.000 s +-500 us, when `lvchange -an vg/a` (process 77) removed it; it became ready at 40.009 s +-1.25 ms: 9.909 s +-1.25 ms too early. " +
					"It was late because vgchange (process 50) created it 20.000 s after it had been removed",
				"Before that it had been ready, until `lvchange -an vg/a` (process 77) removed it.",
				"the volume had no table yet (ENXIO), after it had been ready from",
				"only udev's link to it was missing, after it had been ready from 1.009 s +-1.25 ms to 20.000 s; it was ready at 41.000 s: 10.900 s too early. " +
					"It was late because it took 21.000 s until it came back.",
				"only 91.2 ms +-1.25 ms after the volume became ready. It became ready at 30.009 s +-1.25 ms. It had been ready before: from 1.009 s",
				"`agent` (process 500) looked for /dev/vg/l at 30.100 s (ENOENT), but the volume did not exist, after it had been ready from",
				"/dev/vg/h was ready only at 50.009 s +-1.25 ms. It had been ready before: from",
				"/dev/vg/d was not ready before 50.009 s +-1.25 ms: 20.009 s +-1.25 ms too early; it had been ready from",
				"the disk did not exist (ENOENT), after it had been ready from 1.050 s +-50.0 ms to 20.000 s, when it was removed",
				"its file system was not mounted yet (/srv/images) (ENOENT), after it had been ready from 1.000 s to 20.000 s",
			},
			nil,
		},
		{
			"blank",
			[]string{
				"the device beneath it, /dev/vdb, became a physical volume only 1 min 40 s after the boot began: it was blank before. ",
				"/dev/vdc, became a physical volume only", "/dev/vdf, became a physical volume only", "let what starts guests run after what activates their volumes.",
			},
			[]string{"udev took", "usable"},
		},
	} {
		t.Run(tt.history, func(t *testing.T) {
			got := toldHistory(t, "../../tracer/timeline/testdata/"+tt.history+".txtar")
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

// toldHistory tells all findings and verdicts of a history, a line each.
func toldHistory(t *testing.T, file string) string {
	t.Helper()
	h, err := histories.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	tl := timeline.Build(timeline.Boot{ID: "b", Current: true}, timeline.Options{}, slices.Values(h.Events))
	var lines []string
	tell := func(p Paragraph) { lines = append(lines, p.String()) }
	for _, f := range tl.Findings {
		tell(teller().Finding(f))
	}
	for _, v := range tl.Verdicts {
		for _, c := range v.Causes {
			tell(teller().Cause(v, c))
		}
		if len(v.Unknown) > 0 {
			tell(teller().NotKnown(v))
		}
	}
	return strings.Join(lines, "\n")
}
