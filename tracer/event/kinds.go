package event

import "slices"

// kinds are all kinds that this version knows.
var kinds = []Kind{
	Exec, Fork, Exit, Open, Link,
	DMCreate, DMLoad, DMResume, DMSuspend, DMRename, DMRemove,
	Uevent, Udev, Net, Backfill, Source, Clock, Host, Mark, Loss,
	Hold, Release, Image, Memory, LVM, Mount, Way, Policy, Domain, Inside,
}

// Known reports whether this version knows what events of that kind say. A log
// may hold others, which a later version wrote.
func (k Kind) Known() bool { return slices.Contains(kinds, k) }
