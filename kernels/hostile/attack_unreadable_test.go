package hostile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Starts have their arguments on a page of a FUSE mount that never answers. Who reads
// them waits for it.
func init() {
	register("unreadable", func(a *attacker) error {
		switch os.Getenv(inside) {
		case "":
			return a.again("server", &syscall.SysProcAttr{
				Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
			})
		case "server":
			fuse, err := a.mountFuse()
			if err != nil {
				return err
			}
			go serveFuse(fuse)
			// What starts has no descriptor of the file system: the end of this process
			// ends that, and with it all waiting for the page.
			return a.again("starts", &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL})
		}
		page, err := a.silentPage()
		if err != nil {
			return err
		}
		m, err := newImage(0, a.Program, []string{"-name", "unreadable", "x"}, os.Environ())
		if err != nil {
			return err
		}
		m.argv[2] = page
		a.abandon()
		for i := range a.many(100, 2000) {
			if _, err := a.fork(m); err != nil {
				return fmt.Errorf("start %d: %w", i, err)
			}
		}
		time.Sleep(time.Hour)
		return nil
	})
	one := attacks["unreadable"]
	one.namesUsers = true
	attacks["unreadable"] = one
}

// inside is set in a process that has a user namespace of its own, where everybody may
// mount FUSE: to what it is there for.
const inside = "BOOTRACE_INSIDE"

// again does the same once more in another process.
func (a *attacker) again(what string, attr *syscall.SysProcAttr) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), inside+"="+what)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = attr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("NOT RUN: %s: %w", what, err)
	}
	return nil
}

func (a *attacker) page() string { return filepath.Join(a.Dir, fmt.Sprintf("page-%d", a.Seed)) }

// mountFuse mounts a file system that is one file.
func (a *attacker) mountFuse() (*os.File, error) {
	fuse, err := os.OpenFile(a.Fuse, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(a.page(), nil, 0o600); err != nil {
		return nil, err
	}
	options := fmt.Sprintf("fd=%d,rootmode=100000,user_id=0,group_id=0", fuse.Fd())
	if err := unix.Mount("silent", a.page(), "fuse", 0, options); err != nil {
		return nil, fmt.Errorf("NOT RUN: mount: %w", err)
	}
	return fuse, nil
}

// silentPage maps a page of a file whose file system never delivers it.
func (a *attacker) silentPage() (*byte, error) {
	f, err := os.Open(a.page())
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.Size() == 0 { // the kernel learns its size
		return nil, fmt.Errorf("the file has no page: %v, %w", info, err)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map: %w", err)
	}
	return &data[0], nil
}

// What is used of FUSE's protocol (include/uapi/linux/fuse.h).
const (
	fuseForget, fuseGetattr, fuseOpen, fuseRead, fuseInit = 2, 3, 14, 15, 26

	fuseHeader = 16
)

// serveFuse is a file system that is one file, all requests of which it answers but
// those to read it.
func serveFuse(dev *os.File) {
	buf := make([]byte, 1<<18)
	order := binary.NativeEndian
	for {
		n, err := unix.Read(int(dev.Fd()), buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOENT):
			continue
		case err != nil:
			return
		case n < 40:
			continue
		}
		var body []byte
		failed := int32(0)
		switch order.Uint32(buf[4:]) {
		case fuseForget, fuseRead:
			continue
		case fuseInit:
			body = make([]byte, 24) // the answer of version 7.22 and before
			order.PutUint32(body, 7)
			order.PutUint32(body[4:], 22)
			order.PutUint32(body[8:], order.Uint32(buf[40+8:]))
			order.PutUint32(body[20:], 4096)
		case fuseGetattr:
			body = make([]byte, 16+88)
			order.PutUint64(body, 3600)
			attr := body[16:]
			order.PutUint64(attr, 1)
			order.PutUint64(attr[8:], uint64(os.Getpagesize()))
			order.PutUint32(attr[60:], unix.S_IFREG|0o600)
			order.PutUint32(attr[64:], 1)
		case fuseOpen:
			body = make([]byte, 16)
		default:
			failed = -int32(unix.ENOSYS)
		}
		answer := make([]byte, fuseHeader, fuseHeader+len(body))
		order.PutUint32(answer, uint32(fuseHeader+len(body)))
		order.PutUint32(answer[4:], uint32(failed))
		copy(answer[8:], buf[8:16])
		_, _ = unix.Write(int(dev.Fd()), append(answer, body...))
	}
}
