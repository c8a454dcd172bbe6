package mounts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// Lines as Linux 6.1 writes them.
const (
	rootLine    = "26 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n"
	imagesLine  = "40 26 253:4 / /srv/images rw,relatime shared:20 - xfs /dev/mapper/vg0-images rw,attr2\n"
	bindLine    = "41 26 253:4 /web\\040a /srv/web\\040a ro,relatime shared:20 - xfs /dev/mapper/vg0-images rw,attr2\n"
	nfsLine     = "42 26 0:52 / /srv/nfs rw,relatime shared:21 - nfs4 filer:/export/vm rw,vers=4.2,hard\n"
	kernelLines = "21 26 0:20 / /proc rw - proc proc rw\n30 22 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n" +
		"60 26 0:60 / /var/lib/docker/overlay2/1f/merged rw - overlay overlay rw,lowerdir=/a:/b\n" +
		"61 26 0:61 / /var/lib/docker/containers/1f/mounts/shm rw - tmpfs shm rw\n" +
		"62 26 0:4 net:[4026532281] /run/docker/netns/1f rw - nsfs nsfs rw\n" +
		"63 26 0:63 / /run/credentials/systemd-sysusers.service ro - ramfs ramfs rw\n"
	liveRoot = "26 1 0:19 / / rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/b\n"
)

func points(t *testing.T, text string) (list []string) {
	t.Helper()
	got, err := readTable(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range got.mounts {
		line := fmt.Sprintf("%s %s %s %s %d:%d", m.point, m.root, m.source, m.kind, m.dev.Major, m.dev.Minor)
		if got.readOnly[m] {
			line += " ro"
		}
		list = append(list, line)
	}
	return list
}

func TestReadTable(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"none": {"", nil},
		"all": {rootLine + imagesLine + bindLine + nfsLine, []string{
			"/ / /dev/vda1 ext4 254:0", "/srv/images / /dev/mapper/vg0-images xfs 253:4",
			"/srv/web a /web a /dev/mapper/vg0-images xfs 253:4 ro", "/srv/nfs / filer:/export/vm nfs4 0:52",
		}},
		"the kernel's and containers'": {kernelLines, nil},
		"a root of a live system":      {liveRoot, []string{"/ / overlay overlay 0:19"}},
		"a volume of a container":      {"70 26 253:9 / /var/lib/docker/volumes/vm rw - ext4 /dev/dm-9 rw\n", []string{"/var/lib/docker/volumes/vm / /dev/dm-9 ext4 253:9"}},
		"a read-only file system":      {"26 1 254:0 / / rw - ext4 /dev/vda1 ro\n", []string{"/ / /dev/vda1 ext4 254:0 ro"}},
		"a name like an option":        {"26 1 254:0 / / rw,ro_x - ext4 ro rw,ro=1\n", []string{"/ / ro ext4 254:0"}},
		"a line that is not one":       {"rubbish\n" + nfsLine, []string{"/srv/nfs / filer:/export/vm nfs4 0:52"}},
	} {
		if diff := cmp.Diff(tc.want, points(t, tc.text)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestReadTableBounds(t *testing.T) {
	var text strings.Builder
	for i := range maxMounts + 5 {
		fmt.Fprintf(&text, "%d 26 253:4 / /srv/%d rw - xfs /dev/dm-4 rw\n", i+30, i)
	}
	got, err := readTable(strings.NewReader(text.String()))
	if err != nil || len(got.mounts) != maxMounts || !got.cut {
		t.Errorf("%d mounts, cut: %v, %v", len(got.mounts), got.cut, err)
	}
}

func TestPoint(t *testing.T) {
	table, err := readTable(strings.NewReader(rootLine + imagesLine + bindLine + nfsLine))
	if err != nil {
		t.Fatal(err)
	}
	xfs := event.Dev{Major: 253, Minor: 4}
	for _, tc := range []struct {
		id     int
		folder string
		dev    event.Dev
		want   string
	}{
		{41, "/srv/web a", xfs, "/srv/web a"},
		{99, "/srv/web a", xfs, ""}, // of another kind, or gone
		{0, "/srv/images/a/b", xfs, "/srv/images"},
		{0, "/srv/images", xfs, "/srv/images"},
		{0, "/srv/imagesx", event.Dev{Major: 254}, "/"},
		{0, "/srv/images/a", event.Dev{Major: 7}, ""},
		{0, "/", event.Dev{Major: 254}, "/"},
	} {
		if got := table.Point(tc.id, tc.folder, tc.dev); got != tc.want {
			t.Errorf("%d, %s: %q, want %q", tc.id, tc.folder, got, tc.want)
		}
	}
	own, err := TableOf(os.Getpid())
	if err != nil || own.Point(0, "/", own.mounts[0].dev) == "" && len(own.mounts) == 0 {
		t.Errorf("this process's: %v", err)
	}
}

// FUSE is mounted by users; whose it is bounds what of it is recorded.
func TestUserOfMount(t *testing.T) {
	for line, want := range map[string]uint32{
		"50 26 0:60 / /home/a/mnt rw,nosuid,nodev - fuse.sshfs a:/ rw,user_id=1000,group_id=1000\n": 1000,
		"50 26 0:60 / /mnt rw - fuse x rw,user_id=0,group_id=0\n":                                   0,
		"50 26 0:60 / /mnt rw - fuse x rw,user_id=99999999999\n":                                    0,
		"50 26 0:60 / /mnt rw - nfs x rw,user_id=1000\n":                                            0,
	} {
		table, err := readTable(strings.NewReader(line))
		if err != nil || len(table.mounts) != 1 || table.mounts[0].uid != want {
			t.Errorf("%q: %+v, %v", line, table, err)
		}
	}
	s := newSource(t)
	s.known, s.told = &Table{}, maxEvents
	table, err := readTable(strings.NewReader("50 26 0:60 / /mnt rw - fuse x rw,user_id=1000\n"))
	if err != nil {
		t.Fatal(err)
	}
	s.compare(t.Context(), table)
	if len(s.events) != 1 || (<-s.events).Mount.UID != 1000 || s.noMore {
		t.Error("a user's mounts use up what is recorded of all")
	}
}

func FuzzReadTable(f *testing.F) {
	f.Add([]byte(rootLine + imagesLine + bindLine))
	f.Add([]byte("rubbish\n" + kernelLines))
	f.Add([]byte("1 2 3:4 \\1 \\777 ro - - -"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := readTable(strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(string(text), "\n") + 1; len(got.mounts)+got.unread > lines {
			t.Errorf("%d mounts and %d more in %d lines", len(got.mounts), got.unread, lines)
		}
	})
}

// compared returns what is told when the first list is replaced by the second.
func compared(t *testing.T, lists ...string) (told []event.Event) {
	t.Helper()
	s := newSource(t)
	for i, text := range lists {
		now, err := readTable(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		s.compare(t.Context(), now)
		s.since = event.Time(100 * (i + 1))
		told = nil // of the first list, all is found
		for len(s.events) > 0 {
			told = append(told, <-s.events)
		}
	}
	return told
}

// newSource makes one that follows nothing, on a host with udev's record of
// 253:4.
func newSource(t *testing.T) *Source {
	root := t.TempDir()
	dir := filepath.Join(root, "run/udev/data")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "b253:4"), []byte("E:ID_FS_UUID=1c5d\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	return &Source{options: Options{Root: root}, events: make(chan event.Event, 2*maxMounts), log: slog.New(slog.DiscardHandler)}
}

func TestCompare(t *testing.T) {
	images := event.MountInfo{Point: "/srv/images", Root: "/", Source: "/dev/mapper/vg0-images", FSType: "xfs", Dev: event.Dev{Major: 253, Minor: 4}, Unit: "srv-images.mount"}
	with := func(m event.MountInfo, change func(m *event.MountInfo)) *event.MountInfo { change(&m); return &m }
	for name, tc := range map[string]struct {
		before, after string
		want          []*event.MountInfo
	}{
		"nothing": {rootLine + imagesLine, rootLine + imagesLine, nil},
		"mounted": {rootLine, rootLine + imagesLine, []*event.MountInfo{
			with(images, func(m *event.MountInfo) { m.Action, m.UUID = event.MountMade, "1c5d" }),
		}},
		"unmounted": {rootLine + imagesLine, rootLine, []*event.MountInfo{
			with(images, func(m *event.MountInfo) { m.Action = event.MountGone }),
		}},
		"read-only": {imagesLine, strings.Replace(imagesLine, "rw,attr2", "ro,attr2", 1), []*event.MountInfo{
			with(images, func(m *event.MountInfo) { m.Action, m.UUID, m.ReadOnly = event.MountRemounted, "1c5d", true }),
		}},
		"moved": {imagesLine, strings.Replace(imagesLine, "/srv/images", "/mnt", 1), []*event.MountInfo{
			with(images, func(m *event.MountInfo) { m.Action = event.MountGone }),
			with(images, func(m *event.MountInfo) {
				m.Action, m.UUID, m.Point, m.Unit = event.MountMade, "1c5d", "/mnt", "mnt.mount"
			}),
		}},
		"replaced, with the same number": {imagesLine, strings.ReplaceAll(imagesLine, "253:4", "253:7"), []*event.MountInfo{
			with(images, func(m *event.MountInfo) { m.Action = event.MountGone }),
			with(images, func(m *event.MountInfo) { m.Action, m.Dev.Minor = event.MountMade, 7 }),
		}},
		"propagation": {imagesLine, strings.Replace(imagesLine, "shared:20", "master:3", 1), nil},
		"a container": {rootLine, rootLine + kernelLines, nil},
	} {
		var got []*event.MountInfo
		for _, e := range compared(t, tc.before, tc.after) {
			if e.Kind != event.Mount || e.Src != SourceName || e.From != 100 || e.At == 0 {
				t.Errorf("%s: %+v", name, e)
			}
			got = append(got, e.Mount)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestFound(t *testing.T) {
	s := newSource(t)
	now, err := readTable(strings.NewReader(rootLine + imagesLine + nfsLine))
	if err != nil {
		t.Fatal(err)
	}
	s.compare(t.Context(), now)
	var got []event.MountInfo
	for len(s.events) > 0 {
		e := <-s.events
		if e.From != bootStart {
			t.Errorf("from %d", e.From)
		}
		got = append(got, *e.Mount)
	}
	want := []event.MountInfo{
		{Action: event.MountFound, Point: "/", Root: "/", Source: "/dev/vda1", FSType: "ext4", Dev: event.Dev{Major: 254}, Unit: "-.mount"},
		{Action: event.MountFound, Point: "/srv/images", Root: "/", Source: "/dev/mapper/vg0-images", FSType: "xfs", Dev: event.Dev{Major: 253, Minor: 4}, UUID: "1c5d", Unit: "srv-images.mount"},
		{Action: event.MountFound, Point: "/srv/nfs", Root: "/", Source: "filer:/export/vm", FSType: "nfs4", Dev: event.Dev{Minor: 52}, Unit: "srv-nfs.mount"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What comes and goes for months fills no log, and what is not followed is told
// once.
func TestBounds(t *testing.T) {
	s := newSource(t)
	s.known, s.told = &Table{}, maxEvents-1
	lists := []string{rootLine + imagesLine, rootLine, rootLine + imagesLine, "rubbish\n" + rootLine, "rubbish\n" + rootLine}
	for _, text := range lists {
		now, err := readTable(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		s.compare(t.Context(), now)
	}
	counts := map[event.Kind]int{}
	for len(s.events) > 0 {
		e := <-s.events
		counts[e.Kind]++
	}
	if want := map[event.Kind]int{event.Mount: 1, event.Loss: 2}; !cmp.Equal(want, counts) {
		t.Errorf("told %v, want %v", counts, want)
	}
}

func TestUnitOf(t *testing.T) {
	for point, want := range map[string]string{
		"/": "-.mount", "/srv/images": "srv-images.mount", "/srv/web-a b": `srv-web\x2da\x20b.mount`, "/" + strings.Repeat("n", 300): "",
	} {
		if got := unitOf(point); got != want {
			t.Errorf("%s: %s, want %s", point, got, want)
		}
	}
}

// A mount in this process's namespace is seen, with a window that holds it.
func TestLive(t *testing.T) {
	s, err := start(Options{}, "self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	events := make(chan event.Event, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx, func(e event.Event) { events <- e }) }()
	next := func(action event.MountAction, point string) event.Event {
		t.Helper()
		late := time.After(10 * time.Second)
		for {
			select {
			case e := <-events:
				if e.Kind == event.Mount && e.Mount.Action == action && e.Mount.Point == point {
					return e
				}
			case <-late:
				t.Fatalf("%s is not %s", point, action)
			}
		}
	}
	next(event.MountFound, "/")
	point := t.TempDir()
	before := event.Now()
	if err := unix.Mount("bootrace-test", point, "tmpfs", 0, "size=4k"); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer unix.Unmount(point, unix.MNT_DETACH)
	made := next(event.MountMade, point)
	after := event.Now()
	want := &event.MountInfo{Action: event.MountMade, Point: point, Root: "/", Source: "bootrace-test", FSType: "tmpfs", Unit: unitOf(point)}
	if diff := cmp.Diff(want, made.Mount, cmpopts.IgnoreFields(event.MountInfo{}, "Dev")); diff != "" {
		t.Error(diff)
	}
	if made.At < before || made.At > after || made.From >= made.At {
		t.Errorf("window %d to %d, mounted after %d", made.From, made.At, before)
	}
	if made.From > before && made.From > after {
		t.Errorf("the window begins at %d, after the mount", made.From)
	}
	if err := unix.Unmount(point, 0); err != nil {
		t.Fatal(err)
	}
	if gone := next(event.MountGone, point); gone.From < made.From {
		t.Errorf("unmounted from %d, mounted from %d", gone.From, made.From)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func BenchmarkReadTable(b *testing.B) {
	for b.Loop() {
		file, err := os.Open("/proc/self/mountinfo")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := readTable(file); err != nil {
			b.Fatal(err)
		}
		file.Close()
	}
}

// A quiet list costs less and less, and a mount that comes late is known less exactly.
func TestTick(t *testing.T) {
	booting, booted := &Source{began: time.Now()}, &Source{began: time.Now().Add(-bootTime)}
	for _, c := range []struct {
		of         *Source
		same, want time.Duration
	}{
		{booting, 0, shortestTick},
		{booting, 60 * time.Second, 60 * time.Millisecond},
		{booting, time.Hour, longestTick},
		{booted, 0, longestTick},
	} {
		if got := c.of.tick(c.same); got != c.want {
			t.Errorf("after %s without a change it looks every %s, want %s", c.same, got, c.want)
		}
	}
}
