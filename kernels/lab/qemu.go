package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/bootrace/bootrace/tracer/emulate"
)

// The descriptors on which QEMU writes the two serial lines.
const (
	consoleFD = 3
	signalFD  = 4
)

// args is QEMU's command line.
//
// The devices that a PC brings unasked are left out, since probing each of them takes
// time. With cache=unsafe the host is not asked to flush; what the machine flushes reaches
// the host all the same, so that killing QEMU cuts the machine's power, not the
// host's.
//
// A counted clock goes 2^shift ns with each instruction, here one: a processor
// of 1 GHz that does one in each cycle, a third and less of what a processor of
// today does. While it waits, the clock goes at this machine's pace. With
// sleep=off it does not wait for timers but goes on to the next at once, also
// while a disk is busy: such a clock once went 110 s ahead in 2 s.
func (m *Machine) args() []string {
	args := append(emulate.Args("q35,sata=off,smbus=off,i8042=off,vmport=off", m.memory, m.cpus),
		"-kernel", m.image.path(kernelFile), "-initrd", m.initramfs(),
		"-append", m.commandLine(),
		"-device", "virtio-rng-pci,addr=2")
	for i, fd := range []int{consoleFD, signalFD} {
		args = append(args,
			"-add-fd", fmt.Sprintf("fd=%d,set=%d", fd, i+1),
			"-chardev", fmt.Sprintf("file,id=serial%d,path=/dev/fdset/%d,append=on", i, i+1),
			"-serial", fmt.Sprintf("chardev:serial%d", i))
	}
	if m.ownInitramfs {
		args = append(args, "-no-reboot") // QEMU reads an initramfs once, when it starts
	}
	if m.counted {
		args = append(args, "-icount", "shift=0,sleep=on")
	}
	args = append(args, share("lab-share", m.dir.path("share"), 3)...)
	args = append(args, share("lab-out", m.out, 4)...)
	args = append(args, disk("lab-root", m.dir.path("root.qcow2"), "qcow2", 8)...)
	for i, path := range m.disks {
		args = append(args, disk(fmt.Sprintf("lab-disk-%d", i+1), path, "raw", 9+i)...)
	}
	return args
}

// initramfs is the one that the machine left, where it is to have its own.
func (m *Machine) initramfs() string {
	if own := filepath.Join(m.out, initrdFile); m.ownInitramfs {
		if _, err := os.Stat(own); err == nil {
			return own
		}
	}
	return m.image.path(initrdFile)
}

func (m *Machine) commandLine() string {
	line := "root=UUID=" + rootUUID + " ro " + emulate.Kernel
	if !m.mitigations {
		line += " " + emulate.Unmitigated
	}
	return strings.TrimSpace(line + " " + m.append)
}

// share is a folder that the machine can mount by its tag.
func share(tag, dir string, slot int) []string {
	return []string{
		"-fsdev", fmt.Sprintf("local,id=%s,path=%s,security_model=none,multidevs=remap", tag, emulate.Quote(dir)),
		"-device", fmt.Sprintf("virtio-9p-pci,fsdev=%s,mount_tag=%s,addr=%#x", tag, tag, slot),
	}
}

// disk is a disk with that serial number. The kernel names disks in the order
// of their slots.
func disk(serial, path, format string, slot int) []string {
	return []string{
		"-drive", fmt.Sprintf("if=none,id=%s,format=%s,cache=unsafe,discard=unmap,file=%s", serial, format, emulate.Quote(path)),
		"-device", fmt.Sprintf("virtio-blk-pci,drive=%s,serial=%s,addr=%#x", serial, serial, slot),
	}
}
