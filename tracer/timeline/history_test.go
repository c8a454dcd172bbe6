package timeline

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
)

// A history is a text that a person can read, a line an event:
//
//	TIME KIND WORD... KEY=VALUE...
//
// TIME is seconds, or FROM..AT. lv=VG/LV[/LAYER] stands for the name and uuid
// that LVM would give. What follows "args:" is a command line. Two kinds stand
// for several events: "sources" for all sources attached, "activate" for what
// vgchange and udev do to one volume: live after 4 ms, the links made after 8,
// ready after 10. "remembered" and "member" add to the memory or image event
// before them.
type historyParser struct {
	events []event.Event
}

func parseHistory(t testing.TB, text string) []event.Event {
	t.Helper()
	var p historyParser
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := p.line(line); err != nil {
			t.Fatalf("line %d: %q: %v", n+1, line, err)
		}
	}
	for i := range p.events {
		p.events[i].ID = uint64(i + 1)
	}
	return p.events
}

type words struct {
	plain []string
	keys  map[string]string
	args  []string
}

func split(line string) words {
	w := words{keys: map[string]string{}}
	line, args, ok := strings.Cut(line, " args: ")
	if ok {
		w.args = strings.Fields(args)
	}
	for _, field := range strings.Fields(line) {
		if key, value, ok := strings.Cut(field, "="); ok {
			w.keys[key] = value
		} else {
			w.plain = append(w.plain, field)
		}
	}
	return w
}

func (w words) number(key string) int {
	n, _ := strconv.Atoi(w.keys[key])
	return n
}

func (p *historyParser) line(line string) error {
	w := split(line)
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
		return nil
	case "activate":
		return p.activate(at, w)
	case "remembered":
		p.remembered(w)
		return nil
	case "member":
		p.member(w)
		return nil
	}
	if err := fill(&e, w); err != nil {
		return err
	}
	p.events = append(p.events, e)
	return nil
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

func (p *historyParser) sources(at event.Time) {
	for _, name := range []string{"ebpf", "uevent", "udev", "snapshot"} {
		p.events = append(p.events, event.Event{At: at, Kind: event.Source, Source: source(name, "attached", "dm,open,exec,exit,link")})
	}
}

func source(name, state, abilities string) *event.SourceInfo {
	s := &event.SourceInfo{Name: name, State: state}
	if name == "ebpf" {
		for _, a := range strings.Split(abilities, ",") {
			s.Abilities = append(s.Abilities, event.Ability{Name: strings.TrimPrefix(a, "-"), OK: a[0] != '-'})
		}
	}
	return s
}

func (p *historyParser) activate(at event.Time, w words) error {
	t := at.Seconds()
	lv, dev, links := w.keys["lv"], w.keys["dev"], w.keys["links"]
	name, _ := lvNames(lv)
	if vg, rest, ok := strings.Cut(lv, "/"); ok && links == "" {
		links = "/dev/" + vg + "/" + rest + ",/dev/mapper/" + name
	}
	_, minor, _ := strings.Cut(dev, ":")
	id := fmt.Sprintf("lv=%s dev=%s size=%s", lv, dev, w.keys["size"])
	lines := []string{
		fmt.Sprintf("%f..%f dm_create %s", t, t+.001, id),
		fmt.Sprintf("%f..%f dm_load %s", t+.002, t+.003, id),
		fmt.Sprintf("%f uevent add dm-%s dev=%s", t+.003, minor, dev),
		// LVM resumes by number; the kernel fills in the rest.
		fmt.Sprintf("%f..%f dm_resume %s live=%f flags=32", t+.003, t+.005, id, t+.004),
		fmt.Sprintf("%f uevent change dm-%s dev=%s", t+.005, minor, dev),
		fmt.Sprintf("%f..%f udev add dm-%s dev=%s lv=%s SYSTEMD_READY=0", t+.003, t+.006, minor, dev, lv),
	}
	for _, link := range strings.Split(links, ",") {
		lines = append(lines, fmt.Sprintf("%f..%f link %s ../dm-%s", t+.0075, t+.008, link, minor))
	}
	lines = append(lines, fmt.Sprintf("%f..%f udev change dm-%s dev=%s lv=%s DM_ACTIVATION=1 links=%s", t+.005, t+.010, minor, dev, lv, links))
	for _, line := range lines {
		if err := p.line(line); err != nil {
			return err
		}
	}
	return nil
}

func (p *historyParser) remembered(w words) {
	m := p.events[len(p.events)-1].Memory
	d := event.MemoryDisk{
		Path: w.keys["path"], ID: w.keys["id"], Serial: w.keys["serial"], BackingOf: w.keys["backing_of"],
		Name: w.keys["name"], UUID: w.keys["uuid"], Size: 1 << 30, DeviceKind: w.keys["kind"], Mount: w.keys["mount"],
	}
	if lv := w.keys["lv"]; lv != "" {
		d.Name, d.UUID = lvNames(lv)
	}
	if size := w.keys["size"]; size != "" {
		d.Size = int64(w.number("size"))
	}
	if table := w.keys["table"]; table != "" {
		d.Table = []string{strings.ReplaceAll(table, "_", " ")}
	}
	if w.keys["before"] != "" {
		m.Before = append(m.Before, d)
	} else {
		m.Disks = append(m.Disks, d)
	}
}

func (p *historyParser) member(w words) {
	i := p.events[len(p.events)-1].Image
	i.Members = append(i.Members, event.ImageMember{
		Path: w.keys["path"], Role: w.keys["role"], Over: w.number("over"), FromHeader: w.keys["role"] != "disk",
		Format: w.keys["format"], State: w.keys["state"], Why: strings.ReplaceAll(w.keys["why"], "_", " "),
	})
}

func lvNames(lv string) (name, uuid string) {
	parts := strings.SplitN(lv+"//", "/", 4)
	id := devmap.LVMUUID{VG: fill32(parts[0]), LV: fill32(parts[1]), Layer: parts[2]}
	return devmap.JoinName(parts[0], parts[1], parts[2]), id.String()
}

func fill32(s string) string {
	s = strings.NewReplacer("-", "", "_", "").Replace(s)
	return s + strings.Repeat("0", 32-len(s))
}

func parseDev(s string) *event.Dev {
	major, minor, ok := strings.Cut(s, ":")
	if !ok {
		return nil
	}
	ma, _ := strconv.Atoi(major)
	mi, _ := strconv.Atoi(minor)
	return &event.Dev{Major: uint32(ma), Minor: uint32(mi)}
}

func fill(e *event.Event, w words) error {
	switch e.Kind {
	case event.DMCreate, event.DMLoad, event.DMResume, event.DMSuspend, event.DMRename, event.DMRemove:
		e.Proc = &event.Proc{PID: 50, Comm: "vgchange", Args: w.args}
		return fillDM(e, w)
	case event.Backfill:
		switch w.plain[0] {
		case "dm":
			return fillDM(e, w)
		case "guest":
			fillExec(e, w)
		default:
			fillDev(e, words{plain: append([]string{""}, w.plain...), keys: w.keys})
		}
	case event.Uevent, event.Udev:
		fillDev(e, w)
	case event.Exec:
		fillExec(e, w)
	case event.Fork, event.Exit, event.Hold, event.Release:
		fillProcess(e, w)
	case event.Link:
		e.Open = &event.OpenInfo{Path: w.plain[0], Target: w.plain[1]}
	case event.Open:
		fillOpen(e, w)
	case event.Memory:
		e.Proc = &event.Proc{PID: w.number("pid")}
		e.Memory = &event.MemoryInfo{Guest: w.keys["guest"], Boot: "before"}
	case event.Image:
		e.Proc = &event.Proc{PID: w.number("pid")}
		e.Image = &event.ImageInfo{Disk: w.keys["disk"], Cut: w.keys["cut"]}
	case event.Source:
		e.Source = source(w.plain[0], w.plain[1], w.keys["abilities"])
	case event.Mark:
		e.Mark = &event.MarkInfo{Name: w.plain[0], Text: w.keys["text"]}
	case event.LVM:
		fillLVM(e, w)
	case event.Mount:
		fillMount(e, w)
	case event.Way:
		fillWay(e, w)
	case event.Loss:
		e.Loss = &event.LossInfo{Source: w.plain[0], What: w.plain[1], Count: uint64(w.number("count"))}
	default:
		return errors.New("no such kind")
	}
	return nil
}

func fillDM(e *event.Event, w words) error {
	d := &event.DMInfo{
		Name: w.keys["name"], UUID: w.keys["uuid"], NewName: w.keys["new"], NewUUID: w.keys["newuuid"],
		Dev: parseDev(w.keys["dev"]), State: w.keys["state"], Errno: w.number("errno"), Flags: uint32(w.number("flags")),
		Size: 1 << 30,
	}
	if lv := w.keys["lv"]; lv != "" {
		d.Name, d.UUID = lvNames(lv)
	}
	if size := w.keys["size"]; size != "" {
		d.Size = int64(w.number("size"))
	}
	if table := w.keys["table"]; table != "" {
		d.Table = []string{strings.ReplaceAll(table, "_", " ")}
	}
	var err error
	if live := w.keys["live"]; live != "" {
		d.LiveAt, err = parseTime(live)
	}
	e.DM = d
	return err
}

func fillDev(e *event.Event, w words) {
	d := &event.DevInfo{
		Action: w.plain[0], Name: w.plain[1], Subsystem: "block", Dev: parseDev(w.keys["dev"]), Props: map[string]string{},
		Seq: uint64(w.number("seq")),
	}
	for key, value := range w.keys {
		if name, ok := strings.CutPrefix(key, "sys."); ok {
			if d.Attrs == nil {
				d.Attrs = map[string]string{}
			}
			d.Attrs[name] = value
		} else if strings.ToUpper(key) == key {
			d.Props[key] = value
		}
	}
	if under := w.keys["under"]; under != "" {
		for _, dev := range strings.Split(under, ",") {
			d.Under = append(d.Under, *parseDev(dev))
		}
	}
	if since, err := parseTime(w.keys["since"]); err == nil {
		d.Since = since
	}
	if lv := w.keys["lv"]; lv != "" {
		d.Props["DM_NAME"], d.Props["DM_UUID"] = lvNames(lv)
	}
	if links := w.keys["links"]; links != "" {
		d.Links = strings.Split(links, ",")
	}
	e.Dev = d
}

func fillExec(e *event.Event, w words) {
	e.Proc = &event.Proc{PID: w.number("pid"), PPID: 1, Comm: "qemu-system-x86"}
	e.Exec = &event.ExecInfo{Filename: "/usr/bin/qemu-system-x86_64", Args: w.args}
	if held := w.keys["holds"]; held != "" {
		file, dev, _ := strings.Cut(held, "@")
		e.Exec.Files = []event.OpenInfo{{Path: file, Dev: parseDev(dev), Type: "block", Size: 1 << 30}}
	}
}

// fillLVM takes "lvm VG/LV [not-found|no-group] [skip=1] [noauto=1] [missing=N]
// ..." and "lvm config KEY=VALUE...".
func fillLVM(e *event.Event, w words) {
	l := &event.LVMInfo{}
	e.LVM = l
	if w.plain[0] == "config" {
		l.Config = w.keys
		return
	}
	l.VG, l.LV, _ = strings.Cut(w.plain[0], "/")
	rest := w.plain[1:]
	l.GroupFound = !slices.Contains(rest, "no-group")
	l.Found = l.GroupFound && !slices.Contains(rest, "not-found")
	l.SkipActivation, l.NoAutoActivation = w.keys["skip"] != "", w.keys["noauto"] != ""
	l.MissingPVs = w.number("missing")
	l.Health, l.LockType, l.Why = w.keys["health"], w.keys["lock"], w.keys["why"]
	l.Exported, l.Pool = w.keys["exported"] != "", w.keys["pool"]
	if tags := w.keys["tags"]; tags != "" {
		l.Tags = strings.Split(tags, ",")
	}
}

// fillMount takes "mount POINT [SOURCE] [action=unmounted] [dev=] [unit=]".
func fillMount(e *event.Event, w words) {
	m := &event.MountInfo{Action: event.MountMade, Point: w.plain[0], Root: "/", FSType: cmp.Or(w.keys["fstype"], "ext4"), UUID: w.keys["uuid"], Unit: w.keys["unit"]}
	if len(w.plain) > 1 {
		m.Source = w.plain[1]
	}
	if action := w.keys["action"]; action != "" {
		m.Action = event.MountAction(action)
	}
	if dev := parseDev(w.keys["dev"]); dev != nil {
		m.Dev = *dev
	}
	e.Mount = m
}

// fillWay takes "way pid= PATH NODE [ERRNO] [links=LINK>TARGET,...] [type=file]
// [dev=] [mount=]".
func fillWay(e *event.Event, w words) {
	e.Proc = &event.Proc{PID: w.number("pid")}
	y := &event.WayInfo{Path: w.plain[0], Node: w.plain[1], Type: w.keys["type"], Dev: parseDev(w.keys["dev"]), Mount: w.keys["mount"]}
	if len(w.plain) > 2 {
		y.Errno = int(errnos[w.plain[2]])
	}
	if y.Dev != nil {
		y.Type = "block"
	}
	if links := w.keys["links"]; links != "" {
		for _, link := range strings.Split(links, ",") {
			path, target, _ := strings.Cut(link, ">")
			y.Links = append(y.Links, event.WayLink{Path: path, Target: target})
		}
	}
	e.Way = y
}

func fillProcess(e *event.Event, w words) {
	e.Proc = &event.Proc{PID: w.number("pid"), PPID: w.number("parent")}
	switch e.Kind {
	case event.Exit:
		e.Exit = &event.ExitInfo{Status: w.number("status")}
	case event.Hold, event.Release:
		e.Hold = &event.HoldInfo{
			Reason: strings.ReplaceAll(w.keys["reason"], "_", " "), Guest: w.keys["guest"], Disk: w.keys["disk"], Outcome: w.keys["outcome"],
		}
	}
}

var errnos = map[string]unix.Errno{
	"ENOENT": unix.ENOENT, "ENXIO": unix.ENXIO, "EACCES": unix.EACCES, "EBUSY": unix.EBUSY, "ENOMEDIUM": unix.ENOMEDIUM,
}

func fillOpen(e *event.Event, w words) {
	e.Proc = &event.Proc{PID: w.number("pid"), Comm: cmp.Or(w.keys["comm"], "qemu-system-x86"), Args: w.args}
	o := &event.OpenInfo{Path: w.plain[0], Size: -1, Dev: parseDev(w.keys["dev"]), Type: w.keys["type"]}
	if len(w.plain) > 1 {
		o.Errno = int(errnos[w.plain[1]])
	} else if o.Dev != nil {
		o.Type, o.Size = "block", 1<<30
	}
	if size := w.keys["size"]; size != "" {
		o.Size = int64(w.number("size"))
	}
	e.Open = o
}
