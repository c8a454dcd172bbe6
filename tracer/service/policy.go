package service

import (
	"fmt"
	"strings"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/memory"
)

// StartPolicy is what enforce mode does with the start of a guest whose disks
// are not ready. It is for those who keep a start back themselves, at a place
// that no exec tells of: libvirt's hook.
type StartPolicy struct {
	// Enforce is false in trace mode: start at once.
	Enforce  bool           `json:"enforce"`
	Deadline event.Duration `json:"deadline_ns,omitempty"`
	Deny     bool           `json:"deny,omitempty"` // at the deadline; else it is started
}

func (s *Service) startPolicy(name, uuid string) StartPolicy {
	cfg := s.config()
	if cfg.Mode != config.Enforcing {
		return StartPolicy{}
	}
	p := cfg.Enforce.For(name, strings.ToLower(uuid))
	return StartPolicy{Enforce: true, Deadline: p.Deadline, Deny: p.OnTimeout == config.Deny}
}

// disksOf returns what a guest ran on in the last boot that ran it, backing files
// included. The guest is given by its name, its UUID, or as findings name it
// (uuid:3aad3b6b-...).
func (s *Service) disksOf(name string) ([]event.MemoryDisk, error) {
	for _, key := range memory.Identities(name) {
		if last := s.memory.Last(key); last != nil {
			return last.Disks, nil
		}
	}
	return nil, fmt.Errorf("no guest %q ran in an earlier boot, as far as is remembered", name)
}

// lastOf returns what a guest that is about to start last ran on, nil if that is
// not known.
func (s *Service) lastOf(g *guest.Guest) []event.MemoryDisk {
	last := s.memory.Last(g.Identity.String())
	if last == nil {
		return nil
	}
	return last.Disks
}
