package repair

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/inspect"
)

// The files of the throwaway machine.
const (
	orderFile   = "/bootrace-repair" // an order, as JSON
	modulesDir  = "/bootrace-modules"
	machineDisk = "/dev/vda"
	resultPort  = "/dev/ttyS1"
	mountPoint  = "/mnt"
)

// order is what the machine has to do.
type order struct {
	Kind    inspect.Kind `json:"kind"`
	DropLog bool         `json:"drop_log,omitempty"`
	Modules []string     `json:"modules"` // in the order to load them in, names within modulesDir
}

// message is what the machine says on its second serial line, one a line. The first
// one says that it runs.
type message struct {
	Running bool     `json:"running,omitempty"`
	Error   string   `json:"error,omitempty"`
	Done    *outcome `json:"done,omitempty"`
}

// Machine reports whether this process is the first one of a throwaway machine. Init
// is then to be called, and nothing else.
func Machine() bool {
	if os.Getpid() != 1 || len(os.Args) == 0 || filepath.Base(os.Args[0]) != "init" {
		return false
	}
	_, err := os.Stat(orderFile)
	return err == nil
}

// Init is the first process of a throwaway machine. It does not return.
func Init() {
	_ = os.MkdirAll("/dev", 0o755)
	err := unix.Mount("devtmpfs", "/dev", "devtmpfs", 0, "")
	if errors.Is(err, unix.EBUSY) {
		err = nil
	}
	out := os.Stdout
	if port, openErr := os.OpenFile(resultPort, os.O_WRONLY|unix.O_NOCTTY, 0); openErr == nil {
		out = port
	}
	tell := func(m message) {
		line, _ := json.Marshal(m)
		fmt.Fprintf(out, "%s\n", line)
	}
	tell(message{Running: true})
	if err == nil {
		var o *outcome
		if o, err = work(); err == nil {
			tell(message{Done: o})
		}
	}
	if err != nil {
		tell(message{Error: err.Error()})
	}
	_ = unix.Fsync(int(out.Fd()))
	drained(out)
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

// drained waits until a serial line has sent all.
func drained(out *os.File) {
	_ = unix.IoctlSetInt(int(out.Fd()), unix.TCSBRK, 1)
}

func work() (*outcome, error) {
	for _, m := range []struct{ kind, dir string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/tmp"}} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return nil, err
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	raw, err := os.ReadFile(orderFile)
	if err != nil {
		return nil, err
	}
	var o order
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, err
	}
	for _, name := range o.Modules {
		if err := load(filepath.Join(modulesDir, name)); err != nil {
			return nil, fmt.Errorf("load the kernel module %s: %w", name, err)
		}
	}
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(machineDisk); err == nil {
			break
		}
		if time.Since(begun) > time.Minute {
			return nil, errors.New("the machine's disk did not come")
		}
	}
	done := mend(o.Kind, o.DropLog, machineDoer{fsType(o.Kind)})
	return &done, nil
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// fsType is the kernel's name of a kind of file system. ext4 drives ext2 and ext3, too.
func fsType(kind inspect.Kind) string {
	if kind == inspect.KindXFS {
		return "xfs"
	}
	return "ext4"
}

// machineDoer works on the machine's disk.
type machineDoer struct{ fs string }

// mostText is how much is kept of what a command says.
const mostText = 4096

func (m machineDoer) run(args ...string) Step {
	s := Step{What: strings.Join(args, " ")}
	c := exec.Command("/sbin/"+args[0], append(args[1:], machineDisk)...)
	c.Env = []string{"LC_ALL=C", "PATH=/sbin"}
	out, err := c.CombinedOutput()
	s.Text = tail(out)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		s.Status = exit.ExitCode()
	case err != nil:
		s.Status, s.Text = -1, err.Error()
	}
	return s
}

func tail(out []byte) string {
	return strings.ToValidUTF8(string(bytes.TrimSpace(out[max(0, len(out)-mostText):])), "?")
}

// count mounts the file system and counts what is in it.
func (m machineDoer) count(readOnly bool) Step {
	s := Step{What: "mount " + m.fs, Status: 1}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME)
	if readOnly {
		flags |= unix.MS_RDONLY
		s.What = "mount -o ro " + m.fs
	}
	if err := os.MkdirAll(mountPoint, 0o755); err != nil {
		s.Text = err.Error()
		return s
	}
	if err := unix.Mount(machineDisk, mountPoint, m.fs, flags, ""); err != nil {
		s.Text = "mount: " + err.Error()
		return s
	}
	var trouble error
	err := filepath.WalkDir(mountPoint, func(_ string, _ fs.DirEntry, err error) error {
		if err != nil {
			trouble = errors.Join(err)
			return nil
		}
		s.Files++
		return nil
	})
	if err = errors.Join(err, trouble, unix.Unmount(mountPoint, 0)); err != nil {
		s.Text = err.Error()
		return s
	}
	s.Status = 0
	return s
}
