package mounts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// newRootVariable names a folder to the process that plays the initramfs of
// TestSwitchOfRoot.
const newRootVariable = "MOUNTS_TEST_NEW_ROOT"

func TestMain(m *testing.M) {
	root := os.Getenv(newRootVariable)
	if root == "" {
		os.Exit(m.Run())
	}
	if err := switchRoot(root); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// A source that began in an initramfs sees the mounts of the host's root after
// the switch, under the names that they have there.
func TestSwitchOfRoot(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), newRootVariable+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, os.ErrPermission) || strings.Contains(string(out), errNoMounts.Error()) {
		t.Skipf("namespaces with mounts: %v %s", err, out)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

var errNoMounts = errors.New("mounts are not to be made here")

// switchRoot runs as process 1 of namespaces of its own, and does what
// switch_root(8) does.
func switchRoot(root string) error {
	if err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("host", root, "tmpfs", 0, "size=64k"),
		unix.Mount("proc", "/proc", "proc", 0, ""),
		os.Mkdir(filepath.Join(root, "proc"), 0o755), os.Mkdir(filepath.Join(root, "srv"), 0o755),
	); err != nil {
		return errors.Join(errNoMounts, err)
	}
	s, err := Open(Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	events := make(chan event.Event, queued)
	go s.Run(ctx, func(e event.Event) { events <- e })
	await := func(action event.MountAction, point, source string) error {
		for {
			select {
			case e := <-events:
				if m := e.Mount; m != nil && m.Action == action && m.Point == point && m.Source == source {
					return nil
				}
			case <-ctx.Done():
				return fmt.Errorf("%s is not %s at %s", source, action, point)
			}
		}
	}
	if err := await(event.MountFound, root, "host"); err != nil {
		return err
	}
	if err := errors.Join(
		unix.Mount("/proc", filepath.Join(root, "proc"), "", unix.MS_MOVE, ""),
		unix.Chdir(root), unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), unix.Chdir("/"),
	); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	if err := errors.Join(await(event.MountMade, "/", "host"), unix.Mount("late", "/srv", "tmpfs", 0, "size=4k")); err != nil {
		return err
	}
	return await(event.MountMade, "/srv", "late")
}
