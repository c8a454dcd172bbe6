package capture

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/twin"
)

// own are the places whose file systems a host can't boot without: their files are among
// those of the root.
var own = []string{"/usr", "/var", "/opt", "/var/lib", "/usr/local", "/etc"}

// root finds the root file system, and those of fstab.
func (c *Capture) root(context.Context) error {
	var st unix.Stat_t
	if err := unix.Stat(c.o.Root, &st); err != nil {
		return fmt.Errorf("look at the root: %w", err)
	}
	dev := event.Dev{Major: unix.Major(st.Dev), Minor: unix.Minor(st.Dev)}
	r := &c.manifest.Root
	r.Type, dev = c.mounted(dev)
	disk, offset, why := c.place(dev)
	if why == "" {
		r.Disk, r.Offset = disk, offset
	}
	name := c.blockName(dev)
	r.Size = 512 * number(c.attr(name, "size"))
	props, _ := c.udev(name)
	r.UUID, r.Label = props["ID_FS_UUID"], props["ID_FS_LABEL"]
	if r.Size == 0 {
		var fs unix.Statfs_t
		if err := unix.Statfs(c.o.Root, &fs); err != nil {
			return fmt.Errorf("ask for the size of the root: %w", err)
		}
		r.Size = int64(fs.Blocks) * fs.Bsize
	}
	return c.fstab()
}

// mounted is what the root's mount says of it: its type, and its device, which btrfs hides
// from stat.
func (c *Capture) mounted(dev event.Dev) (kind string, source event.Dev) {
	f, err := os.Open(c.path("proc/self/mountinfo"))
	if err != nil {
		return "", dev
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		i := slices.Index(fields, "-")
		if len(fields) < 6 || i < 0 || len(fields) < i+3 || fields[4] != "/" {
			continue
		}
		kind = fields[i+1]
		if d, ok := deviceOf(fields[i+2]); ok {
			dev = d
		}
	}
	return kind, dev
}

// deviceOf is the block device that a path leads to.
func deviceOf(path string) (event.Dev, bool) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return event.Dev{}, false
	}
	return event.Dev{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}, true
}

func (c *Capture) blockName(dev event.Dev) string {
	link, err := filepath.EvalSymlinks(c.path(fmt.Sprintf("sys/dev/block/%d:%d", dev.Major, dev.Minor)))
	if err != nil {
		return "none"
	}
	return filepath.Base(link)
}

func (c *Capture) fstab() error {
	data, err := os.ReadFile(c.path("etc/fstab"))
	if err != nil {
		c.missing("/etc/fstab could not be read: %v", err)
		return nil
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 3 || strings.HasPrefix(f[0], "#") || f[1] == "/" {
			continue
		}
		fs := twin.FileSystem{Source: f[0], Target: f[1], Type: f[2], InRoot: slices.Contains(own, f[1])}
		path := f[0]
		for tag, dir := range map[string]string{"UUID=": "uuid", "LABEL=": "label", "PARTUUID=": "partuuid", "PARTLABEL=": "partlabel"} {
			if value, ok := strings.CutPrefix(f[0], tag); ok {
				path = c.path("dev/disk/by-" + dir + "/" + strings.Trim(value, `"`))
			}
		}
		if dev, ok := deviceOf(path); ok {
			name := c.blockName(dev)
			props, _ := c.udev(name)
			fs.UUID, fs.Label, fs.Size = props["ID_FS_UUID"], props["ID_FS_LABEL"], 512*number(c.attr(name, "size"))
		}
		c.manifest.FileSystems = append(c.manifest.FileSystems, fs)
	}
	return nil
}

// guests finds the guests of the recorded boots, what their disks lie on, and when the
// disks of the last boot came.
func (c *Capture) guests(ctx context.Context) error {
	if len(c.o.Boots) == 0 {
		c.missing("no boot of this host is recorded: when its disks come, and which guests it has, is not known")
	}
	seen := map[string]bool{}
	for i := range c.o.Boots {
		if err := c.boots(&c.o.Boots[i], seen); err != nil {
			c.missing("the record of boot %s could not be read: %v", c.o.Boots[i].ID, err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	control, err := devmap.Open()
	if err != nil {
		control = nil // then no volume is known, and each disk on one says so
	} else {
		defer control.Close()
	}
	for i := range c.manifest.Guests {
		g := &c.manifest.Guests[i]
		parsed := guest.Parse(g.Args)
		for n := range parsed.Disks {
			for img := range parsed.Disks[n].Images() {
				if img.Path != "" && img.Storage != guest.StorageNone {
					c.guestDisk(control, g, img.Path, 0)
				}
			}
		}
	}
	return nil
}

// boots reads one record. The last boot also says when disks came.
func (c *Capture) boots(b *bootlog.Boot, seen map[string]bool) error {
	log, err := b.Open()
	if err != nil {
		return err
	}
	defer log.Close()
	var times twin.Times
	for e, err := range log.Events() {
		if err != nil {
			return err
		}
		times.Observe(&e)
		if e.Exec == nil || e.Kind == event.Hold {
			continue
		}
		g := guest.Parse(e.Exec.Args)
		if !g.IsGuest {
			continue
		}
		key := cmp.Or(g.Identity.String(), g.Name)
		if key == "" || seen[key] || len(seen) == maxGuests {
			continue
		}
		seen[key] = true
		c.manifest.Guests = append(c.manifest.Guests, twin.Guest{Name: cmp.Or(g.Name, key), Identity: g.Identity.String(), Args: guest.Redact(e.Exec.Args), Disks: []twin.GuestDisk{}})
	}
	if first := times.First(c.manifest.Disks); c.manifest.Record == nil && first > 0 {
		c.pace(log.Header().BootID, &times, first)
	}
	return nil
}

// maxGuests is how many guests are described.
const maxGuests = 4096

// pace writes down when the disks came, counted from the first of them.
func (c *Capture) pace(boot string, times *twin.Times, first event.Time) {
	r := &twin.Record{BootID: boot}
	if times.Guest > first {
		r.ToGuest = times.Guest.Sub(first)
	}
	c.manifest.Record = r
	for i := range c.manifest.Disks {
		d := &c.manifest.Disks[i]
		at, ok := times.Came[d.Name]
		if !ok {
			c.missing("the record of the last boot doesn't have %s: when it comes is not known", d.Name)
			continue
		}
		after := at.Sub(first)
		d.Came = &after
		if done := times.Done[d.Name]; done > at {
			d.Udev = done.Sub(at)
		}
	}
}

// guestDisk says what a path of a guest lies on, and follows the header of a qcow2 image.
func (c *Capture) guestDisk(control *devmap.Control, g *twin.Guest, path string, depth int) {
	const deepest = 16
	if depth > deepest || slices.ContainsFunc(g.Disks, func(d twin.GuestDisk) bool { return d.Path == path }) {
		return
	}
	d := twin.GuestDisk{Path: path}
	at, ok := deviceOf(path)
	if !ok {
		d.NotEmulated = "it is no block device that is here: files of guests are in no capture"
		g.Disks = append(g.Disks, d)
		return
	}
	first := c.beneath(control, at, &d, 0)
	g.Disks = append(g.Disks, d)
	if first.disk == "" {
		return
	}
	backing := c.header(first)
	if backing != "" && !guest.IsRelative(backing) {
		c.guestDisk(control, g, backing, depth+1)
	}
}

// spot is where the first byte of a device is.
type spot struct {
	disk   string
	offset int64
}

// beneath finds the disks that a device lies on, and where its first byte is, as far as it
// is made of stretches of disks.
func (c *Capture) beneath(control *devmap.Control, dev event.Dev, d *twin.GuestDisk, depth int) spot {
	disk, offset, why := c.place(dev)
	if why == "" {
		if !slices.Contains(d.On, disk) {
			d.On = append(d.On, disk)
		}
		return spot{disk, offset}
	}
	not := func(format string, args ...any) spot {
		d.NotEmulated = fmt.Sprintf(format, args...)
		return spot{}
	}
	if control == nil || depth > 8 {
		return not("%s", why)
	}
	m, err := control.Get(dev)
	if err != nil {
		return not("%s", why)
	}
	if kind := devmap.KindOf(m.UUID); kind != devmap.KindLV {
		return not("it lies on %s, a %s, which no twin has", m.Name, kind)
	}
	var first spot
	for i, t := range m.Targets {
		if t.Type != "linear" && t.Type != "striped" {
			return not("it lies on %s, which is of type %s: a twin has linear and striped volumes only", m.Name, t.Type)
		}
		for n, p := range parts(t) {
			s := c.beneath(control, p.dev, d, depth+1)
			if d.NotEmulated != "" {
				return spot{}
			}
			if i == 0 && n == 0 {
				first = spot{s.disk, s.offset + p.offset}
			}
		}
	}
	return first
}

type part struct {
	dev    event.Dev
	offset int64
}

// parts are the devices of a linear or striped target: "MAJOR:MINOR SECTOR" each, after the
// number of stripes and their length (Documentation/admin-guide/device-mapper/striped.rst).
func parts(t devmap.Target) []part {
	f := strings.Fields(t.Params)
	if t.Type == "striped" && len(f) > 2 {
		f = f[2:]
	}
	var list []part
	for ; len(f) >= 2; f = f[2:] {
		var p part
		if _, err := fmt.Sscanf(f[0], "%d:%d", &p.dev.Major, &p.dev.Minor); err != nil {
			return nil
		}
		p.offset = devmap.SectorSize * number(f[1])
		list = append(list, p)
	}
	return list
}

// header takes the header of a qcow2 image that begins there, and returns the name of its
// backing file.
func (c *Capture) header(s spot) (backing string) {
	f, err := os.Open(c.sources[s.disk])
	if err != nil {
		return ""
	}
	defer f.Close()
	disk := c.disk(s.disk)
	r := io.NewSectionReader(f, s.offset, disk.Size-s.offset)
	length := qcow2Header(r)
	h, err := image.ReadHeader(r)
	if length == 0 || err != nil {
		return ""
	}
	if !slices.ContainsFunc(disk.Pieces, func(p twin.Piece) bool { return p.Offset == s.offset }) {
		disk.Pieces = append(disk.Pieces, twin.Piece{Offset: s.offset, Length: length, What: "header of a qcow2 image"})
	}
	return h.Backing
}
