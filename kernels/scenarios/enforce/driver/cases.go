package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/service"
)

const (
	guests  = 200
	volumes = 50
)

// patience is for what has no limit of its own: the machine is emulated, and
// others may be on this one.
const patience = 15 * time.Minute

func volume(i int) string { return fmt.Sprintf("/dev/vg0/lv%d", i%volumes) }

func status() (service.Status, error) {
	var st service.Status
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := control.Call(ctx, control.Socket, control.Request{Do: control.Status}, &st)
	return st, err
}

// held waits until the service says that n starts are held.
func held(n uint64) error {
	return until(fmt.Sprintf("%d starts are held", n), patience, func() bool {
		time.Sleep(100 * time.Millisecond)
		st, err := status()
		return err == nil && st.Hold != nil && st.Hold.Counts.Holding == n
	})
}

// many starts guests on volumes that are not there, and waits until all are held.
func many(prefix string, n int) ([]*launched, error) {
	var list []*launched
	for i := range n {
		l, err := launch(fmt.Sprint(prefix, i), volume(i))
		if err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	return list, held(uint64(n))
}

// mass: 200 guests on 50 late volumes, which are activated in random order.
func mass() error {
	list, err := many("mass", guests)
	if err != nil {
		return err
	}
	activated := map[string]event.Time{}
	for _, v := range rand.Perm(volumes) {
		activated[volume(v)] = event.Now()
		if err := command("lvchange", "-qq", "-ay", fmt.Sprintf("vg0/lv%d", v)); err != nil {
			return err
		}
	}
	for _, l := range list {
		if err := l.opensAll(func(disk string) event.Time { return activated[disk] }); err != nil {
			return err
		}
	}
	fmt.Printf("mass: %d guests held at once on %d volumes, each released for its own, all ran\n", guests, volumes)
	if err := held(0); err != nil {
		return err
	}
	return command("lvchange", "-qq", "-an", "vg0")
}

func mainPID() (int, error) {
	out, err := exec.Command("systemctl", "show", "-P", "MainPID", "bootrace").Output()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

// letGo returns how long it takes after f until no start waits any more, and an
// error where one was denied.
func letGo(list []*launched, limit time.Duration, f func() error) (time.Duration, error) {
	// Two hundred guests that go on at once leave one processor to nobody: whoever
	// looks shares it with them, and would only see how slow that is.
	if err := schedule(unix.SCHED_FIFO, 1); err != nil {
		return 0, err
	}
	took, err := timed(func() error {
		if err := f(); err != nil {
			return err
		}
		return until("no start waits", limit, noneWaits(list))
	})
	if err := errors.Join(err, schedule(unix.SCHED_NORMAL, 0)); err != nil {
		return took, err
	}
	for _, l := range list {
		if _, err := l.saw(patience); err != nil {
			return took, err
		}
	}
	return took, nil
}

// schedule sets how every thread of this process is scheduled.
func schedule(policy, priority uint32) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		if tid, err := strconv.Atoi(thread.Name()); err == nil {
			attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority}
			if err := unix.SchedSetAttr(tid, &attr, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}

func signalMain(sig syscall.Signal) func() error {
	return func() error {
		pid, err := mainPID()
		if err != nil {
			return err
		}
		return syscall.Kill(pid, sig)
	}
}

// again waits until the service has started once more and holds.
func again() error {
	return until("the service runs again", patience, func() bool {
		time.Sleep(100 * time.Millisecond)
		st, err := status()
		return err == nil && st.Hold != nil && st.Ready != 0
	})
}

// killed: the service is killed with 200 starts held.
func killed() error {
	list, err := many("killed", guests)
	if err != nil {
		return err
	}
	pid, err := mainPID()
	if err != nil {
		return err
	}
	took, err := letGo(list, 10*time.Second, func() error { return syscall.Kill(pid, syscall.SIGKILL) })
	fmt.Printf("killed: %d starts went on %v after kill -9\n", guests, took.Round(time.Millisecond))
	if err == nil && took > time.Second {
		err = errors.New("that is more than a second")
	}
	return errors.Join(err, again())
}

// stuck: the service is killed while one of its threads waits for the disk of its
// log, which is dead.
func stuck() error {
	list, err := many("stuck", 20)
	if err != nil {
		return err
	}
	pid, err := mainPID()
	if err != nil {
		return err
	}
	if err := command("dmsetup", "suspend", "--noflush", "--nolockfs", stateMapping); err != nil {
		return err
	}
	took, err := func() (time.Duration, error) {
		more, err := launch("stuck-more", volume(0)) // something to write
		if err != nil {
			return 0, err
		}
		if err := until("a thread waits for the disk", time.Minute, func() bool { return waitsForDisk(pid) }); err != nil {
			return 0, err
		}
		took, err := letGo(append(list, more), 10*time.Second, func() error { return syscall.Kill(pid, syscall.SIGKILL) })
		if err == nil && !waitsForDisk(pid) {
			err = errors.New("no thread was left that waits for the disk")
		}
		return took, err
	}()
	fmt.Printf("stuck: %d starts went on %v after kill -9 of a service that is not gone\n", len(list)+1, took.Round(time.Millisecond))
	if err == nil && took > time.Second {
		err = errors.New("that is more than a second")
	}
	return errors.Join(err, command("dmsetup", "resume", stateMapping), again())
}

// stateMapping holds the file system of the service's log in stuck.
const stateMapping = "vg0-state"

// waitsForDisk reports whether a thread of a process is in a sleep that no signal
// ends.
func waitsForDisk(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return slices.ContainsFunc(threads, func(path string) bool {
		stat, err := os.ReadFile(path)
		return err == nil && bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" D"))
	})
}

// stopped: the service stands still; systemd's watchdog ends it.
func stopped() error {
	list, err := many("stopped", 20)
	if err != nil {
		return err
	}
	took, err := letGo(list, 2*time.Minute, signalMain(syscall.SIGSTOP))
	fmt.Printf("stopped: %d starts went on %v after kill -STOP\n", len(list), took.Round(time.Millisecond))
	if err == nil && took > 20*time.Second { // WatchdogSec, and its check
		err = errors.New("that is more than the watchdog's time")
	}
	return errors.Join(err, again())
}

// launcherKills: who waits can be killed.
func launcherKills() error {
	list, err := many("launcher", 1)
	if err != nil {
		return err
	}
	took, err := timed(func() error {
		if err := list[0].cmd.Process.Kill(); err != nil {
			return err
		}
		return until("it is dead", 10*time.Second, list[0].ended)
	})
	fmt.Printf("launcher: a held guest was dead %v after kill -9\n", took.Round(time.Millisecond))
	if err == nil && took > time.Second {
		err = errors.New("that is more than a second")
	}
	return errors.Join(err, held(0))
}

// upgrade: bootrace itself is replaced and restarted with starts held.
func upgrade() error {
	list, err := many("upgrade", 50)
	if err != nil {
		return err
	}
	took, err := letGo(list, time.Minute, func() error {
		return errors.Join(replace("/usr/sbin/bootrace"), replace("/usr/libexec/bootrace/bootraced"), command("systemctl", "restart", "bootrace"))
	})
	fmt.Printf("upgrade: bootrace was replaced and restarted with %d starts held, within %v; none was denied\n", len(list), took.Round(time.Millisecond))
	return errors.Join(err, again())
}

// replace puts another file with the same contents in the place of a program, as
// a package manager does.
func replace(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fresh := path + ".dpkg-new"
	return errors.Join(os.WriteFile(fresh, data, 0o755), os.Rename(fresh, path))
}

// replaced: the guests' program is replaced while bootrace runs.
func replaced() error {
	if err := replace(program); err != nil {
		return err
	}
	list, err := many("replaced", 1)
	if err != nil {
		return err
	}
	fmt.Println("replaced: the first start after an upgrade of the program is held")
	_, err = letGo(list, time.Minute, func() error { return command("bootrace", "release", "replaced0") })
	return err
}

// probes: what a start costs that is not held, and one that is not looked at.
func probes(n int) error {
	for _, what := range []struct {
		name string
		args []string
	}{
		{"a diskless run of a guest's program", []string{program, "-machine", "none", "-qmp", "stdio"}},
		{"an unrelated exec", []string{"/bin/true"}},
	} {
		var all []time.Duration
		for range n {
			// The shell measures nothing: it is the same for both.
			took, err := timed(func() error {
				return command(append([]string{"/bin/sh", "-c", `"$0" "$@"; true`}, what.args...)...)
			})
			if err != nil {
				return err
			}
			all = append(all, took)
		}
		fmt.Printf("probes: %s: p50 %v, p90 %v of %d\n", what.name, median(all).Round(10*time.Microsecond), percentile(all, 90).Round(10*time.Microsecond), n)
	}
	return nil
}
