package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// vanished reports whether err is what a process or device that is gone looks
// like in /proc and /sys.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) ||
		errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO)
}

// readSysfs reads a block device's uevent file: the properties that the kernel
// announces it with, a line each.
func readSysfs(dir string, d *event.DevInfo) error {
	data, err := readFile(filepath.Join(dir, "uevent"), 64<<10)
	if err != nil {
		return err
	}
	env := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[key] = value
	}
	major, err1 := strconv.ParseUint(env["MAJOR"], 10, 32)
	minor, err2 := strconv.ParseUint(env["MINOR"], 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("device number in %s: %w", filepath.Join(dir, "uevent"), err)
	}
	d.Dev = &event.Dev{Major: uint32(major), Minor: uint32(minor)}
	d.Type = env["DEVTYPE"]
	if name := env["DEVNAME"]; name != "" {
		d.Name = name // sysfs writes "!" where the node's name has "/"
	}
	return nil
}

// readFile reads at most limit bytes of a file.
func readFile(name string, limit int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var buf bytes.Buffer
	_, err = io.Copy(&buf, io.LimitReader(file, limit))
	return buf.Bytes(), err
}
