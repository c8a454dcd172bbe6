// Command standin is what the scenario of all kinds of disks has in the place of
// programs that Debian has no package of. Under the name of cloud-hypervisor it
// opens its disks as that does, and runs until it is told to end:
//
//	cloud-hypervisor --disk path=PATH[,...] ...
//
// Under any other name it is a witness that knows nothing of bootrace: it looks
// every 20 ms whether a path can be used yet, and writes down when it first could.
//
//	witness OUT PATH...
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The scenario looks for the opens of a guest's first thread.
func init() { runtime.LockOSThread() }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var err error
	if name := filepath.Base(os.Args[0]); name == "cloud-hypervisor" {
		err = beGuest(ctx, os.Args[1:])
	} else {
		err = witness(ctx, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

// beGuest opens the disks for reading and writing, and holds them until the end.
func beGuest(ctx context.Context, args []string) error {
	var paths []string
	for i, arg := range args {
		if i > 0 && args[i-1] == "--disk" {
			paths = append(paths, diskPath(arg))
		}
	}
	if len(paths) == 0 {
		return errors.New("usage: cloud-hypervisor --disk path=PATH")
	}
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
	}
	<-ctx.Done()
	return nil
}

func diskPath(value string) string {
	for _, option := range strings.Split(value, ",") {
		if path, ok := strings.CutPrefix(option, "path="); ok {
			return path
		}
	}
	return ""
}

// bootTime is the time since the boot in nanoseconds.
func bootTime() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // fails for a wrong clock only
	return ts.Nano()
}
