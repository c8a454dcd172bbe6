package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// MaxDepth is how many images may lie one below the other, and MaxMembers how
// many a disk may have in all. Launchers keep chains to a few tens; what is
// longer is cut, and Chain.Cut says so.
const (
	MaxDepth   = 128
	MaxMembers = 512
)

// Role says what a member of a chain is.
type Role string

// The roles.
const (
	RoleDisk    Role = "disk"
	RoleMember  Role = "member" // of a quorum and the like
	RoleBacking Role = "backing"
	RoleData    Role = "data" // external data file
)

// State says how far a member could be looked at.
type State string

// The states. In the first two the member is not there yet: Continue asks
// again.
const (
	StateAbsent     State = "absent"     // its path leads nowhere
	StateNotLive    State = "not-live"   // its node is there, no active table is behind it
	StateRead       State = "read"       // its header was read
	StatePlain      State = "plain"      // it has no header: raw, or no qcow2 image
	StateElsewhere  State = "elsewhere"  // network storage, a descriptor, nothing local: not looked at
	StateRefused    State = "refused"    // not opened, by the rules of Reader
	StateUnreadable State = "unreadable" // Member.Why says why
	StateLoop       State = "loop"       // an image above it is the same device or file
)

// Member is one image of a disk's chain.
type Member struct {
	// Path is what qemu will open: absolute where the folder is known that it
	// is relative to. Addresses have lost their secrets.
	Path string `json:"path"`
	Role Role   `json:"role"`
	// Over is the index of the member that needs this one, -1 for the disk.
	Over int `json:"over"`
	// FromHeader is set where a header names it, and not the command line.
	FromHeader bool `json:"from_header,omitempty"`
	// Format is what was declared or found out; empty where qemu probes it and
	// finds something else than qcow2.
	Format  string        `json:"format,omitempty"`
	Storage guest.Storage `json:"storage"`
	State   State         `json:"state"`
	Why     string        `json:"why,omitempty"` // for people, where State is no good news
	// Node is where the path's links end; Dev and Size are those of the block
	// device there, 0 where it is none.
	Node string     `json:"node,omitempty"`
	Dev  *event.Dev `json:"dev,omitempty"`
	Size int64      `json:"size,omitempty"`
	// Name and UUID are the mapping's, empty where Dev is none.
	Name       string `json:"name,omitempty"`
	UUID       string `json:"uuid,omitempty"`
	Encryption string `json:"encryption,omitempty"` // of qcow2: aes, luks
	// On is what the device stands on, down to the disks, where Reader.Tree
	// tells; nil else.
	On *devmap.Device `json:"on,omitempty"`

	image guest.Image
	depth int
	next  []guest.Image // backing files that the command line spells out
}

// Pending reports whether the member is not there yet, so that asking again can
// help.
func (m *Member) Pending() bool { return m.State == StateAbsent || m.State == StateNotLive }

// Chain is a disk with all that is opened with it, each member after the one
// that needs it.
type Chain struct {
	Members []Member `json:"members"`
	// Cut says which bound was hit, empty where all is there.
	Cut string `json:"cut,omitempty"`
}

// Pending returns the members that are not there yet.
func (c *Chain) Pending() []*Member {
	var list []*Member
	for i := range c.Members {
		if c.Members[i].Pending() {
			list = append(list, &c.Members[i])
		}
	}
	return list
}

// Complete reports whether the chain was followed to its ends: nothing is
// pending, unreadable, refused or cut.
func (c *Chain) Complete() bool {
	for i := range c.Members {
		switch c.Members[i].State {
		case StateRead, StatePlain, StateElsewhere:
		default:
			return false
		}
	}
	return c.Cut == ""
}

// File is an open image.
type File interface {
	io.ReaderAt
	io.Closer
}

// Host is where paths lead to.
type Host interface {
	// Resolve follows an absolute path to the node behind it, as
	// devmap.Resolve does.
	Resolve(path string) (devmap.Resolution, error)
	// Size returns the size of a block device in bytes.
	Size(dev event.Dev) (int64, error)
	// Open opens what a path was resolved to for reading, and nothing else:
	// where another file is there by now, it fails.
	Open(r *devmap.Resolution) (File, error)
}

// Reader follows chains. It opens only what qemu opens for the same purpose,
// and only what it can trust:
//
//   - a header is read where the format is qcow2, or none is declared and qemu
//     probes; never of a raw image, whose bytes are the guest owner's own;
//   - what the command line names is opened where it is a block device or a
//     regular file: the operator's launcher chose it, and qemu will open it
//     with the same name;
//   - what a header names is opened only where it is a device-mapper node. A
//     header can name any file of the host, and reading one (a pipe, a tape, a
//     file of another guest, one on a dead NFS server) does harm or tells;
//   - a mapping is opened only while it is live: reading from a suspended one
//     waits.
//
// Nothing here waits for a device, but a read itself can take as long as the
// storage below does; callers that must not wait run it beside.
type Reader struct {
	Host Host
	// Dir is qemu's working directory, which relative paths of the command
	// line, file: names and data files are relative to; empty if not known.
	Dir string
	// Tree tells what a device stands on; nil where nobody wants to know.
	Tree func(event.Dev) (devmap.Device, error)
}

// Follow returns the chain of a disk. What is wrong with a member is in the
// member; the rest of the chain is there regardless.
func (r Reader) Follow(ctx context.Context, disk *guest.Image) *Chain {
	c := &Chain{}
	c.add(disk, RoleDisk, -1, false, disk.Backing)
	r.Continue(ctx, c)
	return c
}

// Continue looks again at the members that were not there yet, and at what is
// below them. The others are not asked again.
func (r Reader) Continue(ctx context.Context, c *Chain) {
	for i := 0; i < len(c.Members) && ctx.Err() == nil; i++ {
		if m := &c.Members[i]; m.State == "" || m.Pending() {
			r.look(c, i)
		}
	}
}

// add appends a member that nobody has looked at, within the bounds. All that
// the command line says about an image is kept with it.
func (c *Chain) add(i *guest.Image, role Role, over int, fromHeader bool, next []guest.Image) {
	m := Member{
		Path: i.Path, Role: role, Over: over, FromHeader: fromHeader, Format: i.Format,
		Storage: i.Storage, image: *i, next: next,
	}
	if role == RoleData && m.Format == "" {
		m.Format = "raw" // never probed
	}
	if over >= 0 {
		m.depth = c.Members[over].depth + 1
	}
	switch {
	case m.depth >= MaxDepth:
		c.Cut = fmt.Sprintf("more than %d images lie one below the other", MaxDepth)
	case len(c.Members) >= MaxMembers:
		c.Cut = fmt.Sprintf("more than %d images belong to the disk", MaxMembers)
	default:
		c.Members = append(c.Members, m)
	}
}

// look finds out about a member, and adds the ones that it needs.
func (r Reader) look(c *Chain, i int) {
	first := c.Members[i].State == ""
	m := c.Members[i] // add moves the members
	m.State, m.Why = "", ""
	head := r.examine(c, &m)
	c.Members[i] = m
	if first {
		c.addGiven(i)
	}
	if head != nil {
		r.addNamed(c, i, head)
	}
}

// addGiven adds what is named together with a member: by the command line, or by
// the same header, where a json: name can spell out a whole graph.
func (c *Chain) addGiven(i int) {
	m := c.Members[i]
	for n := range m.image.Members {
		below := &m.image.Members[n]
		c.add(below, RoleMember, i, m.FromHeader, below.Backing)
	}
	if len(m.next) > 0 {
		c.add(&m.next[0], RoleBacking, i, m.FromHeader, m.next[1:])
	}
	if m.image.DataFile != nil {
		c.add(m.image.DataFile, RoleData, i, m.FromHeader, nil)
	}
}

// addNamed adds what a header names, unless the command line overrides it.
func (r Reader) addNamed(c *Chain, i int, head *Header) {
	m := c.Members[i]
	if head.Backing != "" && len(m.next) == 0 && !m.image.NoBacking {
		name := head.Backing
		if guest.IsRelative(name) { // beside the image, by its name (path_combine, block.c)
			name = m.Path[:strings.LastIndexByte(m.Path, '/')+1] + name
		}
		c.addName(name, head.BackingFormat, RoleBacking, i)
	}
	// A relative data file is looked for in qemu's working directory, not
	// beside the image (measured, qemu 7.2), and is never probed.
	if head.ExternalData && head.DataFile != "" && m.image.DataFile == nil {
		c.addName(head.DataFile, "raw", RoleData, i)
	}
}

// addName adds the image that a name in a header stands for.
func (c *Chain) addName(name, format string, role Role, over int) {
	below, problems := guest.ParseFile(name, format)
	n := len(c.Members)
	c.add(&below, role, over, true, below.Backing)
	if len(problems) > 0 && len(c.Members) > n {
		m := &c.Members[n]
		m.State, m.Why = StateUnreadable, problems[0].Arg+": "+problems[0].Reason
	}
}

// examine sets a member's state. It returns the header, if there is one.
func (r Reader) examine(c *Chain, m *Member) *Header {
	if m.Storage != guest.StorageFile {
		m.State = StateElsewhere
		return nil
	}
	if !filepath.IsAbs(m.Path) && r.Dir != "" {
		m.Path = filepath.Join(r.Dir, m.Path)
	}
	at, err := r.Host.Resolve(m.Path)
	m.place(&at)
	if err != nil {
		m.fail(err)
		return nil
	}
	if at.IsBlock() {
		m.Size, err = r.Host.Size(at.Dev)
		r.below(m, at.Dev)
	}
	switch {
	case err != nil:
		m.fail(err)
	case c.above(m):
		m.State, m.Why = StateLoop, "it is its own backing file"
	case at.Mapping != nil && !at.Ready(), at.IsBlock() && m.Size == 0:
		m.State = StateNotLive
	default:
		return r.open(m, &at)
	}
	return nil
}

// below fills in what the member's device stands on.
func (r Reader) below(m *Member, dev event.Dev) {
	if r.Tree == nil {
		return
	}
	if on, err := r.Tree(dev); err == nil {
		m.On = &on
	}
}

// place fills in where the path leads.
func (m *Member) place(at *devmap.Resolution) {
	m.Node, m.Dev, m.Size, m.Name, m.UUID = at.Node, nil, 0, "", ""
	if at.IsBlock() {
		dev := at.Dev
		m.Dev = &dev
	}
	if at.Mapping != nil {
		m.Name, m.UUID = at.Mapping.Name, at.Mapping.UUID
	}
}

// fail sorts an error into what waiting can cure and the rest.
func (m *Member) fail(err error) {
	m.State, m.Why = StateUnreadable, err.Error()
	switch {
	case errors.Is(err, fs.ErrNotExist) && (m.Node == "" || m.Node == m.Path):
		m.State, m.Why = StateAbsent, "it is not there"
	case errors.Is(err, fs.ErrNotExist):
		m.State, m.Why = StateAbsent, "it leads to "+m.Node+", which is not there"
	case errors.Is(err, unix.ENXIO), errors.Is(err, devmap.ErrNotMapping):
		m.State = StateAbsent
	}
}

// above reports whether an image above m is the same device or file.
func (c *Chain) above(m *Member) bool {
	for i := m.Over; i >= 0; i = c.Members[i].Over {
		up := &c.Members[i]
		if m.Dev != nil && up.Dev != nil && *m.Dev == *up.Dev || m.Node != "" && m.Node == up.Node {
			return true
		}
	}
	return false
}

// open reads the member's header where the rules allow it.
func (r Reader) open(m *Member, at *devmap.Resolution) *Header {
	switch {
	case m.Format != "" && m.Format != formatQCOW2:
		m.State = StatePlain
		return nil
	case m.refusal(at) != "":
		m.State, m.Why = StateRefused, m.refusal(at)
		return nil
	}
	head, err := r.header(m, at)
	switch {
	case errors.Is(err, ErrNotQCOW2) && m.Format == "":
		m.State = StatePlain
		return nil
	case err != nil:
		m.fail(err)
		return nil
	}
	m.State, m.Format, m.Encryption = StateRead, formatQCOW2, head.Encryption
	return &head
}

const formatQCOW2 = "qcow2"

func (r Reader) header(m *Member, at *devmap.Resolution) (Header, error) {
	file, err := r.Host.Open(at)
	if err != nil {
		return Header{}, err
	}
	defer file.Close()
	var in io.ReaderAt = file
	if m.image.Offset > 0 {
		in = io.NewSectionReader(file, m.image.Offset, maxHeader)
	}
	return ReadHeader(in)
}

// maxHeader is where any header ends: with the first cluster.
const maxHeader = 1 << maxClusterBits
