package config

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// Enforce is what enforce mode does.
type Enforce struct {
	// Deadline ends a hold whatever its disks do; 0 means that nothing is held.
	Deadline time.Duration `yaml:"deadline"`
	// OnTimeout is what becomes of a guest whose deadline has come.
	OnTimeout Decision `yaml:"on-timeout"`
	// Identity is what to do where a guest's disk is not what it last ran on.
	Identity IdentityPolicy `yaml:"identity"`
	// Filesystem is what to do where something inside a disk needs more bytes than
	// there are, or a part of it is missing.
	Filesystem FilesystemPolicy `yaml:"filesystem"`
	Activate   Activate         `yaml:"activate"`
	// ActivateAlso are volumes that LVM itself would leave alone.
	ActivateAlso []Unwilling `yaml:"activate-also"`
	// Binaries are patterns of the programs that run guests, absolute paths.
	Binaries []string `yaml:"binaries"`
	// Guests are exceptions; the first that fits a guest holds for it.
	Guests []GuestRule `yaml:"guests"`
}

// GuestRule decides otherwise for some guests. What it leaves out stays as it
// is for all others.
type GuestRule struct {
	// Name and UUID are patterns (as of path.Match); where both are given, both
	// must fit.
	Name       string            `yaml:"name,omitempty"`
	UUID       string            `yaml:"uuid,omitempty"`
	Deadline   *time.Duration    `yaml:"deadline,omitempty"`
	OnTimeout  *Decision         `yaml:"on-timeout,omitempty"`
	Identity   *IdentityPolicy   `yaml:"identity,omitempty"`
	Filesystem *FilesystemPolicy `yaml:"filesystem,omitempty"`
	Activate   *Activate         `yaml:"activate,omitempty"`
}

// Decision is what becomes of a start.
type Decision string

// The decisions.
const (
	Allow Decision = event.TimeoutAllows
	Deny  Decision = event.TimeoutDenies
)

// Set checks and sets the decision; it makes Decision a flag.
func (d *Decision) Set(s string) error { return choose(d, s, "policy", Allow, Deny) }

func (d *Decision) String() string { return string(*d) }

// UnmarshalYAML checks the decision.
func (d *Decision) UnmarshalYAML(n *yaml.Node) error { return setNode(d, n) }

// IdentityPolicy is what to do where a disk is not what the guest last ran on.
type IdentityPolicy string

// The identity policies.
const (
	IdentityWarn IdentityPolicy = "warn" // start it, and say so
	IdentityHold IdentityPolicy = "hold" // until somebody releases it, or the deadline denies it
	IdentityDeny IdentityPolicy = "deny" // at once
)

// Set checks and sets the policy; it makes IdentityPolicy a flag.
func (p *IdentityPolicy) Set(s string) error {
	return choose(p, s, "identity policy", IdentityWarn, IdentityHold, IdentityDeny)
}

func (p *IdentityPolicy) String() string { return string(*p) }

// UnmarshalYAML checks the policy.
func (p *IdentityPolicy) UnmarshalYAML(n *yaml.Node) error { return setNode(p, n) }

// FilesystemPolicy is what to do where what is inside a disk is not whole.
type FilesystemPolicy string

// The filesystem policies.
const (
	FilesystemWarn FilesystemPolicy = event.FilesystemWarns  // start it, and say so
	FilesystemHold FilesystemPolicy = event.FilesystemHolds  // until the device is given back, or somebody releases it, or the deadline denies it
	FilesystemDeny FilesystemPolicy = event.FilesystemDenies // at once
)

// Set checks and sets the policy; it makes FilesystemPolicy a flag.
func (p *FilesystemPolicy) Set(s string) error {
	return choose(p, s, "filesystem policy", FilesystemWarn, FilesystemHold, FilesystemDeny)
}

func (p *FilesystemPolicy) String() string { return string(*p) }

// UnmarshalYAML checks the policy.
func (p *FilesystemPolicy) UnmarshalYAML(n *yaml.Node) error { return setNode(p, n) }

// Activate is when the volumes that a held guest waits for are activated:
// "never", or "after 30s".
type Activate struct {
	// After is how long a guest is held before; meaningless unless On.
	After time.Duration
	On    bool
}

// Set parses the text; it makes Activate a flag.
func (a *Activate) Set(s string) error {
	if s == "never" {
		*a = Activate{}
		return nil
	}
	if text, ok := strings.CutPrefix(s, "after "); ok {
		if d, err := time.ParseDuration(strings.TrimSpace(text)); err == nil && d >= 0 {
			*a = Activate{d, true}
			return nil
		}
	}
	return fmt.Errorf(`activate %q is not understood: use "never", or "after" and a time such as 30s`, s)
}

func (a *Activate) String() string {
	if !a.On {
		return "never"
	}
	return "after " + a.After.String()
}

// MarshalYAML is the text.
func (a Activate) MarshalYAML() (any, error) { return a.String(), nil }

// UnmarshalYAML parses the text.
func (a *Activate) UnmarshalYAML(n *yaml.Node) error { return setNode(a, n) }

// Unwilling is a kind of volumes that LVM activates for nobody who does not say
// so.
type Unwilling string

// The kinds.
const (
	NoAutoactivation Unwilling = "no-autoactivation" // lvchange --setautoactivation n, or not in the lists of lvm.conf
	Skip             Unwilling = "skip"              // the flag that needs lvchange -K
	Shared           Unwilling = "shared"            // of a shared or clustered group: activated exclusively
)

// Set checks and sets the kind.
func (u *Unwilling) Set(s string) error {
	return choose(u, s, "kind of volume", NoAutoactivation, Skip, Shared)
}

// UnmarshalYAML checks the kind.
func (u *Unwilling) UnmarshalYAML(n *yaml.Node) error { return setNode(u, n) }

// choose sets v to one of the known words.
func choose[T ~string](v *T, s, what string, known ...T) error {
	if !slices.Contains(known, T(s)) {
		words := make([]string, len(known))
		for i, k := range known {
			words[i] = fmt.Sprintf("%q", string(k))
		}
		return fmt.Errorf("%s %q is not known to this version: use %s", what, s, strings.Join(words, ", "))
	}
	*v = T(s)
	return nil
}

func setNode(v interface{ Set(string) error }, n *yaml.Node) error {
	if err := v.Set(n.Value); err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	return nil
}

func defaultEnforce() Enforce {
	usual := event.UsualPolicy(guest.Places())
	return Enforce{
		Deadline: usual.Deadline, OnTimeout: Decision(usual.OnTimeout), Identity: IdentityPolicy(usual.Identity), Filesystem: FilesystemWarn,
		ActivateAlso: []Unwilling{}, Binaries: usual.Programs, Guests: []GuestRule{},
	}
}

// HasUsualBinaries reports whether the patterns are the default ones, of which
// no host has all.
func (e *Enforce) HasUsualBinaries() bool { return slices.Equal(e.Binaries, guest.Places()) }

// Policy is what holds for one guest.
type Policy struct {
	Deadline   time.Duration
	OnTimeout  Decision
	Identity   IdentityPolicy
	Activate   Activate
	Filesystem FilesystemPolicy
}

// For returns the policy for the guest with this name and UUID, either of which
// may be empty.
func (e *Enforce) For(name, uuid string) Policy {
	p := e.general()
	for i := range e.Guests {
		if e.Guests[i].fits(name, uuid) {
			e.Guests[i].change(&p)
			break
		}
	}
	return p
}

// general is what holds without exceptions.
func (e *Enforce) general() Policy {
	return Policy{e.Deadline, e.OnTimeout, e.Identity, e.Activate, e.Filesystem}
}

func (r *GuestRule) fits(name, uuid string) bool {
	recorded := event.PolicyRule{Name: r.Name, UUID: r.UUID}
	return recorded.Fits(name, uuid)
}

func (r *GuestRule) change(p *Policy) {
	set(&p.Deadline, r.Deadline)
	set(&p.OnTimeout, r.OnTimeout)
	set(&p.Identity, r.Identity)
	set(&p.Activate, r.Activate)
	set(&p.Filesystem, r.Filesystem)
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// maxDeadline is far beyond what anybody waits for, and no overflow.
const maxDeadline = 24 * time.Hour

func (e *Enforce) validate() error {
	if err := checkDeadline("deadline", e.Deadline); err != nil {
		return err
	}
	if len(e.Binaries) == 0 {
		return errors.New("enforce.binaries: name at least one program")
	}
	for _, pattern := range e.Binaries {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("enforce.binaries: pattern %q: %w", pattern, err)
		}
		if !path.IsAbs(pattern) || path.Clean(pattern) != pattern {
			return fmt.Errorf("enforce.binaries: %q is not the absolute path of a program, nor a pattern of one", pattern)
		}
	}
	for i := range e.Guests {
		if err := e.Guests[i].validate(); err != nil {
			return fmt.Errorf("enforce.guests, entry %d: %w", i+1, err)
		}
	}
	return nil
}

func (r *GuestRule) validate() error {
	if r.Name == "" && r.UUID == "" {
		return errors.New("say whom it is for: a pattern for name or uuid")
	}
	for _, pattern := range []string{r.Name, r.UUID} {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
	}
	if r.Deadline != nil {
		return checkDeadline("deadline", *r.Deadline)
	}
	return nil
}

func checkDeadline(name string, d time.Duration) error {
	if d < 0 || d > maxDeadline {
		return fmt.Errorf("enforce.%s %s: want a time from 0 to 24h", name, d)
	}
	return nil
}
