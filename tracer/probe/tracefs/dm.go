package tracefs

import (
	"cmp"
	"maps"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/syscalls"
)

// request notes a request under way.
func (c *calls) request(h *hit) {
	begin(c, c.requests, h.tid, &request{hit: *h}, lossDM)
}

// status completes what the caller gave of a request by what the kernel found. Where
// its return is not told yet, this is its end: the kernel answers when all is done.
func (c *calls) status(h *hit) []event.Event {
	r := c.requests[h.tid]
	if r == nil {
		return nil
	}
	if r.nr != bpf.DMDevRename { // a rename has the old name, this one the new
		r.name, r.uuid = h.name, h.uuid
		if h.dev != 0 {
			r.dev = h.dev
		}
	}
	if h.at >= c.returns {
		return nil
	}
	done := *h
	done.ret = 0
	return c.requestDone(&done)
}

// ended is the request with what it has returned.
func (r *request) ended(ret int32) *syscalls.Request {
	return &syscalls.Request{Nr: r.nr, Flags: r.flags, Ret: ret, Cookie: r.cookie, Name: r.name, UUID: r.uuid, Dev: r.dev}
}

func (c *calls) requestDone(h *hit) []event.Event {
	r := c.requests[h.tid]
	delete(c.requests, h.tid)
	if r == nil {
		return nil
	}
	who := c.tasks.Who(h.tid)
	if r.nr == bpf.DMRemoveAll {
		return c.removedAll(r, h, who.Proc)
	}
	ended := r.ended(int32(h.ret))
	kind, _ := ended.Kind()
	dm := ended.Info()
	e := c.event(kind, r.at, h, who.Proc)
	e.DM = dm
	e.Proc.Args = syscalls.CallerArgs(who.Args)
	if dm.Errno == 0 {
		c.succeeded(r, kind, dm)
	}
	return []event.Event{e}
}

// succeeded fills in what a request that succeeded has brought about.
func (c *calls) succeeded(r *request, kind event.Kind, dm *event.DMInfo) {
	switch kind {
	case event.DMCreate:
		delete(c.devices, dm.Name) // of one that had the name before, and another number
		c.identify(dm)
	case event.DMRename:
		c.renamed(r, dm)
	case event.DMResume:
		dm.LiveAt = r.live
		c.identify(dm)
		c.look(dm)
	case event.DMRemove:
		c.named(dm)
		dm.Flags = c.deferred(r, dm)
		delete(c.devices, dm.Name)
	default:
		c.identify(dm)
	}
	changed := kind == event.DMCreate || kind == event.DMResume || kind == event.DMSuspend
	switch {
	case dm.Dev != nil:
		c.major = dm.Dev.Major
		if changed {
			delete(c.opened, dm.Dev.Minor)
		}
	case changed: // it may be any of them
		clear(c.opened)
		fallthrough
	default:
		if c.major == 0 {
			c.major = devmap.Major("/")
		}
	}
}

// named completes what is known of a mapping that is gone. LVM removes by number,
// and the kernel does not answer with the name then.
func (c *calls) named(dm *event.DMInfo) {
	if dm.Name == "" && dm.Dev != nil {
		for name, known := range c.devices {
			if known.dev == *dm.Dev {
				dm.Name = name
			}
		}
	}
	if dm.Name == "" { // it may be one whose number is not known: of which more would pile up
		maps.DeleteFunc(c.devices, func(_ string, known identity) bool { return known.dev.IsZero() })
	}
	if known, ok := c.devices[dm.Name]; ok && dm.UUID == "" {
		dm.UUID = known.uuid
	}
}

// libdevmapper puts the new name right behind the header.
func (c *calls) renamed(r *request, dm *event.DMInfo) {
	new := r.new
	if r.start != dmData {
		new = ""
	}
	r.ended(0).Rename(dm, new)
	if dm.NewUUID != "" {
		return
	}
	if known, ok := c.devices[dm.Name]; ok && new != "" {
		delete(c.devices, dm.Name)
		if known.dev.IsZero() {
			known.dev = c.number(new, known.uuid)
		}
		c.devices[new] = known
	}
}

// identify finds the number of a mapping that was addressed by its name: from an earlier
// request, or by asking device-mapper.
func (c *calls) identify(dm *event.DMInfo) {
	if dm.Dev == nil && dm.Name != "" {
		if known, ok := c.devices[dm.Name]; ok && !known.dev.IsZero() {
			dm.Dev = &known.dev
		} else if dev := c.number(dm.Name, dm.UUID); !dev.IsZero() {
			dm.Dev = &dev
		}
	}
	if dm.Name == "" && dm.Dev != nil {
		if m, err := c.ask(func(d *devmap.Control) (devmap.Mapping, error) { return d.Status(*dm.Dev) }); err == nil {
			dm.Name, dm.UUID = m.Name, m.UUID
		}
	}
	if dm.Name == "" {
		return
	}
	known := identity{uuid: cmp.Or(dm.UUID, c.devices[dm.Name].uuid)}
	if dm.Dev != nil {
		known.dev = *dm.Dev
	}
	c.devices[dm.Name] = known
}

// number asks device-mapper for the number of a mapping, 0:0 where it has none of that
// name and uuid. It is asked a moment after a request: by then the mapping may have another
// name, but no other uuid.
func (c *calls) number(name, uuid string) event.Dev {
	m, err := c.ask(func(d *devmap.Control) (devmap.Mapping, error) {
		if uuid != "" {
			return d.WithUUID(uuid)
		}
		return d.Named(name)
	})
	if err != nil {
		return event.Dev{}
	}
	return m.Dev
}

// look asks for the table that went live. It is read a moment later: a table
// that was replaced within that moment is taken for it.
func (c *calls) look(dm *event.DMInfo) {
	if dm.Dev == nil {
		return
	}
	m, err := c.ask(func(d *devmap.Control) (devmap.Mapping, error) { return d.Get(*dm.Dev) })
	if err != nil || m.Flags&devmap.FlagActive == 0 || dm.UUID != "" && m.UUID != dm.UUID {
		return
	}
	dm.Size, dm.Table, dm.Flags = m.Size, m.Table(), uint32(m.Flags)
}

// deferred returns the flag of a mapping that goes with its last user: it was
// asked for, and the mapping is still there.
func (c *calls) deferred(r *request, dm *event.DMInfo) uint32 {
	if devmap.Flags(r.flags)&devmap.FlagDeferredRemove == 0 {
		return 0
	}
	m, err := c.ask(func(d *devmap.Control) (devmap.Mapping, error) { return d.Named(dm.Name) })
	if err != nil {
		return 0
	}
	return uint32(m.Flags)
}

func (c *calls) ask(question func(*devmap.Control) (devmap.Mapping, error)) (devmap.Mapping, error) {
	if c.control == nil {
		control, err := devmap.Open()
		if err != nil {
			return devmap.Mapping{}, err
		}
		c.control = control
	}
	return question(c.control)
}

func (c *calls) removedAll(r *request, h *hit, who event.Proc) []event.Event {
	if h.ret != 0 {
		return nil
	}
	e := c.event(event.Loss, r.at, h, who)
	e.Proc = nil
	e.Loss = syscalls.RemovedAll(Name, who)
	return []event.Event{e}
}
