package service

import (
	"strings"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/event"
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
