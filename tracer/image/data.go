package image

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/devmap"
)

// Data is the bytes that a guest sees of a disk, read through its chain of
// images. It writes nothing. ReadAt is for one reader at a time.
type Data struct {
	Size   int64 // bytes
	Images []Extent
	top    content
	files  []File
}

// Extent says how much of its device an image takes.
type Extent struct {
	Path   string `json:"path"`
	Format string `json:"format"`
	// Has is the size of the device or file, in bytes, and Needs that of what the
	// image has in use of it, at least; 0 where it does not tell.
	Has   int64 `json:"has_bytes"`
	Needs int64 `json:"needs_bytes,omitempty"`
	// Virtual is the size of the disk that the image makes.
	Virtual int64 `json:"virtual_bytes"`
	// Why says why the image can't be read, or not all of it; empty if it can.
	Why string `json:"why,omitempty"`
	// Damage says what its header says is wrong with it, empty for nothing.
	Damage string `json:"damage,omitempty"`
	// Unknown says what is not known of it, beside what can't be read.
	Unknown []string `json:"unknown,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

// content is an image that bytes are read from; what lies beyond its size reads as
// zeros, as qemu has it.
type content interface {
	readAt(p []byte, off int64) error
	size() int64
}

// Data opens a disk whose chain was followed. The rules of Reader say what is
// opened. A backing file that can't be opened is an error only where its bytes
// are read.
func (r Reader) Data(c *Chain) (*Data, error) {
	d := &Data{}
	if len(c.Members) == 0 {
		return nil, errors.New("the disk has no image")
	}
	top, err := r.build(d, c, 0)
	if err != nil {
		d.Close()
		return nil, err
	}
	d.top, d.Size = top, top.size()
	return d, nil
}

// ReadAt implements io.ReaderAt.
func (d *Data) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= d.Size {
		return 0, io.EOF
	}
	n := min(int64(len(p)), d.Size-off)
	if err := d.top.readAt(p[:n], off); err != nil {
		return 0, err
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// Close closes the images.
func (d *Data) Close() error {
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.Close())
	}
	d.files = nil
	return errors.Join(errs...)
}

// build opens member i and what is below it.
func (r Reader) build(d *Data, c *Chain, i int) (content, error) {
	m := &c.Members[i]
	n := len(d.Images)
	d.Images = append(d.Images, Extent{Path: m.Path, Format: m.Format})
	fail := func(err error) (content, error) {
		d.Images[n].Why = err.Error()
		return nil, fmt.Errorf("%s: %w", m.Path, err)
	}
	if len(m.image.Members) > 0 {
		return fail(errors.New("a disk made of several images (quorum and the like) is not looked into"))
	}
	switch {
	case m.State == StateElsewhere:
		return fail(errors.New("it is no local device or file: not looked into"))
	case m.State != StateRead && m.State != StatePlain:
		return fail(m.unopened())
	case m.State == StatePlain && m.Format != "" && m.Format != "raw":
		return fail(fmt.Errorf("its format %s is not looked into", m.Format))
	}
	file, size, regular, err := r.file(m)
	if err != nil {
		return fail(err)
	}
	d.files = append(d.files, file)
	d.Images[n].Has = size
	if m.image.Offset > size {
		return fail(fmt.Errorf("it begins at byte %d of %d", m.image.Offset, size))
	}
	plain := &raw{in: io.NewSectionReader(file, m.image.Offset, size-m.image.Offset), length: size - m.image.Offset}
	if m.State == StatePlain {
		if m.Format == "" {
			d.Images[n].Format = "raw"
		}
		d.Images[n].Virtual = plain.length
		return plain, nil
	}
	q, err := openQCOW2(plain, regular)
	if err != nil {
		return fail(err)
	}
	if m.image.Format == "" {
		d.Images[n].Notes = append(d.Images[n].Notes, "no format is declared, so qemu probes it: a guest that writes another image's header into its disk is given that image")
	}
	d.Images[n].Virtual = q.virtual
	d.Images[n].Damage = q.damage
	if d.Images[n].Needs, err = q.needs(); err != nil {
		d.Images[n].Unknown = append(d.Images[n].Unknown, fmt.Sprintf("how much of its device is in use was not found out: %v", err))
	}
	for below := range c.Members {
		if c.Members[below].Over != i {
			continue
		}
		next, err := r.build(d, c, below)
		if err != nil {
			next = unreadable{err}
		}
		switch c.Members[below].Role {
		case RoleBacking:
			q.backing = next
		case RoleData:
			q.data = next
		}
	}
	if q.external && q.data == nil {
		return fail(errors.New("its data is in another file, which it does not name"))
	}
	return q, nil
}

// unopened says why a member is not opened.
func (m *Member) unopened() error {
	if m.Why != "" {
		return errors.New(m.Why)
	}
	switch m.State {
	case StateAbsent:
		return errors.New("it is not there")
	case StateNotLive:
		return errors.New("there is no active table behind it")
	}
	return fmt.Errorf("it is not opened (%s)", m.State)
}

// file opens a member once more, by the same rules.
func (r Reader) file(m *Member) (file File, size int64, regular bool, err error) {
	at, err := r.Host.Resolve(m.Path)
	if err != nil {
		return nil, 0, false, err
	}
	if at.Mapping != nil && !at.Ready() {
		return nil, 0, false, errors.New("there is no active table behind it")
	}
	if why := m.refusal(&at); why != "" {
		return nil, 0, false, errors.New(why)
	}
	if file, err = r.Host.Open(&at); err != nil {
		return nil, 0, false, err
	}
	if at.IsBlock() {
		if size, err = r.Host.Size(at.Dev); err == nil && size == 0 {
			err = errors.New("its size is 0")
		}
		if f, ok := file.(*os.File); ok {
			file = fresh{f}
		}
	} else {
		size, err = lengthOf(file)
	}
	if err != nil {
		file.Close()
		return nil, 0, false, err
	}
	return file, size, !at.IsBlock(), nil
}

// refusal says why a member must not be opened; empty where it may.
func (m *Member) refusal(at *devmap.Resolution) string {
	switch {
	case m.FromHeader && at.Mapping == nil:
		return "a header names it, and it is no device-mapper node"
	case !at.IsBlock() && !at.Mode.IsRegular():
		return "neither a block device nor a regular file"
	}
	return ""
}

func lengthOf(f File) (int64, error) {
	s, ok := f.(interface{ Stat() (os.FileInfo, error) })
	if !ok {
		return 0, errors.New("its length is not known")
	}
	st, err := s.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// fresh reads a block device past what the page cache has of it: a guest whose
// disk is opened with cache=none, another host, or another path to the same disk
// may have written since.
type fresh struct{ *os.File }

func (f fresh) ReadAt(p []byte, off int64) (int, error) {
	const page = 4096
	if c, err := f.SyscallConn(); err == nil {
		from := off / page * page
		_ = c.Control(func(fd uintptr) {
			_ = unix.Fadvise(int(fd), from, off+int64(len(p))-from+page, unix.FADV_DONTNEED) // dirty pages stay
		})
	}
	return f.File.ReadAt(p, off)
}

// raw is an image whose bytes are the guest's.
type raw struct {
	in     io.ReaderAt
	length int64
}

func (r *raw) size() int64 { return r.length }

func (r *raw) readAt(p []byte, off int64) error {
	if off < 0 {
		return errors.New("before its beginning")
	}
	n := max(0, min(int64(len(p)), r.length-off))
	clear(p[n:])
	if n == 0 {
		return nil
	}
	got, err := r.in.ReadAt(p[:n], off)
	if int64(got) == n {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// unreadable is an image that can't be opened.
type unreadable struct{ err error }

func (u unreadable) size() int64                { return 0 }
func (u unreadable) readAt([]byte, int64) error { return u.err }
