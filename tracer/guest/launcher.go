package guest

import (
	"slices"
	"strings"
)

// launchers are programs that execute another in their own stead or as a child,
// whose command line stands at the end of theirs. bootrace does not watch them:
// it watches what they execute.
var launchers = []string{
	"env", "sudo", "doas", "su", "runuser", "setpriv", "capsh", "nice", "ionice", "chrt", "taskset", "numactl",
	"nohup", "setsid", "stdbuf", "timeout", "time", "prlimit", "softlimit", "flock", "chroot", "unshare", "nsenter",
	"ip", "cgexec", "systemd-run", "systemd-inhibit", "start-stop-daemon", "daemonize", "strace", "ltrace", "gdb",
	"perf", "valgrind", "xvfb-run", "exec", "command", "tini", "dumb-init", "catatonit",
}

// Launched returns the guest's command line within that of a launcher, such as
// env, sudo or firecracker's jailer, and nil where args are none of one. What a
// shell's -c or a script executes can't be told from its arguments.
func Launched(args []string) []string {
	if len(args) < 2 {
		return nil
	}
	name := fileName(args[0])
	if name == "jailer" {
		return jailed(args)
	}
	if !slices.Contains(launchers, name) {
		return nil
	}
	// What follows an option is its value, as a rule: `sudo -u kvm qemu-kvm`.
	for _, strict := range []bool{true, false} {
		for i := 1; i < len(args); i++ {
			before := args[i-1]
			if strict && i > 1 && before != "--" && strings.HasPrefix(before, "-") {
				continue
			}
			if IsProgram(args[i]) {
				return args[i:]
			}
		}
	}
	return nil
}

// jailed returns the command line with which the jailer executes firecracker
// (docs/jailer.md): the id that it was given itself, then what follows the "--".
func jailed(args []string) []string {
	var program, id string
	var rest []string
	for i := 1; i < len(args); i++ {
		if args[i] == "--" {
			rest = args[i+1:]
			break
		}
		name, value, assigned := strings.Cut(args[i], "=")
		if !assigned && i+1 < len(args) {
			value = args[i+1]
		}
		switch name {
		case "--exec-file":
			program = value
		case "--id":
			id = value
		}
	}
	if program == "" {
		return nil
	}
	inner := []string{program}
	if id != "" {
		inner = append(inner, "--id", id)
	}
	return append(inner, rest...)
}
