package repair

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/inspect"
)

// Job is one disk to repair.
type Job struct {
	Guest  string // whose it is, as far as that is known
	Disk   string // absolute path of its image
	Format string // of the image: raw or qcow2
	// Targets are from Targets, of a look that was taken while the disk was held.
	Targets []Target
	// DropLog allows to throw away XFS's log where the kernel can't replay it.
	DropLog bool
	Kernel  Kernel
	// Program is the one that calls Init where Machine says so, usually this one.
	Program string
	// Dir is where the overlay and the file of changes are made.
	Dir string
	// Patience is how long one throwaway machine may take.
	Patience time.Duration
	// Tell is called with what is done, before it is. Never nil.
	Tell func(string)
}

// Result is what a repair of a disk comes to.
type Result struct {
	Target *Target
	Steps  []Step
	// Before and After are how many files and folders there are; -1: not known.
	Before, After int64
}

// Rehearsal is a repair that was made on a copy.
type Rehearsal struct {
	Results []Result
	// Failed says why the copy is not repaired, empty where it is. LogStays is set
	// where only throwing the log away could go on.
	Failed   string
	LogStays bool
	// Changes is the file of changes, Blocks and Bytes how much it changes; none where
	// it failed.
	Changes string
	Blocks  int
	Bytes   int64
}

// Lost reports whether there are fewer files after the repair than before, and in
// which file system.
func (r *Rehearsal) Lost() *Result {
	for i := range r.Results {
		if f := &r.Results[i]; f.Before >= 0 && f.After < f.Before {
			return f
		}
	}
	return nil
}

// Held is a disk that is kept from guests.
type Held struct {
	path, format string
	guard        *guard
}

// Hold keeps guests from starting on a disk: see guard for how far.
func Hold(path, format string) (*Held, error) {
	g, err := hold(path, false)
	if err != nil {
		return nil, err
	}
	return &Held{path, format, g}, nil
}

// Release lets guests start again.
func (h *Held) Release() { h.guard.Close() }

// leastRoom is what has to be free for an overlay and its changes, in bytes. What does
// not fit later fails the rehearsal, and nothing else.
const leastRoom = 256 << 20

// Rehearse repairs a copy of a held disk. Nothing is written to the disk.
func Rehearse(ctx context.Context, h *Held, j *Job) (*Rehearsal, error) {
	if err := os.MkdirAll(j.Dir, 0o700); err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(j.Dir, &fs); err == nil && int64(fs.Bavail)*fs.Bsize < leastRoom {
		return nil, fmt.Errorf("less than %d MiB are free in %s: name another folder with --dir", leastRoom>>20, j.Dir)
	}
	work, err := os.MkdirTemp(j.Dir, "work-")
	if err != nil {
		return nil, err
	}
	kept := false
	defer func() {
		if !kept {
			os.RemoveAll(work)
		}
	}()
	overlay := filepath.Join(work, "overlay.qcow2")
	if out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", j.Format, "-b", h.path, overlay).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make an overlay over %s with qemu-img: %w: %s", h.path, err, strings.TrimSpace(string(out)))
	}
	t := &throwaway{kernel: j.Kernel, program: j.Program, dir: work, patience: j.Patience, sign: 2 * time.Minute}
	r := &Rehearsal{}
	for i := range j.Targets {
		target := &j.Targets[i]
		j.Tell(fmt.Sprintf("repairing a copy of %s, %s, in a throwaway virtual machine", h.path, target.Title))
		o, err := t.run(ctx, overlay, target, j.DropLog)
		if err != nil {
			kept = true // for its console
			return nil, err
		}
		r.Results = append(r.Results, Result{target, o.Steps, o.Before, o.After})
		if o.Failed != "" {
			r.Failed, r.LogStays = target.Title+": "+o.Failed, o.LogStays
			return r, nil
		}
	}
	copied, err := serve(ctx, work, overlay, "qcow2", false)
	if err != nil {
		return nil, err
	}
	defer copied.Close()
	if r.Failed = again(ctx, h.path, copied); r.Failed != "" {
		return r, nil
	}
	disk, size := h.guard.ReadAt, h.guard.Size()
	if j.Format != "raw" {
		s, err := serve(ctx, work, h.path, j.Format, false)
		if err != nil {
			return nil, err
		}
		defer s.Close()
		disk, size = s.ReadAt, s.Size()
	}
	stretches, err := written(ctx, overlay, min(size, copied.Size()))
	if err != nil {
		return nil, err
	}
	c := &Changes{Disk: h.path, Format: j.Format, Size: size, Guest: j.Guest, Made: time.Now().UTC()}
	for i := range j.Targets {
		c.What = append(c.What, j.Targets[i].Title)
	}
	name := fmt.Sprintf("%s-%s.changes", c.Made.Format("20060102T150405.000"), strings.Map(plain, filepath.Base(h.path)))
	w, err := createChanges(filepath.Join(j.Dir, name), c)
	if err != nil {
		return nil, err
	}
	if err := compare(reader(disk), copied, stretches, w); err != nil {
		w.abandon()
		return nil, err
	}
	if err := w.finish(); err != nil {
		return nil, fmt.Errorf("keep what is to be changed: %w", err)
	}
	r.Changes, r.Blocks, r.Bytes = w.path, w.blocks, w.bytes
	return r, nil
}

// plain keeps what a file's name may have.
func plain(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
		return r
	}
	return '_'
}

type reader func([]byte, int64) (int, error)

func (r reader) ReadAt(p []byte, off int64) (int, error) { return r(p, off) }

// again looks into the repaired copy, and says what is still wrong.
func again(ctx context.Context, path string, copied *served) string {
	reports := inspect.Look(ctx, []inspect.Disk{{Name: path, Bytes: copied, Size: copied.Size()}})
	seen := inspect.Replay((&inspect.InspectedDisk{Path: path, Report: &reports[0]}).Recorded())
	targets, err := Targets(seen)
	switch {
	case err == nil:
		return fmt.Sprintf("after the repair its %s is still damaged: %s", targets[0].Title, strings.Join(targets[0].Why, "; "))
	case reports[0].Cut != "":
		return "the repaired copy can't be looked into: " + reports[0].Cut
	}
	return ""
}

// written lists the stretches of a disk that an overlay has bytes of its own for.
func written(ctx context.Context, overlay string, size int64) ([]stretch, error) {
	out, err := exec.CommandContext(ctx, "qemu-img", "map", "--output=json", "-f", "qcow2", overlay).Output()
	if err != nil {
		return nil, fmt.Errorf("qemu-img map: %w", err)
	}
	var extents []struct {
		Start, Length int64
		Depth         int
	}
	if err := json.Unmarshal(out, &extents); err != nil {
		return nil, fmt.Errorf("qemu-img map: %w", err)
	}
	var list []stretch
	for _, e := range extents {
		if end := min(e.Start+e.Length, size); e.Depth == 0 && e.Start < end {
			list = append(list, stretch{e.Start, end})
		}
	}
	return list, nil
}

// Apply writes what was rehearsed to the disk, which is held. It fails where the disk
// is no longer what the rehearsal began with. When it was interrupted, Restore makes
// the disk whole in either direction.
func Apply(ctx context.Context, h *Held, changes string) error {
	h.Release() // what comes next takes a lock for writing, and put compares
	return settle(ctx, h.path, h.format, changes, forward, true)
}

// Restore makes a disk what it was before the repair of a file of changes (undo), or
// what it is to be after it.
func Restore(ctx context.Context, changes string, undo bool) error {
	c, err := ReadChanges(changes)
	if err != nil {
		return err
	}
	to := forward
	if undo {
		to = back
	}
	return settle(ctx, c.Disk, c.Format, changes, to, false)
}

func settle(ctx context.Context, path, format, changes string, to direction, fresh bool) (err error) {
	f, err := os.Open(changes)
	if err != nil {
		return err
	}
	defer f.Close()
	var disk interface {
		Store
		Close() error
	}
	if format == "raw" {
		disk, err = hold(path, true)
	} else {
		var dir string
		if dir, err = os.MkdirTemp("", "bootrace-repair-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		disk, err = serve(context.WithoutCancel(ctx), dir, path, format, true) // begun is finished
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	return put(disk, f, to, fresh)
}
