package tracefs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/probe/ftrace"
)

// layout is where the kernel keeps what tells a file's type, number and size.
// No kernel without BTF describes it, and it moves. So it is found by looking:
// files whose numbers and size are known are opened, and their structures
// searched for them.
type layout struct {
	inode   int // in struct file: the pointer to its inode
	mapping int // in struct file: the pointer to its address_space, which begins with a pointer to the inode
	rdev    int // in struct inode
	size    int // in struct inode
}

var errLayout = errors.New("the kernel's layout of files was not recognized: what was opened is known by its path only")

// How far the structures are searched, in bytes. With PREEMPT_RT locks are larger,
// and struct file has f_mapping at 280 (Linux 6.1). An event has 128 fields at
// the most.
const (
	searchFile  = 320
	searchInode = 192
)

// findLayout measures the layout with probes that last as long as that takes.
func findLayout(t *ftrace.Instance, a ftrace.ABI, openSymbol string) (*layout, error) {
	runtime.LockOSThread() // the probes are told by the thread that hits them
	defer runtime.UnlockOSThread()
	l := &layout{}
	mappings, err := l.findInode(t, a)
	if err != nil {
		return nil, err
	}
	if err := l.findMapping(t, a, mappings); err != nil {
		return nil, err
	}
	if err := l.findSize(t, openSymbol); err != nil {
		return nil, err
	}
	return l, nil
}

// Character devices that every kernel has, by their numbers.
var knownDevices = map[string]uint64{"/dev/null": 1<<20 | 3, "/dev/zero": 1<<20 | 5}

// chrdev_open(struct inode *, struct file *) is the same from 3.10 to 7.2.
const chrdevOpen = "chrdev_open"

// inodeProbe records the inode, its mode, and both structures.
func inodeProbe(a ftrace.ABI) (p ftrace.Probe, file, inode []ftrace.Field) {
	file = words("f", a.Args[1], searchFile, 8, "u64")
	inode = words("i", a.Args[0], searchInode, 4, "u32")
	p = ftrace.Probe{Name: "layout", Symbol: chrdevOpen, Fields: slices.Concat([]ftrace.Field{
		{Name: "inode", Fetch: a.Args[0], Type: "u64"},
		{Name: "mode", Fetch: ftrace.At(0, a.Args[0]), Type: "u16"},
	}, file, inode)}
	return p, file, inode
}

// findInode looks for the pointer to the inode in struct file, and for the
// device's number in the inode. It returns what in struct file leads into the inode.
func (l *layout) findInode(t *ftrace.Instance, a ftrace.ABI) (within []place, err error) {
	p, file, inode := inodeProbe(a)
	var inodes, rdevs [][]int
	var places [][]place
	err = provoke(t, p, func(path string, r *ftrace.Record) error {
		if r.Uint("mode")&unix.S_IFMT != unix.S_IFCHR {
			return errLayout
		}
		inodes = append(inodes, offsets(r, file, 8, r.Uint("inode")))
		rdevs = append(rdevs, offsets(r, inode, 4, knownDevices[path]))
		places = append(places, leadingInto(r, file, r.Uint("inode")))
		return nil
	}, slices.Collect(maps.Keys(knownDevices))...)
	if err != nil {
		return nil, err
	}
	found, ok := common(inodes)
	rdev, ok2 := common(rdevs)
	within, ok3 := common(places)
	if !ok || !ok2 || !ok3 {
		return nil, errLayout
	}
	l.inode, l.rdev = found[0], rdev[0]
	return within, nil
}

// place is a word of struct file that leads into the inode.
type place struct {
	offset int // in struct file
	inside int // where in the inode it leads
}

// furthest is how far behind an inode's beginning its own address_space is, at most.
const furthest = 1024

// leadingInto lists the words of struct file that lead into the inode.
func leadingInto(r *ftrace.Record, file []ftrace.Field, inode uint64) []place {
	var found []place
	for i, f := range file {
		if d := r.Uint(f.Name) - inode; d > 0 && d < furthest {
			found = append(found, place{offset: i * 8, inside: int(d)})
		}
	}
	return found
}

// findMapping looks for the pointer to the address_space, which begins with a pointer to
// the inode. A device's node has its own, inside its inode. So nothing is followed that
// may be no pointer: what is searched reaches beyond struct file, any task opens files
// meanwhile, and of an address that is none some kernels warn: Linux 4.20 to 5.7 of all,
// later ones where the processor has five levels of page tables and the kernel has four
// (seen on Debian 11's 5.10).
func (l *layout) findMapping(t *ftrace.Instance, a ftrace.ABI, within []place) error {
	p := ftrace.Probe{Name: "layout", Symbol: chrdevOpen, Fields: []ftrace.Field{{Name: "inode", Fetch: a.Args[0], Type: "u64"}}}
	for _, w := range within {
		p.Fields = append(p.Fields, ftrace.Field{Name: fmt.Sprint("m", w.offset), Fetch: ftrace.At(w.inside, a.Args[0]), Type: "u64"})
	}
	var found [][]place
	err := provoke(t, p, func(_ string, r *ftrace.Record) error {
		found = append(found, slices.DeleteFunc(slices.Clone(within), func(w place) bool {
			return r.Uint(fmt.Sprint("m", w.offset)) != r.Uint("inode")
		}))
		return nil
	}, slices.Collect(maps.Keys(knownDevices))...)
	if err != nil {
		return err
	}
	mapping, ok := common(found)
	if !ok {
		return errLayout
	}
	l.mapping = mapping[0].offset
	return nil
}

// findSize takes this program's own file: it has a size that nothing else has.
func (l *layout) findSize(t *ftrace.Instance, openSymbol string) error {
	const self = "/proc/self/exe"
	info, err := os.Stat(self)
	if err != nil {
		return err
	}
	fields := words("w", ftrace.At(l.inode, "$retval"), searchInode, 8, "u64")
	var found []int
	err = provoke(t, ftrace.Probe{Name: "layout", Symbol: openSymbol, Return: true, Fields: fields}, func(_ string, r *ftrace.Record) error {
		found = offsets(r, fields, 8, uint64(info.Size()))
		return nil
	}, self)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return errLayout
	}
	l.size = found[0]
	return nil
}

func openAndClose(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	return unix.Close(fd)
}

// words are fetches of each word of a structure.
func words(name, base string, length, step int, kind string) []ftrace.Field {
	var fields []ftrace.Field
	for offset := 0; offset < length; offset += step {
		fields = append(fields, ftrace.Field{Name: fmt.Sprint(name, offset), Fetch: ftrace.At(offset, base), Type: kind})
	}
	return fields
}

// offsets lists the words that have the value.
func offsets(r *ftrace.Record, fields []ftrace.Field, step int, value uint64) []int {
	var found []int
	for i, f := range fields {
		if r.Uint(f.Name) == value {
			found = append(found, i*step)
		}
	}
	return found
}

// common returns what is in all lists, if there is anything, in the order of the first.
func common[T comparable](lists [][]T) ([]T, bool) {
	var all []T
	for _, v := range slices.Concat(lists...) {
		if !slices.Contains(all, v) && !slices.ContainsFunc(lists, func(l []T) bool { return !slices.Contains(l, v) }) {
			all = append(all, v)
		}
	}
	return all, len(all) > 0
}

// provoke opens each file, and has told see the record of the probe that this
// causes. What other tasks cause is not recorded: reading would not come to an end where
// somebody opens files all the time.
func provoke(t *ftrace.Instance, p ftrace.Probe, told func(path string, r *ftrace.Record) error, paths ...string) error {
	p.Filter = fmt.Sprintf("common_pid == %d", unix.Gettid())
	if err := t.Define(p); err != nil {
		return err
	}
	err := t.Enable(p.Name)
	for _, path := range paths {
		if err == nil {
			err = provokeOne(t, p.Name, path, told)
		}
	}
	return errors.Join(err, t.Undefine(p.Name))
}

func provokeOne(t *ftrace.Instance, name, path string, told func(path string, r *ftrace.Record) error) error {
	if err := openAndClose(path); err != nil {
		return err
	}
	var found *ftrace.Record
	_, err := t.Read(func(r *ftrace.Record) {
		if r.TID == unix.Gettid() && r.Format.Name == name && found == nil {
			found = r.Clone()
		}
	})
	if err != nil {
		return err
	}
	if found == nil {
		return errLayout
	}
	return told(path, found)
}
