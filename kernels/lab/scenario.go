package lab

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

// Scenario is a folder that says what happens in a machine:
//
//	boot1.sh, boot2.sh, ...  run as root in the boot of that number
//	rootfs/                  optional, copied over the root before boot 1
//
// Each may be a symbolic link to another scenario's.
// Other files in it are at /lab/share/scenario in the machine.
type Scenario struct {
	Dir string // absolute
	// Boots is how many boots it has; the script of boot n is Script(n).
	Boots int
	// Rootfs is the absolute path of rootfs/, empty where there is none.
	Rootfs string
}

// Script returns the path of the script of boot n, counted from 1.
func (s Scenario) Script(n int) string { return filepath.Join(s.Dir, scriptName(n)) }

func scriptName(n int) string { return fmt.Sprintf("boot%d.sh", n) }

var scriptPattern = regexp.MustCompile(`^boot([0-9]+)\.sh$`)

// ReadScenario reads and checks the scenario in dir. Whatever would only fail
// minutes later, in the machine, is an error here.
func ReadScenario(dir string) (Scenario, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Scenario{}, fmt.Errorf("scenario %s: %w", dir, err)
	}
	s := Scenario{Dir: abs}
	entries, err := os.ReadDir(abs)
	if err != nil {
		return Scenario{}, fmt.Errorf("read scenario: %w", err)
	}
	for _, e := range entries {
		if scriptPattern.MatchString(e.Name()) {
			s.Boots++
		}
	}
	if err := s.check(entries); err != nil {
		return Scenario{}, fmt.Errorf("scenario %s: %w", dir, err)
	}
	if s.Rootfs, err = rootfs(abs); err != nil {
		return Scenario{}, fmt.Errorf("scenario %s: %w", dir, err)
	}
	return s, nil
}

// copyTo copies the scenario's folder to dir, without the scripts of boots that are
// not played: the machine turns itself off after the last one that it finds. A script
// that is a link to another scenario's would lead nowhere there: what it leads to is
// copied.
func (s Scenario) copyTo(dir string) error {
	if err := os.CopyFS(dir, os.DirFS(s.Dir)); err != nil {
		return err
	}
	for n := 1; n <= s.Boots; n++ {
		text, err := os.ReadFile(s.Script(n))
		if err != nil {
			return err
		}
		copied := filepath.Join(dir, scriptName(n))
		if err := errors.Join(os.Remove(copied), os.WriteFile(copied, text, 0o755)); err != nil {
			return err
		}
	}
	for n := s.Boots + 1; ; n++ {
		err := os.Remove(filepath.Join(dir, scriptName(n)))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// rootfs returns the folder rootfs in dir, or the one that a symbolic link of
// that name leads to, which scenarios can share; empty where there is none.
func rootfs(dir string) (string, error) {
	path, err := filepath.EvalSymlinks(filepath.Join(dir, "rootfs"))
	if err != nil {
		if _, err := os.Lstat(filepath.Join(dir, "rootfs")); errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return "", err
	}
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = errors.New("rootfs is not a folder")
	}
	return path, err
}

func (s Scenario) check(entries []fs.DirEntry) error {
	if s.Boots == 0 {
		return errors.New("it has no boot1.sh: add the script that the first boot runs")
	}
	for _, e := range entries {
		if m := scriptPattern.FindStringSubmatch(e.Name()); m != nil && m[1] != strconv.Itoa(atoi(m[1])) {
			return fmt.Errorf("%s: write its number without leading zeros", e.Name())
		}
	}
	for n := 1; n <= s.Boots; n++ {
		if _, err := os.Stat(s.Script(n)); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is missing: the %d boot scripts must be numbered from 1 without a gap", scriptName(n), s.Boots)
		}
		if err := checkScript(s.Script(n)); err != nil {
			return fmt.Errorf("%s: %w", scriptName(n), err)
		}
	}
	return nil
}

func atoi(digits string) int {
	n, _ := strconv.Atoi(digits) // out of range yields the largest int, which differs from its digits
	return n
}

func checkScript(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	if info.Mode()&0o111 == 0 {
		return errors.New("it is not executable: chmod +x it")
	}
	head := make([]byte, 2)
	if _, err := io.ReadFull(f, head); err != nil || string(head) != "#!" {
		return errors.New("its first line names no interpreter: begin it with #!/bin/sh or the like")
	}
	return nil
}
