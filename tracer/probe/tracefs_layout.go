package probe

import (
	"errors"
	"fmt"
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

// How far the structures are searched, in bytes.
const (
	searchFile  = 256
	searchInode = 192
)

// findLayout measures the layout with probes that last as long as that takes.
func findLayout(t *ftrace.Instance, a ftrace.ABI, openSymbol string) (*layout, error) {
	runtime.LockOSThread() // the probes are told by the thread that hits them
	defer runtime.UnlockOSThread()
	l := &layout{}
	if err := l.findFile(t, a); err != nil {
		return nil, err
	}
	if err := l.findRdev(t, a); err != nil {
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

// findFile looks for two pointers in struct file: one to the inode, and one to
// what begins with a pointer to the inode.
func (l *layout) findFile(t *ftrace.Instance, a ftrace.ABI) error {
	inode := ftrace.Field{Name: "inode", Fetch: a.Args[0], Type: "u64"}
	direct := words(a.Args[1], searchFile, 8, "u64", false)
	indirect := words(a.Args[1], searchFile, 8, "u64", true)
	var found, mapped [][]int
	for path := range knownDevices {
		for _, search := range []struct {
			fields []ftrace.Field
			at     *[][]int
		}{{direct, &found}, {indirect, &mapped}} {
			p := ftrace.Probe{Name: "layout", Symbol: chrdevOpen, Fields: append([]ftrace.Field{inode}, search.fields...)}
			r, err := provoke(t, p, func() error { return openAndClose(path) })
			if err != nil {
				return err
			}
			*search.at = append(*search.at, offsets(r, search.fields, 8, r.Uint("inode")))
		}
	}
	var ok1, ok2 bool
	l.inode, ok1 = common(found)
	l.mapping, ok2 = common(mapped)
	if !ok1 || !ok2 {
		return errLayout
	}
	return nil
}

func (l *layout) findRdev(t *ftrace.Instance, a ftrace.ABI) error {
	mode := ftrace.Field{Name: "mode", Fetch: ftrace.At(0, a.Args[0]), Type: "u16"}
	fields := words(a.Args[0], searchInode, 4, "u32", false)
	var found [][]int
	for path, number := range knownDevices {
		r, err := provoke(t, ftrace.Probe{Name: "layout", Symbol: chrdevOpen, Fields: append([]ftrace.Field{mode}, fields...)}, func() error { return openAndClose(path) })
		if err != nil {
			return err
		}
		if r.Uint("mode")&unix.S_IFMT != unix.S_IFCHR {
			return errLayout
		}
		found = append(found, offsets(r, fields, 4, number))
	}
	var ok bool
	if l.rdev, ok = common(found); !ok {
		return errLayout
	}
	return nil
}

// findSize takes this program's own file: it has a size that nothing else has.
func (l *layout) findSize(t *ftrace.Instance, openSymbol string) error {
	const self = "/proc/self/exe"
	info, err := os.Stat(self)
	if err != nil {
		return err
	}
	inode := ftrace.At(l.inode, "$retval")
	fields := words(inode, searchInode, 8, "u64", false)
	r, err := provoke(t, ftrace.Probe{Name: "layout", Symbol: openSymbol, Return: true, Fields: fields}, func() error { return openAndClose(self) })
	if err != nil {
		return err
	}
	var ok bool
	if l.size, ok = common([][]int{offsets(r, fields, 8, uint64(info.Size()))}); !ok {
		return errLayout
	}
	return nil
}

func openAndClose(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	return unix.Close(fd)
}

// words are fetches of each word of a structure, or of what each points to.
func words(base string, length, step int, kind string, deref bool) []ftrace.Field {
	var fields []ftrace.Field
	for offset := 0; offset < length; offset += step {
		fetch := ftrace.At(offset, base)
		if deref {
			fetch = ftrace.At(0, fetch)
		}
		fields = append(fields, ftrace.Field{Name: fmt.Sprintf("w%d", offset), Fetch: fetch, Type: kind})
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

// common returns the first offset that is in all lists.
func common(lists [][]int) (int, bool) {
	if len(lists) == 0 {
		return 0, false
	}
next:
	for _, offset := range lists[0] {
		for _, l := range lists[1:] {
			if !slices.Contains(l, offset) {
				continue next
			}
		}
		return offset, true
	}
	return 0, false
}

// provoke returns the record of the probe that this thread causes.
func provoke(t *ftrace.Instance, p ftrace.Probe, cause func() error) (*ftrace.Record, error) {
	if err := t.Define(p); err != nil {
		return nil, err
	}
	err := t.Enable(p.Name)
	if err == nil {
		err = cause()
	}
	var found *ftrace.Record
	if err == nil {
		_, err = t.Read(func(r *ftrace.Record) {
			if r.TID == unix.Gettid() && r.Format.Name == p.Name && found == nil {
				found = r.Clone()
			}
		})
	}
	err = errors.Join(err, t.Undefine(p.Name))
	if err == nil && found == nil {
		err = errLayout
	}
	return found, err
}
