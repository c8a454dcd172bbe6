package browsertest

import (
	"fmt"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// largeBoot is the timeline of a host with that many guests: each has a disk or
// two, some come too early, some just in time, and some of LVM's own layers are
// under nobody.
func largeBoot(guests int) *timeline.Timeline {
	tl := &timeline.Timeline{
		BootID: "3f2a91c0-5d1e-4b7a-9c35-0e8f6a21d4b7", Kernel: "6.1.0-18-amd64",
		Host:  event.HostInfo{Name: "kvm-rack7-12", OS: "Debian GNU/Linux 12 (bookworm)"},
		Clock: &event.ClockInfo{WallOffset: 1772435560e9, Trusted: true}, Complete: true,
		First: 1.2e9, Last: 310e9, Events: guests * 31,
		Marks: []timeline.Mark{
			{Instant: instant(1.2e9, 1), MarkInfo: event.MarkInfo{Name: "start"}},
			{Instant: instant(1.9e9, 9), MarkInfo: event.MarkInfo{Name: "ready", Text: "700ms after the program's start"}},
		},
	}
	for i := range guests {
		addGuest(tl, i)
	}
	for i := range guests / 10 {
		tl.Mappings = append(tl.Mappings, mapping(fmt.Sprintf("pool%d_tdata", i), "tdata", 100+i, event.Time(4e9+float64(i)*2e7)))
	}
	return tl
}

func addGuest(tl *timeline.Timeline, i int) {
	begin := event.Time(6e9 + float64(i)*1.6e7)
	if i%11 == 0 {
		begin += 4e9 // these come late
	}
	m := mapping(fmt.Sprintf("web%04d", i), "", 1000+i, begin)
	tl.Mappings = append(tl.Mappings, m)
	way := m.Lives[0].Paths[1]
	exec := event.Time(7.2e9 + float64(i)*1.6e7 + float64(i%7)*4e8)
	open := exec + 9e7
	g := &timeline.Guest{
		ID: fmt.Sprintf("%d@%d", 4000+i, exec), Name: fmt.Sprintf("web-%04d", i), UUID: fmt.Sprintf("6f6b5ec2-2f1f-4ba5-9a0c-%012d", i),
		Binary: "/usr/bin/qemu-system-x86_64", PID: 4000 + i, Exec: instant(exec, 40*i+20),
	}
	use := timeline.Use{Instant: instant(open, 40*i+21), Count: 2, Type: "block", Size: 10 << 30, Mapping: m.ID, Ready: way.Ready,
		Margin: &timeline.Margin{NS: open.Sub(way.Ready.At)}}
	if use.NS < 0 {
		use.Errno, use.Error = 2, "ENOENT"
		g.Exit = &timeline.Exit{Instant: instant(open+3e7, 40*i+23), ExitInfo: event.ExitInfo{Status: 1}}
	}
	g.Disks = []timeline.Disk{{Path: way.Path, Announced: true, Mapping: m.ID, Uses: []timeline.Use{use}}}
	if i%4 == 0 {
		g.Disks = append(g.Disks, timeline.Disk{Path: "/var/lib/images/seed-" + g.Name + ".iso", Kind: "cdrom", Uses: []timeline.Use{{Instant: instant(open+2e6, 40*i+22), Count: 1, Type: "file"}}})
	}
	tl.Guests = append(tl.Guests, g)
	addFindings(tl, g, m, &use)
}

func addFindings(tl *timeline.Timeline, g *timeline.Guest, m *timeline.Mapping, u *timeline.Use) {
	kind := "missing"
	switch {
	case u.NS >= 1e9:
		return
	case u.NS >= 0:
		kind = "near-miss"
	}
	life := m.Lives[0]
	late := &timeline.Account{Longest: 4}
	at := event.Time(0)
	for _, s := range []struct {
		kind, detail string
		to           event.Time
	}{
		{timeline.StepDisk, "/dev/sdb", 3.1e9}, {timeline.StepCreated, "", life.Created.At}, {timeline.StepLoaded, "", life.Created.At + 1e6},
		{timeline.StepLive, "", life.Live.At}, {timeline.StepUdev, "change", u.Ready.At},
	} {
		late.Steps = append(late.Steps, timeline.AccountStep{Kind: s.kind, Detail: s.detail, From: at, To: s.to})
		at = s.to
	}
	tl.Findings = append(tl.Findings, &timeline.Finding{
		Kind: kind, Race: u.NS < 0, Guest: g.Name, GuestID: g.ID, Disk: g.Disks[0].Path, Mapping: m.ID, MappingName: m.Name,
		At: u.At, Margin: u.Margin, Ready: u.Ready, Errno: u.Errno, Error: u.Error, State: "absent", Exit: g.Exit,
		Evidence: []uint64{g.Exec.Event, u.Event, life.Live.Event}, Late: late,
	})
	outcome := timeline.OutcomeFailed
	if u.NS >= 0 {
		outcome = timeline.OutcomeAtRisk
	}
	tl.Verdicts = append(tl.Verdicts, &timeline.Verdict{Guest: g.Name, GuestID: g.ID, Outcome: outcome, Causes: []*timeline.Cause{{
		Kind: timeline.CauseTooLate, Disks: []string{g.Disks[0].Path}, Findings: []string{kind}, Step: &late.Steps[4],
		Cures: []string{timeline.CureHold, timeline.CureUdev},
	}}})
}

// mapping is an LV with the life that LVM and udev give it.
func mapping(lv, layer string, minor int, begin event.Time) *timeline.Mapping {
	name, id := "vg0-"+lv, fmt.Sprintf("LVM-RcaEVOYRapWrZ7w8yCCScgqJp547v5OR%08dRYdDJ0a8jP5yhBiujgFiwxQ", minor)
	lvm := &event.Proc{PID: 141, Comm: "lvm", Args: []string{"/sbin/lvm", "vgchange", "-aay", "--autoactivation", "event", "vg0"}}
	life := &timeline.Life{Dev: event.Dev{Major: 253, Minor: uint32(minor)}, Size: 10 << 30}
	step := func(kind, detail string, after event.Time, by *event.Proc) {
		life.Steps = append(life.Steps, timeline.Step{Kind: kind, Detail: detail, Instant: instant(begin+after, minor*40+len(life.Steps)), By: by})
	}
	step(timeline.StepCreated, "", 0, lvm)
	step(timeline.StepLoaded, "", 9e6, lvm)
	step(timeline.StepLive, "", 13e6, lvm)
	step(timeline.StepUevent, "add", 14e6, nil)
	step(timeline.StepUevent, "change", 15e6, nil)
	step(timeline.StepUdev, "add", 60e6, nil)
	links := []string{"/dev/vg0/" + lv, "/dev/mapper/" + name, "/dev/disk/by-id/dm-name-" + name, "/dev/disk/by-id/dm-uuid-" + id}
	for i, link := range links {
		step(timeline.StepLink, link, event.Time(600e6+float64(i)*2e6), nil)
	}
	step(timeline.StepUdev, "change", 740e6, nil)
	ready := instant(begin+740e6, minor*40+11)
	ready.From = begin + 600e6
	life.Created, life.Live, life.Udev = &life.Steps[0].Instant, &life.Steps[2].Instant, &life.Steps[len(life.Steps)-1].Instant
	life.Paths = []timeline.Path{{Path: fmt.Sprintf("/dev/dm-%d", minor), Made: life.Steps[0].Instant, Ready: &ready}}
	for i, link := range links {
		life.Paths = append(life.Paths, timeline.Path{Path: link, Link: true, Made: life.Steps[6+i].Instant, Ready: &ready})
	}
	return &timeline.Mapping{ID: id, Kind: blockdev.Mapping, UUID: id, Name: name, VG: "vg0", LV: lv, Layer: layer, Lives: []*timeline.Life{life}}
}

func instant(at event.Time, id int) timeline.Instant {
	return timeline.Instant{At: at, From: at, Event: uint64(id)}
}
