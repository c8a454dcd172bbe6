package syscalls

import (
	"path"
	"strings"
)

// Links follows symbolic links from where they are made to where they end up. udev makes
// each under a temporary name and renames it, and no kernel says of a rename what it
// moves: so the last link that each thread made is kept until the thread renames it.
// The zero value is ready.
type Links struct {
	made map[uint32]link // by thread
}

type link struct{ path, target string }

// maxLinks bounds Links: threads that made a link and then nothing. udev runs far fewer
// workers than this.
const maxLinks = 1024

// Made takes a link to target that a thread has made, and reports whether it is worth
// telling: under a name of its own, which nobody will rename.
func (l *Links) Made(tid uint32, path, target string) bool {
	if l.made == nil || len(l.made) >= maxLinks {
		l.made = make(map[uint32]link)
	}
	l.made[tid] = link{path, target}
	return !isTemporary(path)
}

// Renamed takes a rename, and returns where the link leads that was renamed. It reports
// false where from is no link that this thread has just made.
func (l *Links) Renamed(tid uint32, from string) (target string, ok bool) {
	made, ok := l.made[tid]
	if !ok || made.path != from {
		return "", false
	}
	delete(l.made, tid)
	return made.target, true
}

// Ended forgets a thread.
func (l *Links) Ended(tid uint32) { delete(l.made, tid) }

// Forget forgets all threads.
func (l *Links) Forget() { clear(l.made) }

// isTemporary reports whether a link bears one of the names under which systemd makes
// it, to rename it at once: ".#NAME" and random digits, before version 250 "NAME.tmp-"
// and a device's number. Nobody opens that.
func isTemporary(link string) bool {
	name := path.Base(link)
	return strings.HasPrefix(name, ".#") || strings.Contains(name, ".tmp-")
}
