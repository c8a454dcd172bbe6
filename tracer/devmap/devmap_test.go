package devmap

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
)

func TestState(t *testing.T) {
	for _, tc := range []struct {
		flags  Flags
		state  State
		usable bool
	}{
		{0, Created, false},
		{FlagInactive, Loaded, false},
		{FlagActive, Live, true},
		{FlagActive | FlagUeventGenerated, Live, true},
		{FlagActive | FlagInactive, Live, true},
		{FlagActive | FlagReadOnly, Live, true},
		{FlagActive | FlagSuspend, Suspended, false},
		{FlagActive | FlagInternalSuspend, Suspended, false},
		{FlagActive | FlagDeferredRemove, Live, false},
	} {
		if got := tc.flags.State(); got != tc.state {
			t.Errorf("%#x: state %s, want %s", tc.flags, got, tc.state)
		}
		if got := tc.flags.Usable(); got != tc.usable {
			t.Errorf("%#x: usable %v, want %v", tc.flags, got, tc.usable)
		}
	}
}

func TestReady(t *testing.T) {
	dm3, dm4 := event.Dev{Major: 254, Minor: 3}, event.Dev{Major: 254, Minor: 4}
	if !Ready(FlagActive, dm3, dm3) {
		t.Error("a live mapping behind its own node is not ready")
	}
	if Ready(FlagActive, dm3, dm4) {
		t.Error("ready through another device's node")
	}
	if Ready(FlagInactive, dm3, dm3) {
		t.Error("ready without an active table")
	}
	if Ready(FlagActive, event.Dev{}, event.Dev{}) {
		t.Error("ready without knowing the device")
	}
}

func TestParseLVMUUID(t *testing.T) {
	const (
		vg = "twE5fSl6bcl2FLrchcRROCxPaSF8M1pg"
		lv = "sabjGAATlCYjjGBeF1EiA8z3AgerzZy6"
	)
	for uuid, want := range map[string]LVMUUID{
		"LVM-" + vg + lv:            {VG: vg, LV: lv},
		"LVM-" + vg + lv + "-real":  {VG: vg, LV: lv, Layer: "real"},
		"LVM-" + vg + lv + "-tpool": {VG: vg, LV: lv, Layer: "tpool"},
	} {
		got, ok := ParseLVMUUID(uuid)
		if !ok || got != want {
			t.Errorf("ParseLVMUUID(%q) = %+v, %v", uuid, got, ok)
		}
		if got.String() != uuid {
			t.Errorf("%q came back as %q", uuid, got)
		}
	}
	for _, uuid := range []string{
		"", "LVM-", "LVM-" + vg, "CRYPT-LUKS2-" + vg + lv, "LVM-" + vg + lv + "-", "LVM-" + vg + lv + "real",
		"LVM-" + strings.Repeat("-", 64), "mpath-" + vg,
	} {
		if got, ok := ParseLVMUUID(uuid); ok {
			t.Errorf("ParseLVMUUID(%q) = %+v, want not ok", uuid, got)
		}
	}
}

func TestCandidates(t *testing.T) {
	name := func(names ...string) (list []Candidate) {
		for _, n := range names {
			list = append(list, Candidate{Name: n})
		}
		return list
	}
	for path, want := range map[string][]Candidate{
		"/dev/mapper/dm_73bd7f2a":            name("dm_73bd7f2a"),
		"/dev/vgdata/73bd7f2a-9779":          name("vgdata-73bd7f2a--9779"),
		"/dev/vg-data/web-01":                name("vg--data-web--01"),
		"//dev/./vgdata//lv":                 name("vgdata-lv"),
		"/dev/mapper/my disk":                name("my disk", `my\x20disk`),
		`/dev/mapper/my\x20disk`:             name(`my\x20disk`, "my disk"),
		"/dev/dm-12":                         {{Node: "dm-12"}},
		"/dev/disk/by-id/dm-name-vg-lv":      name("vg-lv"),
		"/dev/disk/by-id/dm-uuid-LVM-abc":    {{UUID: "LVM-abc"}},
		"/dev/disk/by-uuid/1234-ABCD":        nil,
		"/dev/disk/by-id/lvm-pv-uuid-abc":    nil,
		"/dev/mapper/control":                nil,
		"/dev/mapper":                        nil,
		"/dev/vda":                           nil,
		"/dev/dm-":                           nil,
		"/dev/dm-3x":                         nil,
		"/dev/vg/lv/part":                    nil,
		"/dev/md/b":                          nil, // an array of mdadm, no group md
		"/dev/net/tun":                       nil,
		"/dev/fdset/2":                       nil,
		"/dev":                               nil,
		"vg/lv":                              nil,
		"":                                   nil,
		"/var/lib/libvirt/images/disk.qcow2": nil,
	} {
		if diff := cmp.Diff(want, Candidates(path)); diff != "" {
			t.Errorf("Candidates(%q): %s", path, diff)
		}
	}
}

func TestRedactParams(t *testing.T) {
	for _, tc := range []struct{ kind, params, want string }{
		{"linear", "7:0 2048", "7:0 2048"},
		{"crypt", "aes-xts-plain64 0123456789abcdef 0 8:1 4096", "aes-xts-plain64 [redacted] 0 8:1 4096"},
		{"crypt", "aes-xts-plain64 :64:logon:cryptsetup:d0 0 8:1 4096", "aes-xts-plain64 :64:logon:cryptsetup:d0 0 8:1 4096"},
		{"crypt", "cipher_null-ecb - 0 8:1 4096", "cipher_null-ecb - 0 8:1 4096"},
		{"crypt", "", ""},
		{"integrity", "8:1 0 32 J 2 internal_hash:hmac(sha256):00ff journal_mac:crc32c",
			"8:1 0 32 J 2 internal_hash:hmac(sha256):[redacted] journal_mac:crc32c"},
	} {
		if got := RedactParams(tc.kind, tc.params); got != tc.want {
			t.Errorf("%s %q: got %q, want %q", tc.kind, tc.params, got, tc.want)
		}
	}
}
