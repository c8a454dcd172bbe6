package timeline

import (
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/blockdev"
)

// Pulled says that a disk, or a device beneath it, went while the guest that had
// opened it ran on: reads and writes fail from then on. Finding.At is when it
// went.
const Pulled = "pulled"

// mayBeDetached is Finding.Reason of a pulled disk that the guest may have given
// up before: closing a device is not recorded.
const mayBeDetached = "unless it had been detached from the guest before"

// CausePulled means that the disk, or what is beneath it, went while the guest ran.
const CausePulled = "pulled"

type pulled struct{}

func (pulled) find(r *record, report func(*Finding)) {
	for u := range r.uses {
		open := u.disk.opening()
		if open == nil || removable(u.disk) {
			continue
		}
		l := u.life
		if open.Dev != nil {
			l = r.h.lifeByDev(*open.Dev, stamp{from: open.From, at: open.At})
		}
		if l == nil {
			continue
		}
		ran := stamp{from: open.At, at: r.last}
		if e := u.guest.out.Exit; e != nil {
			ran.at = e.From
		}
		gone := r.lost(l, ran, map[*life]*life{})
		if gone == nil {
			continue
		}
		f := r.finding(Pulled, false, u)
		f.Margin, f.Ready, f.Late, f.Errno, f.Error = nil, nil, nil, 0, ""
		f.Mapping, f.MappingName = l.mapping.ID, l.nameAt(*gone.end, r.h.names)
		f.At, f.Size = gone.end.at, 0
		f.State, _ = l.stateAt(*gone.end)
		f.Evidence = proof(append(f.Evidence, open.Event, gone.end.id))
		switch {
		case gone == l && l.kind == blockdev.Array: // nobody stops one that is open
			f.State = stateRemoved
		case gone == l:
			f.State, f.Reason = stateRemoved, mayBeDetached
		default:
			f.Beneath = "/dev/" + r.h.names.get(gone.node)
		}
		report(f)
	}
}

func (pulled) kinds() []findingKind {
	return []findingKind{{
		name: Pulled,
		outcome: func(f *Finding) Outcome {
			if f.Reason != "" { // the guest may have given it up
				return OutcomeAtRisk
			}
			return OutcomeFailed
		},
		cause: always(pulledOut),
	}}
}

var pulledOut = newCause(causeKind{name: CausePulled, cures: just(CureBringBack)})

// opening returns the disk's first use that succeeded.
func (d *Disk) opening() *Use {
	if n := slices.IndexFunc(d.Uses, func(u Use) bool { return u.Errno == 0 }); n >= 0 {
		return &d.Uses[n]
	}
	return nil
}

// lost returns the device that went within ran and took l with it, l itself or one
// beneath it, nil if none did.
//
// The kernel refuses to remove what somebody has open, but for devices that are
// pulled: then the guest must have closed it before. Of what stands on several
// devices that can stand in for each other, all have to be gone; an md array says
// by itself when it has too few, on kernels that know the state broken.
func (r *record) lost(l *life, ran stamp, known map[*life]*life) *life {
	if gone, ok := known[l]; ok {
		return gone
	}
	known[l] = nil // a table can't lead to itself, a broken log can
	if l.end != nil && !l.assumed && l.kind.Pullable() && l.end.from > ran.from && l.end.at < ran.at {
		known[l] = l
		return l
	}
	var found *life
	spare := redundant(l.out.Table)
	beneath, gone := 0, 0
	for _, dev := range slices.Concat(tableDevices(l.out.Table), l.under) {
		under := r.h.lifeByDev(dev, stamp{from: ran.from, at: ran.from})
		if under == nil {
			continue
		}
		beneath++
		if d := r.lost(under, ran, known); d != nil {
			gone++
			if found == nil || d.end.at > found.end.at == spare {
				found = d
			}
		}
	}
	switch {
	case found == nil, spare && gone < beneath:
		return nil
	case l.kind == blockdev.Array && l.end != nil && l.end.at >= found.end.from && l.end.at < ran.at:
		found = l // it says so itself
	case l.kind == blockdev.Array && gone < beneath:
		return nil
	case l.end != nil && l.end.from < found.end.at:
		return nil // it had been taken down in order
	}
	known[l] = found
	return found
}

// redundant reports whether a mapping can do without some of its devices.
func redundant(table []string) bool {
	return slices.ContainsFunc(table, func(line string) bool {
		fields := strings.Fields(line)
		return len(fields) > 2 && slices.Contains([]string{"multipath", "raid", "mirror"}, fields[2])
	})
}
