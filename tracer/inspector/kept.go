package inspector

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"path/filepath"
	"slices"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// digest tells looks apart.
type digest [sha256.Size]byte

// of has a look be at these disks. Of the guest's command line, which can be of
// megabytes, nothing else is kept. A relative path is another one for each process.
func (l *Look) of(disks []guest.Image) {
	l.disks = make([]guest.Image, 0, len(disks))
	var text []byte
	for n := range disks {
		d := disks[n].Clone()
		for image := range (&guest.Disk{Image: d}).Images() { // JSON has no place for a path that is no UTF-8
			text = append(append(text, image.Path...), 0)
		}
		l.disks = append(l.disks, d)
	}
	rest, err := json.Marshal(l.disks)
	if err != nil {
		rest = fmt.Appendf(rest, "%p", l) // like no other
	}
	text = append(text, rest...)
	l.cost = costOf(len(text), len(disks))
	relative := slices.ContainsFunc(l.disks, func(d guest.Image) bool { return !filepath.IsAbs(d.Path) })
	switch {
	case l.early != nil:
		text = append(text, "early"...)
	case relative && l.dir == "":
		text = fmt.Appendf(text, "of process %d", l.pid)
	case relative:
		text = append(text, l.dir...)
	}
	l.key = sha256.Sum256(text)
}

// costOf estimates what is kept of a look, in bytes, by the length of what describes its
// disks: of each there is a report, too.
func costOf(text, disks int) int { return text + disks<<12 }

// costOfPath is what is kept of a path's device, beside the path.
const costOfPath = 64

// room makes room for a look, and reports whether there is any: looks that are over
// give way.
func (i *Inspector) room(o *owner, l *Look) bool {
	most := mostKept
	if l.owner == 0 {
		most = rootKept
	}
	for o.kept+l.cost > most && len(o.fresh) > 0 {
		i.drop(o)
	}
	if o.kept+l.cost > most {
		return false
	}
	o.kept += l.cost
	return true
}

// end has a look serve further starts for a while.
func (i *Inspector) end(l *Look) {
	l.over, l.at = true, time.Now()
	o := i.ownerOf(&l.owner)
	if text, err := json.Marshal(l.Infos); err == nil {
		o.kept += 2 * len(text)
		l.cost += 2 * len(text)
	}
	o.fresh = append(o.fresh, l)
	i.forget()
}

// forget drops looks that serve no longer.
func (i *Inspector) forget() {
	for _, o := range i.owners {
		for len(o.fresh) > 0 && time.Since(o.fresh[0].at) >= fresh {
			i.drop(o)
		}
	}
}

// drop drops the oldest of an owner's looks that are over.
func (i *Inspector) drop(o *owner) {
	l := o.fresh[0]
	o.fresh = slices.Delete(o.fresh, 0, 1)
	o.kept -= l.cost
	if i.recent[l.key] == l {
		delete(i.recent, l.key)
	}
}

// say takes note of what a start is told of a disk, and reports whether it was told the
// same before.
func (i *Inspector) say(uid uint32, who asker, info *event.InsideInfo) bool {
	seen := *info
	seen.Reads, seen.Bytes = 0, 0
	text, err := json.Marshal(&seen)
	if err != nil {
		return false
	}
	hash := maphash.Bytes(i.seed, fmt.Appendf(text, "%d %d %s", who.pid, who.uid, who.guest))
	i.mu.Lock()
	defer i.mu.Unlock()
	o, most := i.ownerOf(&uid), mostSaid
	if uid == 0 {
		most = rootSaid
	}
	if _, said := o.said[hash]; said {
		return true
	}
	if o.said == nil || len(o.said) >= most {
		o.said = map[uint64]struct{}{}
	}
	o.said[hash] = struct{}{}
	return false
}
