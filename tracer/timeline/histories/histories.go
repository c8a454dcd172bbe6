package histories

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// History is a boot that was written down.
type History struct {
	// Says is what the writer says about it: what it is, and what is right.
	Says   string
	Events []event.Event
}

// Load reads a history from a file: either an archive with a part named
// "events", or a plain text. What its first lines say as comments, or a file
// beside it that is named after it (NAME-expect.txt for NAME.txt or
// NAME-events.txt), is what the writer says.
func Load(file string) (*History, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	text := string(content)
	var says string
	if archive := txtar.Parse(content); len(archive.Files) > 0 {
		i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "events" })
		if i < 0 {
			return nil, fmt.Errorf("read history %s: it has no part named events", file)
		}
		text, says = string(archive.Files[i].Data), string(archive.Comment)
	} else if says = remarks(text); says == "" {
		says = expected(file)
	}
	events, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read history %s: %w", file, err)
	}
	return &History{Says: strings.TrimSpace(says), Events: events}, nil
}

// remarks returns the comments that a text begins with.
func remarks(text string) string {
	var says []string
	for line := range strings.Lines(text) {
		remark, ok := strings.CutPrefix(strings.TrimSpace(line), "#")
		if !ok {
			break
		}
		says = append(says, strings.TrimSpace(remark))
	}
	return strings.Join(says, "\n")
}

// expected returns what a file beside a history says about it.
func expected(file string) string {
	name := strings.TrimSuffix(file, filepath.Ext(file))
	name = strings.TrimSuffix(name, "-events")
	content, err := os.ReadFile(name + "-expect.txt")
	if err != nil {
		return ""
	}
	return string(content)
}

// Parse reads the events of a history, and numbers them from 1 on.
func Parse(text string) ([]event.Event, error) {
	var w Writer
	n := 0
	for line := range strings.Lines(text) {
		n++
		if err := w.Line(line); err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", n, strings.TrimSpace(line), err)
		}
	}
	return w.Events(), nil
}

// Writer makes a history of single lines. The zero Writer is empty.
type Writer struct{ events []event.Event }

// Line adds a line.
func (p *Writer) Line(line string) error {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return nil
	}
	return p.read(split(line))
}

// Events returns what the lines say, numbered from 1 on.
func (p *Writer) Events() []event.Event {
	for i := range p.events {
		p.events[i].ID = uint64(i + 1)
	}
	return p.events
}

// words are the parts of a line. They are asked for one by one, and the first
// that is missing or makes no sense is the line's error.
type words struct {
	plain []string
	keys  map[string]string
	args  []string
	asked map[string]bool
	taken int // of plain
	err   error
}

func split(line string) *words {
	w := &words{keys: map[string]string{}, asked: map[string]bool{}}
	line, args, ok := strings.Cut(line, " args: ")
	if ok {
		w.args = strings.Fields(args)
	}
	for _, field := range strings.Fields(line) {
		key, value, ok := strings.Cut(field, "=")
		if ok && (strings.Trim(key, letters) == "" || strings.HasPrefix(key, sysfs)) {
			w.keys[key] = value
		} else {
			w.plain = append(w.plain, field)
		}
	}
	return w
}

// letters are those of keys. A path with a "=" in it is no key.
const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

// sysfs begins the keys of a device's attributes in sysfs: sys.md/array_state.
const sysfs = "sys."

// fail notes the first error.
func (w *words) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

// word returns the word at that place after the kind, which is a what.
func (w *words) word(place int, what string) string {
	if place >= len(w.plain) {
		w.fail("a %s is missing", what)
	}
	return w.more(place)
}

// more is word where it may be missing.
func (w *words) more(place int) string {
	if place >= len(w.plain) {
		return ""
	}
	w.taken = max(w.taken, place+1)
	return w.plain[place]
}

// errno returns the error of which the word at that place is the name, 0 without one.
func (w *words) errno(place int) int {
	name := w.more(place)
	if name == "" {
		return 0
	}
	errno := errnoOf(name)
	if errno == 0 {
		w.fail("%s is not the name of an error", name)
	}
	return errno
}

// key returns the value of KEY=VALUE, empty without one.
func (w *words) key(key string) string {
	w.asked[key] = true
	return w.keys[key]
}

// text is key with blanks for "_".
func (w *words) text(key string) string { return strings.ReplaceAll(w.key(key), "_", " ") }

// list is key cut at commas, nil without one.
func (w *words) list(key string) []string {
	if value := w.key(key); value != "" {
		return strings.Split(value, ",")
	}
	return nil
}

func (w *words) number(key string) int {
	value := w.key(key)
	if value == "" {
		return 0
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		w.fail("%s=%s is not a number", key, value)
	}
	return n
}

// size is number, or what a device has by default: 1 GiB.
func (w *words) size() int64 {
	if w.key("size") == "" {
		return 1 << 30
	}
	return int64(w.number("size"))
}

func (w *words) time(key string) event.Time {
	value := w.key(key)
	if value == "" {
		return 0
	}
	at, err := parseTime(value)
	if err != nil {
		w.fail("%s=%s is not a time in seconds", key, value)
	}
	return at
}

// dev is the number of a device, dev=MAJOR:MINOR, nil without one.
func (w *words) dev() *event.Dev {
	value := w.key("dev")
	if value == "" {
		return nil
	}
	return w.parseDev("dev", value)
}

func (w *words) parseDev(key, value string) *event.Dev {
	major, minor, ok := strings.Cut(value, ":")
	ma, err1 := strconv.ParseUint(major, 10, 32)
	mi, err2 := strconv.ParseUint(minor, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		w.fail("%s=%s is not MAJOR:MINOR", key, value)
		return nil
	}
	return &event.Dev{Major: uint32(ma), Minor: uint32(mi)}
}

// table is a device-mapper table of one line.
func (w *words) table() []string {
	if table := w.text("table"); table != "" {
		return []string{table}
	}
	return nil
}

// unasked is the error for a word or key that means nothing in this line.
func (w *words) unasked() error {
	if w.taken < len(w.plain) {
		return fmt.Errorf("%s means nothing here", w.plain[w.taken])
	}
	for key := range w.keys {
		if !w.asked[key] {
			return fmt.Errorf("%s= means nothing here", key)
		}
	}
	return nil
}

func (p *Writer) read(w *words) error {
	if len(w.plain) < 2 {
		return errors.New("want TIME KIND")
	}
	from, at, err := parseWindow(w.plain[0])
	if err != nil {
		return err
	}
	e := event.Event{At: at, From: from, Kind: event.Kind(w.plain[1])}
	w.plain = w.plain[2:]
	switch e.Kind {
	case "sources":
		p.sources(at)
	case "activate":
		err = p.activate(at, w)
	case "remembered":
		p.remembered(w)
	case "member":
		p.member(w)
	case "layer":
		p.layer(w)
	case "kept":
		p.kept(w)
	default:
		fill(&e, w)
		if w.err == nil {
			p.events = append(p.events, e)
		}
	}
	return cmp.Or(w.err, err, w.unasked())
}

func parseWindow(s string) (from, at event.Time, err error) {
	first, second, window := strings.Cut(s, "..")
	at, err = parseTime(first)
	if err == nil && window {
		from = at
		at, err = parseTime(second)
	}
	return from, at, err
}

func parseTime(s string) (event.Time, error) {
	d, err := time.ParseDuration(s + "s")
	return event.Time(d), err
}

func (p *Writer) sources(at event.Time) {
	for _, name := range []string{"ebpf", "uevent", "udev", "snapshot"} {
		p.events = append(p.events, event.Event{At: at, Kind: event.Source, Source: source(name, "attached", []string{"dm", "open", "exec", "exit", "link"}, "")})
	}
}

// source takes abilities by name, those that it has not with a "-" before.
func source(name, state string, abilities []string, why string) *event.SourceInfo {
	s := &event.SourceInfo{Name: name, State: state}
	if name == "mounts" {
		s.Abilities = []event.Ability{{Name: "mount", OK: !slices.Contains(abilities, "-mount"), Why: why}}
	}
	if name == "ebpf" || name == "tracefs" {
		for _, a := range abilities {
			s.Abilities = append(s.Abilities, event.Ability{Name: strings.TrimPrefix(a, "-"), OK: !strings.HasPrefix(a, "-")})
		}
	}
	return s
}

func (p *Writer) activate(at event.Time, w *words) error {
	t := at.Seconds()
	lv, dev, links := w.key("lv"), w.key("dev"), w.key("links")
	name, _ := LVNames(lv)
	if vg, rest, ok := strings.Cut(lv, "/"); ok && links == "" {
		links = "/dev/" + vg + "/" + rest + ",/dev/mapper/" + name
	}
	_, minor, _ := strings.Cut(dev, ":")
	by := fmt.Sprintf("pid=%s parent=%s comm=%s", w.key("pid"), w.key("parent"), w.key("comm"))
	id := fmt.Sprintf("lv=%s dev=%s size=%s", lv, dev, w.key("size"))
	lines := []string{
		fmt.Sprintf("%f..%f dm_create %s %s", t, t+.001, id, by),
		fmt.Sprintf("%f..%f dm_load %s %s", t+.002, t+.003, id, by),
		fmt.Sprintf("%f uevent add dm-%s dev=%s", t+.003, minor, dev),
		// LVM resumes by number; the kernel fills in the rest.
		fmt.Sprintf("%f..%f dm_resume %s %s live=%f flags=32", t+.003, t+.005, id, by, t+.004),
		fmt.Sprintf("%f uevent change dm-%s dev=%s", t+.005, minor, dev),
		fmt.Sprintf("%f..%f udev add dm-%s dev=%s lv=%s SYSTEMD_READY=0", t+.003, t+.006, minor, dev, lv),
	}
	for _, link := range strings.Split(links, ",") {
		lines = append(lines, fmt.Sprintf("%f..%f link %s ../dm-%s", t+.0075, t+.008, link, minor))
	}
	lines = append(lines, fmt.Sprintf("%f..%f udev change dm-%s dev=%s lv=%s DM_ACTIVATION=1 links=%s", t+.005, t+.010, minor, dev, lv, links))
	for _, line := range lines {
		if err := p.read(split(line)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Writer) remembered(w *words) {
	if len(p.events) == 0 || p.events[len(p.events)-1].Memory == nil {
		w.fail("there is no memory event before it")
		return
	}
	m := p.events[len(p.events)-1].Memory
	d := event.MemoryDisk{
		Path: w.key("path"), ID: w.key("id"), Serial: w.key("serial"), BackingOf: w.key("backing_of"),
		Name: w.key("name"), UUID: w.key("uuid"), Size: w.size(), Table: w.table(),
		DeviceKind: w.key("kind"), Mount: w.key("mount"),
	}
	if lv := w.key("lv"); lv != "" {
		d.Name, d.UUID = LVNames(lv)
	}
	if w.key("before") != "" {
		m.Before = append(m.Before, d)
	} else {
		m.Disks = append(m.Disks, d)
	}
}

func (p *Writer) layer(w *words) {
	if len(p.events) == 0 || p.events[len(p.events)-1].Inside == nil {
		w.fail("there is no look into a disk before it")
		return
	}
	i := p.events[len(p.events)-1].Inside
	l := event.InsideLayer{
		Kind: w.word(0, "kind"), Over: len(i.Layers) - 1, Name: w.key("name"), UUID: w.key("uuid"), Needs: int64(w.number("needs")),
		Has: int64(w.number("has")), State: w.key("state"), Why: w.text("why"), Absent: int64(w.number("absent")), Generation: uint64(w.number("generation")),
	}
	if w.key("over") != "" {
		l.Over = w.number("over")
	}
	if header := w.text("damage"); header != "" {
		l.Damage = []event.InsideDamage{{What: header, At: int64(w.number("at")), Check: "its CRC is wrong", Copy: w.key("copy") != ""}}
	}
	i.Layers = append(i.Layers, l)
}

func (p *Writer) kept(w *words) {
	var m *event.MemoryInfo
	if len(p.events) > 0 {
		m = p.events[len(p.events)-1].Memory
	}
	if m == nil || len(m.Disks) == 0 {
		w.fail("there is no remembered disk before it")
		return
	}
	d := &m.Disks[len(m.Disks)-1]
	d.InsideBoot, d.ShortSince = cmp.Or(w.key("boot"), "before"), w.key("short")
	d.Inside = append(d.Inside, event.MemoryLayer{
		Kind: w.word(0, "kind"), UUID: w.key("uuid"), Needs: int64(w.number("needs")), Has: int64(w.number("has")), Generation: uint64(w.number("generation")),
	})
}

func (p *Writer) member(w *words) {
	if len(p.events) == 0 || p.events[len(p.events)-1].Image == nil {
		w.fail("there is no image event before it")
		return
	}
	i := p.events[len(p.events)-1].Image
	role := w.key("role")
	i.Members = append(i.Members, event.ImageMember{
		Path: w.key("path"), Role: role, Over: w.number("over"), FromHeader: role != "disk",
		Format: w.key("format"), State: w.key("state"), Why: w.text("why"),
	})
}

// LVNames returns the name and the uuid that LVM gives the mapping of
// VG/LV[/LAYER]. The uuid is made of the names.
func LVNames(lv string) (name, uuid string) {
	parts := strings.SplitN(lv+"//", "/", 4)
	id := devmap.LVMUUID{VG: fill32(parts[0]), LV: fill32(parts[1]), Layer: parts[2]}
	return devmap.JoinName(parts[0], parts[1], parts[2]), id.String()
}

func fill32(s string) string {
	s = strings.NewReplacer("-", "", "_", "").Replace(s)
	return (s + strings.Repeat("0", 32))[:32]
}

func fill(e *event.Event, w *words) {
	switch e.Kind {
	case event.DMCreate, event.DMLoad, event.DMResume, event.DMSuspend, event.DMRename, event.DMRemove:
		e.Proc = &event.Proc{PID: cmp.Or(w.number("pid"), 50), PPID: w.number("parent"), Comm: cmp.Or(w.key("comm"), "vgchange"), Args: w.args}
		fillDM(e, w)
	case event.Backfill:
		switch w.word(0, "dm, guest, or a device's name") {
		case "dm":
			fillDM(e, w)
		case "guest":
			fillExec(e, w)
		default:
			w.plain = append([]string{""}, w.plain...)
			fillDev(e, w)
		}
	case event.Uevent, event.Udev:
		fillDev(e, w)
	case event.Exec:
		fillExec(e, w)
	case event.Fork, event.Exit, event.Hold, event.Release:
		fillProcess(e, w)
	case event.Link:
		e.Open = &event.OpenInfo{Path: w.word(0, "path"), Target: w.word(1, "target")}
	case event.Open:
		fillOpen(e, w)
	case event.Memory:
		e.Memory = &event.MemoryInfo{Guest: w.key("guest"), Boot: "before", Accepted: w.key("accepted") != ""}
		if pid := w.number("pid"); !e.Memory.Accepted {
			e.Proc = &event.Proc{PID: pid}
		}
	case event.Inside:
		if pid := w.number("pid"); pid != 0 {
			e.Proc = &event.Proc{PID: pid}
		}
		e.Inside = &event.InsideInfo{
			Guest: w.key("guest"), Disk: w.word(0, "disk"), Live: w.key("live") != "", Why: w.text("why"), Cut: w.text("cut"), Dev: w.dev(),
		}
		if lv := w.key("lv"); lv != "" {
			e.Inside.Name, e.Inside.UUID = LVNames(lv)
		}
	case event.Image:
		e.Proc = &event.Proc{PID: w.number("pid")}
		e.Image = &event.ImageInfo{Disk: w.key("disk"), Cut: w.text("cut")}
	case event.Source:
		e.Source = source(w.word(0, "source"), w.word(1, "state"), w.list("abilities"), w.text("why"))
	case event.Mark:
		e.Mark = &event.MarkInfo{Name: w.word(0, "mark"), Text: w.key("text")}
	case event.LVM:
		fillLVM(e, w)
	case event.Loss:
		e.Loss = &event.LossInfo{Source: w.word(0, "source"), What: w.word(1, "what"), Count: uint64(w.number("count")), UID: uint32(w.number("uid")), PID: w.number("pid")}
	case event.Policy:
		fillPolicy(e, w)
	case event.Domain:
		fillDomain(e, w)
	case event.Mount:
		fillMount(e, w)
	case event.Way:
		fillWay(e, w)
	case "unknown":
		e.Kind = event.Kind(w.word(0, "kind")) // one of a later version
	default:
		w.fail("there is no kind %q", e.Kind)
	}
}

func fillDM(e *event.Event, w *words) {
	d := &event.DMInfo{
		Name: w.key("name"), UUID: w.key("uuid"), NewName: w.key("new"), NewUUID: w.key("newuuid"),
		Dev: w.dev(), State: w.key("state"), Errno: w.number("errno"), Flags: uint32(w.number("flags")),
		Size: w.size(), Table: w.table(), LiveAt: w.time("live"),
	}
	if lv := w.key("lv"); lv != "" {
		d.Name, d.UUID = LVNames(lv)
	}
	e.DM = d
}

func fillDev(e *event.Event, w *words) {
	d := &event.DevInfo{
		Action: w.word(0, "action"), Name: w.word(1, "device's name"), Subsystem: "block", Dev: w.dev(), Props: map[string]string{},
		Seq: uint64(w.number("seq")), Since: w.time("since"), Links: w.list("links"),
	}
	for key := range w.keys {
		switch attribute, ok := strings.CutPrefix(key, sysfs); {
		case ok && d.Attrs == nil:
			d.Attrs = map[string]string{attribute: w.key(key)}
		case ok:
			d.Attrs[attribute] = w.key(key)
		case strings.ToUpper(key) == key:
			d.Props[key] = w.key(key)
		}
	}
	for _, number := range w.list("under") {
		if dev := w.parseDev("under", number); dev != nil {
			d.Under = append(d.Under, *dev)
		}
	}
	if lv := w.key("lv"); lv != "" {
		d.Props["DM_NAME"], d.Props["DM_UUID"] = LVNames(lv)
	}
	e.Dev = d
}

func fillExec(e *event.Event, w *words) {
	e.Proc = &event.Proc{PID: w.number("pid"), PPID: cmp.Or(w.number("parent"), 1), Comm: "qemu-system-x86"}
	e.Exec = &event.ExecInfo{Filename: cmp.Or(w.key("binary"), "/usr/bin/qemu-system-x86_64"), Args: w.args, Truncated: w.key("truncated") != ""}
	if held := w.key("holds"); held != "" {
		path, number, _ := strings.Cut(held, "@")
		file := event.OpenInfo{Path: path, Type: "block", Size: 1 << 30}
		if number != "" {
			file.Dev = w.parseDev("holds", number)
		}
		e.Exec.Files = []event.OpenInfo{file}
	}
}

func fillLVM(e *event.Event, w *words) {
	l := &event.LVMInfo{}
	e.LVM = l
	name := w.word(0, "VG/LV, or config")
	if name == "config" {
		l.Config = map[string]string{}
		w.taken = len(w.plain)
		for _, setting := range w.plain[1:] {
			key, value, _ := strings.Cut(setting, "=")
			l.Config[key] = value
		}
		return
	}
	l.VG, l.LV, _ = strings.Cut(name, "/")
	l.Found, l.GroupFound = true, true
	switch word := w.more(1); word {
	case "":
	case "not-found":
		l.Found = false
	case "no-group":
		l.Found, l.GroupFound = false, false
	default:
		w.fail("%s: use not-found or no-group", word)
	}
	l.SkipActivation, l.NoAutoActivation = w.key("skip") != "", w.key("noauto") != ""
	l.MissingPVs = w.number("missing")
	l.Health, l.LockType, l.Why = w.key("health"), w.key("lock"), w.text("why")
	l.Exported, l.Pool, l.Tags = w.key("exported") != "", w.key("pool"), w.list("tags")
	l.Owner, l.Clustered, l.SameName, l.Damaged = w.key("owner"), w.key("clustered") != "", w.number("same"), w.text("damaged")
	for _, pv := range w.list("pvs") {
		path, rest, _ := strings.Cut(pv, "@")
		number, state, _ := strings.Cut(rest, "@")
		p := event.LVMPV{Name: path, Duplicate: state == "duplicate", Missing: state == "missing"}
		if number != "" {
			p.Dev = w.parseDev("pvs", number)
		}
		l.PVs = append(l.PVs, p)
	}
}

func fillProcess(e *event.Event, w *words) {
	e.Proc = &event.Proc{PID: w.number("pid"), PPID: w.number("parent")}
	switch e.Kind {
	case event.Exit:
		e.Exit = &event.ExitInfo{Status: w.number("status"), Signal: w.number("signal")}
	case event.Hold, event.Release:
		e.Hold = &event.HoldInfo{
			Reason: event.HoldReason(w.text("reason")), Guest: w.key("guest"), Identity: w.key("identity"), Disk: w.key("disk"),
			Blockers: w.list("blockers"), Deadline: w.time("deadline"), Outcome: event.HoldOutcome(w.key("outcome")), Hook: w.key("hook") != "",
		}
	}
}

// fillPolicy leaves what is not given as it is without a configuration.
func fillPolicy(e *event.Event, w *words) {
	p := event.UsualPolicy(guest.Places())
	p.Mode, p.Inspect = w.word(0, "mode"), w.key("inspect")
	p.OnTimeout = cmp.Or(w.key("on-timeout"), p.OnTimeout)
	p.Filesystem = cmp.Or(w.key("filesystem"), p.Filesystem)
	if programs := w.list("programs"); programs != nil {
		p.Programs = programs
	}
	if name := w.key("spare"); name != "" {
		p.Rules = append(p.Rules, event.PolicyRule{Name: name, OnTimeout: p.OnTimeout, Identity: p.Identity})
	}
	for key, to := range map[string]*event.Duration{"deadline": &p.Deadline, "longest": &p.Longest} {
		if text := w.key(key); text != "" {
			d, err := time.ParseDuration(text)
			if err != nil {
				w.fail("%s=%s is not a duration such as 80s", key, text)
			}
			*to = d
		}
	}
	e.Policy = &p
}

func fillDomain(e *event.Event, w *words) {
	e.Proc = &event.Proc{PID: w.number("pid")}
	e.Domain = &event.DomainInfo{Name: w.word(0, "name"), UUID: w.key("uuid"), Phase: cmp.Or(w.key("phase"), event.DomainStarts)}
	for _, path := range w.list("disks") {
		e.Domain.Disks = append(e.Domain.Disks, event.DomainDisk{Path: path, Format: "raw"})
	}
}

func fillMount(e *event.Event, w *words) {
	m := &event.MountInfo{
		Action: event.MountAction(cmp.Or(w.key("action"), string(event.MountMade))), Point: w.word(0, "mount point"), Root: "/",
		FSType: cmp.Or(w.key("fstype"), "ext4"), UUID: w.key("uuid"), Unit: w.key("unit"), Source: w.more(1),
	}
	if dev := w.dev(); dev != nil {
		m.Dev = *dev
	}
	e.Mount = m
}

func fillWay(e *event.Event, w *words) {
	e.Proc = &event.Proc{PID: w.number("pid")}
	y := &event.WayInfo{
		Path: w.word(0, "path"), Node: w.word(1, "node"), Errno: w.errno(2), Type: w.key("type"), Dev: w.dev(), Mount: w.key("mount"),
	}
	if y.Dev != nil {
		y.Type = "block"
	}
	for _, link := range w.list("links") {
		path, target, ok := strings.Cut(link, ">")
		if !ok {
			w.fail("links=%s is not LINK>TARGET", link)
		}
		y.Links = append(y.Links, event.WayLink{Path: path, Target: target})
	}
	e.Way = y
}

// errnoOf returns the error of that name, 0 if there is none.
func errnoOf(name string) int {
	const last = 133 // EHWPOISON, the last one of Linux
	for n := 1; n <= last; n++ {
		if unix.ErrnoName(unix.Errno(n)) == name {
			return n
		}
	}
	return 0
}

func fillOpen(e *event.Event, w *words) {
	e.Proc = &event.Proc{PID: w.number("pid"), PPID: w.number("parent"), Comm: cmp.Or(w.key("comm"), "qemu-system-x86"), Args: w.args}
	o := &event.OpenInfo{Path: w.word(0, "path"), Errno: w.errno(1), Size: -1, Dev: w.dev(), Type: w.key("type")}
	if o.Errno == 0 && o.Dev != nil && o.Type == "" {
		o.Type, o.Size = "block", 1<<30
	}
	if w.key("size") != "" {
		o.Size = w.size()
	}
	for _, name := range w.list("flags") {
		flag, ok := openFlags[name]
		if !ok {
			w.fail("flags=%s: use names of open(2) such as O_RDWR,O_DIRECT", name)
		}
		o.Flags |= flag
	}
	e.Open = o
}

// openFlags are the flags of open(2) that say how a program uses a disk.
var openFlags = map[string]uint32{
	"O_RDONLY": unix.O_RDONLY, "O_WRONLY": unix.O_WRONLY, "O_RDWR": unix.O_RDWR,
	"O_CREAT": unix.O_CREAT, "O_EXCL": unix.O_EXCL, "O_TRUNC": unix.O_TRUNC, "O_PATH": unix.O_PATH,
	"O_DIRECT": unix.O_DIRECT, "O_SYNC": unix.O_SYNC, "O_DSYNC": unix.O_DSYNC, "O_NONBLOCK": unix.O_NONBLOCK, "O_CLOEXEC": unix.O_CLOEXEC,
}
