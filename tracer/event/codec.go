package event

import (
	"fmt"
	"maps"
	"slices"
)

// The JSON form.
//
// An event is one line: a JSON object in UTF-8 without a line break. Members
// may come in any order; those that are not known are ignored, and so is the
// difference between an absent member and null. Kinds that are not known are
// kept.
//
// Paths, arguments and names are bytes to Linux and need not be UTF-8. A byte
// that is not part of valid UTF-8 is written as the escape of a lone low
// surrogate, \udc80 for 0x80 to \udcff for 0xff, and nothing else is ever
// written so. This is what Python calls surrogateescape (PEP 383): there,
// os.fsencode(s) gives the original bytes. Programs that replace lone
// surrogates by U+FFFD lose these bytes and nothing else.
//
// DEL and the C1 control characters are escaped like the C0 ones, so that a
// log sent to a terminal cannot steer it.
//
// The code is our own because no library keeps foreign bytes, and because a
// boot of a million events must be shown in a second. BenchmarkLibraryDecode
// measures what libraries take.
// One list of fields for each type serves both directions; TestFieldsComplete
// compares the lists with the types. Lines of the form that we write, which are
// nearly all, have a reader of their own beside that: codec_read_own.go.

// AppendJSON appends e's JSON form, without a line break, to dst.
func (e *Event) AppendJSON(dst []byte) []byte {
	w := writer{out: dst}
	w.object(e)
	return w.out
}

// MarshalJSON returns the form that the boot log has.
func (e Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil), nil }

// UnmarshalJSON reads the form that the boot log has. It keeps what e holds
// and data does not mention.
func (e *Event) UnmarshalJSON(data []byte) error {
	r := reader{in: data, clean: clean(data)}
	return r.event(e)
}

// Decoder decodes many events. It shares equal strings between them, which
// saves most of the memory that a boot's events need. It is not safe for
// concurrent use.
type Decoder struct {
	seen     [internSlots]string
	payloads *Payloads
	texts    []string // of the list that is being read
}

// Use has what the next events point to come from p, until p is reset, nearly all of
// it: the decoder allocates hardly anything then.
func (d *Decoder) Use(p *Payloads) {
	p.keep = true
	d.payloads = p
}

// Decode reads one line into e, replacing all it holds. The line is not kept.
func (d *Decoder) Decode(line []byte, e *Event) error {
	*e = Event{}
	if d.payloads == nil {
		d.payloads = new(Payloads)
	}
	plain := clean(line)
	if plain && d.own(line, e) {
		return nil
	}
	return d.any(line, e, plain)
}

// any reads a line of any form.
func (d *Decoder) any(line []byte, e *Event, clean bool) error {
	*e = Event{}
	r := reader{in: line, seen: &d.seen, clean: clean}
	return r.event(e)
}

// SyntaxError says where and why a line is not an event.
type SyntaxError struct {
	Offset int // bytes from the start of the line
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("decode event: byte %d: %s", e.Offset, e.Reason)
}

// form is one direction of the codec: exactly one of w and r is set.
type form struct {
	w *writer
	r *reader
}

// fielder is a type with a JSON object as its form. fields visits its members
// in the order in which they are written. Reading visits them as often as it
// takes, so fields does nothing else.
type fielder interface{ fields(f form) }

// presence says whether a member is written when it is zero.
type presence bool

const (
	always   presence = true
	optional presence = false
)

func (e *Event) fields(f form) {
	integer(f, "id", &e.ID, always)
	integer(f, "t_ns", &e.At, always)
	integer(f, "from_ns", &e.From, optional)
	text(f, "kind", (*string)(&e.Kind), always)
	text(f, "src", &e.Src, optional)
	object(f, "proc", &e.Proc)
	object(f, "exec", &e.Exec)
	object(f, "exit", &e.Exit)
	object(f, "open", &e.Open)
	object(f, "dm", &e.DM)
	object(f, "dev", &e.Dev)
	object(f, "net", &e.Net)
	object(f, "source", &e.Source)
	object(f, "clock", &e.Clock)
	object(f, "host", &e.Host)
	object(f, "mark", &e.Mark)
	object(f, "loss", &e.Loss)
	object(f, "hold", &e.Hold)
	object(f, "image", &e.Image)
	object(f, "memory", &e.Memory)
	object(f, "lvm", &e.LVM)
	object(f, "mount", &e.Mount)
	object(f, "way", &e.Way)
	object(f, "policy", &e.Policy)
	object(f, "domain", &e.Domain)
	object(f, "inside", &e.Inside)
}

func (p *Proc) fields(f form) {
	integer(f, "pid", &p.PID, always)
	integer(f, "tid", &p.TID, optional)
	integer(f, "ppid", &p.PPID, optional)
	integer(f, "uid", &p.UID, optional)
	text(f, "comm", &p.Comm, optional)
	texts(f, "args", &p.Args, optional)
	text(f, "unit", &p.Unit, optional)
	text(f, "parent", &p.Parent, optional)
}

func (x *ExecInfo) fields(f form) {
	text(f, "filename", &x.Filename, optional)
	texts(f, "args", &x.Args, always)
	integer(f, "args_bytes", &x.ArgsBytes, optional)
	boolean(f, "truncated", &x.Truncated, optional)
	text(f, "cwd", &x.Cwd, optional)
	objects(f, "files", &x.Files)
}

func (x *ExitInfo) fields(f form) {
	integer(f, "status", &x.Status, always)
	integer(f, "signal", &x.Signal, optional)
}

func (d *Dev) fields(f form) {
	integer(f, "major", &d.Major, always)
	integer(f, "minor", &d.Minor, always)
}

func (o *OpenInfo) fields(f form) {
	text(f, "path", &o.Path, always)
	text(f, "target", &o.Target, optional)
	integer(f, "flags", &o.Flags, optional)
	integer(f, "errno", &o.Errno, optional)
	object(f, "dev", &o.Dev)
	text(f, "type", &o.Type, optional)
	integer(f, "size", &o.Size, always)
	integer(f, "repeats", &o.Repeats, optional)
}

func (d *DMInfo) fields(f form) {
	text(f, "name", &d.Name, optional)
	text(f, "uuid", &d.UUID, optional)
	text(f, "new_name", &d.NewName, optional)
	text(f, "new_uuid", &d.NewUUID, optional)
	object(f, "dev", &d.Dev)
	integer(f, "size", &d.Size, optional)
	texts(f, "table", &d.Table, optional)
	boolean(f, "table_cut", &d.TableCut, optional)
	integer(f, "errno", &d.Errno, optional)
	integer(f, "flags", &d.Flags, optional)
	integer(f, "live_ns", &d.LiveAt, optional)
	text(f, "state", &d.State, optional)
	integer(f, "cookie", &d.Cookie, optional)
}

func (d *DevInfo) fields(f form) {
	text(f, "action", &d.Action, optional)
	text(f, "devpath", &d.Path, optional)
	text(f, "subsystem", &d.Subsystem, optional)
	text(f, "devname", &d.Name, optional)
	text(f, "devtype", &d.Type, optional)
	object(f, "dev", &d.Dev)
	integer(f, "seq", &d.Seq, optional)
	texts(f, "links", &d.Links, optional)
	integer(f, "since_ns", &d.Since, optional)
	integer(f, "initialized_ns", &d.Initialized, optional)
	textMap(f, "props", &d.Props)
	textMap(f, "attrs", &d.Attrs)
	objects(f, "under", &d.Under)
}

func (n *NetInfo) fields(f form) {
	text(f, "action", &n.Action, always)
	integer(f, "index", &n.Index, always)
	text(f, "name", &n.Name, always)
	text(f, "type", &n.Type, optional)
	integer(f, "master", &n.Master, optional)
	boolean(f, "up", &n.Up, optional)
	boolean(f, "carrier", &n.Carrier, optional)
}

func (s *SourceInfo) fields(f form) {
	text(f, "name", &s.Name, always)
	text(f, "state", &s.State, always)
	objects(f, "abilities", &s.Abilities)
}

func (a *Ability) fields(f form) {
	text(f, "name", &a.Name, always)
	boolean(f, "ok", &a.OK, always)
	text(f, "why", &a.Why, optional)
}

func (c *ClockInfo) fields(f form) {
	integer(f, "wall_offset_ns", &c.WallOffset, always)
	integer(f, "uncertainty_ns", &c.Uncertainty, always)
	boolean(f, "trusted", &c.Trusted, always)
}

func (h *HostInfo) fields(f form) {
	text(f, "name", &h.Name, optional)
	text(f, "machine_id", &h.MachineID, optional)
	text(f, "os", &h.OS, optional)
}

func (m *MarkInfo) fields(f form) {
	text(f, "name", &m.Name, always)
	text(f, "text", &m.Text, optional)
}

func (l *LossInfo) fields(f form) {
	text(f, "source", &l.Source, always)
	text(f, "what", &l.What, always)
	integer(f, "count", &l.Count, optional)
	text(f, "why", &l.Why, optional)
	boolean(f, "recovered", &l.Recovered, optional)
	integer(f, "uid", &l.UID, optional)
	integer(f, "pid", &l.PID, optional)
}

func (h *HoldInfo) fields(f form) {
	text(f, "reason", (*string)(&h.Reason), always)
	texts(f, "blockers", &h.Blockers, optional)
	integer(f, "more", &h.More, optional)
	text(f, "guest", &h.Guest, optional)
	text(f, "identity", &h.Identity, optional)
	text(f, "disk", &h.Disk, optional)
	integer(f, "deadline_ns", &h.Deadline, optional)
	text(f, "outcome", (*string)(&h.Outcome), optional)
	boolean(f, "hook", &h.Hook, optional)
}

func (p *PolicyInfo) fields(f form) {
	text(f, "mode", &p.Mode, always)
	text(f, "why", &p.Why, optional)
	integer(f, "deadline_ns", &p.Deadline, always)
	text(f, "on_timeout", &p.OnTimeout, always)
	text(f, "identity", &p.Identity, always)
	text(f, "filesystem", &p.Filesystem, optional)
	text(f, "inspect", &p.Inspect, optional)
	texts(f, "programs", &p.Programs, optional)
	objects(f, "rules", &p.Rules)
	text(f, "way", &p.Way, optional)
	integer(f, "longest_ns", &p.Longest, optional)
}

func (r *PolicyRule) fields(f form) {
	text(f, "name", &r.Name, optional)
	text(f, "uuid", &r.UUID, optional)
	integer(f, "deadline_ns", &r.Deadline, always)
	text(f, "on_timeout", &r.OnTimeout, always)
	text(f, "identity", &r.Identity, always)
	text(f, "filesystem", &r.Filesystem, optional)
}

func (d *DomainInfo) fields(f form) {
	text(f, "name", &d.Name, optional)
	text(f, "uuid", &d.UUID, optional)
	text(f, "phase", &d.Phase, always)
	objects(f, "disks", &d.Disks)
	integer(f, "more", &d.More, optional)
	texts(f, "unknown", &d.Unknown, optional)
}

func (d *DomainDisk) fields(f form) {
	text(f, "path", &d.Path, always)
	text(f, "format", &d.Format, optional)
	texts(f, "backing", &d.Backing, optional)
}

func (i *ImageInfo) fields(f form) {
	text(f, "disk", &i.Disk, always)
	objects(f, "members", &i.Members)
	text(f, "cut", &i.Cut, optional)
}

func (m *ImageMember) fields(f form) {
	text(f, "path", &m.Path, always)
	text(f, "role", &m.Role, always)
	integer(f, "over", &m.Over, always)
	boolean(f, "from_header", &m.FromHeader, optional)
	text(f, "format", &m.Format, optional)
	text(f, "state", &m.State, always)
	text(f, "why", &m.Why, optional)
	object(f, "dev", &m.Dev)
	integer(f, "size", &m.Size, optional)
	text(f, "name", &m.Name, optional)
	text(f, "uuid", &m.UUID, optional)
}

func (m *MemoryInfo) fields(f form) {
	text(f, "guest", &m.Guest, always)
	text(f, "name", &m.Name, optional)
	text(f, "boot_id", &m.Boot, always)
	objects(f, "disks", &m.Disks)
	objects(f, "before", &m.Before)
	objects(f, "since", &m.Since)
	text(f, "since_boot_id", &m.SinceBoot, optional)
	boolean(f, "accepted", &m.Accepted, optional)
}

func (d *MemoryDisk) fields(f form) {
	text(f, "path", &d.Path, always)
	text(f, "id", &d.ID, optional)
	text(f, "device_id", &d.DeviceID, optional)
	text(f, "serial", &d.Serial, optional)
	text(f, "backing_of", &d.BackingOf, optional)
	boolean(f, "written", &d.Written, optional)
	text(f, "device_kind", &d.DeviceKind, optional)
	text(f, "name", &d.Name, optional)
	text(f, "uuid", &d.UUID, optional)
	integer(f, "size", &d.Size, optional)
	texts(f, "table", &d.Table, optional)
	text(f, "mount", &d.Mount, optional)
	integer(f, "inode", &d.Inode, optional)
	text(f, "format", &d.Format, optional)
	objects(f, "inside", &d.Inside)
	text(f, "inside_boot_id", &d.InsideBoot, optional)
	text(f, "short_since_boot_id", &d.ShortSince, optional)
}

func (l *MemoryLayer) fields(f form) {
	text(f, "kind", &l.Kind, always)
	text(f, "name", &l.Name, optional)
	text(f, "uuid", &l.UUID, optional)
	integer(f, "needs_bytes", &l.Needs, optional)
	integer(f, "has_bytes", &l.Has, optional)
	text(f, "state", &l.State, optional)
	integer(f, "generation", &l.Generation, optional)
}

func (i *InsideInfo) fields(f form) {
	text(f, "guest", &i.Guest, optional)
	text(f, "disk", &i.Disk, always)
	boolean(f, "live", &i.Live, optional)
	text(f, "why", &i.Why, optional)
	text(f, "cut", &i.Cut, optional)
	object(f, "dev", &i.Dev)
	text(f, "name", &i.Name, optional)
	text(f, "uuid", &i.UUID, optional)
	integer(f, "size", &i.Size, optional)
	objects(f, "layers", &i.Layers)
	integer(f, "more", &i.More, optional)
	integer(f, "reads", &i.Reads, optional)
	integer(f, "bytes", &i.Bytes, optional)
}

func (l *InsideLayer) fields(f form) {
	text(f, "kind", &l.Kind, always)
	integer(f, "over", &l.Over, always)
	text(f, "name", &l.Name, optional)
	text(f, "label", &l.Label, optional)
	text(f, "uuid", &l.UUID, optional)
	text(f, "detail", &l.Detail, optional)
	integer(f, "offset", &l.Offset, optional)
	integer(f, "needs_bytes", &l.Needs, optional)
	integer(f, "has_bytes", &l.Has, always)
	text(f, "state", &l.State, optional)
	text(f, "why", &l.Why, optional)
	objects(f, "damage", &l.Damage)
	integer(f, "absent_from", &l.Absent, optional)
	integer(f, "looked", &l.Looked, optional)
	boolean(f, "zeros", &l.Zeros, optional)
	integer(f, "generation", &l.Generation, optional)
	texts(f, "checked", &l.Checked, optional)
	texts(f, "unknown", &l.Unknown, optional)
}

func (d *InsideDamage) fields(f form) {
	text(f, "what", &d.What, always)
	integer(f, "at_byte", &d.At, always)
	text(f, "check", &d.Check, always)
	boolean(f, "copy", &d.Copy, optional)
}

func (l *LVMInfo) fields(f form) {
	text(f, "vg", &l.VG, optional)
	text(f, "lv", &l.LV, optional)
	boolean(f, "group_found", &l.GroupFound, always)
	boolean(f, "found", &l.Found, always)
	boolean(f, "no_autoactivation", &l.NoAutoActivation, optional)
	boolean(f, "skip_activation", &l.SkipActivation, optional)
	integer(f, "missing_pvs", &l.MissingPVs, optional)
	boolean(f, "exported", &l.Exported, optional)
	text(f, "lock_type", &l.LockType, optional)
	text(f, "pool", &l.Pool, optional)
	text(f, "health", &l.Health, optional)
	texts(f, "tags", &l.Tags, optional)
	text(f, "owner", &l.Owner, optional)
	boolean(f, "clustered", &l.Clustered, optional)
	integer(f, "same_name", &l.SameName, optional)
	objects(f, "pvs", &l.PVs)
	text(f, "damaged", &l.Damaged, optional)
	boolean(f, "no_property", &l.NoProperty, optional)
	textMap(f, "config", &l.Config)
	text(f, "why", &l.Why, optional)
}

func (m *MountInfo) fields(f form) {
	text(f, "action", (*string)(&m.Action), always)
	text(f, "point", &m.Point, always)
	text(f, "root", &m.Root, optional)
	text(f, "source", &m.Source, optional)
	text(f, "fstype", &m.FSType, optional)
	member(f, "dev", &m.Dev)
	text(f, "uuid", &m.UUID, optional)
	text(f, "unit", &m.Unit, optional)
	boolean(f, "read_only", &m.ReadOnly, optional)
	integer(f, "uid", &m.UID, optional)
}

func (w *WayInfo) fields(f form) {
	text(f, "path", &w.Path, always)
	objects(f, "links", &w.Links)
	text(f, "node", &w.Node, optional)
	integer(f, "errno", &w.Errno, optional)
	text(f, "type", &w.Type, optional)
	object(f, "dev", &w.Dev)
	text(f, "missing", &w.Missing, optional)
	text(f, "mount", &w.Mount, optional)
	object(f, "fs_dev", &w.FSDev)
	integer(f, "inode", &w.Inode, optional)
	integer(f, "size", &w.Size, optional)
}

func (l *WayLink) fields(f form) {
	text(f, "path", &l.Path, always)
	text(f, "target", &l.Target, always)
}

func (p *LVMPV) fields(f form) {
	text(f, "name", &p.Name, always)
	object(f, "dev", &p.Dev)
	boolean(f, "duplicate", &p.Duplicate, optional)
	boolean(f, "missing", &p.Missing, optional)
}

func integer[T ~int | ~int64 | ~uint32 | ~uint64](f form, name string, v *T, p presence) {
	switch {
	case f.w == nil:
		if f.r.at(name) {
			readInteger(f.r, v)
		}
	case *v != 0 || p == always:
		f.w.name(name)
		writeInteger(f.w, *v)
	}
}

func boolean(f form, name string, v *bool, p presence) {
	switch {
	case f.w == nil:
		if f.r.at(name) {
			f.r.boolean(v)
		}
	case *v || p == always:
		f.w.name(name)
		f.w.boolean(*v)
	}
}

func text(f form, name string, v *string, p presence) {
	switch {
	case f.w == nil:
		if f.r.at(name) {
			f.r.text(v)
		}
	case *v != "" || p == always:
		f.w.name(name)
		f.w.text(*v)
	}
}

func texts(f form, name string, v *[]string, p presence) {
	switch {
	case f.w == nil:
		if f.r.at(name) {
			list(f.r, v, func(s *string) { f.r.value(s) })
		}
	case *v == nil && p == always:
		f.w.name(name)
		f.w.null()
	case len(*v) > 0 || p == always:
		f.w.name(name)
		f.w.texts(*v)
	}
}

func textMap(f form, name string, v *map[string]string) {
	switch {
	case f.w == nil:
		if f.r.at(name) {
			f.r.textMap(v)
		}
	case len(*v) > 0:
		f.w.name(name)
		f.w.textMap(*v, slices.Sorted(maps.Keys(*v)))
	}
}

// pointer is a *T that has fields.
type pointer[T any] interface {
	*T
	fielder
}

func object[T any, P pointer[T]](f form, name string, v **T) {
	switch {
	case f.w == nil:
		if f.r.at(name) {
			readObject[T, P](f.r, v)
		}
	case *v != nil:
		f.w.name(name)
		f.w.object(P(*v))
	}
}

// member is an object that is always there.
func member(f form, name string, v fielder) {
	switch {
	case f.w != nil:
		f.w.name(name)
		f.w.object(v)
	case f.r.at(name):
		f.r.element(v)
		f.r.next()
	}
}

func objects[T any, P pointer[T]](f form, name string, v *[]T) {
	switch {
	case f.w == nil:
		if f.r.at(name) {
			list(f.r, v, func(x *T) { f.r.element(P(x)) })
		}
	case len(*v) > 0:
		f.w.name(name)
		f.w.open('[')
		for i := range *v {
			f.w.comma()
			f.w.object(P(&(*v)[i]))
		}
		f.w.close(']')
	}
}
