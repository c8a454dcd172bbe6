package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lookEvery is small beside what an emulated host takes to bring up a disk.
const lookEvery = 20 * time.Millisecond

// witness writes a line "PATH FROM AT" for each path that can be used: FROM is
// the last look that found it unusable, AT the first that did not, in nanoseconds
// since the boot. It never opens a disk: bootrace records opens, and would judge
// the witness's.
func witness(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: witness OUT PATH [PATH...] (one or more)")
	}
	out, err := os.Create(args[0])
	if err != nil {
		return err
	}
	defer out.Close()
	waiting := map[string]int64{}
	for _, path := range args[1:] {
		waiting[path] = 0
	}
	for tick := time.Tick(lookEvery); len(waiting) > 0; {
		for path, before := range waiting {
			began := bootTime()
			if !usable(path) {
				waiting[path] = began
				continue
			}
			delete(waiting, path)
			if _, err := fmt.Fprintln(out, path, before, bootTime()); err != nil {
				return err
			}
		}
		select {
		case <-tick:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// usable reports whether the path leads to a block device of size above 0 that is
// running, or to a file with something in it.
func usable(path string) bool {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return false
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		return st.Size > 0
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return false
	}
	major, minor := unix.Major(st.Rdev), unix.Minor(st.Rdev)
	dir := fmt.Sprintf("/sys/dev/block/%d:%d/", major, minor)
	if size := read(dir + "size"); size == "" || size == "0" {
		return false
	}
	switch read(dir + "md/array_state") {
	case "clear", "inactive", "suspended":
		return false
	}
	return read(dir+"dm/suspended") != "1" && (major != drbdMajor || primary(minor))
}

// drbdMajor is DRBD's, and no other driver's (LANANA's list).
const drbdMajor = 147

// primary reports whether DRBD's device has the role in which it can be written to:
// "10: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown ..." in /proc/drbd.
func primary(minor uint32) bool {
	line := regexp.MustCompile(`(?m)^ *` + strconv.Itoa(int(minor)) + `: .* ro:Primary/`)
	return line.MatchString(read("/proc/drbd"))
}

func read(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
