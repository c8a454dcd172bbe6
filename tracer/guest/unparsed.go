package guest

import "slices"

// Hypervisors that bootrace knows, and whose command lines it does not
// understand. Their opens are recorded; what they will open is not known before.

var crosvm = unparsed("crosvm", []string{"crosvm"}, "run", "run-mp")

var kvmtool = unparsed("kvmtool", []string{"lkvm"}, "run", "sandbox")

// unparsed is a hypervisor of that kind. Its first argument is a command, of
// which only some run a guest.
func unparsed(name string, programs []string, runs ...string) hypervisor {
	return hypervisor{
		name: name, programs: programs, redact: redactAny,
		parse: func(_ *Parser, args []string) Guest {
			g := Guest{Disks: []Disk{}}
			for _, arg := range args[1:] {
				if slices.Contains(runs, arg) {
					g.IsGuest, g.Unparsed = true, true
					g.Unknown = "the command line of " + name + " is not understood"
					return g
				}
			}
			g.NotGuest = "of its commands, " + name + " " + runs[0] + " runs a guest"
			return g
		},
	}
}
