package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/kernels"
)

// usual is what a virtualization host on LVM has, and strace as a witness.
var usual = []string{
	"systemd-sysv", "udev", "dbus", "kmod", "procps", "iproute2",
	"lvm2", "thin-provisioning-tools", "dmsetup", "xfsprogs",
	"qemu-system-x86", "qemu-utils",
	"initramfs-tools", "zstd", "strace",
}

// left out of the packages: text for people, and drivers of hardware that the
// machine does not have. They are two thirds of the initramfs, and unpacking
// it is emulated. Everything about storage stays.
var leftOut = []string{
	"/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*",
	"*/kernel/sound/*",
	"*/kernel/drivers/bluetooth/*", "*/kernel/drivers/comedi/*", "*/kernel/drivers/gpu/*",
	"*/kernel/drivers/hid/*", "*/kernel/drivers/hwmon/*", "*/kernel/drivers/iio/*",
	"*/kernel/drivers/infiniband/*", "*/kernel/drivers/media/*",
	"*/kernel/drivers/net/ethernet/*", "*/kernel/drivers/net/wireless/*",
	"*/kernel/drivers/staging/*",
}

// baseRecipe is what a base is made from; its hash is the base's key.
type baseRecipe struct {
	Version  int // of the code below
	Kernel   kernelPackage
	Userland string
	Packages []string
	LeftOut  []string
}

// kernelPackage is where a base's kernel comes from.
type kernelPackage struct{ Name, Suite, Package string }

// keptBases is one for each kernel, one for each with tracers beside bootrace,
// two for one kernel with other packages, and one that is out of date.
var keptBases = 2*len(kernels.Bootable()) + 3

// base returns the entry whose root.tar is Debian with the kernel.
func (b builder) base(ctx context.Context) (*entry, string, error) {
	kernel := kernelPackage{b.kernel.Name, b.kernel.Suite, b.kernel.Package}
	userland := cmp.Or(b.userland, kernels.Userland)
	recipe := baseRecipe{1, kernel, userland, choose(usual, b.packages), leftOut}
	key, err := keyOf(recipe)
	if err != nil {
		return nil, "", err
	}
	e, err := b.cache.get(ctx, "base", key, func(dir string) error {
		b.progress.printf("making the base, Debian %s with kernel %s (2 minutes, once)", userland, b.kernel.Name)
		return b.makeBase(ctx, recipe, filepath.Join(dir, "root.tar"))
	})
	if err != nil {
		return nil, "", fmt.Errorf("make the base for kernel %s: %w", b.kernel.Name, err)
	}
	return e, key, b.cache.keep("base", keptBases)
}

// choose adds the wanted packages to the usual ones; NAME- leaves one of those
// out, as apt writes it.
func choose(usual, wanted []string) []string {
	all := slices.Clone(usual)
	for _, name := range wanted {
		if unwanted, ok := strings.CutSuffix(name, "-"); ok {
			all = slices.DeleteFunc(all, func(p string) bool { return p == unwanted })
			continue
		}
		all = append(all, name)
	}
	return all
}

func (b builder) makeBase(ctx context.Context, r baseRecipe, tarball string) error {
	archives, err := b.archives(ctx)
	if err != nil {
		return err
	}
	args := []string{"--quiet", "--variant=minbase", "--format=tar"}
	for _, pattern := range r.LeftOut {
		args = append(args, "--dpkgopt=path-exclude="+pattern)
	}
	if r.foreign() {
		// Newer kernels bring hooks that the userland's run-parts cannot run.
		args = append(args, "--setup-hook="+kernelHook(r.Kernel.Suite), "--dpkgopt=path-exclude=/usr/share/kernel/*")
	}
	if slices.Contains(r.Packages, "dracut") {
		// What its package makes is made anew in each image; packing it takes minutes.
		args = append(args, `--setup-hook=mkdir -p "$1/etc/dracut.conf.d" && echo 'compress="cat"' >"$1/etc/dracut.conf.d/lab.conf"`)
	}
	pkgs := append(slices.Clone(r.Packages), r.Kernel.Package)
	args = append(args, "--include="+strings.Join(pkgs, ","), r.Userland, tarball, "-")
	// Each image makes its own initramfs: a kernel's package need not.
	args = append([]string{"INITRD=No", "mmdebstrap"}, args...)
	if err := b.asRoot(ctx, strings.NewReader(sourceList(archives, r)), "env", args...); err != nil {
		return err
	}
	return b.asRoot(ctx, nil, "chmod", "0644", tarball)
}

// foreign says that the kernel is not of the userland's suite.
func (r baseRecipe) foreign() bool { return r.Kernel.Suite != r.Userland }

// kernelHook is a script for the root of a base, $1, before anything is in it.
// It keeps apt from taking anything but the kernel, and the scripts that come
// with it, from the kernel's suite. And it puts the kernel's configuration
// where initramfs-tools looks for it: kernels from 7.0 on keep it elsewhere.
func kernelHook(suite string) string {
	return fmt.Sprintf(`set -e
cat > "$1/etc/apt/preferences.d/kernel" <<EOF
Package: *
Pin: release n=%[1]s
Pin-Priority: -1

Package: linux-*
Pin: release n=%[1]s
Pin-Priority: 990
EOF
mkdir -p "$1/etc/kernel/postinst.d"
cat > "$1/etc/kernel/postinst.d/00-config" <<'EOF'
#!/bin/sh
[ -e "/boot/config-$1" ] || cp "/usr/lib/modules/$1/config" "/boot/config-$1"
EOF
chmod 0755 "$1/etc/kernel/postinst.d/00-config"`, suite)
}

// archives are the addresses of a Debian archive and of its security updates.
type archives struct{ main, security string }

// sourceList is apt's for a base.
func sourceList(a archives, r baseRecipe) string {
	lines := []string{
		"deb " + a.main + " " + r.Userland + " main",
		"deb " + a.main + " " + r.Userland + "-updates main",
	}
	if a.security != "" {
		lines = append(lines, "deb "+a.security+" "+r.Userland+"-security main")
	}
	if r.foreign() {
		// A mirror's copy of sid can be past its Valid-Until; it is signed all the same.
		lines = append(lines, "deb [check-valid-until=no] "+a.main+" "+r.Kernel.Suite+" main")
	}
	return strings.Join(lines, "\n") + "\n"
}

// archives asks this machine's apt where it gets Debian from.
func (b builder) archives(ctx context.Context) (archives, error) {
	if b.mirror != "" {
		return archives{main: b.mirror}, nil
	}
	if _, err := lookPath("apt-get"); err != nil {
		return archives{}, errors.New("find a Debian archive: this machine has no apt: name a mirror")
	}
	out, err := b.output(ctx, nil, "apt-get", "indextargets",
		"--format", "$(ORIGIN) $(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages")
	if err != nil {
		return archives{}, fmt.Errorf("ask apt for its archives: %w", err)
	}
	a := parseArchives(string(out))
	if a.main == "" {
		// Before the first apt-get update, apt does not know whose its archives are.
		if err := b.asRoot(ctx, nil, "apt-get", "update", "-qq"); err != nil {
			return archives{}, fmt.Errorf("refresh the package lists: %w", err)
		}
		if out, err = b.output(ctx, nil, "apt-get", "indextargets",
			"--format", "$(ORIGIN) $(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"); err != nil {
			return archives{}, fmt.Errorf("ask apt for its archives: %w", err)
		}
		a = parseArchives(string(out))
	}
	if a.main == "" {
		return archives{}, errors.New("find a Debian archive: this machine's apt uses none: name a mirror")
	}
	return a, nil
}

// parseArchives reads lines of origin, release, component and address.
func parseArchives(targets string) archives {
	var a archives
	for line := range strings.Lines(targets) {
		f := strings.Fields(line)
		if len(f) != 4 || f[0] != "Debian" || f[2] != "main" {
			continue
		}
		if u, err := url.Parse(f[3]); err != nil || u.Scheme == "" {
			continue
		}
		switch {
		case strings.Contains(f[1], "-security"):
			a.security = cmpFirst(a.security, f[3])
		case !strings.Contains(f[1], "-"):
			a.main = cmpFirst(a.main, f[3])
		}
	}
	return a
}

func cmpFirst(old, new string) string {
	if old != "" {
		return old
	}
	return new
}

// makeExecutable marks the lab's own programs in a tree made from an embedded
// one, which knows no modes.
func makeExecutable(dir string) error {
	for _, pattern := range []string{"usr/local/sbin/*", "etc/initramfs-tools/hooks/*"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := os.Chmod(f, 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}
