package config

import (
	"slices"

	"github.com/bootrace/bootrace/tracer/event"
)

// Recorded returns what a boot's record says of the policy. Mode is the one that
// the configuration asks for.
func (c *Config) Recorded() event.PolicyInfo {
	e := &c.Enforce
	p := event.PolicyInfo{
		Mode: string(c.Mode), Deadline: e.Deadline, OnTimeout: string(e.OnTimeout), Identity: string(e.Identity), Filesystem: string(e.Filesystem), Inspect: string(c.Inspect),
		Programs: slices.Clone(e.Binaries),
	}
	for i := range e.Guests {
		r := &e.Guests[i]
		of := e.general()
		r.change(&of)
		p.Rules = append(p.Rules, event.PolicyRule{
			Name: r.Name, UUID: r.UUID, Deadline: of.Deadline, OnTimeout: string(of.OnTimeout), Identity: string(of.Identity),
			Filesystem: string(of.Filesystem),
		})
	}
	return p
}
