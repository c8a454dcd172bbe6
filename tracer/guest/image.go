package guest

import (
	"cmp"
	"strconv"
	"strings"
)

// Bounds on what a node graph may unfold to: nodes can be shared, so that a
// few of them can spell out exponentially many images.
const (
	maxImages = 1 << 16 // of one command line
	maxDepth  = 1024    // of one node graph
)

// builder turns option trees into images.
type builder struct {
	// nodes are what a reference can lead to, by the drives' ids and the names
	// of all nodes, those that are defined inside another included.
	nodes   map[string]*node
	fds     map[int]*FD
	json    jsonReader
	problem func(arg, reason string)
	images  int
	depth   int
	full    bool // the bounds were hit, and this was reported
}

// node is what a reference leads to: qemu looks a name up among the ids of
// drives and the names of all block nodes (bdrv_lookup_bs in block.c).
type node struct {
	options *value
	// drive is set for a -drive, whose "file" is a file name and no reference.
	drive    bool
	readOnly bool // as its kind of medium implies
	// reached is set once an image was made of it for another node, and making
	// while that goes on.
	reached, making bool
}

func (n *node) name() string { return cmp.Or(n.options.str("id"), nodeName(n.options)) }

// enter counts an image about to be made.
func (b *builder) enter(arg string) bool {
	b.images++
	if b.images > maxImages || b.depth >= maxDepth {
		if !b.full {
			b.problem(arg, "the disks' node graph is too large or has a cycle")
		}
		b.full = true
		return false
	}
	b.depth++
	return true
}

func (b *builder) leave() { b.depth-- }

// drive makes the image of a -drive, where "file" is a file name with a
// protocol, and "format" is another word for "driver".
func (b *builder) drive(v *value) Image {
	driver := v.first("format", "driver")
	name := v.str("file")
	if name == "" {
		return b.image(withDriver(v.withoutName(), driver), false)
	}
	if !b.enter(name) {
		return Image{Storage: StorageNone}
	}
	defer b.leave()
	image := b.locate(name)
	switch driverClasses[driver] {
	case classLocal, classNetwork, classOther:
		driver = "raw" // the protocol's own driver: nothing probes a format above it
	case classFilter:
		driver = "" // below a filter the format is probed
	}
	b.describe(&image, v, driver)
	return image
}

// withoutName returns v without an empty file name: "file=" is no medium, and
// no reference to a node either.
func (v *value) withoutName() *value {
	file := v.get("file")
	if file == nil {
		return v
	}
	out := &value{}
	for _, m := range v.members {
		if m.name == "file" {
			m.value = value{members: file.members}
			if len(file.members) == 0 {
				continue
			}
		}
		out.members = append(out.members, m)
	}
	return out
}

// withDriver returns v with the driver that format= may have named.
func withDriver(v *value, driver string) *value {
	if driver == "" || v.str("driver") == driver {
		return v
	}
	out := *v
	out.members = append([]member{{"driver", value{text: driver, hasText: true}}}, v.members...)
	return &out
}

// spelledOut returns the options of a drive, and whether they are those of a
// node. They are where the file name is a json:{...}: what it says is spelled
// out then, and the options beside it add to it and override it.
func (b *builder) spelledOut(v *value) (options *value, node bool) {
	text, isJSON := strings.CutPrefix(v.str("file"), "json:")
	if !isJSON {
		return v, false
	}
	options, err := b.json.parse(text)
	switch {
	case err != nil:
		b.problem("json:"+text, err.Error())
		options = &value{}
	case options.list || options.hasText || options.null:
		b.problem("json:"+text, "not a JSON object")
		options = &value{}
	default:
		options = options.undotted()
	}
	for _, m := range v.members {
		if m.name != "file" && m.name != "format" {
			*options.child(m.name) = m.value
		}
	}
	return withDriver(options, v.str("format")), true
}

// image makes the image of a node. For the file below a format, which is a
// protocol node, below is set: there no format is probed.
func (b *builder) image(v *value, below bool) Image {
	if v == nil || !b.enter(nodeName(v)) {
		return Image{Storage: StorageNone}
	}
	defer b.leave()
	if v.hasText {
		return b.reference(v.text)
	}
	driver := v.str("driver")
	var image Image
	switch driverClasses[driver] {
	case classLocal:
		image, driver = local(v.str("filename")), "raw"
	case classNetwork:
		image, driver = remote(driver, v, StorageNetwork), "raw"
	case classOther:
		image, driver = remote(driver, v, StorageOther), "raw"
	case classQuorum:
		image = b.members(v.get("children").elements())
	case classVerify:
		image = b.members([]*value{v.get("raw"), v.get("test")})
	case classFilter:
		image = b.filtered(v)
		driver = image.Format
	default:
		image = b.formatted(v, driver, below)
	}
	b.describe(&image, v, driver)
	return image
}

func (b *builder) reference(name string) Image {
	n := b.nodes[name]
	if n == nil {
		b.problem(name, "no such drive or block node")
		return Image{Node: name, Storage: StorageNone}
	}
	n.reached = true
	return b.make(n)
}

// make makes the image of a drive or a node.
func (b *builder) make(n *node) Image {
	if n.making {
		b.problem(n.name(), "it is built on itself")
		return Image{Storage: StorageNone}
	}
	n.making = true
	defer func() { n.making = false }()
	var image Image
	if n.drive {
		image = b.drive(n.options)
	} else {
		image = b.image(n.options, false)
	}
	image.ReadOnly = image.ReadOnly || n.readOnly
	return image
}

// formatted makes the image below a format, or of a node without a driver.
func (b *builder) formatted(v *value, driver string, below bool) Image {
	switch file := v.get("file"); {
	case file != nil:
		return b.image(file, true)
	case v.str("filename") == "":
		if driver != "" || below {
			b.problem(nodeName(v), "block node without a file")
		}
		return Image{Storage: StorageNone}
	default:
		image := local(v.str("filename"))
		if below {
			image.Format = "raw"
		}
		return image
	}
}

// nodeName is what to call a node in a report.
func nodeName(v *value) string {
	if v.hasText {
		return v.text
	}
	return v.first("node-name", "id", "filename", "driver")
}

func (b *builder) members(list []*value) Image {
	image := Image{Storage: StorageNone}
	for _, v := range list {
		image.Members = append(image.Members, b.image(v, false))
	}
	return image
}

// filtered returns what is below a filter.
func (b *builder) filtered(v *value) Image {
	below := v.get("file")
	if below == nil {
		below = v.get("image")
	}
	return b.image(below, false)
}

// describe adds to an image what the node above says: its name, its format,
// its access, its lock and its backing chain.
func (b *builder) describe(image *Image, v *value, format string) {
	if name := v.str("node-name"); name != "" {
		image.Node = name
	}
	// A format on top of a raw layer is what the device's bytes are in; on top
	// of another format, such as luks, they are in that.
	if image.Format == "" || image.Format == "raw" {
		image.Format = format
	}
	if n, err := strconv.ParseInt(v.str("offset"), 10, 64); err == nil && n > 0 && format == "raw" {
		image.Offset += n
	}
	if v.on("read-only") || v.on("readonly") {
		image.ReadOnly = true
	}
	if v.str("locking") == "off" || v.get("file") != nil && v.get("file").str("locking") == "off" {
		image.Unlocked = true
	}
	if image.FD != nil && image.FD.Set >= 0 && b.fds[image.FD.Set] != nil {
		image.FD = b.fds[image.FD.Set]
	}
	if data := v.get("data-file"); data != nil && !data.null {
		file := b.image(data, true)
		image.DataFile = &file
	}
	// The log of blklogwrites, the target of copy-before-write, a detached header
	// of luks.
	for _, name := range []string{"log", "target", "header"} {
		if m := v.get(name); m != nil && !m.null {
			image.Members = append(image.Members, b.image(m, false))
		}
	}
	b.back(image, v.get("backing"))
}

// back adds the backing chain. An empty name ends it as null does.
func (b *builder) back(image *Image, backing *value) {
	switch {
	case backing == nil:
	case backing.null || backing.hasText && backing.text == "":
		image.NoBacking = true
	default:
		next := b.image(backing, false)
		next.ReadOnly = true
		chain := next.Backing
		next.Backing = nil
		image.Backing = append([]Image{next}, chain...)
	}
}
