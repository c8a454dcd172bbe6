package powercut

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/kernels/lab"
	"github.com/bootrace/bootrace/tracer/initramfs"
)

// modules are those that the machine needs. Of those that a kernel does not have as
// modules it has the rest.
var modules = []string{
	"virtio_pci", "virtio_scsi", "sd_mod", "crc32c_generic", "xxhash_generic", "sha256_generic", "blake2b_generic",
	"dm_mod", "xfs", "ext4", "btrfs", "nls_cp437", "nls_ascii", "vfat",
}

// tools are what it runs.
var tools = []string{"lvm", "mkfs.xfs", "mkfs.ext4", "xfs_logprint", "xfs_repair", "xfs_db", "dumpe2fs", "e2fsck"}

// machines boots machines of one kernel.
type machines struct {
	t              *testing.T
	dir            string
	image, modules string // of the kernel
	guest          string // the program
}

func newMachines(t *testing.T) *machines {
	t.Helper()
	m := &machines{t: t, dir: t.TempDir()}
	kernel := filepath.Join(m.dir, "kernel")
	if err := os.Mkdir(kernel, 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	if m.image, m.modules, err = lab.Kernel(t.Context(), os.Getenv("BOOTRACE_KERNEL"), kernel, testLog{t}); err != nil {
		t.Fatal(err)
	}
	m.guest = filepath.Join(m.dir, "guest")
	c := exec.Command("go", "build", "-o", m.guest, "./guest")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return m
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (m *machines) initrd(name string, o *Order) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	f, err := os.Create(path)
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	a := initramfs.New(f)
	files, err := initramfs.Modules(m.modules, modules)
	if err != nil {
		m.t.Fatal(err)
	}
	ordered := *o
	for i, file := range files {
		raw, err := initramfs.ReadModule(m.t.Context(), filepath.Join(m.modules, file))
		if err != nil {
			m.t.Fatal(err)
		}
		name := fmt.Sprintf("%02d-%s", i, initramfs.ModuleName(file))
		ordered.Modules = append(ordered.Modules, name)
		a.Add(strings.TrimPrefix(ModulesDir, "/")+"/"+name, raw, 0o600)
	}
	text, err := json.Marshal(ordered)
	if err != nil {
		m.t.Fatal(err)
	}
	a.Add(strings.TrimPrefix(OrderFile, "/"), text, 0o600)
	if err := a.Program(m.t.Context(), "init", m.guest); err != nil {
		m.t.Fatal(err)
	}
	for _, tool := range tools {
		found, err := exec.LookPath(tool)
		if err != nil {
			m.t.Skipf("NOT RUN: %s is not installed", tool)
		}
		if err := a.Program(m.t.Context(), "sbin/"+tool, found); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := a.Finish(); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// drive is an image that a machine has as a disk.
type drive struct {
	path, format string
	backing      []string // images of qcow2 below it, the one on top first
}

// boot boots a machine, and calls told with each of its reports, until that returns
// true: the machine's process is killed then. With throwAway nothing is written to the
// drives.
func (m *machines) boot(name string, o *Order, drives []drive, throwAway bool, told func(*Report) (end bool)) error {
	m.t.Helper()
	snapshot := "off"
	if throwAway {
		snapshot = "on"
	}
	console, reports := filepath.Join(m.dir, name+".console"), filepath.Join(m.dir, name+".reports")
	if err := os.WriteFile(reports, nil, 0o600); err != nil {
		return err
	}
	args := []string{
		"-no-user-config", "-nodefaults", "-display", "none", "-nic", "none", "-no-reboot",
		"-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "2048",
		"-kernel", m.image, "-initrd", m.initrd(name+".initrd", o), "-append", "console=ttyS0 panic=-1 no_timer_check rdinit=/init",
		"-chardev", "file,id=console,path=" + console, "-serial", "chardev:console",
		"-chardev", "file,id=reports,append=on,path=" + reports, "-serial", "chardev:reports",
		"-device", "virtio-scsi-pci,id=disks,num_queues=1",
	}
	for i, d := range drives {
		args = append(args,
			"-drive", fmt.Sprintf("if=none,id=d%d,snapshot=%s,format=%s,file=%s", i, snapshot, d.format, d.path),
			"-device", fmt.Sprintf("scsi-hd,bus=disks.0,scsi-id=0,lun=%d,drive=d%d", i, i))
	}
	const patience = 20 * time.Minute
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, "qemu-system-x86_64", args...) // its context kills with SIGKILL
	var said strings.Builder
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	defer func() {
		cancel()
		<-ended
	}()
	f, err := os.Open(reports)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	partial := ""
	for {
		line, err := lines.ReadString('\n')
		partial += line
		if errors.Is(err, io.EOF) {
			select {
			case err := <-ended:
				ended <- err
				text, _ := os.ReadFile(console)
				return fmt.Errorf("the machine ended: %w %s\n%s", cmp.Or(err, errors.New("by itself")), said.String(), text[max(0, len(text)-3000):])
			case <-time.After(50 * time.Millisecond):
				continue
			}
		}
		if err != nil {
			return err
		}
		var r Report
		if err := json.Unmarshal([]byte(strings.TrimSpace(partial)), &r); err != nil {
			return fmt.Errorf("%w: %q", err, partial)
		}
		partial = ""
		if r.Error != "" {
			text, _ := os.ReadFile(console)
			return fmt.Errorf("%s\n%s", r.Error, text[max(0, len(text)-3000):])
		}
		if told(&r) {
			return nil
		}
	}
}
