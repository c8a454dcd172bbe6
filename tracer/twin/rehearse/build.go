// Package rehearse boots twins of a captured host in a virtual machine, and says which
// guests would lose their disks at its next reboot.
//
// A twin has disks of the host's sizes, serial numbers and names, with LVM's labels and
// metadata and nothing else in them; the host's root file system, kernel, initramfs and
// units; and bootrace as it runs on the host. Where the host has qemu, the twin has a
// stand-in that opens its disks as qemu does (Standin). Everything else starts guests as
// on the host. The machine is emulated (TCG) and has no network.
//
// What a twin can't be like the host in is listed by name (Differences), and a prediction
// for a guest that depends on such a thing is "not known".
package rehearse

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/emulate"
	"github.com/bootrace/bootrace/tracer/twin"
)

// Twin is what machines are booted from: a folder with the disks, kernel and initramfs.
type Twin struct {
	Manifest *twin.Manifest
	dir      string
	rootDisk string // path of the disk that has the root file system
	ownRoot  bool   // it is a disk that the host doesn't have
	replaced []string
	dropped  []string // file systems of fstab that are not there
}

// The files that a twin has and its host has not.
const (
	folder     = "usr/local/lib/bootrace-twin"
	agentUnit  = "bootrace-twin.service"
	modeUnit   = "bootrace-twin-mode.service"
	enforceArg = "bootrace.twin=enforce"
)

// Build makes a twin in dir from the capture r. program is the file of this program, which
// becomes the stand-in for hypervisors.
func Build(ctx context.Context, r io.Reader, dir, program string) (*Twin, error) {
	t := &Twin{dir: dir}
	tree := filepath.Join(dir, "root")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return nil, fmt.Errorf("make the twin: %w", err)
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, fmt.Errorf("make the twin: %w", err)
	}
	defer root.Close()
	u := unpacker{ctx: ctx, root: root, dir: dir}
	t.Manifest, err = twin.Read(r, twin.Sink{File: u.file, Boot: u.boot, Piece: u.piece})
	if err != nil {
		return nil, err
	}
	if err := t.fit(root); err != nil {
		return nil, err
	}
	if err := t.change(root, program); err != nil {
		return nil, fmt.Errorf("make the twin: %w", err)
	}
	if err := t.disks(ctx, tree); err != nil {
		return nil, fmt.Errorf("make the twin's disks: %w", err)
	}
	return t, os.RemoveAll(tree)
}

// unpacker takes a capture apart. The root's files are only ever written below the root.
type unpacker struct {
	ctx  context.Context
	root *os.Root
	dir  string
}

func (u unpacker) file(h *tar.Header, r io.Reader) error {
	if u.ctx.Err() != nil {
		return context.Cause(u.ctx)
	}
	mode := os.FileMode(h.Mode & 0o777)
	if parent := filepath.Dir(h.Name); parent != "." {
		if err := u.root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := u.root.MkdirAll(h.Name, 0o755); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := u.root.Symlink(h.Linkname, h.Name); err != nil {
			return err
		}
		return u.root.Lchown(h.Name, h.Uid, h.Gid)
	case tar.TypeReg:
		f, err := u.root.OpenFile(h.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	default:
		return fmt.Errorf("the capture has %s, which is neither a file nor a folder", h.Name)
	}
	for bit, set := range map[int64]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if h.Mode&bit != 0 {
			mode |= set
		}
	}
	return errors.Join(u.root.Lchown(h.Name, h.Uid, h.Gid), u.root.Chmod(h.Name, mode))
}

func (u unpacker) boot(name string, r io.Reader) error {
	return writeAt(filepath.Join(u.dir, name), 0, r)
}

func (u unpacker) piece(disk string, offset int64, r io.Reader) error {
	return writeAt(filepath.Join(u.dir, disk+".img"), offset, r)
}

func writeAt(path string, offset int64, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.NewOffsetWriter(f, offset), r)
	return errors.Join(err, f.Close())
}

// drivers are the kernel's that a twin's disks need.
var drivers = map[twin.Bus][]string{twin.Virtio: {"virtio_pci", "virtio_blk"}, twin.SCSI: {"virtio_pci", "virtio_scsi", "sd_mod"}, twin.NVMe: {"nvme"}}

// fit says why a host can't have a twin on this machine.
func (t *Twin) fit(root *os.Root) error {
	m := t.Manifest
	if m.Machine != "x86_64" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("the host is of the kind %s: only x86_64 can be rehearsed, and only on x86_64", m.Machine)
	}
	if len(m.Hypervisors) == 0 {
		return errors.New("the host has no program that runs guests: there is nothing to rehearse")
	}
	if _, err := root.Stat("etc/systemd/system"); err != nil {
		return errors.New("the host has no systemd: it can't be rehearsed")
	}
	units, err := filepath.Glob(filepath.Join(root.Name(), "etc/systemd/system/*.wants/bootrace.service"))
	if err != nil || len(units) == 0 {
		return errors.New("bootrace.service is not enabled on the host: enable it there (`systemctl enable bootrace`), and capture it again")
	}
	have, err := modules(root, m.Kernel)
	if err != nil {
		return err
	}
	needed := []string{"virtio_pci", "virtio_blk", "ext4"}
	for _, d := range m.Disks {
		needed = append(needed, drivers[d.Bus]...)
	}
	for _, name := range needed {
		if !have[name] {
			return fmt.Errorf("the host's kernel %s has no %s, which the twin's disks need: it can't be rehearsed", m.Kernel, name)
		}
	}
	return nil
}

// modules are the drivers of a kernel, built in or not.
func modules(root *os.Root, release string) (map[string]bool, error) {
	have := map[string]bool{}
	for _, list := range []string{"modules.builtin", "modules.dep"} {
		data, err := root.ReadFile(filepath.Join("usr/lib/modules", release, list))
		if err != nil {
			data, err = root.ReadFile(filepath.Join("lib/modules", release, list))
		}
		if err != nil {
			return nil, fmt.Errorf("the capture has no list of the drivers of kernel %s: %w", release, err)
		}
		for line := range strings.Lines(string(data)) {
			path, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			name, _, _ := strings.Cut(filepath.Base(path), ".ko")
			have[strings.ReplaceAll(name, "-", "_")] = true
		}
	}
	return have, nil
}

// agent runs in the twin. The second serial line tells the machine how far it is; the
// machine says when all disks have come.
const agent = `#!/bin/sh
exec 3<>/dev/ttyS1
stty -F /dev/ttyS1 raw -echo 2>/dev/null || :
state=$(timeout 300 systemctl is-system-running --wait)
read -r up _ </proc/uptime
echo "up $up ${state:-starting}" >&3
read -r go <&3
udevadm settle --timeout=120
sleep 5
quiet=0 looks=0
while [ $quiet -lt 3 ] && [ $looks -lt 240 ]; do
	if bootrace status --format json 2>/dev/null | tr -d ' \n' | grep -q '"holds":\[{'; then quiet=0; else quiet=$((quiet + 1)); fi
	looks=$((looks + 1))
	sleep 1
done
systemctl stop bootrace.service
id=$(cat /proc/sys/kernel/random/boot_id)
for dir in /var/lib/bootrace /run/bootrace; do
	[ -e "$dir/$id.jsonl" ] || continue
	echo "recorded" >&3
	read -r go <&3
	out=/dev/disk/by-id/virtio-` + outName + `
	udevadm settle --timeout=60 --exit-if-exists=$out
	[ -b $out ] || sleep 10
	[ -b $out ] && tar -cf $out -C "$dir" "$id.jsonl"
	break
done
journalctl -b --no-pager -o short-monotonic >/dev/console 2>&1
systemctl --no-block poweroff --force
`

const agentService = `[Unit]
Description=Tell the rehearsal how far this twin is
After=multi-user.target

[Service]
Type=exec
ExecStart=/bin/sh /` + folder + `/agent
`

const modeService = `[Unit]
Description=Rehearse enforce mode
DefaultDependencies=no
Before=bootrace.service
ConditionKernelCommandLine=` + enforceArg + `

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'echo "mode: enforce" >/etc/bootrace/config.d/99-rehearsal-mode.yaml'
`

// change makes the host's root the twin's.
func (t *Twin) change(root *os.Root, program string) error {
	m := t.Manifest
	for _, h := range m.Hypervisors {
		name := strings.TrimPrefix(h.Path, "/")
		if err := copyInto(root, name, program); err != nil {
			return err
		}
		t.replaced = append(t.replaced, h.Path)
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	_ = root.Remove("etc/machine-id")
	fstab, err := t.fstab(root)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"etc/machine-id":                  hex.EncodeToString(id) + "\n", // without one, systemd takes the boot for an installation's first
		"etc/fstab":                       fstab,
		folder + "/agent":                 agent,
		"etc/systemd/system/" + agentUnit: agentService,
		"etc/systemd/system/" + modeUnit:  modeService,
		// The twin's disks are empty: there is nothing to see in them.
		"etc/bootrace/config.d/99-rehearsal.yaml": "inspect: off\n",
	} {
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, link := range [][2]string{
		{"/etc/systemd/system/" + agentUnit, "etc/systemd/system/multi-user.target.wants/" + agentUnit},
		{"/etc/systemd/system/" + modeUnit, "etc/systemd/system/sysinit.target.wants/" + modeUnit},
		// Nobody is to be told of these boots.
		{"/dev/null", "etc/systemd/system/bootrace-deliver.service"},
	} {
		if err := root.MkdirAll(filepath.Dir(link[1]), 0o755); err != nil {
			return err
		}
		_ = root.Remove(link[1])
		if err := root.Symlink(link[0], link[1]); err != nil {
			return err
		}
	}
	return nil
}

func copyInto(root *os.Root, name, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	out, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// fstab is the host's, with the root alone: the others are in the root, or not there.
func (t *Twin) fstab(root *os.Root) (string, error) {
	data, err := root.ReadFile("etc/fstab")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 2 || strings.HasPrefix(f[0], "#"):
		case f[1] == "/":
			lines = append(lines, "UUID="+t.uuid()+" / ext4 defaults 0 0\n")
		}
	}
	for _, fs := range t.Manifest.FileSystems {
		if !fs.InRoot {
			t.dropped = append(t.dropped, fs.Target)
		}
	}
	return strings.Join(lines, ""), nil
}

// uuid is that of the twin's root.
func (t *Twin) uuid() string {
	if len(t.Manifest.Root.UUID) == 36 {
		return t.Manifest.Root.UUID
	}
	return "b0070000-0000-4000-8000-000000000001" // of a root that has none of this form
}

// ownRootName is the root's disk where the host's root is on none that the twin has.
const ownRootName = "bootrace-root"

// disks makes the disks, and the root file system on the one that has it.
func (t *Twin) disks(ctx context.Context, tree string) error {
	for _, d := range t.Manifest.Disks {
		if err := truncate(t.image(d.Name), d.Size); err != nil {
			return fmt.Errorf("%s of %d bytes: %w: choose a folder on a file system that takes such a sparse file, as XFS does", d.Name, d.Size, err)
		}
	}
	r := t.Manifest.Root
	used, err := treeSize(tree)
	if err != nil {
		return err
	}
	size := 2*used + 1<<30
	offset := int64(0)
	if t.rootDisk = t.image(r.Disk); r.Disk == "" || size > r.Size {
		t.ownRoot, t.rootDisk = true, t.image(ownRootName)
		if err := truncate(t.rootDisk, size); err != nil {
			return err
		}
	} else {
		offset = r.Offset
		size = min(max(size, 4<<30), r.Size)
	}
	args := []string{"-q", "-F", "-t", "ext4", "-U", t.uuid(), "-E", fmt.Sprintf("offset=%d,nodiscard,lazy_itable_init=0", offset), "-d", tree}
	if r.Label != "" && len(r.Label) <= 16 {
		args = append(args, "-L", r.Label)
	}
	return run(ctx, "mke2fs", append(args, t.rootDisk, fmt.Sprintf("%dk", size>>10))...)
}

func (t *Twin) image(disk string) string { return filepath.Join(t.dir, disk+".img") }

func truncate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

func treeSize(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		bytes += st.Size + 4096
		return nil
	})
	return bytes, err
}

// tool finds a program also where only root's PATH leads.
func tool(name, pkg string) (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed here: a rehearsal needs it (package %s)", name, pkg)
}

func run(ctx context.Context, name string, args ...string) error {
	path, err := tool(name, "e2fsprogs")
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, cmp.Or(context.Cause(ctx), err), strings.TrimSpace(string(out)))
	}
	return nil
}

// unsuited are parameters of the kernel that would have a machine of another size fail.
var unsuited = []string{"crashkernel", "hugepages", "hugepagesz", "default_hugepagesz", "isolcpus", "nohz_full", "rcu_nocbs", "mem", "memmap", "maxcpus", "nr_cpus", "resume", "BOOT_IMAGE", "initrd", "console", "quiet", "splash", "ro", "rw"}

// commandLine is the kernel's, and what was left out of it.
func (t *Twin) commandLine() (line string, without []string) {
	var words []string
	for _, w := range strings.Fields(t.Manifest.CommandLine) {
		name, _, _ := strings.Cut(w, "=")
		switch {
		case name == "root":
			words = append(words, "root=UUID="+t.uuid())
		case name == "rootfstype" || name == "rootflags":
			without = append(without, w)
		case slices.Contains(unsuited, name):
			if !slices.Contains([]string{"BOOT_IMAGE", "initrd", "console", "quiet", "splash", "ro", "rw"}, name) {
				without = append(without, w)
			}
		default:
			words = append(words, w)
		}
	}
	// Files have no labels here.
	return strings.Join(append(words, "rw", emulate.Kernel, emulate.Unmitigated, "selinux=0"), " "), without
}
