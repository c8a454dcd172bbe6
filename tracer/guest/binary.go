package guest

import "strings"

// IsQEMU reports whether a program is a qemu system emulator, by the file name
// given to execve, by what /proc/PID/exe points to, or by a process's comm
// (which the kernel cuts to 15 bytes).
func IsQEMU(name string) bool {
	switch base := program(name); {
	case base == "qemu-kvm", base == "kvm", base == "kvm-spice", base == "qemu":
		return true
	case strings.HasPrefix(base, "qemu-system-"), base == "qemu-kvm-one": // the latter is OpenNebula's
		return true
	default:
		// Kata Containers ships qemu-lite-system-x86_64 and the like.
		return strings.HasPrefix(base, "qemu-") && strings.Contains(base, "-system-")
	}
}

// isTool recognises the programs of qemu that are no emulators.
func isTool(name string) bool {
	switch program(name) {
	case "qemu-img", "qemu-nbd", "qemu-io", "qemu-ga", "qemu-edid", "qemu-keymap",
		"qemu-pr-helper", "qemu-bridge-helper", "qemu-storage-daemon", "qemu-vmsr-helper":
		return true
	}
	return false
}

// program is the base name without what wrappers and the kernel put around it:
// NixOS calls the real binary .NAME-wrapped, and /proc/PID/exe of a replaced
// file ends in " (deleted)".
func program(name string) string {
	name = strings.TrimSuffix(name, " (deleted)")
	name = name[strings.LastIndexByte(name, '/')+1:]
	if inner, ok := strings.CutSuffix(name, "-wrapped"); ok {
		name = strings.TrimPrefix(inner, ".")
	}
	return name
}
