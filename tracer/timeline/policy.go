package timeline

import (
	"slices"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// policies says at each time what enforce mode did, or would have done.
type policies struct {
	facts []policyFact
	modes []Mark
	// old is set where the kernel was watched in the way of old ones: such a kernel may
	// bound each hold, or allow none (package hold).
	old bool
}

// sourceTracefs is what watches a kernel without eBPF.
const sourceTracefs = "tracefs"

const markMode = "mode"

func clonePolicy(p *event.PolicyInfo) event.PolicyInfo {
	out := *p
	out.Programs, out.Rules = cloned(p.Programs), slices.Clone(p.Rules)
	return out
}

func (b *Builder) policiesOf(marks []Mark, sources []Source) policies {
	p := policies{facts: slices.Clone(b.policies)}
	p.old = slices.ContainsFunc(sources, func(s Source) bool { return s.Name == sourceTracefs })
	slices.SortFunc(p.facts, func(a, b policyFact) int { return a.compare(&b.stamp) })
	for _, mark := range marks {
		if mark.Name == markMode {
			p.modes = append(p.modes, mark)
		}
	}
	return p
}

// at returns the policy at that time, nil where the record does not even tell
// the mode. A record of a version that told the mode alone is read with the
// defaults: those that its mode would have had without a configuration.
func (p *policies) at(at event.Time) *event.PolicyInfo {
	var found *event.PolicyInfo
	for i := range p.facts {
		if p.facts[i].at <= at {
			found = &p.facts[i].info
		}
	}
	if found != nil {
		return found
	}
	mode := ""
	for i := range p.modes {
		if p.modes[i].At <= at {
			mode = p.modes[i].Text
		}
	}
	if mode == "" {
		return nil
	}
	assumed := event.UsualPolicy(guest.Places())
	if len(p.facts) > 0 { // it is recorded right after the first mode
		assumed = clonePolicy(&p.facts[0].info)
	}
	assumed.Mode = mode
	return &assumed
}

// ruling is what the policy comes to for one guest.
type ruling struct {
	event.PolicyRule
	covered bool // a pattern names its program
	// untried is set where nobody has found out whether this kernel lets a start be held
	// for so long: in trace mode, on an old kernel. Libvirt's hook needs no kernel for it.
	untried bool
}

func (r *record) rulingOf(p *event.PolicyInfo, g *Guest) ruling {
	return ruling{
		PolicyRule: p.For(g.Name, g.UUID), covered: p.Covers(g.Binary),
		untried: r.policies.old && p.Mode == event.ModeTrace && p.Way == "" && g.Domain == nil,
	}
}
