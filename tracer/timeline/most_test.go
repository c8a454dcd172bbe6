package timeline

import (
	"fmt"
	"testing"
)

// One user's guests, however many and however bad, don't take the room of
// another's; and nothing is lost from the counts.
func TestMost(t *testing.T) {
	tl := &Timeline{Summary: Summary{Outcome: OutcomeFailed, Counts: Counts{Failed: 1001, Fine: 9}}}
	add := func(uid uint32, n int, o Outcome) {
		for range n {
			id := fmt.Sprintf("%d@%d", uid, len(tl.Guests))
			tl.Guests = append(tl.Guests, &Guest{ID: id, Name: id, UID: uid})
			tl.Summary.Guests = append(tl.Summary.Guests, GuestSummary{Guest: id, Outcome: o, Verdict: len(tl.Verdicts), Verdicts: []int{len(tl.Verdicts)}})
			tl.Verdicts = append(tl.Verdicts, &Verdict{Guest: id, GuestID: id, Outcome: o})
			if o == OutcomeFailed {
				for range 20 {
					tl.Findings = append(tl.Findings, &Finding{Guest: id, GuestID: id})
				}
			}
		}
	}
	add(1000, 1000, OutcomeFailed)
	add(0, 9, OutcomeFine)
	add(0, 1, OutcomeFailed)

	got, left := tl.Most(100)
	if len(got.Guests) != 100 || left.Guests != 910 || len(got.Findings) != 400 || left.Findings != len(tl.Findings)-400 || got.Summary.Counts != tl.Summary.Counts {
		t.Fatalf("%d guests, %d findings, left %+v, counts %+v", len(got.Guests), len(got.Findings), left, got.Summary.Counts)
	}
	byUser, findings := map[uint32]int{}, map[string]int{}
	for _, g := range got.Guests {
		byUser[g.UID]++
	}
	for _, f := range got.Findings {
		findings[f.GuestID]++
	}
	if byUser[0] != 10 || findings["0@1009"] == 0 {
		t.Errorf("of root %d guests are left, and %d findings of the one that failed", byUser[0], findings["0@1009"])
	}
	for _, s := range got.Summary.Guests {
		if v := got.Verdicts[s.Verdict]; v.Guest != s.Guest {
			t.Errorf("the verdict of %s is that of %s", s.Guest, v.Guest)
		}
	}
	if all, left := tl.Most(5100); all != tl || left.Any() {
		t.Errorf("with room for all, %+v is left out", left)
	}
}
