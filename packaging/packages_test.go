package packaging

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// builtPackages is where `make packages` put them; without it the tests of packages
// don't run.
func builtPackages(t *testing.T, pattern string) string {
	t.Helper()
	dir := os.Getenv("BOOTRACE_PACKAGES")
	if dir == "" {
		t.Skip("NOT RUN: `make packages-test` runs it")
	}
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in %s: %v, %v", pattern, dir, found, err)
	}
	return found[0]
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// debianRoot is the root of a fresh Debian 12 with systemd and initramfs-tools. Its
// archive is kept: to make it takes longer than all else.
func debianRoot(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may make a root")
	}
	archive := filepath.Join(os.Getenv("BOOTRACE_PACKAGES"), "..", "packages-root.tar")
	if _, err := os.Stat(archive); err != nil {
		run(t, "mmdebstrap", "--quiet", "--format=tar", "--variant=minbase", "--include=systemd,initramfs-tools", "bookworm", archive+".new")
		if err := os.Rename(archive+".new", archive); err != nil {
			t.Fatal(err)
		}
	}
	root := t.TempDir()
	run(t, "tar", "-xpf", archive, "-C", root, "--numeric-owner", "--exclude=./dev/*")
	return root
}

// notes are files that the package managers keep about what they did, and the copies
// that group files leave.
var notes = regexp.MustCompile(`^(var/lib/(dpkg|rpm|apt|systemd)|var/log|var/cache|usr/lib/sysimage|tmp|root|dev|etc/(group|gshadow|passwd|shadow)-$|etc/.*\.lock$|etc/\.pwd)`)

// files are those below root, each with its mode, size and, where it is small, text.
func files(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root+"/")
		if err != nil || name == root || notes.MatchString(name) {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		out[name] = info.Mode().String()
		if info.Mode().IsRegular() && info.Size() < 64<<10 {
			text, err := os.ReadFile(path)
			out[name] += "\n" + string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A fresh Debian takes the package, keeps what its operator changed over an upgrade,
// and is after a purge what it was before.
func TestPackagesDebian(t *testing.T) {
	deb := builtPackages(t, "bootrace_*_amd64.deb")
	root := debianRoot(t)
	before := files(t, root)
	chroot := func(args ...string) string {
		t.Helper()
		return run(t, "chroot", append([]string{root, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"}, args...)...)
	}
	install := func() string {
		t.Helper()
		run(t, "cp", deb, filepath.Join(root, "tmp/bootrace.deb"))
		return chroot("dpkg", "--force-confold", "-i", "/tmp/bootrace.deb")
	}
	if out := install(); !strings.Contains(out, "Processing triggers for initramfs-tools") {
		t.Errorf("no trigger has the initramfs made anew:\n%s", out)
	}
	if out := chroot("bootrace", "version"); !strings.HasPrefix(out, "bootrace v") {
		t.Errorf("bootrace version: %s", out)
	}
	if out := chroot("getent", "group", "bootrace"); !strings.HasPrefix(out, "bootrace:") {
		t.Errorf("the group of readers: %q", out)
	}
	enabled, _ := filepath.Glob(filepath.Join(root, "etc/systemd/system/*.wants/bootrace*"))
	if len(enabled) > 0 {
		t.Errorf("the package enabled %v", enabled)
	}
	config := filepath.Join(root, "etc/bootrace/config.yaml")
	if err := os.WriteFile(config, []byte("mode: enforce\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	chroot("systemctl", "enable", "bootrace.service", "bootrace-metrics.service")
	if err := os.MkdirAll(filepath.Join(root, "var/lib/bootrace/export"), 0o700); err != nil {
		t.Fatal(err)
	}
	install() // the upgrade
	if text, err := os.ReadFile(config); err != nil || string(text) != "mode: enforce\n" {
		t.Errorf("after an upgrade the operator's configuration is %q, %v", text, err)
	}
	chroot("systemctl", "is-enabled", "bootrace.service")
	chroot("dpkg", "--remove", "bootrace")
	if _, err := os.Stat(config); err != nil {
		t.Errorf("removal took the configuration: %v", err)
	}
	chroot("dpkg", "--purge", "bootrace")
	if diff := cmp.Diff(before, files(t, root)); diff != "" {
		t.Errorf("what a purge leaves (-before +after):\n%s", diff)
	}
}

// rpm's own program installs, upgrades and erases the package in a root, with its
// scripts.
func TestPackagesRPM(t *testing.T) {
	pkg := builtPackages(t, "bootrace-*.x86_64.rpm")
	root := debianRoot(t)
	// RPM distributions have these, from their package filesystem.
	for _, dir := range []string{"bash-completion/completions", "fish/vendor_completions.d", "zsh/site-functions", "man/man5", "man/man8", "doc"} {
		if err := os.MkdirAll(filepath.Join(root, "usr/share", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	before := files(t, root)
	rpm := func(args ...string) string {
		t.Helper()
		return run(t, "rpm", append([]string{"--root", root}, args...)...)
	}
	rpm("-i", "--nodeps", "--ignoresize", pkg)
	if out := run(t, "chroot", root, "/usr/sbin/bootrace", "version"); !strings.HasPrefix(out, "bootrace v") {
		t.Errorf("bootrace version: %s", out)
	}
	if out := rpm("-q", "--configfiles", "bootrace"); !strings.Contains(out, "/etc/bootrace/config.yaml") {
		t.Errorf("configuration files: %s", out)
	}
	if out := rpm("-q", "--docfiles", "bootrace"); !strings.Contains(out, "/usr/share/man/man8/bootrace.8.gz") {
		t.Errorf("documentation: %s", out)
	}
	run(t, "chroot", root, "systemctl", "enable", "bootrace.service")
	rpm("-U", "--force", "--nodeps", "--ignoresize", pkg)
	run(t, "chroot", root, "systemctl", "is-enabled", "bootrace.service")
	rpm("-e", "--nodeps", "bootrace")
	run(t, "chroot", root, "groupdel", "bootrace") // as rpm's own packages, it leaves groups
	if diff := cmp.Diff(before, files(t, root)); diff != "" {
		t.Errorf("what erasing it leaves (-before +after):\n%s", diff)
	}
}

// The distributions' own judges have nothing against the packages.
func TestPackagesLint(t *testing.T) {
	deb, rpm := builtPackages(t, "bootrace_*_amd64.deb"), builtPackages(t, "bootrace-*.x86_64.rpm")
	if _, err := exec.LookPath("lintian"); err != nil {
		t.Skip("NOT RUN: lintian is not here")
	}
	if out := run(t, "lintian", "--profile", "debian", "--no-cfg", "--allow-root", deb); strings.TrimSpace(out) != "" {
		t.Errorf("lintian:\n%s", out)
	}
	out := run(t, "rpmlint", "--config", "rpm/rpmlint.toml", rpm)
	if !strings.Contains(out, " 0 errors, 0 warnings") {
		t.Errorf("rpmlint:\n%s", out)
	}
}

// What an archive of the sources without git says as its version: what git wrote into
// it, else the changelog's latest; and never that of a repository around it.
func TestVersion(t *testing.T) {
	for name, c := range map[string]struct{ file, want, pkg string }{
		"tagged":    {"v1.2.3 abc1234\n", "v1.2.3", "1.2.3"},
		"between":   {"v1.2.3-5-gabc1234 abc1234\n", "v1.2.3-5-gabc1234", "1.2.3+5.gabc1234"},
		"no tag":    {" abc1234\n", "v0.9.0+gabc1234", "0.9.0+gabc1234"},
		"older git": {"%(describe:tags=true) abc1234\n", "v0.9.0", "0.9.0"},
		"a copy":    {"$Format:%(describe:tags=true,match=v*)$ $Format:%h$\n", "v0.9.0", "0.9.0"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "bootrace")
			if err := os.MkdirAll(filepath.Join(dir, "packaging"), 0o755); err != nil {
				t.Fatal(err)
			}
			script, err := os.ReadFile("version.sh")
			if err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{
				"version.sh": string(script), "VERSION": c.file,
				"CHANGELOG.md": "# Changes\n\n## v0.9.0, 2026-12-01\n\n## v0.8.0, 2026-01-01\n",
			} {
				if err := os.WriteFile(filepath.Join(dir, "packaging", file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			run(t, "git", "-C", filepath.Dir(dir), "init", "-q") // another project's
			for arg, want := range map[string]string{"": c.want, "package": c.pkg} {
				var said bytes.Buffer
				cmd := exec.CommandContext(t.Context(), "sh", filepath.Join(dir, "packaging/version.sh"), arg)
				cmd.Stdout = &said
				if err := cmd.Run(); err != nil {
					t.Fatal(err)
				}
				if got := strings.TrimSpace(said.String()); got != want {
					t.Errorf("version %s: %q, want %q", arg, got, want)
				}
			}
		})
	}
}

// The package's version comes after that of the tag, and before the next one.
func TestPackageVersionOrder(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("NOT RUN: dpkg is not here")
	}
	run(t, "dpkg", "--compare-versions", "0.2.0+5.gabc1234", "gt", "0.2.0")
	run(t, "dpkg", "--compare-versions", "0.2.0+5.gabc1234", "lt", "0.2.1")
}

// `make install` builds nothing, and says what to do where nothing was built.
func TestInstallBuildsNothing(t *testing.T) {
	root, empty := t.TempDir(), t.TempDir()
	cmd := exec.CommandContext(t.Context(), "make", "-C", "..", "install", "DESTDIR="+root, "BUILT="+empty, "GO=/nonexistent/go")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "run `make build` first") {
		t.Errorf("without a build: %v\n%s", err, out)
	}
	if list := files(t, root); len(list) > 0 {
		t.Errorf("it left %v", list)
	}
	// The manual pages and the like are built, too; their text does not matter here.
	listed, err := os.ReadFile("files")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`build/(\S+)`).FindAllStringSubmatch(string(listed), -1) {
		path := filepath.Join(empty, strings.ReplaceAll(m[1], "*", "bootrace"))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("built"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-C", "..", "DESTDIR=" + root, "BUILT=" + empty, "GO=/nonexistent/go", "INITRAMFS=yes", "DRACUT=yes", "LIBVIRT=yes"}
	run(t, "make", append(args, "install")...)
	if _, err := os.Stat(filepath.Join(root, "usr/sbin/bootrace")); err != nil {
		t.Error(err)
	}
	run(t, "make", append(args, "uninstall")...)
	for name, what := range files(t, root) {
		if !strings.HasPrefix(what, "d") && name != "etc/bootrace/config.yaml" {
			t.Errorf("uninstall left %s", name)
		}
	}
}
