package roster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
)

var (
	missing = event.WayInfo{Node: "/srv/a.img", Errno: int(syscall.ENOENT), Missing: "/srv/a.img"}
	there   = event.WayInfo{Node: "/srv/a.img", Type: "file", Size: 1}
	mapped  = event.WayInfo{Node: "/dev/dm-1", Type: "block", Links: []event.WayLink{{Path: "/dev/vg/a", Target: "../dm-1"}}}
	foreign = event.WayInfo{Node: "/dev/dm-1", Type: "block", Links: []event.WayLink{{Path: "/one/disk.0", Target: "/dev/vg/a"}, {Path: "/dev/vg/a", Target: "../dm-1"}}}
)

// ways are the lines about ways that were told.
func (r *rig) tellings() (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.told {
		if strings.HasPrefix(line, "way ") {
			list = append(list, line)
		}
	}
	return list
}

// A guest's links and files are looked at when it starts, when an open of them
// failed and when it fails; what has not changed is told once, and what a
// volume's path says by itself is not told at all.
func TestWays(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.way("/srv/a.img", missing)
		r.way("/dev/vg/a", mapped)
		r.way("/one/disk.0", foreign)
		r.exec(10, "-name vm -hda a.img -hdb /dev/vg/a -hdc /one/disk.0")
		if got := r.tellings(); len(got) != 1 { // a.img is below /
			t.Errorf("%q", got)
		}
		r.exec(11, "-name other -hda /srv/a.img")
		want := []string{
			"way 10 /one/disk.0 -> /dev/dm-1 errno 0",
			"way 11 /srv/a.img -> /srv/a.img no such file or directory",
		}
		if diff := cmp.Diff(want, r.tellings()); diff != "" {
			t.Error(diff)
		}
		r.after(time.Second)
		r.failed(11, "/srv/a.img")
		if diff := cmp.Diff(want, r.tellings()); diff != "" {
			t.Errorf("the same again: %s", diff)
		}
		r.after(time.Second)
		r.way("/srv/a.img", there)
		r.failed(11, "/etc/qemu/other") // no disk
		r.failed(12, "/srv/a.img")      // no guest
		if diff := cmp.Diff(want, r.tellings()); diff != "" {
			t.Errorf("nobody asked: %s", diff)
		}
		r.exit(11, 1)
		want = append(want, "way 11 /srv/a.img -> /srv/a.img errno 0")
		if diff := cmp.Diff(want, r.tellings()); diff != "" {
			t.Errorf("it ended: %s", diff)
		}
		eyes := r.eyes
		r.exit(10, 0)
		if r.eyes != eyes {
			t.Error("a guest that ended well was looked at")
		}
	})
}

// A guest that opens what is not there a thousand times a second costs a look
// now and then, and no more than maxLooks.
func TestWaysAreBounded(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.way("/srv/a.img", missing)
		r.exec(10, "-name vm -hda /srv/a.img")
		for range 1000 {
			r.failed(10, "/srv/a.img")
			r.after(time.Millisecond)
		}
		if r.eyes < 5 || r.eyes > 12 {
			t.Errorf("%d looks in a second", r.eyes)
		}
		for range 200 {
			r.failed(10, "/srv/a.img")
			r.after(time.Second)
		}
		if r.eyes != maxLooks {
			t.Errorf("%d looks in all", r.eyes)
		}
	})
}

// What a boot's record has of ways of one user's guests is bounded, however many fail
// and are started again, and that is said once, as his loss. It costs nobody else.
func TestWaysOfABoot(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		args := "-name vm"
		r.uid = 1000
		for i := range 250 {
			path := fmt.Sprintf("/srv/%d.img", i)
			r.way(path, missing)
			args += " -drive file=" + path
		}
		for pid := range maxTold/250 + 3 {
			r.exec(1000+pid, args)
			r.after(time.Second)
			r.failed(1000+pid, "/srv/0.img")
			r.after(time.Second)
			r.exit(1000+pid, 1)
		}
		ways, losses := 0, []string{}
		for _, line := range r.told {
			if strings.HasPrefix(line, "loss") {
				losses = append(losses, line)
			} else if strings.HasPrefix(line, "way") && strings.HasSuffix(line, "(user 1000)") {
				ways++
			}
		}
		if ways != maxTold {
			t.Errorf("%d ways", ways)
		}
		r.uid = 0
		r.exec(5000, args)
		r.after(time.Second)
		if told := len(slices.DeleteFunc(slices.Clone(r.told), func(line string) bool { return !strings.HasPrefix(line, "way 5000 ") })); told != 250 {
			t.Errorf("of root's guest %d ways are told", told)
		}
		if len(losses) != 1 || !strings.Contains(losses[0], "loss way: 20000 ways of paths of one user's guests are recorded") || !strings.HasSuffix(losses[0], "(user 1000)") {
			t.Errorf("losses %q", losses)
		}
	})
}

// Storage whose server is down keeps looks waiting, and nothing else.
func TestWaysHang(t *testing.T) {
	dir := t.TempDir()
	run(t, func(t *testing.T, r *rig) {
		r.Opened(dir)
		r.hold = make(chan struct{})
		r.way("/srv/a.img", there)
		for pid := range 2 * lookers {
			r.exec(100+pid, "-name hangs -hda /srv/a.img")
		}
		r.exec(10, "-name vm -hda /dev/vg/a", 1)
		r.after(time.Minute)
		if got := r.known(t, dir, "name:vm"); len(got) != 1 {
			t.Errorf("what a guest runs on is not remembered: %q", got)
		}
		if got := r.tellings(); len(got) != 0 {
			t.Errorf("told %q", got)
		}
		close(r.hold)
		synctest.Wait()
		if got := r.tellings(); len(got) != 2*lookers {
			t.Errorf("told %q", got)
		}
	})
}

// A look through a real process's eyes.
func TestLookAt(t *testing.T) {
	dir := t.TempDir()
	link, file := filepath.Join(dir, "disk.0"), filepath.Join(dir, "a.img")
	if err := os.WriteFile(file, []byte("image"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	absent := filepath.Join(dir, "late/web.img")
	got := LookAt([]int{0, 1 << 30, os.Getpid()}, map[string]string{"a.img": file, link: link, absent: absent})
	if len(got) != 3 {
		t.Fatalf("%d sights", len(got))
	}
	byPath := map[string]event.WayInfo{}
	for _, s := range got {
		if s.From == 0 || s.At < s.From {
			t.Errorf("%s: window %d to %d", s.Way.Path, s.From, s.At)
		}
		if s.Way.FSDev == nil || s.Way.Mount == "" {
			t.Errorf("%s: on %q, %v", s.Way.Path, s.Way.Mount, s.Way.FSDev)
		}
		s.Way.FSDev, s.Way.Mount, s.Way.Inode = nil, "", min(s.Way.Inode, 1)
		byPath[s.Way.Path] = s.Way
	}
	want := map[string]event.WayInfo{
		"a.img": {Path: "a.img", Node: file, Type: "file", Size: 5, Inode: 1},
		link:    {Path: link, Node: "/dev/null", Type: "other", Inode: 1, Links: []event.WayLink{{Path: link, Target: "/dev/null"}}},
		absent:  {Path: absent, Node: absent, Errno: int(syscall.ENOENT), Missing: filepath.Dir(absent)},
	}
	if diff := cmp.Diff(want, byPath); diff != "" {
		t.Error(diff)
	}
	if got := LookAt([]int{0, 1 << 30}, map[string]string{file: file}); got != nil {
		t.Errorf("nobody's view: %v", got)
	}
}
