package guest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds on what Guest.NotUnderstood holds.
const (
	maxProblems   = 100
	maxProblemArg = 200
)

// maxServed bounds the disks that other processes serve; a command line holds fewer.
const maxServed = 1000

// Parser reads the command lines of hypervisors. The zero value is ready to use.
type Parser struct {
	// Program is the file that was executed, where that is known: what argv[0]
	// says is up to whoever starts it. Empty: argv[0] is all there is.
	Program string
	// Watched says that the program is known to run guests, whatever its name:
	// the configuration names it, and the probes have told of its start.
	Watched bool
	// ReadFile reads a file that the command line names and that tells of disks
	// (qemu's -readconfig, firecracker's --config-file). A relative path is
	// relative to the working directory of the program. Without it
	// Guest.Unknown says that the file was not read. What it returns beyond
	// MaxFile is not looked at, but it should not read without bounds either.
	ReadFile func(path string) ([]byte, error)
}

// MaxFile is as much of a file as is read, in bytes.
const MaxFile = 1 << 20

// Parse reads an argument list, argv[0] first, without reading any file. It
// never fails: what it does not understand is listed in Guest.NotUnderstood,
// and the rest is kept.
func Parse(args []string) Guest { return Parser{}.Parse(args) }

// Parse reads an argument list, argv[0] first. See the function Parse.
func (p Parser) Parse(args []string) Guest {
	g := Guest{Disks: []Disk{}, Binary: p.Program}
	if len(args) == 0 {
		if p.Watched {
			g.IsGuest, g.Unknown = true, "its command line could not be read"
			return g
		}
		g.NotGuest = "no arguments"
		return g
	}
	g.Binary = args[0]
	if isTool(cmp.Or(p.Program, args[0])) {
		g.NotGuest = fileName(cmp.Or(p.Program, args[0])) + " is no system emulator"
		return g
	}
	if p.script(args) {
		g.NotGuest = "a script: the program that it executes is the guest"
		return g
	}
	h := p.hypervisor(args)
	switch {
	case h != nil:
		g = h.parse(&p, h.redact(args))
		g.Hypervisor, g.Binary = h.name, args[0]
		g.NotWatched = !p.Watched && known(cmp.Or(p.Program, args[0])) == nil
	case p.Watched:
		g.IsGuest, g.Unparsed = true, true
		g.Unknown = "the command line of " + fileName(cmp.Or(p.Program, args[0])) + " is not understood"
	default:
		g.NotWatched = true
		g.NotGuest = fileName(args[0]) + " is not a program that bootrace watches or holds"
	}
	return g
}

// Redact returns the argument list of a program without its secrets, by what
// Parse takes it for. args is not changed.
func (p Parser) Redact(args []string) []string {
	if len(args) == 0 {
		return args
	}
	if h := p.hypervisor(args); h != nil {
		return h.redact(args)
	}
	return redactAny(args)
}

// parseQEMU reads the command line of a qemu.
func parseQEMU(p *Parser, args []string) Guest {
	s := &scan{readFile: p.ReadFile, devices: map[string]*device{}, counts: map[string]int{}, memory: map[string]*value{}}
	s.builder.nodes, s.builder.fds, s.builder.problem = map[string]*node{}, map[int]*FD{}, s.problem
	s.guest.Disks = []Disk{}
	for a := range arguments(args) {
		if a.problem != "" {
			s.problem("-"+a.name, a.problem)
			continue
		}
		s.option(a)
	}
	return s.finish()
}

// scan is the state of one Parse.
type scan struct {
	guest    Guest
	readFile func(string) ([]byte, error)
	builder  builder

	// media are what becomes disks, in order; devices is by the drive or node
	// that the device names.
	media   []medium
	devices map[string]*device
	served  []Disk // by other processes, or the kernel
	dimms   []dimm // devices that show the memory that an object gives
	memory  map[string]*value
	counts  map[string]int // unnamed drives by what they are named for

	machine   string // of -machine, the last
	question  string // the option that asked for help
	unread    bool   // a config file was not read, or not to its end
	nUnlisted int    // problems beyond maxProblems
}

// medium is a -drive, one of its shorthands, or a -blockdev node.
type medium struct {
	id       string // as given, may be empty
	fallback string // what to call it without an id
	kind     Kind
	*node
	// inner is set for what qemu shows to the guest only if a -device names it:
	// a -blockdev, and a -drive with if=none. It is no disk of its own where
	// another node is built on it.
	inner bool
	// plain is set for a -drive, also where its file name is a json:{...}.
	plain bool
}

// dimm is a -device that shows a file's bytes to the guest as memory that lasts: a disk
// by another way. memdev is the id of the object that maps the file.
type dimm struct {
	memdev string
	device
}

// device is a -device that shows a medium to the guest.
type device struct {
	driver, id string
	serial     string
	shareRW    bool
	kind       Kind
	found      bool // what it names
}

func (s *scan) problem(arg, reason string) {
	if len(s.guest.NotUnderstood) >= maxProblems {
		s.nUnlisted++
		return
	}
	s.guest.NotUnderstood = append(s.guest.NotUnderstood, Problem{cut(arg), reason})
}

// unknown notes why there may be disks that are not listed: the first reason.
func (s *scan) unknown(why string) { s.guest.Unknown = cmp.Or(s.guest.Unknown, why) }

func cut(arg string) string { return arg[:min(len(arg), maxProblemArg)] }

// implied are the options' implied first keys that matter here.
var implied = map[string]string{
	"machine": "type", "M": "type", "name": "guest", "device": "driver", "blockdev": "driver",
	"netdev": "type", "net": "type", "nic": "type", "object": "qom-type",
}

// option takes in one argument.
func (s *scan) option(a argument) {
	if s.asksHelp(a) {
		s.question = cut(strings.TrimSpace("-" + a.name + " " + a.value))
		return
	}
	switch a.name {
	case "":
		s.shorthand("image", "media=disk", a.value)
	case "hda", "hdb", "hdc", "hdd", "sd", "mtdblock":
		s.shorthand(a.name, "media=disk", a.value)
	case "cdrom":
		s.shorthand(a.name, "media=cdrom", a.value)
	case "fda", "fdb":
		s.shorthand(a.name, "if=floppy", a.value)
	case "pflash":
		s.shorthand(a.name, "if=pflash", a.value)
	case "loadstate":
		s.shorthand(a.name, "format=raw", a.value)
		last := &s.media[len(s.media)-1]
		last.kind, last.readOnly = KindState, true
	case "uuid":
		s.setUUID(a.value, "-uuid")
	case "pidfile":
		s.guest.PIDFile = a.value
	case "daemonize":
		s.guest.Daemonize = true
	case "snapshot":
		s.guest.Snapshot = true
	case "incoming":
		s.guest.Incoming = a.value
	case "readconfig":
		s.readConfig(a.value)
	case "set":
		if strings.HasPrefix(a.value, "drive.") {
			s.problem("-set "+a.value, "changes to a drive by -set are not followed")
			s.unknown("changes to a drive by -set are not followed")
		}
	case "drive", "blockdev", "device", "machine", "M", "global", "name", "smbios", "add-fd", "netdev", "net", "nic", "object":
		s.list(a)
	}
}

// list takes in an option of keys and values.
func (s *scan) list(a argument) {
	if a.name == "global" {
		s.global(a.value)
		return
	}
	if !tells(a) {
		return
	}
	v, err := s.parseOpts(a)
	if err != nil {
		s.problem("-"+a.name+" "+a.value, err.Error())
	}
	if v == nil {
		return
	}
	switch a.name {
	case "drive":
		s.drive(v)
	case "blockdev":
		s.node(v)
	case "device":
		s.device(v)
	case "machine", "M":
		s.setMachine(v)
	case "name":
		if name := v.str("guest"); name != "" {
			s.guest.Name = unquote(name)
		}
	case "smbios":
		if id := v.str("uuid"); id != "" && v.str("type") == "1" {
			s.setUUID(id, "-smbios")
		}
	case "add-fd":
		s.addFD(a.value, v)
	case "object":
		if id := v.str("id"); v.str("qom-type") == "memory-backend-file" && s.memory[id] == nil && len(s.memory) < maxServed {
			s.memory[id] = v
		}
	case "netdev", "net", "nic":
		if name := v.str("ifname"); name != "" && v.str("type") == "tap" {
			s.guest.Taps = append(s.guest.Taps, name)
		}
	}
}

// parseOpts reads a key=value list, or JSON where the text begins with a brace,
// as -blockdev, -device and -netdev take it.
func (s *scan) parseOpts(a argument) (*value, error) {
	if strings.HasPrefix(a.value, "{") {
		return s.builder.json.parse(a.value)
	}
	return parseOpts(a.value, implied[a.name])
}

// tells spares the reading of devices and networks that have no drive, no other
// process or file behind them and no interface name, and of objects that map no file: on
// a libvirt guest most of the command line.
func tells(a argument) bool {
	switch a.name {
	case "device":
		for _, key := range []string{"drive=", `drive"`, "drive'", "driveA", "driveB", "vhost-", "memdev"} {
			if strings.Contains(a.value, key) {
				return true
			}
		}
		return false
	case "object":
		return strings.Contains(a.value, "memory-backend-file")
	case "netdev", "net", "nic":
		return strings.Contains(a.value, "ifname")
	}
	return true
}

// helpful are the options that print a list and exit when asked for help.
var helpful = map[string]bool{
	"machine": true, "M": true, "cpu": true, "accel": true, "device": true, "netdev": true, "net": true,
	"nic": true, "object": true, "chardev": true, "audiodev": true, "audio": true, "soundhw": true,
	"display": true, "vga": true, "d": true, "trace": true, "watchdog": true, "tpmdev": true, "L": true,
	"usbdevice": true,
}

// asksHelp reports whether qemu will answer this option and exit.
func (s *scan) asksHelp(a argument) bool {
	switch a.name {
	case "h", "help", "version", "audio-help":
		return true
	case "drive":
		return helpItem(a.value, "format") || helpItem(a.value, "driver")
	}
	return helpful[a.name] && (helpItem(a.value, "") || helpItem(a.value, "model") || helpItem(a.value, "type"))
}

// helpItem looks for "help" or "?" standing alone, or as the value of a key.
func helpItem(text, key string) bool {
	if !strings.Contains(text, "help") && !strings.Contains(text, "?") || strings.HasPrefix(text, "{") {
		return false
	}
	for from := 0; from < len(text); {
		var it item
		it, from = nextItem(text, from, "")
		word := it.raw
		if it.bare {
			word = it.key
		} else if it.key != key {
			continue
		}
		if word == "help" || word == "?" {
			return it.bare == (key == "")
		}
	}
	return false
}

// shorthand is an option, or the positional argument, that takes a file name
// as it is: its commas are not doubled.
func (s *scan) shorthand(name, defaults, file string) {
	v, err := parseOpts(defaults, "")
	if err != nil {
		return
	}
	v.set("file", file)
	s.drive(v)
	s.media[len(s.media)-1].fallback = name
}

func (s *scan) drive(v *value) {
	options, isNode := s.builder.spelledOut(v)
	m := medium{
		id: v.first("id", "node-name"), kind: KindDisk, plain: true, inner: v.str("if") == "none",
		node: &node{options: options, drive: !isNode},
	}
	switch {
	case v.str("if") == "pflash":
		m.kind = KindFirmware
	case v.str("if") == "floppy":
		m.kind = KindFloppy
	case v.str("media") == "cdrom":
		m.kind, m.readOnly = KindCDROM, true
	}
	if m.id == "" {
		m.fallback = s.unnamed(v)
	}
	s.media = append(s.media, m)
}

// unnamed makes a name for a drive without one, after its interface and place,
// much as qemu does.
func (s *scan) unnamed(v *value) string {
	name := v.str("if")
	if name == "" || name == "none" {
		name = "drive"
	}
	if bus := v.str("bus"); bus != "" {
		name += bus + "-"
	}
	place := v.first("index", "unit")
	if place == "" {
		place = strconv.Itoa(s.counts[name])
		s.counts[name]++
	}
	return name + place
}

func (s *scan) node(v *value) {
	name := v.str("node-name")
	switch {
	case name == "":
		s.problem("-blockdev "+v.str("driver"), "it has no node-name")
	case s.builder.nodes[name] != nil:
		s.problem("-blockdev "+name, "the node-name is taken")
		return
	}
	n := &node{options: v}
	if name != "" {
		s.builder.nodes[name] = n
	}
	s.media = append(s.media, medium{id: name, kind: KindDisk, node: n, inner: true})
}

// deviceKinds are the devices that are not just disks.
var deviceKinds = map[string]Kind{
	"ide-cd": KindCDROM, "scsi-cd": KindCDROM,
	"floppy": KindFloppy, "isa-fdc": KindFloppy, "sysbus-fdc": KindFloppy,
	"cfi.pflash01": KindFirmware, "cfi.pflash02": KindFirmware,
}

func (s *scan) device(v *value) {
	driver := v.str("driver")
	for _, key := range []string{"drive", "driveA", "driveB"} {
		s.show(v.str(key), device{driver: driver, id: v.str("id"), serial: v.str("serial"), shareRW: v.on("share-rw"), kind: deviceKinds[driver]})
	}
	if memdev := v.str("memdev"); memdev != "" && persistent(driver) && len(s.dimms) < maxServed {
		s.dimms = append(s.dimms, dimm{memdev, device{driver: driver, id: v.str("id")}})
	}
	if protocol := servedBy(driver); protocol != "" && len(s.served) < maxServed {
		s.served = append(s.served, Disk{
			ID: cmp.Or(v.str("id"), driver), Device: driver, DeviceID: v.str("id"), Serial: v.str("serial"), Kind: KindDisk,
			Image: Image{Path: protocol + ":" + cmp.Or(v.str("wwpn"), v.str("chardev")), Storage: StorageOther, Protocol: protocol},
		})
	}
}

// persistent reports whether a device shows memory that the guest may have as a disk:
// nvdimm, virtio-pmem, virtio-pmem-pci. Other memory (-numa, pc-dimm) is no disk.
func persistent(driver string) bool {
	return driver == "nvdimm" || driver == "virtio-pmem" || strings.HasPrefix(driver, "virtio-pmem-")
}

// addDIMMs makes media of the files behind those devices. They are mapped, and qemu locks
// none of them.
func (s *scan) addDIMMs() {
	for i := range s.dimms {
		d := &s.dimms[i]
		object := s.memory[d.memdev]
		if object == nil || object.str("mem-path") == "" {
			continue // memory without a file
		}
		v, err := parseOpts("format=raw,file.locking=off", "")
		if err != nil {
			continue
		}
		v.set("file", object.str("mem-path"))
		m := medium{id: cmp.Or(d.id, d.memdev), kind: KindDisk, plain: true, inner: true, node: &node{options: v, drive: true}}
		m.readOnly = object.on("readonly")
		s.media = append(s.media, m)
		s.show(m.id, d.device)
	}
}

// servedBy says what serves the disk of a device that has no drive: another process
// (vhost-user-blk, vhost-user-scsi) or the kernel's target (vhost-scsi), empty for
// all other devices. Some drivers are named after their bus, too: -pci, -ccw.
func servedBy(driver string) string {
	for _, name := range []string{"vhost-user-blk", "vhost-user-scsi", "vhost-scsi"} {
		if driver == name || strings.HasPrefix(driver, name+"-") {
			return name
		}
	}
	return ""
}

func (s *scan) show(medium string, d device) {
	if medium == "" || s.devices[medium] != nil {
		return
	}
	kept := d
	s.devices[medium] = &kept
}

func (s *scan) setMachine(v *value) {
	if t := v.str("type"); t != "" {
		s.machine = t
	}
	for _, key := range []string{"pflash0", "pflash1"} {
		s.show(v.str(key), device{kind: KindFirmware})
	}
}

// global takes in the drives that libvirt once gave to the floppy controller.
func (s *scan) global(text string) {
	property, drive, ok := strings.Cut(text, "=")
	driver, name, dotted := strings.Cut(property, ".")
	if !ok || !dotted {
		return
	}
	if name == "drive" || name == "driveA" || name == "driveB" {
		s.show(drive, device{driver: driver, kind: deviceKinds[driver]})
	}
}

func (s *scan) addFD(text string, v *value) {
	set, err := strconv.Atoi(v.str("set"))
	fd, err2 := strconv.Atoi(v.str("fd"))
	if err != nil || err2 != nil {
		s.problem("-add-fd "+text, "it wants the numbers fd= and set=")
		return
	}
	entry := s.builder.fds[set]
	if entry == nil {
		entry = &FD{Set: set}
		s.builder.fds[set] = entry
	}
	entry.FDs = append(entry.FDs, fd)
	if opaque := v.str("opaque"); opaque != "" {
		entry.Opaque = append(entry.Opaque, opaque)
	}
}

// finish makes the disks, now that all nodes and devices are known.
func (s *scan) finish() Guest {
	s.addDIMMs()
	built := s.survey()
	var names map[string]int
	var inner []*medium
	for i := range s.media {
		m := &s.media[i]
		d := s.deviceOf(m)
		if d == nil && m.inner && (built[m.id] || built[m.options.str("node-name")]) {
			inner = append(inner, m)
			continue
		}
		if m.id == "" {
			if names == nil {
				names = s.given()
			}
			m.id = unique(m.fallback, names)
		}
		s.guest.Disks = append(s.guest.Disks, s.disk(m, d))
	}
	s.checkDevices()
	for _, m := range inner {
		// Nodes that are built on each other in a circle are a disk of nobody.
		if !m.reached {
			s.guest.Disks = append(s.guest.Disks, s.disk(m, nil))
		}
	}
	s.guest.Disks = append(s.guest.Disks, s.served...)
	s.guest.Identity = s.identity()
	if s.builder.full {
		s.unknown("the disks' node graph is too large: not all of it was followed")
	}
	s.judge()
	if s.nUnlisted > 0 {
		s.guest.NotUnderstood = append(s.guest.NotUnderstood,
			Problem{"", fmt.Sprintf("and %d more", s.nUnlisted)})
	}
	return s.guest
}

// given returns the ids that the command line gives, each with the count 1.
func (s *scan) given() map[string]int {
	names := make(map[string]int, len(s.media))
	for _, m := range s.media {
		names[m.id] = 1
	}
	return names
}

// unique returns the name, with a number if it was used before.
func unique(name string, used map[string]int) string {
	used[name]++
	if n := used[name]; n > 1 {
		return unique(name+"#"+strconv.Itoa(n), used)
	}
	return name
}

// deviceOf finds the device that names the medium, nil if there is none.
func (s *scan) deviceOf(m *medium) *device {
	for _, name := range []string{m.id, m.options.str("node-name")} {
		if d := s.devices[name]; d != nil {
			d.found = true
			return d
		}
	}
	return nil
}

// checkDevices makes disks of the devices that name a node inside another, and
// reports those that name what is not there.
func (s *scan) checkDevices() {
	var lost []string
	for name, d := range s.devices {
		if !d.found {
			lost = append(lost, name)
		}
	}
	slices.Sort(lost)
	for _, name := range lost {
		d := s.devices[name]
		if n := s.builder.nodes[name]; n != nil {
			s.guest.Disks = append(s.guest.Disks, s.disk(&medium{id: name, kind: KindDisk, node: n}, d))
		} else if !s.unread {
			s.problem(strings.TrimSpace(d.driver+" drive="+name), "no such drive or block node")
		}
	}
}

// disk makes a disk of a medium.
func (s *scan) disk(m *medium, d *device) Disk {
	disk := Disk{ID: m.id, Kind: m.kind, Serial: m.options.str("serial")} // of a drive: before qemu 3.1
	if d != nil {
		disk.Device, disk.DeviceID, disk.ShareRW = d.driver, d.id, d.shareRW
		disk.Serial = cmp.Or(d.serial, disk.Serial)
		if d.kind != "" {
			disk.Kind = d.kind
		}
	}
	disk.Image = s.builder.make(m.node)
	if m.plain {
		disk.Snapshot = s.guest.Snapshot && m.options.get("snapshot") == nil || m.options.on("snapshot")
	}
	// Firmware code is a plain file that came with a package. Its variables,
	// which are written, lie on a volume where the guest's disks do (Proxmox).
	if disk.Kind == KindFirmware && disk.ReadOnly && !strings.HasPrefix(disk.Path, "/dev/") {
		disk.Needs = false
	}
	return disk
}

// survey names all nodes that a reference can lead to, and returns the names
// that are referred to. Where a name is given twice, which qemu refuses, a drive
// or node of its own comes first.
func (s *scan) survey() (built map[string]bool) {
	built = make(map[string]bool)
	for i := range s.media {
		m := &s.media[i]
		if m.plain {
			s.name(m.options.str("id"), m.node)
		}
		s.name(m.options.str("node-name"), m.node)
	}
	for i := range s.media {
		n := s.media[i].node
		s.children(n.options, built, n.drive, 0)
	}
	return built
}

func (s *scan) name(name string, n *node) {
	if name != "" && s.builder.nodes[name] == nil {
		s.builder.nodes[name] = n
	}
}

// nodeKeys are the keys that name a child node.
var nodeKeys = map[string]bool{
	"file": true, "backing": true, "data-file": true, "children": true, "image": true,
	"raw": true, "test": true, "log": true, "target": true, "header": true,
}

// children gathers the references among a node's children, and names those that
// are defined there. The "file" of a drive is a file name.
func (s *scan) children(v *value, built map[string]bool, drive bool, depth int) {
	if depth > maxNesting {
		return
	}
	for i := range v.members {
		m := &v.members[i]
		if !v.list && !nodeKeys[m.name] && !isIndex(m.name) {
			continue
		}
		if m.value.hasText && !(drive && m.name == "file") {
			built[m.value.text] = true
		}
		s.name(m.value.str("node-name"), &node{options: &m.value})
		s.children(&m.value, built, false, depth+1)
	}
}

func isIndex(name string) bool {
	return name != "" && strings.Trim(name, "0123456789") == ""
}

// judge decides whether this is a guest at all.
func (s *scan) judge() {
	g := &s.guest
	switch {
	case s.question != "":
		g.NotGuest = "it asks for information: " + s.question
		g.Disks, g.Unknown = []Disk{}, ""
	case s.machine == "none" && !g.Needs():
		g.NotGuest, g.Unknown = "a capability probe: machine none", ""
	default:
		g.IsGuest = true
	}
}
