package check

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/hold"
)

// programDirs are the folders in which programs that run guests usually lie.
func programDirs() []string {
	var dirs []string
	for _, place := range guest.Places() {
		dirs = append(dirs, filepath.Dir(place))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// programs lists the programs that run guests: what looks like qemu, or is
// configured to. Each that is not traced or not held has an item of its own.
func (o Options) programs(root string) []Item {
	const name = "qemu"
	held := o.held(root)
	found := slices.Clone(held)
	for _, dir := range programDirs() {
		for _, path := range executables(root, filepath.Join(dir, "*")) {
			if guest.IsProgram(path) || o.traces(path) {
				found = append(found, path)
			}
		}
	}
	slices.Sort(found)
	found = slices.Compact(found)
	if len(found) == 0 {
		return []Item{{name, Warning, "no program that runs guests was found", "if yours has another name, add it to guest-binaries, and its path to enforce.binaries"}}
	}
	items := []Item{{Name: name, Grade: Good, Text: strings.Join(found, ", ")}}
	if o.ServiceErr != nil {
		return items // before Linux 5.0 a service that hangs can hold who opens them
	}
	for _, path := range found {
		if gap, ok := o.gap(path, held); ok {
			items = append(items, gap)
		}
	}
	return items
}

// gap says what bootrace does not do with a program. Of a script nothing is
// said: what it executes is a program with a name of its own.
func (o Options) gap(path string, held []string) (Item, bool) {
	var texts, remedies []string
	add := func(text, remedy string) { texts, remedies = append(texts, text), append(remedies, remedy) }
	if !o.traces(path) {
		add("guest-binaries does not name it, so its guests are not seen", "add "+filepath.Base(path)+" to guest-binaries")
	}
	switch {
	case !leadsTo(held, path) && !scriptFor(held, path):
		add("enforce.binaries does not name it, so its starts can't be held", "add "+path+" to enforce.binaries")
	case o.Held != nil && len(o.Held.Programs) > 0 && !leadsTo(o.Held.Programs, path) && !scriptFor(o.Held.Programs, path):
		add("the service does not hold its starts", "systemctl reload bootrace; journalctl -u bootrace says more")
	}
	if texts == nil || isScript(path) {
		return Item{}, false
	}
	return Item{"program " + path, Warning, strings.Join(texts, "; "), strings.Join(remedies, "; ")}, true
}

// scriptFor reports whether one of paths is a script of the same name, as Debian
// 12 has for qemu-system-i386: who starts that one is held.
func scriptFor(paths []string, path string) bool {
	return slices.ContainsFunc(paths, func(p string) bool { return filepath.Base(p) == filepath.Base(path) && isScript(p) })
}

// held are the programs that enforce.binaries leads to.
func (o Options) held(root string) []string {
	var found []string
	for _, pattern := range o.Binaries {
		found = append(found, executables(root, pattern)...)
	}
	return found
}

// traces reports whether a program is a guest by its name (see probe.Options).
func (o Options) traces(path string) bool {
	names := o.Guests
	if names == nil {
		names = guest.Programs()
	}
	return guest.Matches(names, filepath.Base(path))
}

func executables(root, pattern string) []string {
	paths, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil {
		return nil // the configuration was checked
	}
	return slices.DeleteFunc(paths, func(path string) bool {
		info, err := os.Stat(path)
		return err != nil || info.Mode()&fs.ModeType != 0 || info.Mode()&0o111 == 0
	})
}

func isScript(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var start [2]byte
	_, err = io.ReadFull(f, start[:])
	return err == nil && bytes.Equal(start[:], []byte("#!"))
}

// leadsTo reports whether one of paths is the same file: a hold is one of a
// file, whatever name it is started by.
func leadsTo(paths []string, path string) bool {
	file, err := os.Stat(path)
	return err == nil && slices.ContainsFunc(paths, func(p string) bool {
		other, err := os.Stat(p)
		return err == nil && os.SameFile(file, other)
	})
}

// hold says whether starts of guests can be held here; where a service runs that
// is to hold them, whether it does.
func (o Options) hold(ctx context.Context, root string) Item {
	const name = "enforce mode"
	none := Item{name, Warning, "no start is held: enforce.binaries leads to no program", "name the program that runs guests in enforce.binaries"}
	switch {
	case o.ServiceErr != nil:
		return Item{name, Warning, "whether starts are held is not known: the service gives no answer", "see \"service\""}
	case o.HoldErr != "":
		return Item{name, Warning, "the service holds no start: " + o.HoldErr, o.withoutHolding()}
	case o.Held != nil && len(o.Held.Programs) == 0:
		return none
	case o.Held != nil:
		return Item{Name: name, Grade: Good, Text: "starts of guests can be held: the service does"}
	case o.Mode == config.Enforcing && o.Service != "":
		return Item{name, Warning, "configured, and the service holds no start", "systemctl reload bootrace"}
	}
	try := o.Hold
	if try == nil {
		try = hold.Possible
	}
	bound, err := try(ctx)
	if err != nil {
		return Item{name, Warning, err.Error(), o.withoutHolding()}
	}
	if len(o.held(root)) == 0 {
		return none
	}
	item := Item{Name: name, Grade: Good, Text: "starts of guests can be held (tried on a child of this program)"}
	if bound.Longest > 0 {
		item.Text += fmt.Sprintf("; none for longer than %s on this kernel, whatever its deadline: %s", bound.Longest, bound.Because)
	}
	return item
}

// withoutHolding is what is left to do where no start can be held.
func (o Options) withoutHolding() string {
	if o.Mode == config.Enforcing {
		return "set mode: trace, and have guests wait by `bootrace wait` in what starts them; or boot a kernel where starts can be held"
	}
	return "trace mode does not need it"
}
