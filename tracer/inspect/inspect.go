// Package inspect says what is on a guest's disk by looking at a few of its
// bytes: partition tables, LVM, file systems, swap and encryption. It answers
// what the emergency shell of a guest can't: does a file system, a partition or a
// physical volume need more bytes than its device has; is its log dirty; is a
// header damaged or gone?
//
// It takes an io.ReaderAt and a size, writes nothing, mounts nothing, and is
// bounded: 4 MiB and 1,500 reads a disk, and the deadline of its context. Whoever
// can write to the disk chose every byte of it. So no length and no offset is
// used before it is checked, and a text from a disk is to be escaped by whoever
// prints it.
//
// What it never says is that a file system is fine. It looks at headers, at
// samples of headers and at the end of a log. Layer.Checked lists what it looked
// at; directories and data are never among it.
//
// Dirty is not sick: a running guest, a frozen one, a snapshot, and a guest after
// a power cut all have a dirty log, which the guest's kernel replays.
//
// A format is a file of this package with one value of type format, and a line in
// the list in formats.go.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Kind says what a layer is.
type Kind string

// The kinds of layers.
const (
	KindDisk      Kind = "disk" // the bytes that the guest sees
	KindGPT       Kind = "gpt"
	KindMBR       Kind = "mbr"
	KindPartition Kind = "partition"
	KindPV        Kind = "lvm-pv"
	KindLV        Kind = "lvm-lv"
	KindLUKS      Kind = "luks"
	KindXFS       Kind = "xfs"
	KindExt       Kind = "ext" // Layer.Detail says which: ext2, ext3, ext4
	KindBtrfs     Kind = "btrfs"
	KindNTFS      Kind = "ntfs"
	KindFAT       Kind = "fat"
	KindSwap      Kind = "swap"
	// KindBlank is a place whose bytes are all zero where any known format has
	// its signature, and KindUnknown one that has other bytes there.
	KindBlank   Kind = "blank"
	KindUnknown Kind = "unknown"
)

// State says how a layer was left. Layers that keep no such thing have none.
type State string

// The states.
const (
	// StateClean: it says of itself that it was put away properly.
	StateClean State = "clean"
	// StateDirty: it was in use when it was last written. A log is replayed by
	// the guest's own kernel; this is normal after a power cut.
	StateDirty State = "dirty"
	// StateErrors: it says of itself that it has errors or needs repair.
	StateErrors State = "errors"
	// StateHibernated: the guest's memory is in it. It goes on from there.
	StateHibernated State = "hibernated"
	// StateEncrypted: nobody can look inside without the key.
	StateEncrypted State = "encrypted"
	// StateUnknown: Layer.Why says why.
	StateUnknown State = "unknown"
)

// Layer is one thing on a disk, with what is inside.
type Layer struct {
	Kind Kind `json:"kind"`
	// Name is the number of a partition, the group of a physical volume, the name
	// of a logical one.
	Name   string `json:"name,omitempty"`
	Label  string `json:"label,omitempty"`
	UUID   string `json:"uuid,omitempty"`
	Detail string `json:"detail,omitempty"` // version or type, for people
	// Offset is where it begins in the layer around it, in bytes; 0 for a logical
	// volume, which has no one place.
	Offset int64 `json:"offset"`
	// Needs is how many bytes it takes by what it says of itself, 0 where it does
	// not say or that can't be read. Has is how many there are for it, without a
	// gap from its beginning on; -1 where that is not known.
	Needs int64 `json:"needs_bytes,omitempty"`
	Has   int64 `json:"has_bytes"`
	State State `json:"state,omitempty"`
	// Why says, for people, what the state was read from, or why it is unknown.
	Why    string   `json:"why,omitempty"`
	Damage []Damage `json:"damage,omitempty"`
	Absent *Absent  `json:"absent,omitempty"`
	// Unknown says what is not known of it beside the state: what could not be read,
	// was left out, or can mean two things.
	Unknown []string `json:"unknown,omitempty"`
	// Checked lists what was looked at, and Notes what else is worth knowing.
	Checked []string `json:"checked,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	Times   []Stamp  `json:"times,omitempty"`
	// Generation only grows while the same file system is in use: of XFS the
	// log's head (cycle << 32 | block), of btrfs the generation, of ext3 and ext4
	// the journal's sequence number. 0 where there is none.
	Generation uint64   `json:"generation,omitempty"`
	Inside     []*Layer `json:"inside,omitempty"`
}

// Short is how many bytes are missing, 0 where none is known to be.
func (l *Layer) Short() int64 {
	if l.Needs <= 0 || l.Has < 0 {
		return 0
	}
	return max(0, l.Needs-l.Has)
}

// whyNoJournal is why an ext2, or an ext4 made without a journal, is dirty.
const whyNoJournal = "it has no journal, and was not unmounted: e2fsck has to look at all of it"

// Replayed reports whether a dirty layer has a log that the guest's kernel replays when
// it mounts the file system. Else the guest's system checks it: FAT and ext2 have no log,
// and NTFS' is Windows'.
func (l *Layer) Replayed() bool {
	return l.State == StateDirty && l.Kind != KindFAT && l.Kind != KindNTFS && l.Why != whyNoJournal
}

// Damage is a header that failed a check.
type Damage struct {
	What  string `json:"what"`  // which header
	At    int64  `json:"at"`    // bytes from the layer's beginning
	Check string `json:"check"` // what is wrong with it
	// Copy is set where nobody needs it as long as another one is sound: a copy, or one of
	// a GPT's two headers.
	Copy bool `json:"copy,omitempty"`
}

// Absent says from where on the headers of a file system are not there at all,
// although the bytes are: another device, or a blank one, has the place of its
// second part.
type Absent struct {
	From   int64 `json:"from"`   // bytes from the layer's beginning
	Looked int   `json:"looked"` // headers that were looked for from there on; none was there
	Zeros  bool  `json:"zeros"`  // all of them read as zeros
}

// Stamp is a time that the guest wrote, by its own clock.
type Stamp struct {
	What string    `json:"what"`
	At   time.Time `json:"at"`
}

// Disk is one of a guest's disks.
type Disk struct {
	Name  string // what to call it
	Bytes io.ReaderAt
	Size  int64 // bytes that the guest sees
	// Live is set while somebody may write to the disk. Kinds and sizes hold
	// then; states and checksums change while they are read, and are left out.
	Live bool
}

// Limits bound what is read of one disk.
type Limits struct {
	Bytes int64
	Reads int
}

// DefaultLimits are those of Look.
var DefaultLimits = Limits{Bytes: 4 << 20, Reads: 1500}

// Report is what was found on one disk.
type Report struct {
	Name string `json:"name"`
	Disk *Layer `json:"disk"`
	// Cut says why not everything could be looked at, empty where it was.
	Cut   string `json:"cut,omitempty"`
	Reads int    `json:"reads"`
	Bytes int64  `json:"bytes"` // that were read
}

// Look looks at the disks of one guest. They are looked at together, because a
// volume group can lie on several of them. Each has a report, in the same order.
// When ctx ends, what was not looked at until then is unknown, even while the
// storage does not answer.
func Look(ctx context.Context, disks []Disk) []Report {
	return look(ctx, disks, DefaultLimits)
}

func look(ctx context.Context, disks []Disk, limits Limits) []Report {
	return Beside{}.look(ctx, disks, limits)
}

func (b Beside) look(ctx context.Context, disks []Disk, limits Limits) []Report {
	l := &looking{formats: formats}
	reports := make([]Report, len(disks))
	sources := make([]*source, len(disks))
	for i, d := range disks {
		s := &source{ctx: ctx, in: d.Bytes, size: max(d.Size, 0), left: limits, reading: b.Reading}
		sources[i] = s
		root := &Layer{Kind: KindDisk, Has: s.size}
		a := &area{read: s.read, size: s.size, live: d.Live, disk: i, looking: l}
		a.identify(root)
		reports[i] = Report{Name: d.Name, Disk: root}
	}
	l.groups()
	l.others()
	for i, s := range sources {
		r := &reports[i]
		r.Reads, r.Bytes = s.reads, s.bytes
		if s.stop != nil {
			r.Cut = s.stop.Error()
		}
		if disks[i].Live {
			r.Disk.unsettle()
		}
	}
	return reports
}

// looking is what one call of Look knows of all disks.
type looking struct {
	formats []format
	pvs     []*physical
	members []btrfsMember
}

// unsettle takes back what does not hold while others write.
func (l *Layer) unsettle() {
	switch l.State {
	case StateClean, StateDirty, StateErrors, StateHibernated:
		l.State, l.Why = StateUnknown, "it is in use, and changes while it is looked at"
	}
	if l.State == "" && (len(l.Damage) > 0 || l.Absent != nil) {
		l.unsure("a header failed a check, but it is in use, and changes while it is looked at")
	}
	l.Damage, l.Absent, l.Generation = nil, nil, 0
	for _, in := range l.Inside {
		in.unsettle()
	}
}

// Errors of reading.
var (
	errLimit  = errors.New("the limit on what is read of one disk was reached")
	errSlow   = errors.New("the storage did not answer in time")
	errBeyond = errors.New("it lies beyond the end")
)

// source reads a disk within the limits.
type source struct {
	ctx   context.Context
	in    io.ReaderAt
	size  int64
	left  Limits
	reads int
	bytes int64
	stop  error // nothing is read any more
	// reading counts reads under way, nil: nobody wants to know.
	reading *sync.WaitGroup
}

// read returns exactly n bytes from off on. The read itself can take as long as
// the storage below does, so it is left behind when the time is over.
func (s *source) read(off int64, n int) ([]byte, error) {
	if s.stop != nil {
		return nil, s.stop
	}
	if off < 0 || n < 0 || off > s.size-int64(n) {
		return nil, errBeyond
	}
	if s.left.Reads < 1 || s.left.Bytes < int64(n) {
		s.stop = errLimit
		return nil, s.stop
	}
	s.left.Reads--
	s.left.Bytes -= int64(n)
	s.reads++
	s.bytes += int64(n)
	if s.ctx.Err() != nil {
		s.stop = errSlow
		return nil, s.stop
	}
	type outcome struct {
		data []byte
		err  error
	}
	done := make(chan outcome, 1)
	if s.reading != nil {
		s.reading.Add(1)
	}
	go func() {
		if s.reading != nil {
			defer s.reading.Done()
		}
		data := make([]byte, n)
		got, err := s.in.ReadAt(data, off)
		if got == n {
			err = nil
		} else if err == nil || errors.Is(err, io.EOF) {
			err = errors.New("the device ends before its size")
		}
		done <- outcome{data, err}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, fmt.Errorf("byte %d can't be read: %w", off, o.err)
		}
		return o.data, nil
	case <-s.ctx.Done():
		s.stop = errSlow
		return nil, s.stop
	}
}

// area is a stretch of bytes in which a format is looked for.
type area struct {
	read    func(off int64, n int) ([]byte, error)
	size    int64 // bytes that are there
	live    bool
	disk    int // index of the disk that it is on, of a volume that of its first extent
	depth   int // layers around it
	looking *looking
	head    []byte // its first bytes, headSize at most
}

// headSize is how many bytes are read before anything is known: they hold the
// signatures of all formats but btrfs, and those of swap with large pages.
const headSize = 8 << 10

// bytes returns exactly n bytes from off on.
func (a *area) bytes(off int64, n int) ([]byte, error) {
	if off < 0 || n < 0 || off > a.size-int64(n) {
		return nil, errBeyond
	}
	if end := off + int64(n); end <= int64(len(a.head)) {
		return a.head[off:end], nil
	}
	return a.read(off, n)
}

// part is the stretch from off on that should have size bytes, as far as it is
// there.
func (a *area) part(off, size int64) *area {
	there := max(0, min(size, a.size-off))
	return &area{
		read: func(at int64, n int) ([]byte, error) { return a.bytes(off+at, n) },
		size: there, live: a.live, disk: a.disk, depth: a.depth + 1, looking: a.looking,
	}
}
