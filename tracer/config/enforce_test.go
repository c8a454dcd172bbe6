package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseEnforce(t *testing.T) {
	got, err := Parse([]byte(`
mode: enforce
enforce:
  deadline: 30s
  on-timeout: deny
  identity: hold
  filesystem: hold
  activate: after 5s
  binaries: [/opt/qemu/bin/qemu-*]
  guests:
    - name: router-*
      deadline: 0s
    - uuid: 3AAD3B6B-*
      on-timeout: allow
      identity: deny
      filesystem: deny
      activate: never
`))
	if err != nil {
		t.Fatal(err)
	}
	if got.Mode != Enforcing || !cmp.Equal(got.Enforce.Binaries, []string{"/opt/qemu/bin/qemu-*"}) || got.Enforce.HasUsualBinaries() {
		t.Errorf("%+v", got)
	}
	for _, test := range []struct {
		name, uuid string
		want       Policy
	}{
		{"web", "", Policy{30 * time.Second, Deny, IdentityHold, Activate{5 * time.Second, true}, FilesystemHold}},
		{"router-7", "", Policy{0, Deny, IdentityHold, Activate{5 * time.Second, true}, FilesystemHold}},
		{"", "3aad3b6b-ddf8-474a-8906-06d83ef318cb", Policy{30 * time.Second, Allow, IdentityDeny, Activate{}, FilesystemDeny}},
		// The first that fits, and no more.
		{"router-7", "3aad3b6b-ddf8-474a-8906-06d83ef318cb", Policy{0, Deny, IdentityHold, Activate{5 * time.Second, true}, FilesystemHold}},
		{"router/7", "", Policy{30 * time.Second, Deny, IdentityHold, Activate{5 * time.Second, true}, FilesystemHold}},
	} {
		if diff := cmp.Diff(test.want, got.Enforce.For(test.name, test.uuid)); diff != "" {
			t.Errorf("%q, %q: %s", test.name, test.uuid, diff)
		}
	}
}

// Systemd gives a unit 90 s to start.
func TestDefaultDeadline(t *testing.T) {
	d := Default()
	if p := d.Enforce.For("any", ""); p.Deadline >= 90*time.Second || p.OnTimeout != Allow || p.Identity != IdentityWarn || p.Filesystem != FilesystemWarn || p.Activate.On {
		t.Errorf("the default policy %+v is not a careful one", p)
	}
	if !d.Enforce.HasUsualBinaries() {
		t.Error("the default patterns are not the usual ones")
	}
}

func TestEnforceErrors(t *testing.T) {
	for in, want := range map[string]string{
		"on-timeout: perhaps":                `line 2: policy "perhaps" is not known to this version: use "allow", "deny"`,
		"identity: ask":                      `line 2: identity policy "ask" is not known to this version: use "warn", "hold", "deny"`,
		"activate: soon":                     `line 2: activate "soon" is not understood: use "never", or "after" and a time such as 30s`,
		"activate: after":                    `activate "after"`,
		"activate: after -1s":                `activate "after -1s"`,
		"deadline: -1s":                      "enforce.deadline -1s: want a time from 0 to 24h",
		"deadline: 48h":                      "enforce.deadline 48h0m0s",
		"activate-also: [all]":               `kind of volume "all"`,
		"dead-line: 1s":                      "line 2: field dead-line is not known",
		"binaries: []":                       "enforce.binaries: name at least one program",
		"binaries: [qemu-kvm]":               `"qemu-kvm" is not the absolute path of a program`,
		"binaries: [/usr/bin/]":              `"/usr/bin/" is not the absolute path`,
		"binaries: ['/usr/bin/[']":           `pattern "/usr/bin/[": syntax error`,
		"guests: [{deadline: 1s}]":           "enforce.guests, entry 1: say whom it is for",
		"guests: [{name: '['}]":              `enforce.guests, entry 1: pattern "["`,
		"guests: [{nam: a}]":                 "field nam is not known",
		"guests: [{uuid: a, identity: x}]":   `identity policy "x"`,
		"guests: [{name: a, deadline: -1s}]": "entry 1: enforce.deadline -1s",
	} {
		_, err := Parse([]byte("enforce:\n  " + in + "\n"))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want %q on one line", in, err, want)
		}
	}
}

func TestActivateString(t *testing.T) {
	for _, text := range []string{"never", "after 30s", "after 0s"} {
		var a Activate
		if err := a.Set(text); err != nil || a.String() != text {
			t.Errorf("%q: got %q, %v", text, a.String(), err)
		}
	}
}
