package rehearse

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bootrace/bootrace/tracer/twin"
)

// Plan is a boot to rehearse.
type Plan struct {
	// Late has disks that come later than on the host, by so much; Missing those that
	// never come. Both have names of disks in the capture.
	Late    map[string]time.Duration
	Missing []string
	// Enforce is set where the twin is in enforce mode, whatever mode the host is in.
	Enforce bool
	text    string
}

// AsRecorded is the plan in which disks come as on the host.
const AsRecorded = "as-recorded"

// ParsePlan reads a plan: as-recorded, late:DISK=20s, missing:DISK, or several of these
// with commas between them. DISK is a disk's name, serial number or link, as in /dev/sdb
// and /dev/disk/by-id/virtio-a.
func ParsePlan(text string, m *twin.Manifest) (Plan, error) {
	p := Plan{Late: map[string]time.Duration{}, text: text}
	for _, part := range strings.Split(text, ",") {
		kind, rest, _ := strings.Cut(part, ":")
		name, after := rest, ""
		if kind == "late" {
			var ok bool
			if name, after, ok = strings.Cut(rest, "="); !ok {
				return Plan{}, fmt.Errorf("plan %q: say by how much the disk is late, as in late:sdb=20s", part)
			}
		}
		if part == AsRecorded {
			continue
		}
		if kind != "late" && kind != "missing" {
			return Plan{}, fmt.Errorf("plan %q is not known: use %s, late:DISK=20s or missing:DISK", part, AsRecorded)
		}
		d, err := findDisk(m, name)
		if err != nil {
			return Plan{}, fmt.Errorf("plan %q: %w", part, err)
		}
		if d.Name == m.Root.Disk {
			return Plan{}, fmt.Errorf("plan %q: the root file system is on %s: without it nothing boots", part, d.Name)
		}
		if kind == "missing" {
			p.Missing = append(p.Missing, d.Name)
			continue
		}
		const most = time.Hour
		late, err := time.ParseDuration(after)
		if err != nil || late <= 0 || late > most {
			return Plan{}, fmt.Errorf("plan %q: %q is no time up to %v, such as 20s", part, after, most)
		}
		p.Late[d.Name] = late
	}
	return p, nil
}

func findDisk(m *twin.Manifest, name string) (*twin.Disk, error) {
	if name == "" {
		return nil, errors.New("name a disk, as in /dev/sdb")
	}
	link := strings.TrimPrefix(name, "/dev/")
	var names []string
	for i := range m.Disks {
		d := &m.Disks[i]
		if d.Name == link || d.Serial == name || slices.Contains(d.Links, link) {
			return d, nil
		}
		names = append(names, d.Name)
	}
	return nil, fmt.Errorf("the host has no disk %s: it has %s", name, strings.Join(names, ", "))
}

// String is the plan as it was given, with enforce mode named.
func (p Plan) String() string {
	if p.Enforce {
		return p.text + " + enforce"
	}
	return p.text
}

// file is the plan's name as a part of a file's.
func (p Plan) file(n int) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(filepath.Base(p.String())))
	return fmt.Sprintf("%02d-%s", n, clean[:min(len(clean), 60)])
}

// onTime is what a disk may come after the first one without coming later: those that are
// there when the machine starts are found one after the other.
const onTime = time.Second

// comes says how long after the first disk this one comes; 0: with it.
func (p Plan) comes(d *twin.Disk) (after time.Duration, ok bool) {
	if slices.Contains(p.Missing, d.Name) {
		return 0, false
	}
	if d.Came != nil && *d.Came > onTime {
		after = *d.Came
	}
	return after + p.Late[d.Name], true
}

func sortHotplugs(list []hotplug) {
	slices.SortStableFunc(list, func(a, b hotplug) int { return cmp.Compare(a.after, b.after) })
}
