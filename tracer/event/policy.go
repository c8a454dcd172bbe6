package event

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What enforce mode would have done is judged from the record of a boot, maybe on
// another host. So the record carries the policy, and what it comes to for a guest
// is decided here, for the hold and for who judges it.

// The words of a PolicyInfo: Mode, OnTimeout and Filesystem.
const (
	ModeTrace        = "trace"
	ModeEnforce      = "enforce"
	TimeoutAllows    = "allow"
	TimeoutDenies    = "deny"
	FilesystemWarns  = "warn"
	FilesystemHolds  = "hold"
	FilesystemDenies = "deny"
)

// UsualPolicy is the policy without a configuration, but for the mode, on a host
// whose guests' programs are these. Its deadline leaves room below systemd's
// default start timeout of 90 s.
func UsualPolicy(programs []string) PolicyInfo {
	return PolicyInfo{Deadline: 80 * time.Second, OnTimeout: TimeoutAllows, Identity: "warn", Programs: programs}
}

// For returns what holds for the guest with this name and UUID, either of which
// may be empty: that of the first rule that fits. Its deadline is the one that the
// kernel allows.
func (p *PolicyInfo) For(name, uuid string) PolicyRule {
	found := PolicyRule{Deadline: p.Deadline, OnTimeout: p.OnTimeout, Identity: p.Identity, Filesystem: p.Filesystem}
	for i := range p.Rules {
		if p.Rules[i].Fits(name, uuid) {
			found = p.Rules[i]
			break
		}
	}
	if p.Longest > 0 {
		found.Deadline = min(found.Deadline, p.Longest)
	}
	return found
}

// Fits reports whether r is for the guest with this name and UUID.
func (r *PolicyRule) Fits(name, uuid string) bool {
	return fits(r.Name, name) && fits(strings.ToLower(r.UUID), uuid)
}

func fits(pattern, text string) bool {
	if pattern == "" {
		return true
	}
	ok, err := path.Match(pattern, text)
	return ok && err == nil // the configuration has checked it
}

// Covers reports whether the starts of a program are held, by the name under
// which it was executed. A name that is not a whole path is compared with the
// last elements of the patterns: which folder it was in is not known.
//
// A program is held by whichever name it is called, if a pattern leads to its
// file. So a link outside of all patterns to a program that is held counts as
// not covered here, although it is.
func (p *PolicyInfo) Covers(program string) bool {
	return slices.ContainsFunc(p.Programs, func(pattern string) bool {
		if !filepath.IsAbs(program) {
			pattern, program = path.Base(pattern), path.Base(program)
		}
		ok, err := path.Match(pattern, program)
		return ok && err == nil
	})
}
