package hostile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Starts have root read device nodes, a FIFO, and a terminal of the user's own, which
// then hangs up.
func init() {
	register("readconfig", func(a *attacker) error {
		fifo := filepath.Join(a.Dir, fmt.Sprintf("config-%d", a.Seed))
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			return err
		}
		nodes := []string{"/dev/loop-control", "/dev/loop0", "/dev/zero", "/dev/random", "/dev/kmsg", "/dev/tty", "/dev/fuse",
			"/proc/self/mem", "/proc/kmsg", "/proc/self/fd/0", "/etc/shadow", "/sys/kernel/debug/tracing/trace_pipe", fifo}
		for {
			for _, node := range nodes {
				if err := a.readConfig(node); err != nil {
					return err
				}
			}
			if err := a.terminal(); err != nil {
				return err
			}
			// It can be opened for writing once somebody has it open for reading.
			if fd, err := unix.Open(fifo, unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
				unix.Close(fd)
				return errors.New("BROKEN: the service has opened a FIFO")
			}
		}
	})
}

func (a *attacker) readConfig(path string) error {
	p, err := a.start("-name", "readconfig", "-readconfig", path)
	if err != nil {
		return err
	}
	_, err = p.Wait()
	return err
}

// terminal has a start read a terminal that nobody controls, and hangs it up.
func (a *attacker) terminal() error {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil // there are none, or no more of them
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return err
	}
	if err := a.readConfig(fmt.Sprintf("/dev/pts/%d", n)); err != nil {
		return err
	}
	time.Sleep(time.Millisecond)
	_, err = master.Write([]byte{3, 4}) // ^C, ^D
	return err
}
