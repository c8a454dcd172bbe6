package timeline

import "strings"

// NotADevice says that the path in /dev is a regular file: somebody wrote to it
// before the device was there. What the guest writes stays in memory and is
// gone with the host's next boot.
const NotADevice = "not-a-device"

// CauseNoDevice means that a regular file stood in the device's place.
const CauseNoDevice = "no-device"

type notADevice struct{}

func (notADevice) find(r *record, report func(*Finding)) {
	for u := range r.uses {
		if u.use.Errno == 0 && u.use.Type == "file" && inDev(u.disk.Path) && !ownFiles(u.disk.Path) {
			report(r.finding(NotADevice, false, u))
		}
	}
}

func (notADevice) kinds() []findingKind {
	return []findingKind{{name: NotADevice, outcome: failed, cause: always(fileInstead)}}
}

var fileInstead = newCause(causeKind{
	name:  CauseNoDevice,
	cures: func(c *Cause) []string { return append([]string{CureRemoveFile}, c.holdRemedies()...) },
})

// ownFiles reports whether regular files belong at that path.
func ownFiles(path string) bool {
	return strings.HasPrefix(path, "/dev/shm/") || strings.HasPrefix(path, "/dev/hugepages") || strings.HasPrefix(path, "/dev/fd")
}
