package guest

import (
	"iter"
	"strings"
)

// argKind says what follows an option.
type argKind uint8

const (
	argNone argKind = iota // nothing
	argText                // one string
	argFile                // one file name, commas and all
	argOpts                // key=value,... or JSON
)

// optionKinds has every option of qemu 1.5 (el7) to 10.1, of all targets, and
// those that distributions added (Proxmox: -id and -loadstate; el6: -pcidevice
// and others).
// Without the kind, the value of an option could not be told from the image
// that qemu takes as its only positional argument.
var optionKinds = optionTable(map[argKind]string{
	argNone: `
		h help version audio-help mem-prealloc snapshot nographic portrait
		full-screen win2k-hack rtc-td-hack no-fd-bootchk no-acpi no-hpet
		no-reboot no-shutdown no-frame alt-grab ctrl-grab no-quit sdl curses
		show-cursor usb S s singlestep preconfig enable-kvm no-kvm
		no-kvm-irqchip no-kvm-pit no-kvm-pit-reinjection enable-hax
		enable-nesting xen-create xen-attach xen-domid-restrict daemonize tdf
		localtime old-param semihosting nodefaults nodefconfig no-user-config
		only-migratable enable-fips enable-sync-profile async-teardown perfmap
		jitdump one-insn-per-tb virtfs_synth`,
	argText: `
		cpu m k rotate vga uuid append seed echr watchdog watchdog-action
		loadvm runas incoming d dfilter xen-domid gdb serial parallel monitor
		qmp qmp-pretty debugcon redir soundhw balloon bt usbdevice virtioconsole
		clock startdate tb-size kvm-shadow-memory prom-env g id set pcidevice
		nvram virtfs_synth hdachs qtest`,
	argFile: `
		hda hdb hdc hdd fda fdb cdrom mtdblock sd pflash mem-path bios kernel
		initrd dtb shim option-rom pidfile D L chroot readconfig writeconfig
		dump-vmstate qtest-log bootp tftp smb loadstate`,
	argOpts: `
		machine M accel smp numa add-fd global boot audio audiodev device name
		drive blockdev fsdev virtfs iscsi display spice vnc acpitable smbios
		netdev nic net chardev tpmdev fw_cfg compat mon overcommit action rtc
		icount sandbox trace plugin msg object semihosting-config run-with
		realtime`,
})

func optionTable(lists map[argKind]string) map[string]argKind {
	table := make(map[string]argKind, 200)
	for kind, names := range lists {
		for _, name := range strings.Fields(names) {
			table[name] = kind
		}
	}
	return table
}

// argument is one option with its value, or one positional argument.
type argument struct {
	name  string  // without dashes; empty for a positional argument
	kind  argKind // of a positional argument: argFile
	value string
	at    int // index of the value in the list, or of the option if it has none
	// valued is set where there is a value.
	valued bool
	// problem says why the option was not understood.
	problem string
}

// arguments walks the list behind argv[0] as qemu does (softmmu/vl.c): an
// option has one dash or two, and its value is always the next argument.
func arguments(args []string) iter.Seq[argument] {
	return func(yield func(argument) bool) {
		for i := 1; i < len(args); i++ {
			a := option(args, i)
			if !yield(a) {
				return
			}
			i = a.at
		}
	}
}

func option(args []string, i int) argument {
	name, dashed := strings.CutPrefix(args[i], "-")
	if !dashed {
		return argument{kind: argFile, value: args[i], at: i, valued: true}
	}
	name = strings.TrimPrefix(name, "-")
	kind, known := optionKinds[name]
	a := argument{name: name, kind: kind, at: i}
	switch next := i + 1; {
	case !known:
		a.problem = "not an option of qemu"
		if next < len(args) && !strings.HasPrefix(args[next], "-") {
			a.problem += "; the next argument was taken for its value"
			a.kind, a.value, a.at, a.valued = argOpts, args[next], next, true
		}
	case kind == argNone:
	case next == len(args):
		a.problem = "its value is missing"
	default:
		a.value, a.at, a.valued = args[next], next, true
	}
	return a
}
