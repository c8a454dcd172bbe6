// Package mounts follows what is mounted in the host's mount namespace: that of
// process 1. A guest's image on a file system can be opened only while that is
// mounted.
//
// The kernel lists mounts in /proc/PID/mountinfo, and tells whoever polls that
// file that the list has changed (mounts_poll, fs/proc_namespace.c, Linux 2.6.15
// and later), but not what. So the list is read anew and compared. That bounds
// what can be known:
//
//   - A mount happened after the list was last known to be unchanged, and before
//     the new one was read. While the host boots, that is a window of some 20 ms;
//     later on, of half a second. On a host that is overloaded, or has thousands
//     of mounts, it is wider.
//   - A mount that is undone before the list has been read is not seen.
//   - What is mounted in other namespaces only (a container's, or a service's
//     with PrivateMounts=) is not seen.
//
// Mounts on which no image can lie are left out: the kernel's own file systems,
// containers' roots and services' credentials (see kernelKinds, containers).
package mounts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/unit"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/udev"
)

// SourceName is Event.Src of what this package records, and Ability the name of
// what it can do.
const (
	SourceName = "mounts"
	Ability    = "mount"
)

// Bounds.
const (
	maxMounts = 10_000
	// maxEvents is for one run: a host that starts containers for months must
	// not fill the log with what comes and goes.
	maxEvents = 20_000
	maxText   = 4096 // bytes of a path or source
	queued    = 1024 // events that wait for Run
)

// The list is asked for changes every 20 ms while mounts come, and less and less often
// when they have stopped: the pause is a thousandth of the time since the last change.
// The instant of a mount is known as exactly as that. On a host that has booted,
// containers may come all day, and it is half a second.
const (
	shortestTick = 20 * time.Millisecond
	longestTick  = 500 * time.Millisecond // later, always
	tickShare    = 1000
	bootTime     = 10 * time.Minute // after the source began
)

// tick is the time from one question to the next, where nothing has changed for so long.
func (s *Source) tick(same time.Duration) time.Duration {
	if time.Since(s.began) > bootTime {
		return longestTick
	}
	return min(max(same/tickShare, shortestTick), longestTick)
}

// readingShare: reading takes one in readingShare of the time at the most. With
// thousands of mounts it is slow, and keeps those waiting who mount.
const readingShare = 20

// bootStart is the earliest instant there is: 0 would say that At is exact.
const bootStart event.Time = 1

// Options configure a Source. The zero value is ready.
type Options struct {
	// Root is the directory that /proc, /run and /dev are looked for in; empty
	// means "/".
	Root string
	// FindRoot, if set, is called before /dev and /run are looked at: after the
	// switch from an initramfs they are somewhere else.
	FindRoot func()
	Log      *slog.Logger // may be nil
}

// Source follows mounts.
type Source struct {
	options Options
	log     *slog.Logger
	// proc is /proc. Held open, it stays good when an initramfs moves it to the
	// host's root.
	proc    int
	name    string // of the list in it
	own     error  // why it is this process's list and not that of process 1
	events  chan event.Event
	stop    context.CancelFunc
	stopped chan struct{}
	err     error // of follow, once stopped is closed

	// The rest belongs to follow.
	began  time.Time
	known  *Table
	since  event.Time // the list is known to have been like that then
	told   int        // events
	noMore bool       // and too many
	cut    bool       // too many mounts: that has been told
}

// Open begins to follow the host's mounts: what is there already is told as
// found, what comes later waits for Run.
func Open(o Options) (*Source, error) { return start(o, "1/mountinfo") }

// start follows the list of that name in /proc.
func start(o Options, name string) (*Source, error) {
	if o.Root == "" {
		o.Root = "/"
	}
	s := &Source{options: o, log: o.Log, events: make(chan event.Event, queued), stopped: make(chan struct{}), name: name, began: time.Now()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.proc, err = unix.Open(filepath.Join(o.Root, "proc"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("follow mounts: open /proc: %w", err)
	}
	fd, err := s.open()
	if errors.Is(err, os.ErrPermission) { // without CAP_SYS_PTRACE
		s.name, s.own = "self/mountinfo", err
		fd, err = s.open()
	}
	if err != nil {
		unix.Close(s.proc)
		return nil, fmt.Errorf("follow mounts: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() {
		defer close(s.stopped)
		s.err = s.follow(ctx, fd)
	}()
	return s, nil
}

// open opens the list as process 1 sees it now: from its root, which is another
// one after a switch of root.
func (s *Source) open() (int, error) {
	fd, err := unix.Openat(s.proc, s.name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: "/proc/" + s.name, Err: err}
	}
	return fd, nil
}

// Close ends it.
func (s *Source) Close() error {
	s.stop()
	<-s.stopped
	return unix.Close(s.proc)
}

// Info describes the source, attached since Open.
func (s *Source) Info() event.SourceInfo {
	ability := event.Ability{Name: Ability, OK: true}
	if s.own != nil {
		ability.Why = "mounts are those that this process sees, which may not be all of the host's: " + s.own.Error()
	}
	return event.SourceInfo{Name: SourceName, State: "attached", Abilities: []event.Ability{ability}}
}

// Run passes on what has been seen, and is seen until ctx is done, which is no
// error.
func (s *Source) Run(ctx context.Context, emit func(event.Event)) error {
	for {
		select {
		case e := <-s.events:
			emit(e)
			continue
		default:
		}
		select {
		case e := <-s.events:
			emit(e)
		case <-ctx.Done():
			return nil
		case <-s.stopped:
			return s.err
		}
	}
}

// follow reads the list, waits until it is another one, and so on. The list is
// opened before it is read and asked for changes afterwards, so that none is
// missed in between.
//
// It asks from time to time, and does not wait in poll: a program with one
// processor would not do anything else for up to 10 ms each time.
func (s *Source) follow(ctx context.Context, fd int) error {
	for try := 1; ; {
		reading := time.Now()
		now, err := readTable(reader(fd))
		asked := event.Now()
		changed, err := changed(fd, err)
		switch {
		case err != nil:
		case changed && try < consistentTries:
			try++ // a list that changes while it is read can lack what is there
		default:
			s.compare(ctx, now)
			s.since, try = asked, 1
			pause := min(readingShare*time.Since(reading), time.Second)
			err = s.wait(ctx, fd, pause)
		}
		unix.Close(fd)
		if err != nil || ctx.Err() != nil {
			return err
		}
		if fd, err = s.open(); err != nil {
			return fmt.Errorf("follow mounts: %w", err)
		}
	}
}

// wait returns when the list behind fd has changed, or ctx is done. It asks first
// after pause at the earliest; s.since is when it had not changed yet.
func (s *Source) wait(ctx context.Context, fd int, pause time.Duration) error {
	same := time.Now()
	next := time.NewTimer(max(pause, s.tick(0)))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		asked := event.Now()
		if changed, err := changed(fd, nil); changed || err != nil {
			return err
		}
		s.since = asked
		next.Reset(s.tick(time.Since(same)))
	}
}

// changed reports whether the list is another than when fd was opened, unless
// there is an error already.
func changed(fd int, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}
	for {
		switch n, err := unix.Poll(fds, 0); {
		case err == nil:
			return n > 0, nil
		case !errors.Is(err, unix.EINTR):
			return false, fmt.Errorf("follow mounts: %w", err)
		}
	}
}

// consistentTries is how often a list is read that changes meanwhile.
const consistentTries = 10

// compare tells what is other than before.
func (s *Source) compare(ctx context.Context, now *Table) {
	at, from, made := event.Now(), s.since, event.MountMade
	if s.known == nil {
		s.known, from, made = &Table{}, bootStart, event.MountFound
	}
	s.tellBounds(ctx, now, from, at)
	for _, m := range s.known.mounts {
		if _, ok := now.readOnly[m]; !ok {
			s.tell(ctx, m, event.MountGone, s.known.readOnly[m], from, at)
		}
	}
	for _, m := range now.mounts {
		was, ok := s.known.readOnly[m]
		switch is := now.readOnly[m]; {
		case !ok:
			s.tell(ctx, m, made, is, from, at)
		case was != is:
			s.tell(ctx, m, event.MountRemounted, is, from, at)
		}
	}
	s.known = now
}

// reader reads a file that is polled, which os.File would do by itself.
type reader int

func (r reader) Read(buf []byte) (int, error) {
	for {
		n, err := unix.Read(int(r), buf)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// tellBounds tells what is not followed.
func (s *Source) tellBounds(ctx context.Context, t *Table, from, at event.Time) {
	if t.unread > s.known.unread {
		s.lost(ctx, from, at, uint64(t.unread-s.known.unread), "lines of /proc/"+s.name+" are not understood")
	}
	if t.cut && !s.cut {
		s.cut = true
		s.lost(ctx, from, at, 0, fmt.Sprintf("there are more than %d mounts", maxMounts))
	}
}

func (s *Source) tell(ctx context.Context, m mount, action event.MountAction, readOnly bool, from, at event.Time) {
	if action != event.MountFound && m.uid == 0 { // the log bounds what users mount
		s.told++
	}
	if s.told > maxEvents && m.uid == 0 {
		if !s.noMore {
			s.noMore = true
			s.lost(ctx, from, at, 0, fmt.Sprintf("mounts changed more than %d times: what follows is not recorded", maxEvents))
		}
		return
	}
	info := &event.MountInfo{
		Action: action, Point: cut(m.point), Root: cut(m.root), Source: cut(m.source), FSType: m.kind,
		Dev: m.dev, Unit: unitOf(m.point), ReadOnly: readOnly, UID: m.uid,
	}
	if action != event.MountGone {
		info.UUID = s.uuid(&m)
	}
	s.send(ctx, event.Event{Kind: event.Mount, Src: SourceName, From: from, At: at, Mount: info})
}

func (s *Source) lost(ctx context.Context, from, at event.Time, count uint64, why string) {
	s.log.Warn("not all mounts are followed", "why", why)
	s.send(ctx, event.Event{Kind: event.Loss, Src: SourceName, From: from, At: at,
		Loss: &event.LossInfo{Source: SourceName, What: Ability, Count: count, Why: why}})
}

// send waits for Run where it does not keep up.
func (s *Source) send(ctx context.Context, e event.Event) {
	select {
	case s.events <- e:
	case <-ctx.Done():
	}
}

// uuid returns the file system's, by what udev knows of the block device under
// it: the mount's own number, or for file systems with numbers of their own that
// of the source's node.
func (s *Source) uuid(m *mount) string {
	if s.options.FindRoot != nil {
		s.options.FindRoot()
	}
	dev := m.dev
	if dev.Major == 0 {
		if !strings.HasPrefix(m.source, "/dev/") {
			return ""
		}
		var stat unix.Stat_t
		if err := unix.Stat(filepath.Join(s.options.Root, m.source), &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFBLK {
			return ""
		}
		dev = event.Dev{Major: unix.Major(stat.Rdev), Minor: unix.Minor(stat.Rdev)}
	}
	record, err := udev.ReadRecord(s.options.Root, dev)
	if err != nil || record == nil {
		return "" // the source is known all the same
	}
	return cut(record.Props["ID_FS_UUID"])
}

// unitOf returns the name that systemd gives to the mount unit of a point.
func unitOf(point string) string {
	name := unit.UnitNamePathEscape(point) + ".mount"
	if len(name) > maxUnitName {
		return "" // systemd has a name with a hash for it, or none
	}
	return name
}

// maxUnitName is UNIT_NAME_MAX of systemd (src/basic/unit-name.h), with its NUL.
const maxUnitName = 255

func cut(text string) string { return text[:min(len(text), maxText)] }
