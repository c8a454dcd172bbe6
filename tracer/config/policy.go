package config

import (
	"path"
	"path/filepath"
	"slices"

	"github.com/bootrace/bootrace/tracer/event"
)

// What enforce mode would have done is judged from the record of a boot, maybe
// on another host. So the record carries the policy, and the one who judges
// asks the same functions as the hold does.

// Recorded returns what a boot's record says of the policy. Mode is the one that
// the configuration asks for.
func (c *Config) Recorded() event.PolicyInfo {
	e := &c.Enforce
	p := event.PolicyInfo{
		Mode: string(c.Mode), Deadline: e.Deadline, OnTimeout: string(e.OnTimeout), Identity: string(e.Identity),
		Programs: slices.Clone(e.Binaries),
	}
	for i := range e.Guests {
		r := &e.Guests[i]
		of := Policy{e.Deadline, e.OnTimeout, e.Identity, e.Activate}
		r.change(&of)
		p.Rules = append(p.Rules, event.PolicyRule{
			Name: r.Name, UUID: r.UUID, Deadline: of.Deadline, OnTimeout: string(of.OnTimeout), Identity: string(of.Identity),
		})
	}
	return p
}

// EnforceOf returns the policy that a record tells of, as far as it does: what is
// activated is not in it.
func EnforceOf(p *event.PolicyInfo) Enforce {
	e := Enforce{
		Deadline: p.Deadline, OnTimeout: Decision(p.OnTimeout), Identity: IdentityPolicy(p.Identity),
		Binaries: p.Programs,
	}
	for i := range p.Rules {
		r := &p.Rules[i]
		onTimeout, identity := Decision(r.OnTimeout), IdentityPolicy(r.Identity)
		e.Guests = append(e.Guests, GuestRule{Name: r.Name, UUID: r.UUID, Deadline: &r.Deadline, OnTimeout: &onTimeout, Identity: &identity})
	}
	return e
}

// Covers reports whether the starts of a program are held, by the name under
// which it was executed. A name that is not a whole path is compared with the
// last elements of the patterns: which folder it was in is not known.
//
// A program is held by whichever name it is called, if a pattern leads to its
// file. So a link outside of all patterns to a program that is held counts as
// not covered here, although it is.
func (e *Enforce) Covers(program string) bool {
	return slices.ContainsFunc(e.Binaries, func(pattern string) bool {
		if !filepath.IsAbs(program) {
			pattern, program = path.Base(pattern), path.Base(program)
		}
		ok, err := path.Match(pattern, program)
		return ok && err == nil
	})
}
