package bootlog

import (
	"os"
	"strings"
)

// CurrentBootID returns the id of the running boot, empty where the kernel
// doesn't tell (/proc/sys/kernel/random/boot_id).
func CurrentBootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
