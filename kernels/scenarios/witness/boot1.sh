#!/bin/bash
# The same events, seen by bootrace and by others that know nothing of it: the
# kernel's own tracing, and udevadm monitor. Leaves trace.txt and monitor.txt of
# the witnesses, and trace.jsonl of bootrace, in /lab/out.
set -eu

tracing=/sys/kernel/tracing
[ -e $tracing/trace ] || mount -t tracefs tracefs $tracing
witness=$tracing/instances/witness

settle() { udevadm settle --timeout=30; }
say() { echo "== $*"; echo "$*" > $witness/trace_marker; }

guest() { # NAME PATH...: starts a guest (pid) and waits until it waits, or has failed
	local name=$1 drives=()
	shift
	rm -f "/run/$name.qmp"
	for path; do drives+=(-drive "file=$path,if=none,format=raw,cache=none"); done
	qemu-system-x86_64 -name "$name" -machine none -S -display none -nodefaults \
		-qmp "unix:/run/$name.qmp,server=on,wait=off" "${drives[@]}" 2>"/run/$name.err" &
	pid=$!
	until [ -S "/run/$name.qmp" ] && grep -qs ' S ' "/proc/$pid/stat"; do
		kill -0 $pid 2>/dev/null || { wait $pid || true; return 0; }
		sleep 0.05
	done
}

# Who resumes which device: LVM names it by number, the second argument of
# dev_suspend (struct dm_ioctl: flags at 28, dev at 40).
probes() {
	echo 'p:witness/request dm_mod:dev_suspend dev=+40(%si):u64 flags=+28(%si):u32'
	echo 'p:witness/swap dm_mod:dm_swap_table'
	echo "r:witness/resumed dm_mod:dm_resume ret=\$retval:s32"
	# The system call's own event has the path's address only.
	echo 'p:witness/path do_sys_openat2 path=+0(%si):ustring'
}

start_witnesses() {
	probes >> $tracing/kprobe_events
	mkdir $witness
	echo boot > $witness/trace_clock
	echo 4096 > $witness/buffer_size_kb
	for event in syscalls/sys_enter_openat syscalls/sys_exit_openat witness/path; do
		echo 'comm ~ "qemu-system*"' > $witness/events/$event/filter
		echo 1 > $witness/events/$event/enable
	done
	for event in request swap resumed; do echo 1 > $witness/events/witness/$event/enable; done
	# It says when it reads, not when the kernel sent: so it reads first.
	chrt --fifo 50 udevadm monitor --kernel --udev --property > /lab/out/monitor.txt &
	monitor=$!
	timeout 20 sh -c 'until grep -q "^KERNEL - " /lab/out/monitor.txt; do sleep 0.1; done'
}

stop_witnesses() {
	kill $monitor
	echo 0 > $witness/tracing_on
	# What the buffer had no room for would be missing from the witness.
	[ "$(sed -n 's/^\(overrun\|dropped events\): //p' $witness/per_cpu/cpu*/stats | sort -u)" = 0 ]
	cat $witness/trace > /lab/out/trace.txt
}

vgcreate -qq --setautoactivation n vg0 /dev/vdb /dev/vdc
for lv in early late again; do
	lvcreate -qq -y -L 8M -n "$lv" vg0
done
settle
vgchange -qq -an vg0
settle

start_witnesses

say "a guest on a volume that is there"
lvchange -qq -ay vg0/early
settle
guest early /dev/vg0/early

say "a guest that comes before its volume"
guest late /dev/vg0/late
lvchange -qq -ay vg0/late
settle

say "a volume that goes and comes again, with a guest each time"
lvchange -qq -ay vg0/again
settle
guest again /dev/vg0/again
kill "$pid"
wait "$pid" || true
lvchange -qq -an vg0/again
guest again /dev/vg0/again
lvchange -qq -ay vg0/again
settle

say "a volume that is suspended and goes on, as for a snapshot"
lvchange -qq --refresh vg0/early
settle

# Whoever is behind catches up: nothing more happens.
sleep 2
stop_witnesses
cp "$(bootrace status --format json | sed -n 's/^ *"log": "\(.*\)",*$/\1/p')" /lab/out/trace.jsonl
