package rights

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kept are the capabilities that the service may ever have: those of
// CapabilityBoundingSet in packaging/systemd/bootrace-early.service, where a line
// says why. A test compares them.
var kept = []int{
	unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE, unix.CAP_NET_ADMIN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH,
	unix.CAP_SYS_RESOURCE, unix.CAP_SYS_NICE, unix.CAP_SYSLOG, unix.CAP_MKNOD, unix.CAP_CHOWN, unix.CAP_FOWNER,
	unix.CAP_SYS_MODULE, unix.CAP_SYS_CHROOT,
}

// Confine gives up for good, in all threads, what the service never needs: an
// instance from an initramfs without systemd has no unit that did. The programs
// that it runs, such as LVM's, have no more than it. It works without cgo only.
func Confine() error {
	var keep uint64
	for _, c := range kept {
		keep |= 1 << c
	}
	for c := range 64 {
		if keep&(1<<c) != 0 {
			continue
		}
		// EINVAL: this kernel has no capability of that number.
		if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0); errno != 0 && errno != unix.EINVAL {
			return fmt.Errorf("give up capability %d: %w", c, errno)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read the capabilities: %w", err)
	}
	for i := range data {
		part := uint32(keep >> (32 * i))
		data[i].Effective &= part
		data[i].Permitted &= part
		data[i].Inheritable &= part
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&data)
	if errno != 0 {
		return fmt.Errorf("give up capabilities: %w", errno)
	}
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("give up new privileges: %w", errno)
	}
	return nil
}
