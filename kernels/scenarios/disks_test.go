package scenarios

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/kernels/lab"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// diskPackages are what the machine needs to have a disk of each kind.
var diskPackages = []string{
	"mdadm", "open-iscsi", "nvme-cli", "drbd-utils", "bcache-tools", "nfs-kernel-server", "nfs-common",
}

// diskKind is a kind of disk, and what a guest finds that comes too early for one.
type diskKind struct {
	name string
	// late are the findings of which a guest that came too early has one.
	late []string
	// never are those of one whose disk never came.
	never []string
	// opens is set where the guest gets the empty device, and goes on with it.
	opens bool
	// unmeasured is set where nothing in the record tells the instant.
	unmeasured bool
}

// diskKinds are those of the scenario's kinds.sh, but for scsi, which has one disk
// only. Devices of nbd and zram are there before they have anything behind them, with a
// size of 0.
var diskKinds = []diskKind{
	{name: "md"}, {name: "loop"}, {name: "iscsi"}, {name: "nvme"}, {name: "drbd"},
	{name: "nbd", late: []string{"not-live"}, never: []string{"not-live"}, opens: true},
	// The kernel announces no size that was 0 before (set_capacity_and_notify).
	{name: "zram", late: []string{"not-live"}, never: []string{"not-live"}, opens: true, unmeasured: true},
	{name: "bcache"}, {name: "part"}, {name: "lv"}, {name: "lvfile"}, {name: "nfs"}, {name: "one"},
	// The link is made by hand, after its volume: only a later look tells of it.
	{name: "onelink", late: []string{"missing", "link-late", "never-ready"}, unmeasured: true},
	{name: "ch"},
}

func (k *diskKind) tooEarly() []string {
	if k.late != nil {
		return k.late
	}
	return []string{"missing", "link-late"} // with the node there already, and not its link
}

func (k *diskKind) neverCame() []string {
	if k.never != nil {
		return k.never
	}
	return []string{"never-ready"}
}

// A guest on each kind of disk: in time, too late and never, traced and held. What
// is right was seen by witnesses: the kernel's tracing of opens, and a program that
// looks when each path can be used.
func TestDisks(t *testing.T) { testDisks(t, asked()) }

func testDisks(t *testing.T, w watch) {
	if os.Getenv("BOOTRACE_DISKS") == "" {
		t.Skip("NOT RUN: two long boots; `make disks-test` runs it")
	}
	out := w.play(t, "disks", func(o *lab.Options) {
		o.Packages, o.Timeout = diskPackages, 40*time.Minute
		o.Install = withStandin(repo(t), o.Install)
	})
	checkDisks(t, out)
}

func checkDisks(t *testing.T, out string) {
	t.Helper()
	t.Run("first", func(t *testing.T) { checkFirst(t, readDiskBoot(t, out, "first", "1")) })
	b := readDiskBoot(t, out, "trace", "2")
	t.Run("intime", func(t *testing.T) { checkInTime(t, b) })
	t.Run("late", func(t *testing.T) { checkTooEarly(t, b) })
	t.Run("never", func(t *testing.T) { checkNever(t, b) })
	t.Run("held", func(t *testing.T) { checkHolds(t, b) })
	t.Run("role", func(t *testing.T) { checkRole(t, b) })
	t.Run("volumes", func(t *testing.T) { checkRefused(t, b) })
}

// diskBoot is what bootrace says of a boot, and what the witnesses saw.
type diskBoot struct {
	*timeline.Timeline
	ids      map[string]string     // of guests, by the names that the scenario gives them
	outcomes map[string]string     // of guests
	paths    map[string]string     // of each guest's disk
	opens    map[string]sight      // each guest's first open of it
	usable   map[string]sight      // when each path could be used first
	settled  map[string]event.Time // when udev had nothing more to do for it
}

func readDiskBoot(t *testing.T, out, name, n string) *diskBoot {
	t.Helper()
	b := &diskBoot{Timeline: readTimeline(t, filepath.Join(out, name+".json")), outcomes: map[string]string{}, paths: map[string]string{}, ids: map[string]string{}}
	data, err := os.ReadFile(filepath.Join(out, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var judged struct {
		Verdicts []struct {
			GuestID string `json:"guest_id"`
			Outcome string `json:"outcome"`
		}
	}
	if err := json.Unmarshal(data, &judged); err != nil {
		t.Fatal(err)
	}
	traced := readOpens(t, filepath.Join(out, "opens"+n+".txt"))
	b.opens = map[string]sight{}
	for _, line := range fields(t, filepath.Join(out, "guests"+n+".txt"), 3) {
		guest, path, pid := line[0], line[1], line[2]
		b.paths[guest] = path
		if i := slices.IndexFunc(traced[pid], func(s sight) bool { return s.what == path }); i >= 0 {
			b.opens[guest] = traced[pid][i]
		}
		// cloud-hypervisor gives its guests no names.
		if i := slices.IndexFunc(b.Guests, func(g *timeline.Guest) bool { return strconv.Itoa(g.PID) == pid }); i >= 0 {
			b.ids[guest] = b.Guests[i].ID
		}
		for _, v := range judged.Verdicts {
			if v.GuestID != "" && v.GuestID == b.ids[guest] {
				b.outcomes[guest] = v.Outcome
			}
		}
	}
	b.usable, b.settled = map[string]sight{}, map[string]event.Time{}
	for _, line := range fields(t, filepath.Join(out, "usable"+n+".txt"), 3) {
		b.usable[line[0]] = sight{line[0], nanoseconds(t, line[1]), nanoseconds(t, line[2])}
	}
	for _, line := range fields(t, filepath.Join(out, "settled"+n+".txt"), 2) {
		at, err := time.ParseDuration(line[1] + "s")
		if err != nil {
			t.Fatal(err)
		}
		b.settled[line[0]] = event.Time(at)
	}
	return b
}

// fields are the words of each line of a witness, n a line.
func fields(t *testing.T, path string, n int) [][]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list [][]string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) != n {
			t.Fatalf("%s: %q has not %d words", path, line, n)
		}
		list = append(list, f)
	}
	return list
}

func nanoseconds(t *testing.T, s string) event.Time {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return event.Time(n)
}

// readOpens returns the opens that the kernel traced, by thread, in order. A guest
// opens its disks in its first thread.
func readOpens(t *testing.T, path string) map[string][]sight {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	threads, opens := map[string]*tracer{}, map[string][]sight{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		m := traceLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		at, err := parseSeconds(m[2])
		if err != nil {
			t.Fatal(err)
		}
		if threads[m[1]] == nil {
			threads[m[1]] = &tracer{}
		}
		thread := threads[m[1]]
		if _, err := thread.step(at, m[3]); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		if strings.HasPrefix(m[3], "sys_openat -> ") {
			opens[m[1]] = append(opens[m[1]], sight{thread.path, thread.entered, at})
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return opens
}

// slack is how much later than the script's last look bootrace may take udev to be
// done: it reads udev's events when it has its turn, on one busy processor.
const slack = time.Second

// checkMargin compares a margin with the witnesses: the open was when the kernel
// traced it, and the disk was ready not before its path could be used, and not
// after the script had seen udev settle.
func (b *diskBoot) checkMargin(t *testing.T, guest string, m *timeline.Margin) {
	t.Helper()
	path := b.paths[guest]
	open, seen := b.opens[guest]
	usable, came := b.usable[path]
	settled, done := b.settled[path]
	switch {
	case m == nil:
		t.Errorf("%s: no margin", guest)
		return
	case !seen || !came || !done:
		t.Errorf("%s: the witnesses did not see %s opened (%v), usable (%v) and settled (%v)", guest, path, seen, came, done)
		return
	}
	least, most := open.from.Sub(settled)-slack, open.at.Sub(usable.from)+agreement
	got, width := m.NS, m.Width
	if got > most || got+width < least {
		t.Errorf("%s: margin %v (+%v), the witnesses say %v to %v", guest, got, width, least, most)
	}
}

// guest is nil where bootrace does not know the guest of that name.
func (b *diskBoot) guest(name string) *timeline.Guest {
	for _, g := range b.Guests {
		if g.ID == b.ids[name] {
			return g
		}
	}
	return nil
}

func (b *diskBoot) findings(guest string) []*timeline.Finding {
	var list []*timeline.Finding
	for _, f := range b.Findings {
		if f.GuestID != "" && f.GuestID == b.ids[guest] && f.Kind != "would-hold" && f.Kind != "held" {
			list = append(list, f)
		}
	}
	return list
}

func (b *diskBoot) outcome(t *testing.T, guest, want string) {
	t.Helper()
	if got := b.outcomes[guest]; got != want {
		t.Errorf("%s: outcome %q, want %q", guest, got, want)
	}
}

// causesOf are the kinds of a guest's causes.
func (b *diskBoot) causesOf(guest string) []string {
	var list []string
	for _, v := range b.Verdicts {
		if v.GuestID != b.ids[guest] {
			continue
		}
		for _, c := range v.Causes {
			list = append(list, c.Kind)
		}
	}
	return list
}

// use is the first use of the only disk of the guest of that name.
func (b *diskBoot) use(t *testing.T, guest string) *timeline.Use {
	t.Helper()
	g := b.guest(guest)
	if g == nil {
		t.Errorf("%s is not known as a guest", guest)
		return &timeline.Use{}
	}
	for _, d := range g.Disks {
		if d.Path == b.paths[guest] && len(d.Uses) > 0 {
			return &d.Uses[0]
		}
	}
	t.Errorf("%s: no use of %s", guest, b.paths[guest])
	return &timeline.Use{}
}

// checkFirst: nothing is wrong in a boot in which every disk was there in time.
func checkFirst(t *testing.T, b *diskBoot) {
	if diff := cmp.Diff([]string(nil), kinds(b.Timeline)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	for guest := range b.paths {
		if strings.HasPrefix(guest, "onelink-") {
			b.outcome(t, guest, "fine") // when its link was made is not in the record
		} else {
			b.fine(t, guest)
		}
	}
}

func checkInTime(t *testing.T, b *diskBoot) {
	for _, k := range diskKinds {
		guest := k.name + "-intime"
		if !k.unmeasured {
			b.fine(t, guest)
		} else if list := b.findings(guest); len(list) != 0 || b.use(t, guest).Errno != 0 || b.outcomes[guest] == "failed" {
			t.Errorf("%s: %s, findings %+v", guest, b.outcomes[guest], list)
		}
	}
}

// fine: the guest had its disk in time, and that is measured.
func (b *diskBoot) fine(t *testing.T, guest string) {
	t.Helper()
	b.outcome(t, guest, "fine")
	if list := b.findings(guest); len(list) != 0 {
		t.Errorf("%s: findings %+v", guest, list)
	}
	u := b.use(t, guest)
	if u.Errno != 0 || !u.Positive() {
		t.Errorf("%s: %s, margin %+v", guest, u.Error, u.Margin)
	}
	b.checkMargin(t, guest, u.Margin)
}

func checkTooEarly(t *testing.T, b *diskBoot) {
	for _, k := range diskKinds {
		guest := k.name + "-late"
		b.outcome(t, guest, "failed")
		list := b.findings(guest)
		if len(list) != 1 || !slices.Contains(k.tooEarly(), list[0].Kind) || list[0].Withheld != "" {
			t.Errorf("%s: findings %+v, want one of %v", guest, list, k.tooEarly())
			continue
		}
		f := list[0]
		if k.opens == (f.Errno != 0) {
			t.Errorf("%s: error %q", guest, f.Error)
		}
		if k.unmeasured {
			continue
		}
		if !f.Race || !f.Negative() {
			t.Errorf("%s: %s is no race: %+v", guest, f.Kind, f.Margin)
		}
		b.checkMargin(t, guest, f.Margin)
		if got := b.causesOf(guest); !slices.Equal(got, []string{timeline.CauseTooLate}) {
			t.Errorf("%s: causes %v", guest, got)
		}
	}
}

func checkNever(t *testing.T, b *diskBoot) {
	for _, k := range diskKinds {
		for _, guest := range []string{k.name + "-never", k.name + "-c"} { // -c was held to the deadline before
			b.outcome(t, guest, "failed")
			list := b.findings(guest)
			if len(list) != 1 || !slices.Contains(k.neverCame(), list[0].Kind) || list[0].Margin != nil {
				t.Errorf("%s: findings %+v, want one of %v", guest, list, k.neverCame())
			}
			if got := b.causesOf(guest); len(got) != 1 || got[0] == timeline.CauseNeither {
				t.Errorf("%s: causes %v", guest, got)
			}
		}
	}
}

// checkHolds: a guest whose disk came is held until then, runs, and had its disk in
// time; one whose disk never came is held to the deadline.
func checkHolds(t *testing.T, b *diskBoot) {
	for _, k := range append(slices.Clone(diskKinds), diskKind{name: "scsi"}) {
		if hold := b.onlyHold(t, k.name+"-a"); hold != nil {
			path := b.paths[k.name+"-a"]
			usable, settled := b.usable[path], b.settled[path]
			if hold.Outcome != "allowed" || hold.Reason != "ready" {
				t.Errorf("%s-a: hold ended %s, %s", k.name, hold.Outcome, hold.Reason)
			}
			if at := hold.Released.At; at < usable.from || at > settled.Add(slack) {
				t.Errorf("%s-a: released at %v, usable from %v to %v, settled at %v", k.name, at, usable.from, usable.at, settled)
			}
		}
		u := b.use(t, k.name+"-a")
		if u.Errno != 0 || u.Margin == nil || u.Negative() {
			t.Errorf("%s-a: %s, margin %+v", k.name, u.Error, u.Margin)
		}
		b.outcome(t, k.name+"-a", "fine")
		if list := b.findings(k.name + "-a"); slices.ContainsFunc(list, func(f *timeline.Finding) bool { return f.Race }) {
			t.Errorf("%s-a: %+v", k.name, list)
		}
		if k.name == "scsi" {
			continue
		}
		hold := b.onlyHold(t, k.name+"-c")
		if hold == nil {
			continue
		}
		if late := hold.Released.At.Sub(hold.Deadline); hold.Outcome != "allowed" || hold.Reason == "ready" || late < -slack || late > slack {
			t.Errorf("%s-c: hold ended %s, %s, %v after its deadline", k.name, hold.Outcome, hold.Reason, late)
		}
	}
}

func (b *diskBoot) onlyHold(t *testing.T, guest string) *timeline.Hold {
	t.Helper()
	g := b.guest(guest)
	if g == nil || len(g.Holds) != 1 || g.Holds[0].Released == nil {
		t.Errorf("%s: not one hold: %+v", guest, g)
		return nil
	}
	return &g.Holds[0]
}

// checkRole: a DRBD device that is no primary refuses to be opened for writing,
// whatever its life was before.
func checkRole(t *testing.T, b *diskBoot) {
	b.outcome(t, "drbd-role", "failed")
	// drbd_open: EROFS for writing, EMEDIUMTYPE for reading, as qemu tries first.
	if u := b.use(t, "drbd-role"); u.Error != "EROFS" && u.Error != "EMEDIUMTYPE" {
		t.Errorf("drbd-role: error %q", u.Error)
	}
	if list := b.findings("drbd-role"); len(list) != 1 || list[0].Errno == 0 {
		t.Errorf("drbd-role: findings %+v", list)
	}
}

// checkRefused: volumes that were not activated for a reason that no order of units
// cures, and one that was live without its link.
func checkRefused(t *testing.T, b *diskBoot) {
	for guest, kind := range map[string]string{"noblkid": "never-ready", "bypath": "never-ready", "nolink": "link-missing"} {
		b.outcome(t, guest, "failed")
		if list := b.findings(guest); len(list) != 1 || list[0].Kind != kind || list[0].Margin != nil {
			t.Errorf("%s: findings %+v", guest, list)
		}
		for _, v := range b.Verdicts {
			if v.GuestID != b.ids[guest] {
				continue
			}
			for _, c := range v.Causes {
				if c.Kind == timeline.CauseNeither || len(c.Cures) == 0 || c.Cures[0] == timeline.CureOrder {
					t.Errorf("%s: %s, cures %v", guest, c.Kind, c.Cures)
				}
				if guest == "noblkid" && !slices.Contains(c.Settings, timeline.SettingNotAnnounced) {
					t.Errorf("%s: settings %v", guest, c.Settings)
				}
			}
		}
	}
}

// withStandin installs the stand-in of the scenario under both of its names.
func withStandin(repo string, install lab.Install) lab.Install {
	return func(ctx context.Context, root string) error {
		if err := install(ctx, root); err != nil {
			return err
		}
		for _, path := range []string{"usr/local/bin/cloud-hypervisor", "usr/local/lib/disks/witness"} {
			build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(root, path), "./kernels/scenarios/disks/standin")
			build.Dir, build.Env = repo, append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				return fmt.Errorf("build the stand-in: %w: %s", err, out)
			}
		}
		return nil
	}
}
