package check

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// hookDirSince is the first libvirt that runs the hooks in qemu.d, 6.5
// (https://libvirt.org/hooks.html). Those before run hooks/qemu alone.
const hookDirSince = 6005

const (
	libvirtHook = "/etc/libvirt/hooks/qemu"
	ourHook     = libvirtHook + ".d/bootrace"
)

// libvirt looks for its daemon, and for the hook that it needs: it looks at the
// disks before it runs qemu, so that a hold of the start comes too late.
func libvirt(root string) []Item {
	const name = "libvirt"
	daemon := libvirtDaemon(root)
	if daemon == "" {
		return nil
	}
	version := libvirtVersion(root)
	old := version != 0 && version < hookDirSince
	run := hooksWith(root, libvirtHook)
	if !old {
		run = append(run, hooksWith(root, libvirtHook+".d/*")...)
	}
	// What is read when the daemon starts is whether there are hooks at all.
	reload := "systemctl reload " + daemon
	switch {
	case len(run) > 1 && version != 0:
		return []Item{{name, Warning, "bootrace's hook is run more than once, and a start that is too late waits each time: " + strings.Join(run, ", "),
			"have one of them run it: rm " + libvirtHook + ", where that does nothing else"}}
	case len(run) > 0:
		return []Item{{Name: name, Grade: Good, Text: "its hook calls bootrace: " + run[0]}}
	case !old:
		return []Item{{name, Warning, "installed, without bootrace's hook: " + givesUp, "make install LIBVIRT=yes, then " + reload}}
	}
	return []Item{{name, Warning, fmt.Sprintf("%d.%d runs no hook but %s, and that does not call bootrace: %s", version/1000, version%1000, libvirtHook, givesUp),
		oldRemedy(root, reload)}}
}

const givesUp = "libvirt gives a guest up whose disk is not there, before its start could be held"

// oldRemedy has a libvirt before 6.5 run the hook.
func oldRemedy(root, reload string) string {
	install := ""
	if len(hooksWith(root, ourHook)) == 0 {
		install = "make install LIBVIRT=yes, then "
	}
	if _, err := os.Lstat(filepath.Join(root, libvirtHook)); err != nil {
		return install + "ln -s qemu.d/bootrace " + libvirtHook + " && " + reload
	}
	return install + "have " + libvirtHook + ", which must be executable, run it with its arguments and standard input: " + ourHook + ` "$@" || exit 1`
}

func libvirtDaemon(root string) string {
	for _, daemon := range []string{"libvirtd", "virtqemud"} {
		if _, err := os.Stat(filepath.Join(root, "usr/sbin", daemon)); err == nil {
			return daemon
		}
	}
	return ""
}

// libvirtVersion is 1000 times the major version and the minor one, 0 where it is
// not known. The library that the daemons load is called so: libvirt.so.0 leads
// to libvirt.so.0.6005.0.
func libvirtVersion(root string) int {
	for _, dir := range []string{"usr/lib64", "usr/lib/*", "usr/lib"} {
		links, err := filepath.Glob(filepath.Join(root, dir, "libvirt.so.0"))
		if err != nil {
			continue
		}
		for _, link := range links {
			file, err := filepath.EvalSymlinks(link)
			if err != nil {
				continue
			}
			number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(file), "libvirt.so.0."), ".")
			if version, err := strconv.Atoi(number); err == nil {
				return version
			}
		}
	}
	return 0
}

// hooksWith are the hooks that pattern matches, that libvirt would run, and that
// call bootrace.
func hooksWith(root, pattern string) []string {
	hooks, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil {
		return nil
	}
	var list []string
	for _, hook := range hooks {
		info, err := os.Stat(hook)
		if err != nil || info.Mode()&fs.ModeType != 0 || info.Mode()&0o111 == 0 {
			continue
		}
		if text, err := os.ReadFile(hook); err == nil && strings.Contains(string(text), "bootrace") {
			list = append(list, hook)
		}
	}
	return list
}
