// Command init is the first process of a foreign machine (lab.Foreign): it runs
// /program with the arguments in /arguments, one a line, says how that ended,
// and turns the machine off.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	status := 125 // as env(1) does where it could not begin
	if err := mount(); err != nil {
		fmt.Println(err)
	} else if err := run(); err == nil {
		status = 0
	} else if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		status = exit.ExitCode()
	} else {
		fmt.Println(err)
	}
	fmt.Printf("\nprogram ended with status %d\n", status)
	unix.Sync()
	fmt.Println(unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

// mount mounts what a program expects of a machine.
func mount() error {
	for _, m := range []struct{ kind, dir string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"},
		{"debugfs", "/sys/kernel/debug"}, {"tracefs", "/sys/kernel/tracing"}, {"bpf", "/sys/fs/bpf"},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.dir, err)
		}
	}
	return nil
}

func run() error {
	arguments, err := os.ReadFile("/arguments")
	if err != nil {
		return err
	}
	c := exec.Command("/program", strings.Split(strings.TrimSuffix(string(arguments), "\n"), "\n")...)
	c.Stdout, c.Stderr, c.Dir = os.Stdout, os.Stdout, "/tmp"
	return c.Run()
}
