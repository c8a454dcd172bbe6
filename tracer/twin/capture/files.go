package capture

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/twin"
)

// bulk are folders whose contents no boot needs, or that hold guests' data. Patterns are
// those of filepath.Match, below the root.
var bulk = []string{
	"proc", "sys", "dev", "run", "tmp", "mnt", "media", "lost+found", "boot", "home", "root", "srv",
	"var/tmp", "var/cache", "var/log", "var/spool", "var/crash", "var/backups", "var/mail", "var/www",
	"usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/fonts", "usr/share/icons",
	"usr/src", "usr/include", "usr/lib/firmware", "lib/firmware", "usr/lib/debug",
	"var/lib/libvirt/images", "var/lib/libvirt/qemu", "var/lib/nova/instances", "var/lib/vz", "var/lib/one/datastores", "var/lib/glance", "var/lib/cinder",
	"var/lib/docker", "var/lib/containerd", "var/lib/containers", "var/lib/kubelet", "var/lib/lxc", "var/lib/lxd", "var/lib/machines", "var/lib/snapd",
	"var/lib/mysql", "var/lib/postgresql", "var/lib/pgsql", "var/lib/mongodb", "var/lib/ceph", "var/lib/etcd", "var/lib/influxdb", "var/lib/prometheus",
	"var/lib/apt/lists", "var/lib/systemd/coredump", "opt/cloud/workspace",
}

// secret are files that hold secrets, or are one. What is not here and has a private key
// in it is found by its text.
var secret = []string{
	"etc/shadow*", "etc/gshadow*", "etc/.pwd.lock", "etc/security/opasswd", "etc/ssh/ssh_host_*_key", "etc/ssl/private/*", "etc/pki/*/private/*", "etc/krb5.keytab", "etc/*.keytab",
	"etc/machine-id", "var/lib/dbus/machine-id", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret", "var/lib/urandom/random-seed", "etc/hostid",
	"etc/iscsi/nodes/*", "etc/iscsi/send_targets/*", "etc/ceph/*.keyring", "etc/libvirt/secrets/*", "etc/libvirt/passwd.db", "etc/NetworkManager/system-connections/*", "etc/wpa_supplicant/*",
	"etc/cryptsetup-keys.d/*", "etc/corosync/authkey", "etc/pve/priv/*", "etc/munge/*", "etc/ppp/*-secrets", "etc/wireguard/*", "etc/ipsec.secrets", "etc/openvpn/*", "etc/drbd.d/*.key",
	"var/lib/private/*", "var/lib/sss/*", "var/lib/samba/private/*", "var/lib/libvirt/swtpm/*", "var/lib/tpm*", "var/lib/cloud/*",
}

// text are the folders whose files people and their tools write: what looks like a secret
// in these is replaced, line by line.
var text = []string{"etc/", "usr/local/", "opt/"}

// wordy are files there whose every line would look like a secret, and that have none.
var wordy = []string{"etc/pam.d/*", "etc/login.defs", "etc/services", "etc/lvm/*", "etc/nsswitch.conf", "etc/ssh/ssh*_config", "etc/alternatives/*", "etc/init.d/*", "etc/security/*", "etc/debconf.conf"}

// state are the files of bootrace's own folder that a twin needs: what guests should run
// on. The records of boots are none of them.
const stateFolder, memoryFile = "var/lib/bootrace", "memory.jsonl"

const (
	maxFile   = 128 << 20 // of one file, in bytes
	maxText   = 1 << 20   // of a file that is read for secrets
	maxFiles  = 2_000_000
	maxCounts = 200_000 // files that are counted in one folder that is left out
)

// images are the endings of files that are disks.
var images = map[string]bool{".qcow2": true, ".qcow": true, ".raw": true, ".img": true, ".vmdk": true, ".vdi": true, ".vhd": true, ".vhdx": true, ".iso": true, ".ova": true}

// file is one entry of the root.
type file struct {
	name string // below the root
	info fs.FileInfo
	stat *unix.Stat_t
}

// list walks over the root file system, and over those of /usr, /var and the like.
func (c *Capture) list(ctx context.Context) error {
	devices := map[uint64]bool{}
	var st unix.Stat_t
	if err := unix.Stat(c.o.Root, &st); err != nil {
		return fmt.Errorf("look at the root: %w", err)
	}
	devices[st.Dev] = true
	for _, fs := range c.manifest.FileSystems {
		if fs.InRoot && unix.Stat(c.path(fs.Target), &st) == nil {
			devices[st.Dev] = true
		}
	}
	return filepath.WalkDir(c.o.Root, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name, relErr := filepath.Rel(c.o.Root, path)
		if relErr != nil || name == "." {
			return relErr
		}
		if err != nil {
			c.leftOut("/"+name, fmt.Sprintf("it could not be read: %v", err), 0)
			return nil
		}
		return c.consider(path, name, devices)
	})
}

// consider takes a file, or says why not.
func (c *Capture) consider(path, name string, devices map[uint64]bool) error {
	info, err := os.Lstat(path)
	if err != nil {
		return nil //nolint:nilerr // it went
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nil //nolint:nilerr // it went
	}
	f := file{name, info, &st}
	switch {
	case len(c.files) == maxFiles:
		return fmt.Errorf("the root has more than %d files: --exclude leaves folders out", maxFiles)
	case info.IsDir() && !devices[st.Dev]:
		c.files = append(c.files, f)
		if name != "proc" && name != "sys" && name != "dev" && name != "run" {
			c.leftOut("/"+name, "another file system is mounted there", 0)
		}
		return fs.SkipDir
	case info.IsDir() && c.excluded(name):
		c.files = append(c.files, f)
		bytes, all := count(path, devices)
		if bytes > 0 {
			c.manifest.LeftOut = append(c.manifest.LeftOut, twin.LeftOut{Path: "/" + name, Why: "no boot needs it, or it may have guests' data", Bytes: bytes, AtLeast: !all})
		}
		return fs.SkipDir
	case info.IsDir(), info.Mode()&fs.ModeSymlink != 0:
		c.files = append(c.files, f)
	case !info.Mode().IsRegular():
		return nil // sockets, pipes and devices are made anew at each boot
	case matches(secret, name):
		c.leftOut("/"+name, "it is a secret, or has some", info.Size())
	case guest.IsProgram(name) && info.Mode()&0o111 != 0:
		c.manifest.Hypervisors = append(c.manifest.Hypervisors, twin.Hypervisor{Path: "/" + name, Mode: uint32(info.Mode().Perm())})
	case filepath.Dir(name) == stateFolder && filepath.Base(name) != memoryFile:
		c.leftOut("/"+name, "a record of bootrace", info.Size())
	case info.Size() > maxFile:
		c.leftOut("/"+name, "it is larger than "+humanize.IBytes(maxFile), info.Size())
	case images[filepath.Ext(name)] && !strings.HasPrefix(name, "usr/"):
		c.leftOut("/"+name, "by its name it is the image of a disk", info.Size())
	default:
		c.files = append(c.files, f)
		c.bytes += info.Size()
	}
	return nil
}

// excluded reports whether a folder's contents are left out.
func (c *Capture) excluded(name string) bool {
	if matches(bulk, name) || slices.Contains(c.o.Exclude, "/"+name) {
		return true
	}
	// Modules of other kernels.
	dir, release := filepath.Split(name)
	return (dir == "usr/lib/modules/" || dir == "lib/modules/") && release != c.manifest.Kernel
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		for n := name; n != "."; n = filepath.Dir(n) { // also what is in a folder that matches
			if ok, _ := filepath.Match(p, n); ok {
				return true
			}
		}
		return false
	})
}

// count adds up the files in a folder; all is unset where there were too many.
func count(dir string, devices map[uint64]bool) (bytes int64, all bool) {
	left := maxCounts
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if left--; left < 0 {
			return fs.SkipAll
		}
		var st unix.Stat_t
		if err != nil || unix.Lstat(path, &st) != nil {
			return nil //nolint:nilerr // what can't be seen is not counted
		}
		if d.IsDir() && !devices[st.Dev] {
			return fs.SkipDir
		}
		bytes += 512 * st.Blocks
		return nil
	})
	return bytes, left >= 0
}

// writeFile puts one entry. A file that went meanwhile, or turns out to be an image or a
// private key, is left out.
func (c *Capture) writeFile(a *archive, f *file) error {
	h := &tar.Header{
		Name: twin.RootPrefix + f.name, Mode: int64(f.stat.Mode & 0o7777), Uid: int(f.stat.Uid), Gid: int(f.stat.Gid),
		ModTime: f.info.ModTime(), Format: tar.FormatPAX,
	}
	switch {
	case f.info.IsDir():
		h.Typeflag = tar.TypeDir
		h.Name += "/"
		return a.tar.WriteHeader(h)
	case f.info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(c.path(f.name))
		if err != nil {
			c.leftOut("/"+f.name, fmt.Sprintf("it could not be read: %v", err), 0)
			return nil
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
		return a.tar.WriteHeader(h)
	}
	h.Typeflag = tar.TypeReg
	in, err := openRegular(c.path(f.name))
	if err != nil {
		c.leftOut("/"+f.name, fmt.Sprintf("it could not be read: %v", err), f.info.Size())
		return nil
	}
	defer in.Close()
	head := make([]byte, min(f.info.Size(), maxText))
	n, err := io.ReadFull(in, head)
	if err != nil && n == 0 && len(head) > 0 {
		c.leftOut("/"+f.name, fmt.Sprintf("it could not be read: %v", err), f.info.Size())
		return nil
	}
	head = head[:n]
	if why := hidden(head); why != "" {
		c.leftOut("/"+f.name, why, f.info.Size())
		return nil
	}
	if f.info.Size() > maxText {
		h.Size = f.info.Size()
		if err := a.tar.WriteHeader(h); err != nil {
			return err
		}
		return a.fill(io.MultiReader(bytes.NewReader(head), in), h.Size)
	}
	if slices.ContainsFunc(text, func(p string) bool { return strings.HasPrefix(f.name, p) }) && !matches(wordy, f.name) {
		var lines int
		if head, lines = redact(head); lines > 0 {
			c.leftOut("/"+f.name, fmt.Sprintf("%d of its lines went in without what looked like a secret", lines), 0)
		}
	}
	h.Size = int64(len(head))
	if err := a.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err = a.tar.Write(head)
	return err
}

// openRegular opens a file, and nothing that could keep its reader waiting.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.New("it is no file any more")
	}
	return f, nil
}

// hidden says why the contents of a file are left out, empty where they are not.
func hidden(head []byte) string {
	for _, magic := range []string{"QFI\xfb", "KDMV", "vhdxfile", "conectix", "<<< "} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return "it is the image of a disk"
		}
	}
	if bytes.Contains(head, []byte("PRIVATE KEY-----")) && utf8.Valid(head) {
		return "it has a private key"
	}
	return ""
}

// redact replaces what looks like a secret in a text, and says in how many lines.
func redact(data []byte) ([]byte, int) {
	if bytes.IndexByte(data, 0) >= 0 || !utf8.Valid(data) {
		return data, 0
	}
	var out bytes.Buffer
	lines := 0
	for line := range strings.Lines(string(data)) {
		if trimmed := strings.TrimSpace(line); strings.HasPrefix(trimmed, "#") && !strings.HasPrefix(trimmed, "#!") {
			// A comment does nothing in a twin, and can have a secret that is off.
			if guest.RedactText(line) != line {
				line = "#\n"
			}
			out.WriteString(line)
			continue
		}
		clean := guest.RedactText(line)
		if clean != line {
			lines++
		}
		out.WriteString(clean)
	}
	return out.Bytes(), lines
}
