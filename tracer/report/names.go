package report

import (
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// names replaces names by placeholders, the same one for the same name throughout a
// report: a guest that is guest3 in the log is guest3 in the journal. A placeholder says
// what kind of name it stands for, and nothing else. Who reads a report can't know more;
// who made it can, by the order of names in their own log.
type names struct {
	on    bool
	of    map[string]string // placeholders, by name
	count map[string]int    // placeholders given, by kind
	// numbers are those of uuids, by kind and uuid.
	numbers map[string]int
	keep    map[string]bool // uuids of boots
	left    map[string]bool // names that were not replaced
	// order has the names, the longest first, once something is replaced.
	order []string
	// first has for each byte whether a name begins with it.
	first [256]bool
}

func newNames(on bool) *names {
	return &names{on: on, of: map[string]string{}, count: map[string]int{}, numbers: map[string]int{}, keep: map[string]bool{}, left: map[string]bool{}}
}

// common are words that names can be, and that mean something of their own in a record:
// to replace them would make it unreadable.
var common = func() map[string]bool {
	words := map[string]bool{}
	for _, w := range strings.Fields("dev disk mapper by-id by-uuid by-path block sys run var lib etc usr bin sbin proc root boot home srv mnt tmp mail " +
		"qemu kvm lvm lvm2 udev systemd dracut linux libvirt virsh guest host vm vms name file id uuid drive device disks if format raw qcow2 none on off " +
		"cache index media serial service unit scope slice target socket mount swap add change remove open exec exit error missing linear striped thin " +
		"snapshot cache crypt mirror raid snapshot-origin zero multipath localhost localdomain log data images image system machine pool volume") {
		words[w] = true
	}
	return words
}()

var allDigits = regexp.MustCompile(`^[0-9]*$`)

// minName is how long a name has to be: to replace every "a" would leave nothing.
const minName = 3

// add gives a name a placeholder.
func (n *names) add(kind, name string) {
	switch {
	case !n.on || name == "" || n.of[name] != "":
	case len(name) < minName || allDigits.MatchString(name) || common[strings.ToLower(name)]:
		n.left[name] = true
	default:
		n.count[kind]++
		n.of[name] = fmt.Sprintf("%s%d", kind, n.count[kind])
	}
}

func (n *names) host(name string) {
	n.add("host", name)
	if short, _, ok := strings.Cut(name, "."); ok {
		n.add("host", short)
	}
}

// boot keeps a boot's id: it is drawn anew at each boot, and the commands take it.
func (n *names) boot(id string) { n.keep[strings.ToLower(id)] = true }

// learn takes the names out of an event.
func (n *names) learn(e *event.Event) {
	if !n.on {
		return
	}
	if e.Host != nil {
		n.host(e.Host.Name)
		n.add("machine", e.Host.MachineID)
	}
	if e.Exec != nil {
		g := guest.Parse(e.Exec.Args)
		n.add("guest", g.Name)
		for i := range g.Disks {
			n.disk(g.Disks[i].Path)
		}
	}
	texts(reflect.ValueOf(e), func(s string) string {
		if strings.HasPrefix(s, "/dev/") || strings.HasPrefix(s, "/") && images[path.Ext(s)] {
			n.disk(s)
		}
		return s
	})
	if e.DM != nil {
		for _, name := range []string{e.DM.Name, e.DM.NewName} {
			if vg, lv, _, ok := devmap.SplitName(name); ok {
				n.volume(vg, lv)
			}
		}
	}
}

// images are the endings of files that are disks.
var images = map[string]bool{".qcow2": true, ".qcow": true, ".raw": true, ".img": true, ".vmdk": true, ".vdi": true, ".vhdx": true, ".iso": true}

// disk takes the names out of the path of a disk.
func (n *names) disk(p string) {
	if vg, lv, ok := devmap.Volume(p); ok {
		n.volume(vg, lv)
		return
	}
	if !strings.HasPrefix(p, "/dev/") && strings.HasPrefix(p, "/") {
		base := path.Base(p)
		n.add("image", strings.TrimSuffix(base, path.Ext(base)))
	}
}

// layers are what LVM puts behind the names of its private volumes.
var layers = regexp.MustCompile(`_(tmeta|tdata|cmeta|cdata|cvol|corig|wcorig|mlog|vorigin|vdata|rimage_\d+|rmeta_\d+|mimage_\d+|pmspare|imeta|iorig)$`)

func (n *names) volume(vg, lv string) {
	n.add("vg", vg)
	n.add("lv", layers.ReplaceAllString(lv, ""))
}

// prepare is to be called before the first replacement.
func (n *names) prepare() {
	if n.order != nil || len(n.of) == 0 {
		return
	}
	for name := range n.of {
		n.order = append(n.order, name)
		// As a mapping's name has it, dashes doubled; and as a unit's, escaped.
		for _, form := range []string{strings.ReplaceAll(name, "-", "--"), strings.ReplaceAll(name, "-", `\x2d`)} {
			if n.of[form] == "" {
				n.of[form] = n.of[name]
				n.order = append(n.order, form)
			}
		}
	}
	slices.SortFunc(n.order, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	for _, name := range n.order {
		n.first[name[0]] = true
	}
}

var (
	anyUUID = regexp.MustCompile(`(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`)
	// LVM's own: of a volume in a mapping's UUID, that of the group before it; and as
	// LVM prints them.
	lvmPair = regexp.MustCompile(`\bLVM-([0-9A-Za-z]{32})([0-9A-Za-z]{32})`)
	lvmUUID = regexp.MustCompile(`\b[0-9A-Za-z]{6}-(?:[0-9A-Za-z]{4}-){5}[0-9A-Za-z]{6}\b`)
)

// replace returns s with placeholders in the place of names.
func (n *names) replace(s string) string {
	if !n.on || s == "" {
		return s
	}
	n.prepare()
	s = lvmPair.ReplaceAllStringFunc(s, func(m string) string {
		return "LVM-" + n.lvm(m[4:36]) + n.lvm(m[36:68])
	})
	s = lvmUUID.ReplaceAllStringFunc(s, func(m string) string {
		u := n.lvm(strings.ReplaceAll(m, "-", ""))
		return strings.Join([]string{u[:6], u[6:10], u[10:14], u[14:18], u[18:22], u[22:26], u[26:]}, "-")
	})
	s = anyUUID.ReplaceAllStringFunc(s, func(m string) string {
		if n.keep[strings.ToLower(m)] {
			return m
		}
		return fmt.Sprintf("00000000-0000-4000-8000-%012d", n.number("uuid", strings.ToLower(m)))
	})
	var b strings.Builder
	done := 0
	for i := 0; i < len(s); i++ {
		if !n.first[s[i]] || i > 0 && isWord(s[i-1]) {
			continue
		}
		for _, name := range n.order {
			if !strings.HasPrefix(s[i:], name) || i+len(name) < len(s) && isWord(s[i+len(name)]) && !layered(s[i+len(name):]) {
				continue
			}
			b.WriteString(s[done:i])
			b.WriteString(n.of[name])
			done = i + len(name)
			i = done - 1
			break
		}
	}
	return b.String() + s[done:]
}

// layered reports whether what follows a volume's name is one of LVM's suffixes.
func layered(rest string) bool {
	end := 0
	for end < len(rest) && isWord(rest[end]) {
		end++
	}
	return layers.MatchString(rest[:end])
}

// isWord reports whether a byte can be within a name, so that a shorter one does not
// begin or end there.
func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80
}

// number is that of a name of a kind, from 1 on.
func (n *names) number(kind, name string) int {
	key := kind + "\x00" + name
	if n.numbers[key] == 0 {
		n.count[kind]++
		n.numbers[key] = n.count[kind]
	}
	return n.numbers[key]
}

func (n *names) lvm(id string) string { return fmt.Sprintf("%032d", n.number("lvm", id)) }

// change returns the event with its names replaced. e is not changed: its parts can be
// those of other events, too.
func (n *names) change(e *event.Event) (*event.Event, error) {
	if !n.on {
		return e, nil
	}
	text, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	changed := new(event.Event)
	if err := json.Unmarshal(text, changed); err != nil {
		return nil, err
	}
	texts(reflect.ValueOf(changed), n.replace)
	return changed, nil
}

// texts has f change every text in v that is not one of the record's own words: those
// have types of their own, and what an event says of a source is bootrace's own, too.
func texts(v reflect.Value, f func(string) string) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() && v.Type() != reflect.TypeFor[*event.SourceInfo]() {
			texts(v.Elem(), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "Src" && v.Type().Field(i).IsExported() {
				texts(v.Field(i), f)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			texts(v.Index(i), f)
		}
	case reflect.Map:
		if v.Type() != reflect.TypeFor[map[string]string]() {
			return
		}
		for _, key := range v.MapKeys() {
			v.SetMapIndex(key, reflect.ValueOf(f(v.MapIndex(key).String())))
		}
	case reflect.String:
		if v.Type() == reflect.TypeFor[string]() && v.CanSet() {
			v.SetString(f(v.String()))
		}
	}
}

// told says what stands for names, and which were left.
func (n *names) told() string {
	if !n.on {
		return "Names of guests, hosts and volumes are in it as they are; --anonymize leaves them out.\n\n"
	}
	var b strings.Builder
	b.WriteString("Placeholders stand for the names of guests, hosts, volumes and images, and for uuids.\n" +
		"Left as they are: the ids of boots, names of folders, users and programs, addresses of the\n" +
		"network, and serial numbers of disks.\n")
	if len(n.left) > 0 {
		var list []string
		for name := range n.left {
			list = append(list, name)
		}
		slices.Sort(list)
		const most = 20
		if len(list) > most {
			list = append(list[:most], "...")
		}
		fmt.Fprintf(&b, "Too short or too common to be replaced: %s\n", strings.Join(list, ", "))
	}
	return b.String() + "\n"
}
