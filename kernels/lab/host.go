package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A tool is a program that the lab runs and the Debian package it is in.
type tool struct{ name, pkg string }

var tools = []tool{
	{"mmdebstrap", "mmdebstrap"},
	{"mkfs.ext4", "e2fsprogs"},
	{"qemu-system-x86_64", "qemu-system-x86"},
	{"qemu-img", "qemu-utils"},
	{"tar", "tar"},
	{"chroot", "coreutils"},
	{"xz", "xz-utils"},
}

// host is the machine that the lab runs on.
type host struct {
	progress *progress
}

// need installs the packages of those tools that are not here. One lab at a time:
// apt refuses whoever comes while another holds its locks.
func (b builder) need(ctx context.Context, tools []tool) error {
	missing := missingTools(tools)
	if len(missing) == 0 {
		return nil
	}
	if err := b.canInstall(missing); err != nil {
		return err
	}
	if err := os.MkdirAll(b.cache.dir, 0o755); err != nil {
		return fmt.Errorf("make the cache: %w", err)
	}
	lock, err := lockFile(ctx, filepath.Join(b.cache.dir, "packages.lock"), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	if missing = missingTools(tools); len(missing) == 0 {
		return nil // another lab has installed them meanwhile
	}
	pkgs := packages(missing)
	b.progress.printf("installing with apt-get: %s", strings.Join(pkgs, " "))
	if err := b.asRoot(ctx, nil, "apt-get", "update", "-qq"); err != nil {
		return fmt.Errorf("refresh the package lists to install %s: %w", strings.Join(pkgs, " "), err)
	}
	args := append([]string{"DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "-qq", "--no-install-recommends"}, pkgs...)
	if err := b.asRoot(ctx, nil, "env", args...); err != nil {
		return fmt.Errorf("install %s: %w", strings.Join(pkgs, " "), err)
	}
	if still := missingTools(tools); len(still) > 0 {
		return fmt.Errorf("%s is not in PATH, although its package %s is installed", still[0].name, still[0].pkg)
	}
	return nil
}

func (h host) canInstall(missing []tool) error {
	why := ""
	if _, err := exec.LookPath("apt-get"); err != nil {
		why = "there is no apt-get to install it with"
	} else if _, err := exec.LookPath("sudo"); err != nil && os.Geteuid() != 0 {
		why = "installing it needs root or sudo"
	}
	if why == "" {
		return nil
	}
	var names []string
	for _, t := range missing {
		names = append(names, t.name)
	}
	return fmt.Errorf("the lab needs %s, and %s: install the Debian packages %s or their like",
		strings.Join(names, ", "), why, strings.Join(packages(missing), " "))
}

func missingTools(tools []tool) []tool {
	var missing []tool
	for _, t := range tools {
		if _, err := lookPath(t.name); err != nil {
			missing = append(missing, t)
		}
	}
	return missing
}

// lookPath finds a program also where only root's PATH leads.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/local/sbin/", "/usr/sbin/", "/sbin/"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(dir + name)
	}
	return path, err
}

func packages(tools []tool) []string {
	var pkgs []string
	for _, t := range tools {
		pkgs = append(pkgs, t.pkg)
	}
	return pkgs
}

// run runs a program, with stdin if not nil. Its output is part of the error.
func (h host) run(ctx context.Context, stdin io.Reader, name string, args ...string) error {
	_, err := h.output(ctx, stdin, name, args...)
	return err
}

// asRoot is run as root, by sudo if need be.
func (h host) asRoot(ctx context.Context, stdin io.Reader, name string, args ...string) error {
	if os.Geteuid() == 0 {
		return h.run(ctx, stdin, name, args...)
	}
	if _, err := exec.LookPath("sudo"); err != nil {
		return fmt.Errorf("run %s: it needs root, and there is no sudo: run the lab as root", name)
	}
	path, err := lookPath(name)
	if err != nil {
		return err
	}
	return h.run(ctx, stdin, "sudo", append([]string{"--non-interactive", "--", path}, args...)...)
}

// output is run, and returns what the program wrote to its standard output.
func (h host) output(ctx context.Context, stdin io.Reader, name string, args ...string) ([]byte, error) {
	path, err := lookPath(name)
	if err != nil {
		return nil, err
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // mmdebstrap cleans up
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w%s", strings.Join(append([]string{name}, args...), " "), errors.Join(context.Cause(ctx), err), quoted(lastLines(out.String()+errs.String(), 10)))
	}
	return out.Bytes(), nil
}

// lastLines returns the last n lines of a program's output, fit for a terminal.
func lastLines(s string, n int) []string {
	lines := slices.Collect(strings.Lines(strings.TrimSpace(s)))
	lines = lines[max(0, len(lines)-n):]
	for i := range lines {
		lines[i] = plain(lines[i])
	}
	return lines
}

// quoted puts a program's output into a form to follow an error message.
func quoted(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return ": " + strings.Join(lines, " | ")
}
