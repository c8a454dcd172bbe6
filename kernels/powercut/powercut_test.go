package powercut

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/inspect"
)

// TestPowerCut looks at file systems after the power was cut, and compares what bootrace
// says of them with what their tools and a guest's kernel say. BOOTRACE_SEED makes the
// same disks and the same work once more; the moment of the cut is as it comes.
func TestPowerCut(t *testing.T) {
	if os.Getenv("BOOTRACE_INSPECT") == "" {
		t.Skip("boots virtual machines: make inspect-test")
	}
	need(t)
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("BOOTRACE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d", seed)
	m := newMachines(t)
	s := build(t, seed, recipes())
	r := rand.New(rand.NewPCG(seed, 1))
	var drives []drive
	for _, d := range s.disks {
		drives = append(drives, d.drive)
	}
	ends, ended := 0, 0
	for _, v := range s.order.Volumes {
		if v.End != Never && v.FS != "swap" {
			ends++
		}
	}
	begun := time.Now()
	if err := m.boot("cut", &s.order, drives, false, func(rep *Report) bool {
		if !rep.Ended {
			t.Logf("%d volumes on %d disks are in use after %v", len(s.order.Volumes), len(drives), time.Since(begun).Round(time.Second))
			return false
		}
		if ended++; ended < ends {
			return false
		}
		// The others go on. When the power is cut is as it comes.
		time.Sleep(time.Duration(r.IntN(5000)) * time.Millisecond)
		t.Logf("the power is cut after %v, when %d of them were put away, frozen or the like", time.Since(begun).Round(time.Second), ended)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	c := &comparison{t: t, stock: s, r: r, count: map[string]int{}, grown: map[hurt]int{}}
	c.volumes()
	c.groups()
	c.kernel(m)
	c.told()
}

// TestNotMounted compares what Debian's kernel does not mount: NTFS, which ntfsfix marks
// dirty, and LUKS.
func TestNotMounted(t *testing.T) {
	if os.Getenv("BOOTRACE_INSPECT") == "" {
		t.Skip("makes some images: make inspect-test")
	}
	needTools(t, "mkntfs", "ntfsinfo", "ntfsfix", "cryptsetup")
	c := &comparison{t: t, stock: &stock{t: t, dir: t.TempDir()}, r: rand.New(rand.NewPCG(1, 1)), count: map[string]int{}, grown: map[hurt]int{}}
	image := func(size int64, command ...string) string {
		path := c.stock.file(fmt.Sprint("image", len(c.drives)))
		sized(t, path, size)
		c.drives = append(c.drives, drive{path: path, format: "raw"})
		run(t, command[0], append(command[1:], path)...)
		return path
	}
	look := func(rec recipe, path string) *subject {
		s := c.file(rec, path, inspected(t, drive{path: path, format: "raw"}))
		c.hurt(s, rec, path)
		return s
	}
	for _, cluster := range []string{"512", "4096", "65536"} {
		for _, size := range []int64{16, 64, 300} {
			rec := recipe{name: "NTFS, clusters of " + cluster, kind: inspect.KindNTFS, fs: "ntfs"}
			path := image(size*mib, "mkntfs", "-q", "-F", "-f", "-s", "512", "-c", cluster, "-L", "Windows")
			look(rec, path)
			run(t, "ntfsfix", path)
			if s := look(rec, path); s.layer == nil || s.layer.State != inspect.StateDirty {
				t.Errorf("ntfsfix marked it dirty, and bootrace says %+v", s.layer)
			}
		}
	}
	key := c.stock.file("key")
	if err := os.WriteFile(key, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"luks1", "luks2"} {
		rec := recipe{name: version, kind: inspect.KindLUKS}
		s := look(rec, image(32*mib, "cryptsetup", "-q", "luksFormat", "--type", version, "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", key))
		if uuid := word(s.ask("cryptsetup", "luksDump").Text, `UUID:\s+(\S+)`); s.layer == nil || s.layer.UUID != uuid {
			t.Errorf("%s: %+v, and cryptsetup says %s", version, s.layer, uuid)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.count)) {
		t.Logf("%4d  %s", c.count[key], key)
	}
}

func need(t *testing.T) {
	t.Helper()
	needTools(t,
		"qemu-system-x86_64", "qemu-img", "sfdisk", "mkfs.xfs", "xfs_logprint", "xfs_repair", "xfs_db", "mkfs.ext4", "mkfs.ext3", "mkfs.ext2",
		"dumpe2fs", "e2fsck", "mkfs.btrfs", "btrfs", "mkfs.fat", "fsck.fat", "mkswap", "swaplabel", "lvm", "pvck")
}

func needTools(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if s := asked("sh", "-c", `command -v "$1"`, "sh", tool); s.Status != 0 {
			t.Skipf("NOT RUN: %s is not installed: .ci/run has the list of packages", tool)
		}
	}
}

// comparison is what was compared.
type comparison struct {
	t     *testing.T
	stock *stock
	r     *rand.Rand
	count map[string]int // by kind and state
	grown map[hurt]int   // XFS whose first superblock has the old size
	// looks are for the second machine; layers are what bootrace says of each.
	looks  []Volume
	drives []drive
	layers []look
}

type look struct {
	name  string
	kind  inspect.Kind
	hurt  hurt
	layer *inspect.Layer
	ask   bool // the tools are asked in the machine
	size  int64
	state inspect.State
	needs int64
}

// judge compares one.
func (c *comparison) judge(s *subject) answers {
	c.t.Helper()
	a := s.tools()
	if s.hurt == whole {
		s.state, s.needs = a.state, a.needs
		if s.needs == 0 && s.layer != nil {
			s.needs = s.layer.Needs
		}
	}
	if differ := s.compare(&a); differ != nil {
		text, _ := json.Marshal(s.layer)
		c.t.Errorf("%s, %d bytes, %s:\n%s\nbootrace: %s\n%s", s.name, s.size, s.hurt, strings.Join(differ, "\n"), text, a.text)
	}
	state := string(s.state)
	if s.hurt != whole {
		state += ", " + string(s.hurt)
	}
	c.count[fmt.Sprintf("%s %s", s.kind, state)]++
	if s.layer != nil && grown(s.layer) {
		c.grown[s.hurt]++
	}
	return a
}

// volumes compares all volumes but LVM's, which the second machine does.
func (c *comparison) volumes() {
	for _, d := range c.stock.disks {
		c.drives = append(c.drives, d.drive)
	}
	for i, d := range c.stock.disks {
		if d.recipes == nil { // LVM's
			continue
		}
		root := inspected(c.t, d.drive)
		for n, rec := range d.recipes {
			around, raw, part := root, d.path, 0
			switch {
			case d.offsets != nil:
				parts := find(root, inspect.KindPartition)
				if len(parts) != len(d.recipes) || parts[n].Offset != d.offsets[n] || parts[n].Needs != rec.size {
					c.t.Errorf("%s: partitions %+v", rec.name, parts)
					continue
				}
				around, part, raw = parts[n], n+1, fmt.Sprintf("%s.part%d", d.path, n)
				run(c.t, "dd", "if="+d.path, "of="+raw, "bs=1M", "conv=sparse", fmt.Sprintf("skip=%d", d.offsets[n]/mib), fmt.Sprintf("count=%d", rec.size/mib), "status=none")
			case d.format == "qcow2":
				raw = d.path + ".raw"
				run(c.t, "qemu-img", "convert", "-q", "-f", "qcow2", "-O", "raw", d.path, raw)
			}
			s := c.file(rec, raw, around)
			c.looks = append(c.looks, Volume{LUN: i, Part: part, FS: rec.fs})
			c.layers = append(c.layers, look{name: s.name, kind: rec.kind, layer: s.layer, state: s.state, needs: s.needs})
			c.hurt(s, rec, raw)
			if raw != d.path {
				_ = os.Remove(raw)
			}
		}
	}
}

// file compares what bootrace said with what the tools say of a file with the same bytes.
func (c *comparison) file(rec recipe, raw string, around *inspect.Layer) *subject {
	s := &subject{name: rec.name, kind: rec.kind, size: length(c.t, raw), layer: inside(around, rec.kind), ask: onFile(raw)}
	c.judge(s)
	return s
}

func onFile(path string) func(args ...string) Said {
	return func(args ...string) Said { return asked(args[0], append(args[1:len(args):len(args)], path)...) }
}

// hurt cuts a copy off at some places, and damages another at some, and compares these.
func (c *comparison) hurt(base *subject, rec recipe, raw string) {
	if base.needs < mib {
		return
	}
	after := func(what hurt, name, path string) {
		s := &subject{
			name: base.name + ", " + name, kind: base.kind, hurt: what, size: length(c.t, path), ask: onFile(path), state: base.state, needs: base.needs,
			layer: inside(inspected(c.t, drive{path: path, format: "raw"}), base.kind),
		}
		c.judge(s)
	}
	const sector = 4096
	ends := []int64{base.needs - sector, base.needs * int64(40+c.r.IntN(55)) / 100 / sector * sector}
	if rec.grown > 0 {
		ends = append(ends, rec.size) // the size before
	}
	for i, end := range ends {
		path := raw + fmt.Sprintf(".cut%d", i)
		run(c.t, "cp", "--sparse=always", raw, path)
		if err := os.Truncate(path, end); err != nil {
			c.t.Fatal(err)
		}
		if end >= base.needs {
			_ = os.Remove(path)
			continue
		}
		after(cut, fmt.Sprintf("cut off at %d", end), path)
		if i == 0 && c.r.IntN(3) == 0 || i == 2 {
			c.looks = append(c.looks, Volume{LUN: len(c.drives), FS: rec.fs})
			c.drives = append(c.drives, drive{path: path, format: "raw"})
			l := look{name: base.name + ", cut off", kind: base.kind, hurt: cut, state: base.state, needs: base.needs}
			l.layer = inside(inspected(c.t, drive{path: path, format: "raw"}), base.kind)
			c.layers = append(c.layers, l)
			continue
		}
		_ = os.Remove(path)
	}
	for _, d := range c.spots(base.kind, raw) {
		path := raw + ".damaged"
		run(c.t, "cp", "--sparse=always", raw, path)
		write(c.t, path, d.writes)
		after(spoiled, d.name, path)
		_ = os.Remove(path)
	}
}

// spot is a way to damage headers.
type spot struct {
	name   string
	writes []patch
}

type patch struct {
	at   int64
	data []byte
}

func write(t *testing.T, path string, list []patch) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range list {
		if _, err := f.WriteAt(p.data, p.at); err != nil {
			t.Fatal(err)
		}
	}
}

func bytesAt(t *testing.T, path string, at int64, n int) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, n)
	if _, err := f.ReadAt(data, at); err != nil {
		t.Fatal(err)
	}
	return data
}

// spots are two ways to damage what a kind has, by the seed.
func (c *comparison) spots(kind inspect.Kind, raw string) []spot {
	flip := func(name string, at int64) spot {
		return spot{name, []patch{{at, []byte{bytesAt(c.t, raw, at, 1)[0] ^ 0x40}}}}
	}
	gone := func(name string, at int64, n int) spot { return spot{name, []patch{{at, make([]byte, n)}}} }
	var list []spot
	switch kind {
	case inspect.KindXFS:
		b := bytesAt(c.t, raw, 0, 512)
		sector := int64(binary.BigEndian.Uint16(b[102:]))
		groups := int64(binary.BigEndian.Uint32(b[88:]))
		group := int64(binary.BigEndian.Uint32(b[84:])) * int64(binary.BigEndian.Uint32(b[4:]))
		last := (groups - 1) * group
		list = []spot{
			gone("superblock gone", 0, 512), gone("AGF gone", sector, 4), gone("AGI of the last group gone", last+2*sector, 4), gone("headers of group 1 gone", group, int(4*sector)),
		}
		half := spot{name: "second half gone"}
		for n := (groups + 1) / 2; n < groups; n++ {
			half.writes = append(half.writes, patch{n * group, make([]byte, 4*sector)})
		}
		list = append(list, half)
		if b[101]&15 == 5 {
			list = append(list, flip("superblock", 200), flip("AGF", sector+60), flip("AGI of the last group", last+2*sector+60), flip("AGFL of group 1", group+3*sector+50))
		}
	case inspect.KindExt:
		b := bytesAt(c.t, raw, 1024, 1024)
		list = []spot{gone("superblock gone", 1024, 1024)}
		features := binary.LittleEndian.Uint32(b[0x64:])
		block := int64(1024) << b[0x18]
		first := int64(binary.LittleEndian.Uint32(b[0x14:]))
		if features&0x410 != 0 {
			list = append(list, flip("group descriptor", (first+1)*block+4))
		}
		if features&0x400 != 0 {
			list = append(list, flip("superblock", 1024+0x90))
		}
	case inspect.KindBtrfs:
		list = []spot{flip("superblock", 65536+200), flip("copy of the superblock", 64*mib+200)}
	case inspect.KindNTFS:
		b := bytesAt(c.t, raw, 0, 512)
		cluster := int64(binary.LittleEndian.Uint16(b[0x0b:])) * int64(b[0x0d])
		table := int64(binary.LittleEndian.Uint64(b[0x30:])) * cluster
		const record = 1024
		list = []spot{gone("record of the volume gone", table+3*record, 4), flip("end of a sector of it", table+3*record+510)}
	case inspect.KindFAT:
		b := bytesAt(c.t, raw, 0, 512)
		list = []spot{flip("allocation table", int64(binary.LittleEndian.Uint16(b[0x0e:]))*int64(binary.LittleEndian.Uint16(b[0x0b:])))}
	}
	c.r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:min(2, len(list))]
}

// inspected is what bootrace says of a disk.
func inspected(t *testing.T, d drive) *inspect.Layer {
	t.Helper()
	// The chain is on the command line: what only an image's header names is opened where
	// it is a volume, and these are files.
	disk := guest.Image{Path: d.path, Format: d.format, Storage: guest.StorageFile}
	for _, path := range d.backing {
		disk.Backing = append(disk.Backing, guest.Image{Path: path, Format: "qcow2", Storage: guest.StorageFile})
	}
	list := inspect.Inspect(t.Context(), image.Reader{Host: image.LocalHost{}}, []guest.Image{disk})
	if list[0].Report == nil || list[0].Report.Cut != "" {
		t.Fatalf("%s: %+v", d.path, list[0])
	}
	return list[0].Report.Disk
}

// inside is the layer of a kind right inside another, nil where it is of another kind.
func inside(around *inspect.Layer, kind inspect.Kind) *inspect.Layer {
	if len(around.Inside) == 1 && around.Inside[0].Kind == kind {
		return around.Inside[0]
	}
	return nil
}

// find lists the layers of a kind.
func find(l *inspect.Layer, kind inspect.Kind) (list []*inspect.Layer) {
	if l.Kind == kind {
		list = append(list, l)
	}
	for _, in := range l.Inside {
		list = append(list, find(in, kind)...)
	}
	return list
}

func length(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// groups looks at the disks of LVM's groups. What their tools say of the volumes the
// second machine tells.
func (c *comparison) groups() {
	first := 0
	for _, v := range c.stock.order.Volumes {
		if v.LV != "" {
			break
		}
		first++
	}
	volumes := map[string]*inspect.Layer{}
	for _, g := range c.stock.order.Groups {
		var disks []inspect.Disk
		for _, lun := range g.LUNs {
			f, err := os.Open(c.drives[lun].path)
			if err != nil {
				c.t.Fatal(err)
			}
			defer f.Close()
			disks = append(disks, inspect.Disk{Name: g.Name, Bytes: f, Size: length(c.t, f.Name())})
		}
		for i, r := range inspect.Look(c.t.Context(), disks) {
			path := c.drives[g.LUNs[i]].path
			s := &subject{name: "physical volume of " + g.Name, kind: inspect.KindPV, size: disks[i].Size, layer: inside(r.Disk, inspect.KindPV), ask: onFile(path)}
			c.judge(s)
			for _, v := range find(r.Disk, inspect.KindLV) {
				volumes[g.Name+"/"+v.Name] = v
			}
			c.hurtPV(s, path)
		}
	}
	for _, v := range c.stock.order.Volumes[first:] {
		kind := map[string]inspect.Kind{"xfs": inspect.KindXFS, "ext4": inspect.KindExt}[v.FS]
		l := look{name: v.LV, kind: kind, ask: true}
		around := volumes[v.LV]
		if around == nil {
			c.t.Errorf("bootrace does not find %s", v.LV)
			continue
		}
		l.layer, l.size = inside(around, kind), around.Has
		c.looks = append(c.looks, Volume{LV: v.LV, FS: v.FS, Tools: questions[kind]})
		c.layers = append(c.layers, l)
	}
}

func (c *comparison) hurtPV(base *subject, raw string) {
	for _, end := range []int64{base.size - mib, base.size * int64(30+c.r.IntN(60)) / 100 / 512 * 512} {
		path := raw + ".cut"
		run(c.t, "cp", "--sparse=always", raw, path)
		if err := os.Truncate(path, end); err != nil {
			c.t.Fatal(err)
		}
		c.judge(&subject{name: base.name, kind: base.kind, hurt: cut, size: end, needs: base.size, layer: inside(inspected(c.t, drive{path: path, format: "raw"}), base.kind), ask: onFile(path)})
		_ = os.Remove(path)
	}
	path := raw + ".damaged"
	run(c.t, "cp", "--sparse=always", raw, path)
	at := int64(512 + 20 + c.r.IntN(100)) // in what the label's checksum is of
	write(c.t, path, []patch{{at, []byte{bytesAt(c.t, raw, at, 1)[0] ^ 1}}})
	c.judge(&subject{name: fmt.Sprintf("%s, label damaged at %d", base.name, at), kind: base.kind, hurt: spoiled, size: base.size, needs: base.size, layer: inside(inspected(c.t, drive{path: path, format: "raw"}), base.kind), ask: onFile(path)})
	_ = os.Remove(path)
}

// kernel compares with what the kernel of a second machine says when it mounts them.
func (c *comparison) kernel(m *machines) {
	order := Order{Look: true, Volumes: c.looks, Groups: c.stock.order.Groups}
	begun := time.Now()
	if err := m.boot("look", &order, c.drives, true, func(r *Report) bool {
		if !r.Looked {
			return r.Done
		}
		l := &c.layers[r.Volume]
		if l.ask {
			s := &subject{name: l.name, kind: l.kind, size: l.size, layer: l.layer, ask: func(args ...string) Said { return r.Tools[strings.Join(args, " ")] }}
			c.judge(s)
			l.state, l.needs = s.state, s.needs
		}
		if differ := l.mounted(r); differ != "" {
			text, _ := json.Marshal(l.layer)
			c.t.Errorf("%s: %s\nbootrace: %s\nmount: %s\n%s", l.name, differ, text, r.Mount, strings.Join(r.Kernel, "\n"))
		}
		outcome := "mounted"
		if r.Mount != "" {
			outcome = "refused"
		}
		c.count[fmt.Sprintf("a guest's kernel %s: %s %s%s", outcome, l.kind, l.state, map[hurt]string{cut: ", cut off"}[l.hurt])]++
		return false
	}); err != nil {
		c.t.Fatal(err)
	}
	c.t.Logf("the second machine looked at %d volumes in %v", len(c.looks), time.Since(begun).Round(time.Second))
}

// grown reports whether only copies of an XFS' superblock have its size.
func grown(l *inspect.Layer) bool {
	return strings.Contains(strings.Join(l.Notes, " "), "it was being grown")
}

// replays is what a kernel says when it replays a log, or finds that it was not unmounted.
var replays = map[inspect.Kind][]string{
	inspect.KindXFS:   {"Starting recovery"},
	inspect.KindExt:   {"recovery complete", "mounting unchecked fs"},
	inspect.KindBtrfs: {"start tree-log replay"},
	inspect.KindFAT:   {"was not properly unmounted"},
}

// mounted says what does not fit what bootrace said.
func (l *look) mounted(r *Report) string {
	if l.layer == nil {
		return "bootrace finds nothing"
	}
	replayed := false
	for _, text := range replays[l.kind] {
		replayed = replayed || strings.Contains(strings.Join(r.Kernel, "\n"), text)
	}
	short, errors := l.layer.Short() > 0, l.layer.State == inspect.StateErrors
	switch {
	case r.Mount != "" && !short && grown(l.layer) && len(l.layer.Unknown) > 0: // told to be possible
	case r.Mount != "" && !short:
		return "the kernel refuses what fits, and has no damage"
	case r.Mount == "" && short && l.kind == inspect.KindFAT: // whose driver does not ask for the size
	case r.Mount == "" && short && grown(l.layer): // it asks before the replay, for the old size
	case r.Mount == "" && short:
		return "the kernel mounts what is short"
	case r.Mount != "":
	case replayed && l.layer.State == inspect.StateClean:
		return "the kernel replays what is clean"
	case !replayed && l.layer.State == inspect.StateDirty:
		return "the kernel has nothing to replay, and bootrace says dirty"
	case errors && !strings.Contains(strings.Join(r.Kernel, "\n"), "mounting fs with errors"):
		return "the kernel knows of no errors"
	}
	return ""
}

// told says what was compared, and checks that it is enough.
func (c *comparison) told() {
	images := 0
	for _, key := range slices.Sorted(maps.Keys(c.count)) {
		c.t.Logf("%4d  %s", c.count[key], key)
		if !strings.HasPrefix(key, "a guest's") {
			images += c.count[key]
		}
	}
	c.t.Logf("%d images compared with their tools; of %d, and of %d that were cut off, only copies of the superblock had the size to which they were grown", images, c.grown[whole], c.grown[cut])
	const least = 200
	if images < least {
		c.t.Errorf("%d images, and at least %d are asked for", images, least)
	}
	for _, key := range []string{
		"xfs dirty", "xfs clean", "xfs dirty, cut off", "ext dirty", "ext clean", "ext errors", "ext dirty, cut off", "btrfs dirty", "btrfs clean", "fat dirty", "fat clean",
		"a guest's kernel mounted: xfs dirty", "a guest's kernel mounted: ext dirty", "a guest's kernel refused: xfs dirty, cut off",
	} {
		if c.count[key] == 0 {
			c.t.Errorf("none was %s", key)
		}
	}
}
