package probe

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
	pointers, err := l.findInode(t, a)
	if err != nil {
		return nil, err
	}
	if err := l.findMapping(t, a, pointers); err != nil {
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
// device's number in the inode. It returns where else struct file has pointers.
func (l *layout) findInode(t *ftrace.Instance, a ftrace.ABI) (pointers []int, err error) {
	p, file, inode := inodeProbe(a)
	var inodes, rdevs, kernel [][]int
	err = provoke(t, p, func(path string, r *ftrace.Record) error {
		if r.Uint("mode")&unix.S_IFMT != unix.S_IFCHR {
			return errLayout
		}
		inodes = append(inodes, offsets(r, file, 8, r.Uint("inode")))
		rdevs = append(rdevs, offsets(r, inode, 4, knownDevices[path]))
		kernel = append(kernel, pointersIn(r, file, r.Uint("inode")))
		return nil
	}, slices.Collect(maps.Keys(knownDevices))...)
	if err != nil {
		return nil, err
	}
	found, ok := common(inodes)
	rdev, ok2 := common(rdevs)
	if !ok || !ok2 {
		return nil, errLayout
	}
	l.inode, l.rdev = found[0], rdev[0]
	pointers, ok = common(kernel)
	if !ok {
		return nil, errLayout
	}
	return pointers, nil
}

// findMapping looks for the pointer to what begins with a pointer to the inode.
// It follows pointers only: some kernels warn of anything else.
func (l *layout) findMapping(t *ftrace.Instance, a ftrace.ABI, pointers []int) error {
	p := ftrace.Probe{Name: "layout", Symbol: chrdevOpen, Fields: []ftrace.Field{{Name: "inode", Fetch: a.Args[0], Type: "u64"}}}
	for _, offset := range pointers {
		p.Fields = append(p.Fields, ftrace.Field{Name: fmt.Sprint("m", offset), Fetch: ftrace.At(0, ftrace.At(offset, a.Args[1])), Type: "u64"})
	}
	var found [][]int
	err := provoke(t, p, func(_ string, r *ftrace.Record) error {
		found = append(found, nil)
		for _, offset := range pointers {
			if r.Uint(fmt.Sprint("m", offset)) == r.Uint("inode") {
				found[len(found)-1] = append(found[len(found)-1], offset)
			}
		}
		return nil
	}, slices.Collect(maps.Keys(knownDevices))...)
	if err != nil {
		return err
	}
	mapping, ok := common(found)
	if !ok {
		return errLayout
	}
	l.mapping = mapping[0]
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

// halfBits are those that all addresses of one half of the memory have in
// common, with the narrowest page tables that there are.
const halfBits = 47

// pointersIn lists the words that can be pointers to where a known one leads.
func pointersIn(r *ftrace.Record, fields []ftrace.Field, known uint64) []int {
	var found []int
	for i, f := range fields {
		if r.Uint(f.Name)>>halfBits == known>>halfBits {
			found = append(found, i*8)
		}
	}
	return found
}

// common returns the offsets that are in all lists, if there are any.
func common(lists [][]int) ([]int, bool) {
	var all []int
	for _, offset := range slices.Concat(lists...) {
		if !slices.Contains(all, offset) && !slices.ContainsFunc(lists, func(l []int) bool { return !slices.Contains(l, offset) }) {
			all = append(all, offset)
		}
	}
	return all, len(all) > 0
}

// provoke opens each file, and has told see the record of the probe that this
// causes.
func provoke(t *ftrace.Instance, p ftrace.Probe, told func(path string, r *ftrace.Record) error, paths ...string) error {
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
