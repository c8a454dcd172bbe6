// Package emulate has what all machines have in common that QEMU emulates whole: those of
// the lab, and the twins of hosts.
//
// A machine has one processor: with two, emulated kernels have locked up. /dev/kvm is not
// used: where it is there, it may still hang a kernel.
package emulate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// codeBuffer is QEMU's room for translated code, in MiB. On each write to a page
// that code was ever translated from, QEMU 7.2 walks all of that code until the
// buffer is full and emptied. With the default of 1 GiB that does not happen,
// and after a reboot nearly every page is one: the second boot took 2.2 times
// as long as with 64 MiB. With 32, translating again took a quarter more.
const codeBuffer = "64"

// processor is all that the emulator can do, but for string instructions that are
// made to be fast: here each byte of them is an instruction, so that Linux would
// clear a page with 4096 where 512 do.
const processor = "max,erms=off,fsrm=off"

// Kernel is what each machine's kernel is told. Where this machine is busy, an emulated
// timer can miss the kernel's test of it, and the kernel panics: "IO-APIC + timer doesn't
// work".
const Kernel = "console=ttyS0 no_timer_check"

// Unmitigated is for the kernel's command line, too, where times need not be a host's: an
// emulated processor has nothing to be protected from, and what protects it takes a tenth
// of a boot.
const Unmitigated = "mitigations=off"

// Args are QEMU's for a machine of that type with memory in MiB and room for so many
// processors. The devices that a PC brings unasked are left out.
func Args(machine string, memory, room int) []string {
	return []string{
		"-no-user-config", "-nodefaults", "-display", "none",
		"-machine", machine, "-accel", "tcg,tb-size=" + codeBuffer, "-cpu", processor,
		"-smp", fmt.Sprintf("1,maxcpus=%d", room), "-m", strconv.Itoa(memory), "-rtc", "base=utc",
	}
}

// Quote writes a path in a QEMU option, where a comma is written twice.
func Quote(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// stuck are what a console says when nothing more will come.
var stuck = []struct{ text, meaning string }{
	{"Kernel panic - not syncing", "the kernel panicked"},
	{"Dropping to a shell!", NoRoot},
	{"dracut-emergency", NoRoot},
	{"You are in emergency mode", "systemd gave up and opened an emergency shell"},
}

// NoRoot is what Stuck says of an initramfs that can't go on.
const NoRoot = "the initramfs found no root"

// Stuck says why nothing more will come after this line of a console; empty where more may.
func Stuck(line string) string {
	for _, s := range stuck {
		if strings.Contains(line, s.text) {
			return s.meaning
		}
	}
	return ""
}

// longestLine is what a line is cut at, in bytes: a machine may write anything.
const longestLine = 64 << 10

// Lines reads to the end, and hands on each line that is not empty.
func Lines(r io.Reader, take func(line string)) {
	b := bufio.NewReaderSize(r, longestLine)
	for {
		line, err := b.ReadSlice('\n')
		if s := strings.TrimRight(string(line), "\r\n"); s != "" {
			take(s)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// Start starts a machine, which ends with this program. The descriptors that it is given
// are closed here. The channel has how it ended.
func Start(cmd *exec.Cmd) (<-chan error, error) {
	// A group of its own: an interrupt at the terminal is the caller's to handle.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		// The kernel sends Pdeathsig when the thread ends that started the
		// process, not the whole program.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		for _, f := range cmd.ExtraFiles {
			f.Close()
		}
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	return ended, nil
}
