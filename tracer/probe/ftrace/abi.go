package ftrace

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ABI is how kernel functions get their arguments on an architecture.
type ABI struct {
	Args []string // fetches of the arguments of a function, at its entry
	// wrapper begins the names of system calls since Linux 4.17, which get the
	// caller's registers in a struct; saved are the arguments' offsets in it.
	wrapper string
	saved   []int
}

var abis = map[string]ABI{
	"amd64": {[]string{"%di", "%si", "%dx", "%cx"}, "__x64_", []int{112, 104, 96, 56}},
	"arm64": {[]string{"%x0", "%x1", "%x2", "%x3"}, "__arm64_", []int{0, 8, 16, 24}},
}

// ErrNoABI says that functions' arguments are not known for this machine.
var ErrNoABI = errors.New("the arguments of kernel functions are not known for this architecture")

// ThisABI is that of this machine.
func ThisABI() (ABI, error) { return ABIOf(runtime.GOARCH) }

// ABIOf is that of an architecture, by Go's name.
func ABIOf(arch string) (ABI, error) {
	a, ok := abis[arch]
	if !ok {
		return ABI{}, fmt.Errorf("%w: %s", ErrNoABI, arch)
	}
	return a, nil
}

// SystemCall is the function of a system call, and fetches of its arguments:
// wrapped as since Linux 4.17, or as before.
func (a ABI) SystemCall(name string, wrapped bool) (symbol string, args []string) {
	if !wrapped {
		return "sys_" + name, a.Args
	}
	for _, offset := range a.saved {
		args = append(args, At(offset, a.Args[0]))
	}
	return a.wrapper + "sys_" + name, args
}

// Wrappings are the forms of system calls to try, in this order: wrapped, as since Linux
// 4.17, or not. It asks the kernel for its symbols, since it writes to its log of each
// probe at a function that it does not have. Where it does not tell, both are to be tried.
func (a ABI) Wrappings() []bool { return a.wrappings("/proc/kallsyms") }

func (a ABI) wrappings(symbols string) []bool {
	both := []bool{true, false}
	f, err := os.Open(symbols)
	if err != nil {
		return both
	}
	defer f.Close()
	// One that all kernels have. Lines are "ADDRESS TYPE NAME".
	wrapped, _ := a.SystemCall("openat", true)
	plain, _ := a.SystemCall("openat", false)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Bytes()
		switch string(line[bytes.LastIndexByte(line, ' ')+1:]) {
		case wrapped:
			return []bool{true}
		case plain:
			return []bool{false}
		}
	}
	return both
}

// At is a fetch of what lies at an offset from where another fetch leads.
func At(offset int, fetch string) string { return fmt.Sprintf("%+d(%s)", offset, fetch) }

// UserMemory fetches from the memory of the task that hits a probe. What is
// there, and the addresses themselves, are the caller's: anything. From Linux
// 5.3 on there are fetches that refuse addresses that are no user's; the others
// are as good up to 4.19, and in between a wild address makes the kernel warn.
type UserMemory struct{ Own bool }

// At is a fetch of what lies at an offset from where another fetch leads.
func (m UserMemory) At(offset int, fetch string) string {
	if m.Own {
		plain := At(offset, fetch)
		return plain[:1] + "u" + plain[1:]
	}
	return At(offset, fetch)
}

// String is the type of strings.
func (m UserMemory) String() string {
	if m.Own {
		return "ustring"
	}
	return "string"
}

// NoSymbol reports whether a probe was refused because its function is not in
// this kernel. Before Linux 5.x the kernel says EINVAL for some of these.
func NoSymbol(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EADDRNOTAVAIL)
}
