package guest

import "strings"

// qemu is all system emulators of QEMU, under the names that distributions and
// Cloudpods give them.
var qemu = hypervisor{
	name:     "qemu",
	programs: []string{"qemu-system-", "qemu-kvm", "qemu-kvm-one", "kvm", "kvm-spice", ".qemu-system-"}, // OpenNebula has the third, NixOS the last
	also: func(name string) bool {
		// Kata Containers ships qemu-lite-system-x86_64 and the like.
		return name == "qemu" || strings.HasPrefix(name, "qemu-") && strings.Contains(name, "-system-")
	},
	places: []string{
		"/usr/bin/qemu-system-*",
		"/usr/bin/qemu-kvm",
		"/usr/bin/kvm",
		"/usr/bin/qemu-kvm-one",
		"/usr/libexec/qemu-kvm",
		"/usr/local/bin/qemu-system-*",
		"/usr/local/qemu-*/bin/qemu-system-*",
	},
	identify: "give it -uuid or -name",
	parse:    parseQEMU,
	redact:   Redact,
}

// isTool recognises the programs of qemu that are no emulators.
func isTool(name string) bool {
	switch fileName(name) {
	case "qemu-img", "qemu-nbd", "qemu-io", "qemu-ga", "qemu-edid", "qemu-keymap",
		"qemu-pr-helper", "qemu-bridge-helper", "qemu-storage-daemon", "qemu-vmsr-helper":
		return true
	}
	return false
}

// typical are options that a qemu has on its command line where it runs a guest,
// and other programs don't.
var typical = map[string]bool{
	"machine": true, "M": true, "accel": true, "enable-kvm": true, "smp": true, "drive": true, "blockdev": true,
	"device": true, "netdev": true, "hda": true, "nodefaults": true, "qmp": true, "chardev": true,
}

// looksLikeQEMU reports whether a command line is one of qemu's, whatever the
// program is called: it has two of its typical options, and none that qemu does
// not know.
func looksLikeQEMU(args []string) bool {
	n := 0
	for a := range arguments(args) {
		if a.problem != "" {
			return false
		}
		if typical[a.name] {
			n++
		}
	}
	return n >= 2
}
