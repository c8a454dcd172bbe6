package guest

import (
	"slices"
	"strings"
)

// hypervisor is a program that runs guests. Each has a file of its own, in which
// all that is known of it stands together, and a place in hypervisors.
type hypervisor struct {
	// name is what people call it.
	name string
	// programs are the names of its executables, without their folder. One that
	// ends in "-" stands for all that begin with it.
	programs []string
	// also recognises further names that are too rare to be watched unless the
	// configuration names them. May be nil.
	also func(name string) bool
	// places are where it is usually installed: absolute paths, or patterns of
	// them as filepath.Match takes them. None where its command line is not
	// understood: nothing could be waited for before it starts.
	places []string
	// identify says what gives a guest of it an identity that survives reboots:
	// "give it --id". Empty where its command line is not understood.
	identify string
	// parse reads an argument list that redact has made.
	parse func(p *Parser, args []string) Guest
	// redact returns a copy of an argument list without secrets. It changes
	// nothing that parse looks at, and nothing more in its own result.
	redact func(args []string) []string
}

// hypervisors are all that bootrace knows.
var hypervisors = []*hypervisor{&qemu, &cloudHypervisor, &firecracker, &crosvm, &kvmtool}

// Programs returns the names of all programs that bootrace knows to run guests,
// whether or not it understands their command lines. Matches compares with them.
func Programs() []string {
	var names []string
	for _, h := range hypervisors {
		names = append(names, h.programs...)
	}
	return names
}

// Places returns where the programs that bootrace understands are usually
// installed, as patterns of absolute paths.
func Places() []string {
	var patterns []string
	for _, h := range hypervisors {
		patterns = append(patterns, h.places...)
	}
	return patterns
}

// Identify says what gives a guest of a hypervisor, by Guest.Hypervisor, an identity that
// survives reboots: "give it -uuid or -name". It is empty where nothing does, as bootrace
// does not understand the program's command line.
func Identify(name string) string {
	for _, h := range hypervisors {
		if h.name == name {
			return h.identify
		}
	}
	return ""
}

// CommLen is how many bytes of a program's name the kernel keeps with a process
// (comm: TASK_COMM_LEN without the NUL that ends it).
const CommLen = 15

// Matches reports whether a program is one of names, of which one that ends in
// "-" stands for all that begin with it. It compares as the probes in the kernel
// do, which see no more than CommLen bytes. program is a path, a file name or a
// comm.
func Matches(names []string, program string) bool {
	comm := program[strings.LastIndexByte(program, '/')+1:]
	comm = comm[:min(len(comm), CommLen)]
	return slices.ContainsFunc(names, func(name string) bool {
		short := name[:min(len(name), CommLen)]
		return comm == short || strings.HasSuffix(name, "-") && strings.HasPrefix(comm, short)
	})
}

// IsProgram reports whether bootrace knows a program to run guests, by the file
// name given to execve, by what /proc/PID/exe points to, or by a process's comm.
func IsProgram(name string) bool { return known(name) != nil }

// known returns the hypervisor that a program is, nil if it is none.
func known(program string) *hypervisor {
	name := fileName(program)
	if name == "" {
		return nil
	}
	for _, h := range hypervisors {
		if Matches(h.programs, name) || h.also != nil && h.also(name) {
			return h
		}
	}
	return nil
}

// fileName is the base name without what wrappers and the kernel put around it:
// NixOS calls the real binary .NAME-wrapped, and /proc/PID/exe of a replaced
// file ends in " (deleted)".
func fileName(program string) string {
	program = strings.TrimSuffix(program, " (deleted)")
	program = program[strings.LastIndexByte(program, '/')+1:]
	if inner, ok := strings.CutSuffix(program, "-wrapped"); ok {
		program = strings.TrimPrefix(inner, ".")
	}
	return program
}

// hypervisor says which hypervisor's command line args is, nil if of none. A
// program that was copied, renamed or wrapped is told by argv[0], or by options
// that only qemu has.
func (p *Parser) hypervisor(args []string) *hypervisor {
	if h := known(p.Program); h != nil {
		return h
	}
	if h := known(args[0]); h != nil {
		return h
	}
	if looksLikeQEMU(args) {
		return &qemu
	}
	return nil
}

// script reports whether args are those of an interpreter that runs the program,
// which is a script then: the kernel puts the interpreter, and one argument if
// the script names one, in the place of argv[0].
func (p *Parser) script(args []string) bool {
	if p.Program == "" || fileName(args[0]) == fileName(p.Program) {
		return false
	}
	return slices.Contains(args[1:min(len(args), 3)], p.Program)
}
