package lab

import (
	"fmt"
	"strconv"
	"strings"
)

// The descriptors on which QEMU writes the two serial lines.
const (
	consoleFD = 3
	signalFD  = 4
)

// codeBuffer is QEMU's room for translated code, in MiB. On each write to a page
// that code was ever translated from, QEMU 7.2 walks all of that code until the
// buffer is full and emptied. With the default of 1 GiB that does not happen,
// and after a reboot nearly every page is one: the second boot took 2.2 times
// as long as with 64 MiB. With 32, translating again took a quarter more.
const codeBuffer = "64"

// args is QEMU's command line.
//
// One processor: with two, emulated kernels have locked up. The devices that a
// PC brings unasked are left out, since probing each of them takes time. With
// cache=unsafe the host is not asked to flush; what the machine flushes reaches
// the host all the same, so that killing QEMU cuts the machine's power, not the
// host's.
//
// processor is all that the emulator can do, but for string instructions that are
// made to be fast: here each byte of them is an instruction, so that Linux would
// clear a page with 4096 where 512 do.
const processor = "max,erms=off,fsrm=off"

// A counted clock goes 2^shift ns with each instruction, here one: a processor
// of 1 GHz that does one in each cycle, a third and less of what a processor of
// today does. While it waits, the clock goes at this machine's pace. With
// sleep=off it does not wait for timers but goes on to the next at once, also
// while a disk is busy: such a clock once went 110 s ahead in 2 s.
func (m *Machine) args() []string {
	args := []string{
		"-no-user-config", "-nodefaults", "-display", "none",
		"-machine", "q35,sata=off,smbus=off,i8042=off,vmport=off",
		"-accel", "tcg,tb-size=" + codeBuffer, "-cpu", processor, "-smp", fmt.Sprintf("1,maxcpus=%d", m.cpus), "-m", strconv.Itoa(m.memory),
		"-rtc", "base=utc",
		"-kernel", m.image.path(kernelFile), "-initrd", m.image.path(initrdFile),
		"-append", m.commandLine(),
		"-device", "virtio-rng-pci,addr=2",
	}
	for i, fd := range []int{consoleFD, signalFD} {
		args = append(args,
			"-add-fd", fmt.Sprintf("fd=%d,set=%d", fd, i+1),
			"-chardev", fmt.Sprintf("file,id=serial%d,path=/dev/fdset/%d,append=on", i, i+1),
			"-serial", fmt.Sprintf("chardev:serial%d", i))
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

func (m *Machine) commandLine() string {
	// Where this machine is busy, an emulated timer can miss the kernel's test of
	// it, and the kernel panics: "IO-APIC + timer doesn't work".
	line := "root=UUID=" + rootUUID + " ro console=ttyS0 no_timer_check"
	if !m.counted {
		// An emulated processor has nothing to be protected from, and what protects
		// it takes a tenth of a boot. Where instructions are counted, a host's are.
		line += " mitigations=off"
	}
	return strings.TrimSpace(line + " " + m.append)
}

// share is a folder that the machine can mount by its tag.
func share(tag, dir string, slot int) []string {
	return []string{
		"-fsdev", fmt.Sprintf("local,id=%s,path=%s,security_model=none,multidevs=remap", tag, quote(dir)),
		"-device", fmt.Sprintf("virtio-9p-pci,fsdev=%s,mount_tag=%s,addr=%#x", tag, tag, slot),
	}
}

// disk is a disk with that serial number. The kernel names disks in the order
// of their slots.
func disk(serial, path, format string, slot int) []string {
	return []string{
		"-drive", fmt.Sprintf("if=none,id=%s,format=%s,cache=unsafe,discard=unmap,file=%s", serial, format, quote(path)),
		"-device", fmt.Sprintf("virtio-blk-pci,drive=%s,serial=%s,addr=%#x", serial, serial, slot),
	}
}

// quote writes a path in a QEMU option, where a comma is written twice.
func quote(path string) string { return strings.ReplaceAll(path, ",", ",,") }
