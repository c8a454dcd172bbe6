package timeline

import (
	"slices"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/event"
)

// policies says at each time what enforce mode did, or would have done.
type policies struct {
	facts []policyFact
	modes []Mark
}

const (
	markMode  = "mode"
	modeTrace = string(config.Trace)
)

func clonePolicy(p *event.PolicyInfo) event.PolicyInfo {
	out := *p
	out.Programs, out.Rules = cloned(p.Programs), slices.Clone(p.Rules)
	return out
}

func (b *Builder) policiesOf(marks []Mark) policies {
	p := policies{facts: slices.Clone(b.policies)}
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
	usual := config.Default()
	assumed := usual.Recorded()
	if len(p.facts) > 0 { // it is recorded right after the first mode
		assumed = clonePolicy(&p.facts[0].info)
	}
	assumed.Mode = mode
	return &assumed
}

// rule is what the policy comes to for one guest.
type ruling struct {
	config.Policy
	mode    string
	covered bool // a pattern names its program
}

// of returns what p says of a guest. The deadline is the one that this kernel
// allows.
func rulingOf(p *event.PolicyInfo, g *Guest) ruling {
	cfg := config.EnforceOf(p)
	r := ruling{Policy: cfg.For(g.Name, g.UUID), mode: p.Mode, covered: cfg.Covers(g.Binary)}
	if p.Longest > 0 {
		r.Deadline = min(r.Deadline, p.Longest)
	}
	return r
}
