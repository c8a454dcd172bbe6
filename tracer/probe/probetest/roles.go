package probetest

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleEnv makes this test binary play a process that is traced.
const roleEnv = "BOOTRACE_TEST_ROLE"

// stayEnv is how long a guest, and its child, stay before they end.
const stayEnv = "BOOTRACE_TEST_STAY"

// Main is TestMain of a package whose tests use Guest or Playing.
func Main(m *testing.M) {
	switch role := os.Getenv(roleEnv); role {
	case "":
		os.Exit(m.Run())
	case "guest":
		playGuest()
	case "child":
		playChild()
	case "flooding":
		playFlooding()
	default:
		fmt.Fprintln(os.Stderr, "unknown role", role)
		os.Exit(99)
	}
}

// What a guest opens, and how it ends.
const (
	MissingDisk = "/dev/bootrace-test/missing"
	childDisk   = "/dev/bootrace-test/child"
	imageName   = "disk.img" // in the directory of the program
	imageSize   = 12345
	GuestStatus = 7
)

func playGuest() {
	open := func(path string, flags int) {
		if fd, err := unix.Open(path, flags, 0); err == nil {
			unix.Close(fd)
		}
	}
	open("/etc/passwd", unix.O_RDONLY)
	open(MissingDisk, unix.O_RDWR|unix.O_CLOEXEC)
	open(imageName, unix.O_RDWR)
	// Package exec would open /dev/null and fork once more on its own.
	child, err := syscall.ForkExec(os.Args[0], os.Args[:1], &syscall.ProcAttr{Env: []string{roleEnv + "=child", stayEnv + "=" + os.Getenv(stayEnv)}})
	if err != nil {
		os.Exit(98)
	}
	_, _ = unix.Wait4(child, nil, 0, nil)
	stay()
	os.Exit(GuestStatus)
}

func playChild() {
	if fd, err := unix.Open(childDisk, unix.O_RDONLY, 0); err == nil {
		unix.Close(fd)
	}
	stay()
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

func stay() {
	if d, err := time.ParseDuration(os.Getenv(stayEnv)); err == nil {
		time.Sleep(d)
	}
}
