package config

import (
	"testing"
	"time"
)

// What is read back from a record decides as the configuration did.
func TestRecorded(t *testing.T) {
	c, err := Parse([]byte(`
mode: enforce
enforce:
  deadline: 2m
  on-timeout: deny
  binaries: [/opt/qemu/bin/qemu-*]
  guests:
    - {name: "router-*", deadline: 0s}
    - {uuid: "3AAD*", on-timeout: allow, identity: hold}
    - {name: db, uuid: "5*", deadline: 5m}
`))
	if err != nil {
		t.Fatal(err)
	}
	p := c.Recorded()
	if p.Mode != "enforce" || p.Deadline != 2*time.Minute || len(p.Rules) != 3 {
		t.Errorf("%+v", p)
	}
	for _, who := range [][2]string{{"router-7", ""}, {"", "3aad3b6b"}, {"db", "5aad"}, {"db", "6aad"}, {"web", ""}, {"", ""}} {
		want, got := c.Enforce.For(who[0], who[1]), p.For(who[0], who[1])
		if got.Deadline != want.Deadline || got.OnTimeout != string(want.OnTimeout) || got.Identity != string(want.Identity) {
			t.Errorf("%q: configured %+v, recorded %+v", who, want, got)
		}
	}
}

func TestCovers(t *testing.T) {
	usual := Default()
	recorded := usual.Recorded()
	for program, want := range map[string]bool{
		"/usr/bin/qemu-system-x86_64": true, "/usr/libexec/qemu-kvm": true, "qemu-system-x86_64": true, "./kvm": true,
		"/usr/local/qemu-8.2/bin/qemu-system-x86_64": true,
		"/opt/vendor/bin/qemu-system-x86_64":         false, "/usr/bin/cloud-hypervisor": true, "/usr/bin/crosvm": false, "crosvm": false, "": false,
	} {
		if got := recorded.Covers(program); got != want {
			t.Errorf("%q: %v", program, got)
		}
	}
}
