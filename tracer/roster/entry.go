package roster

import (
	"context"
	"reflect"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/memory"
)

// entry is one guest. It belongs to Run, but for disks and chains, which are a worker's
// while busy is set.
type entry struct {
	pids []int // that are alive, the one that began first
	pid  int   // that began
	// parent is the process that started it, 0 where not known.
	parent int
	uid    uint32 // who runs it
	guest  *guest.Guest
	cwd    string
	start  time.Time

	busy    bool
	readAt  time.Time          // when to read headers, zero: not at all
	lookAt  time.Time          // when to look at what it has open, zero: not at all
	disks   []string           // paths of the disks
	chains  []*image.Chain     // of each
	told    []*event.ImageInfo // what the record has of each chain
	pending bool               // a chain is not all there

	ways looking

	runsOn  []event.MemoryDisk
	settled bool // it has really run on that
}

// proc names the guest in events, and its user, whose part of the log they take from.
func (g *entry) proc() *event.Proc { return &event.Proc{PID: g.pid, UID: g.uid} }

// soon puts a time forward, and never off. A guest that waits for nothing has
// no time to be put forward.
func (g *entry) soon(at *time.Time, in time.Duration) {
	if at == &g.readAt && !g.pending {
		return
	}
	if t := time.Now().Add(in); at.IsZero() || t.Before(*at) {
		*at = t
	}
}

// read follows the chains of a guest's disks, as far as they are there.
func (r *Roster) read(ctx context.Context, g *entry) {
	g.busy = true
	dir, pid := g.cwd, g.pid
	r.start(func() func() {
		if dir == "" {
			dir = r.Dir(pid)
		}
		reader := image.Reader{Host: r.Host, Dir: dir}
		if g.chains == nil {
			g.disks, g.chains = followAll(ctx, reader, g.guest)
		} else {
			for _, c := range g.chains {
				reader.Continue(ctx, c)
			}
		}
		return func() {
			g.busy = false
			r.tellChains(g)
		}
	})
}

// followAll follows each disk that can be an image. disks are their paths, as
// on the command line.
func followAll(ctx context.Context, reader image.Reader, g *guest.Guest) (disks []string, chains []*image.Chain) {
	chains = []*image.Chain{}
	for i := range g.Disks {
		if d := &g.Disks[i]; d.Storage == guest.StorageFile || len(d.Members) > 0 {
			disks = append(disks, d.Path)
			chains = append(chains, reader.Follow(ctx, &d.Image))
		}
	}
	return disks, chains
}

// tellChains records the chains of which more is known than before.
func (r *Roster) tellChains(g *entry) {
	pending := false
	for i, c := range g.chains {
		pending = pending || len(c.Pending()) > 0
		info := describe(g.disks[i], c)
		if len(g.told) <= i {
			g.told = append(g.told, nil)
		}
		if worthTelling(c) && !reflect.DeepEqual(info, g.told[i]) {
			g.told[i] = info
			r.tell(g, event.Event{Kind: event.Image, Image: info})
			g.ways.addImages(info)
		}
	}
	r.setPending(g, pending && len(g.pids) > 0)
}

// worthTelling reports whether a chain says more than the command line does.
func worthTelling(c *image.Chain) bool {
	for i := range c.Members {
		switch c.Members[i].State {
		case image.StateRead, image.StateUnreadable, image.StateRefused, image.StateLoop:
			return true
		}
	}
	return c.Cut != ""
}

func describe(disk string, c *image.Chain) *event.ImageInfo {
	info := &event.ImageInfo{Disk: disk, Cut: c.Cut}
	for i := range c.Members {
		m := &c.Members[i]
		info.Members = append(info.Members, event.ImageMember{
			Path: m.Path, Role: string(m.Role), Over: m.Over, FromHeader: m.FromHeader, Format: m.Format,
			State: string(m.State), Why: m.Why, Dev: m.Dev, Size: m.Size, Name: m.Name, UUID: m.UUID,
		})
	}
	return info
}

// look sees what a guest has open, and remembers it once that has proved good.
func (r *Roster) look(g *entry) {
	if len(g.pids) == 0 {
		return
	}
	g.busy = true
	pid := g.pids[0]
	r.start(func() func() {
		held, err := r.Held(pid)
		var disks []event.MemoryDisk
		if err == nil {
			files, _ := r.Files(pid) // without them only devices are known
			disks = memory.Survey(r.Host, g.guest, g.chains, &memory.Held{Devices: held, Files: files})
		}
		return func() {
			g.busy = false
			if err != nil {
				r.Log.Debug("what a guest runs on is not known", "pid", pid, "error", err)
			}
			r.looked(g, disks)
		}
	})
}

// looked takes what a guest has open. Where that is nothing, it has ended, or
// its disks are none of the host's.
func (r *Roster) looked(g *entry, disks []event.MemoryDisk) {
	if len(disks) > 0 {
		g.runsOn = disks
	}
	age := time.Since(g.start)
	switch {
	case len(g.pids) == 0:
	case age < settled:
		g.lookAt = g.start.Add(settled)
	case len(disks) > 0:
		g.settled = true
		r.remember(g)
	}
}
