package repair

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/initramfs"
	"github.com/bootrace/bootrace/tracer/inspect"
)

// Kernel is what a throwaway machine boots.
type Kernel struct {
	Image   string // vmlinuz
	Modules string // the folder with modules.dep
}

// HostKernel is the kernel that this host runs. It has to be at least as new as the
// guest's file systems: what it does not know it refuses to mount.
func HostKernel() (Kernel, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Kernel{}, err
	}
	release := unix.ByteSliceToString(u.Release[:])
	modules := filepath.Join("/lib/modules", release)
	for _, image := range []string{"/boot/vmlinuz-" + release, filepath.Join(modules, "vmlinuz")} {
		if _, err := os.Stat(image); err == nil {
			return Kernel{image, modules}, nil
		}
	}
	return Kernel{}, fmt.Errorf("no kernel image of %s is in /boot: name one with --kernel, and its modules with --modules", release)
}

// throwaway makes throwaway machines.
type throwaway struct {
	kernel  Kernel
	program string // that Init runs in: this program
	dir     string // for its files
	patience,
	// sign is how long it may take until the machine's program runs; only with KVM.
	sign time.Duration
}

// run has one file system of an overlay mended in a machine of its own.
func (t *throwaway) run(ctx context.Context, overlay string, target *Target, dropLog bool) (*outcome, error) {
	qemu, err := emulator()
	if err != nil {
		return nil, err
	}
	initrd := filepath.Join(t.dir, "initrd")
	if err := t.writeInitrd(ctx, initrd, target.Kind, dropLog); err != nil {
		return nil, err
	}
	o, err := t.boot(ctx, qemu, initrd, overlay, target)
	if err != nil {
		return nil, fmt.Errorf("the throwaway machine: %w", err)
	}
	return o, nil
}

func emulator() (string, error) {
	if runtime.GOARCH != "amd64" {
		return "", errors.New("repairs are made on x86-64 hosts only so far")
	}
	for _, name := range []string{"qemu-system-x86_64", "qemu-kvm", "/usr/libexec/qemu-kvm"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("QEMU is not installed (qemu-system-x86_64 or qemu-kvm): the repair needs it for a throwaway machine")
}

// memory is how much the machine has, in MiB: xfs_repair needs about 1 GiB for 1 TiB.
func memory(size int64) int {
	return int(min(1024+2*(size>>30), 16<<10))
}

// accelerators are tried in turn. A /dev/kvm that is there can still hang a guest, as
// in some nested machines; the machine's first sign of life tells.
func accelerators() []string {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return []string{"tcg"}
	}
	f.Close()
	return []string{"kvm", "tcg"}
}

var errNoSign = errors.New("it gave no sign of life")

func (t *throwaway) boot(ctx context.Context, qemu, initrd, overlay string, target *Target) (*outcome, error) {
	list := accelerators()
	for i, accel := range list {
		o, err := t.bootWith(ctx, qemu, accel, initrd, overlay, target)
		if errors.Is(err, errNoSign) && i+1 < len(list) {
			continue // nothing was done to the overlay
		}
		return o, err
	}
	return nil, errNoSign
}

func (t *throwaway) bootWith(ctx context.Context, qemu, accel, initrd, overlay string, target *Target) (*outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	node := func(fields map[string]any) string {
		text, _ := json.Marshal(fields)
		return string(text)
	}
	result := filepath.Join(t.dir, "result")
	if err := os.Remove(result); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	console := filepath.Join(t.dir, "console.log")
	processor := "max"
	if accel == "kvm" {
		processor = "host"
	}
	args := []string{
		"-no-user-config", "-nodefaults", "-display", "none", "-nic", "none", "-no-reboot",
		"-machine", "q35", "-accel", accel, "-cpu", processor, "-smp", "1", "-m", strconv.Itoa(memory(target.Size)),
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-kernel", t.kernel.Image, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 no_timer_check rdinit=/init",
		"-chardev", "file,id=console,path=" + quote(console), "-serial", "chardev:console",
		"-chardev", "file,id=result,path=" + quote(result), "-serial", "chardev:result",
		"-blockdev", node(map[string]any{"driver": "file", "filename": overlay, "node-name": "file"}),
		"-blockdev", node(map[string]any{"driver": "qcow2", "file": "file", "node-name": "overlay"}),
		"-blockdev", node(map[string]any{"driver": "raw", "file": "overlay", "offset": target.Offset, "size": target.Size, "node-name": "target"}),
		"-device", "virtio-blk-pci,drive=target,werror=report,rerror=report",
	}
	var said bytes.Buffer
	c := exec.CommandContext(ctx, qemu, args...)
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	var err error
	if accel == "kvm" {
		err = t.alive(result, ended)
		if errors.Is(err, errNoSign) {
			cancel()
			_ = <-ended //nolint:staticcheck // errcheck wants it: it was killed
			return nil, err
		}
	}
	err = <-ended
	if ctx.Err() != nil {
		return nil, fmt.Errorf("it did not end within %s; its console is in %s", t.patience, console)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	o, err := readResult(result)
	if err != nil {
		return nil, fmt.Errorf("%w; its console is in %s", err, console)
	}
	return o, nil
}

func quote(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// alive waits for the machine's first word.
func (t *throwaway) alive(result string, ended chan error) error {
	for begun := time.Now(); time.Since(begun) < t.sign; {
		if info, err := os.Stat(result); err == nil && info.Size() > 0 {
			return nil
		}
		select {
		case err := <-ended:
			ended <- err
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errNoSign
}

// mostResult bounds what a machine says: it has worked on bytes that its guest chose.
const mostResult = 1 << 20

func readResult(path string) (*outcome, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, mostResult))
	lines.Buffer(nil, mostResult)
	running := false
	for lines.Scan() {
		var m message
		if json.Unmarshal(bytes.TrimSpace(lines.Bytes()), &m) != nil {
			continue
		}
		switch {
		case m.Error != "":
			return nil, errors.New(m.Error)
		case m.Done != nil:
			return m.Done, nil
		}
		running = running || m.Running
	}
	if running {
		return nil, errors.New("it stopped in the middle")
	}
	return nil, errors.New("it did not come up")
}

// writeInitrd makes the machine's initramfs: this program as its init, the tools, and
// the modules of the kernel, with what each of them needs.
func (t *throwaway) writeInitrd(ctx context.Context, path string, kind inspect.Kind, dropLog bool) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	a := initramfs.New(f)
	o := order{Kind: kind, DropLog: dropLog}
	names := []string{"virtio_pci", "virtio_blk", "crc32c_generic", fsType(kind)}
	modules, err := initramfs.Modules(t.kernel.Modules, names)
	if err != nil {
		return err
	}
	for i, module := range modules {
		raw, err := initramfs.ReadModule(ctx, filepath.Join(t.kernel.Modules, module))
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%02d-%s", i, initramfs.ModuleName(module))
		o.Modules = append(o.Modules, name)
		a.Add(strings.TrimPrefix(modulesDir, "/")+"/"+name, raw, 0o600)
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	a.Add(strings.TrimPrefix(orderFile, "/"), text, 0o600)
	tool := "e2fsck"
	if kind == inspect.KindXFS {
		tool = "xfs_repair"
	}
	found, err := exec.LookPath(tool)
	if err != nil {
		return fmt.Errorf("%s is needed, and not installed", tool)
	}
	for file, from := range map[string]string{"init": t.program, "sbin/" + tool: found} {
		if err := a.Program(ctx, file, from); err != nil {
			return err
		}
	}
	return a.Finish()
}
