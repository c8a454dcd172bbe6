// Package probe watches the kernel: guests as they start, fork and end, the
// paths that they open, changes of device-mapper devices, and udev's links.
//
// It is the front of a house of rooms. A Backend is one way to watch, and each is a
// package of its own:
//
//	ebpf     eBPF programs, for kernels from 5.8 on that describe their types (BTF)
//	tracefs  kprobe events in the trace files, for kernels without, from 3.10 on
//	tasks    no probes: what the kernel tells of processes, where nothing else can be
//
// Open chooses one, by trying. Behind the backends are the rooms that they share: backend
// (options, abilities, losses), syscalls (what a call that was seen comes to), tasks (who
// is a guest, where no program in the kernel knows it); and those for one kind of
// interface of the kernel: ftrace (the trace files), ktypes (its types), procs (the proc
// connector), execs (what a held start has asked for, for package hold). None of them
// imports this package. The tests' guests and trials are in probetest.
//
// The record that comes of it is the same whichever backend makes it: a test in tracefs
// has both watch the same acts, and the lab has them watch the boots of real kernels.
package probe

import (
	"context"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
)

// Backend is one way to watch the kernel.
type Backend interface {
	// Info says what this backend can see on this host, now.
	Info() event.SourceInfo
	// AddGuest makes a guest of a process that runs already. pid is its thread
	// group id in the initial pid namespace.
	AddGuest(pid int) error
	// DeviceMapperLoaded is to be called when the dm_mod module has been
	// loaded, to add what could not be attached before. It may be called at
	// any time, again too.
	DeviceMapperLoaded() error
	// Run delivers events until ctx ends or the backend fails, from one
	// goroutine. When ctx ends it delivers what the kernel has already
	// recorded, then returns nil. It can be called once.
	Run(ctx context.Context, emit func(event.Event)) error
	// Losses counts the events that were lost since the start, by what they
	// told. Run reports them as events, too.
	Losses() map[string]uint64
	// OwnLosses are those that are in none of Losses: of single users, who had used up
	// their share.
	OwnLosses() []event.LossInfo
	Close() error
}

// Options change how a backend works. The zero value is the default.
type Options = backend.Options
