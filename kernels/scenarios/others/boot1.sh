#!/bin/bash
# Other users of BPF and of the trace files beside both backends: bpftrace on the
# functions that they watch, and trace-cmd in the kernel's main trace.
set -eu

say() { echo "== $*"; }
settle() { udevadm settle --timeout=60; }
second() { nsenter --mount --target "$pid" "$@"; }
until_there() { timeout 300 sh -c "until $1; do sleep 0.5; done"; } # COMMAND

# A second instance, with tracefs.
unshare --mount sh -c '
	mount -t tmpfs none /run/bootrace
	mount -t tmpfs none /var/lib/bootrace
	exec bootrace run --probes tracefs' 2>/lab/out/tracefs.txt &
pid=$!
until second bootrace status --format json 2>/dev/null | grep -q '"tracefs"'; do kill -0 $pid; sleep 0.5; done

# The first tick comes once everything is attached.
watch() { # OUT
	bpftrace -e '
		kprobe:do_sys_openat2 { @opens = count(); }
		kretprobe:do_sys_openat2 { @opened = count(); }
		kfunc:do_filp_open { @files = count(); }
		tracepoint:sched:sched_process_exec { @execs = count(); }
		tracepoint:syscalls:sys_exit_ioctl { @ioctls = count(); }
		kprobe:dm_ctl_ioctl { @requests = count(); }
		interval:s:1 { printf("tick\n"); }' >"$1" 2>&1 &
	bpftrace=$!
	until_there "grep -q tick $1"
}
counted() { # OUT: bpftrace has ended in order, and counted everything
	kill -INT $bpftrace
	wait $bpftrace
	for what in opens opened files execs ioctls requests; do
		grep -q "^@$what: [1-9]" "$1" || { echo "bpftrace counted no $what"; cat "$1"; return 1; }
	done
}

say "they begin"
modprobe dm_mod
watch /lab/out/bpftrace1.txt
trace-cmd record -q -o /tmp/trace.dat -e sched:sched_process_exec -e block >/lab/out/trace-cmd.txt 2>&1 &
recorder=$!
until_there 'grep -q sched_process_exec /sys/kernel/tracing/set_event'

say "a guest that comes too early, and one in time"
vgcreate -qq --setautoactivation n vg0 /dev/vdb
lvcreate -qq -y -an -Wn -Zn -L 8M -n early vg0
lvcreate -qq -y -an -Wn -Zn -L 8M -n late vg0
guest() {
	qemu-system-x86_64 -name "$1" -machine none -S -display none -nodefaults \
		-drive "file=/dev/vg0/$1,if=none,format=raw,cache=none" 2>/dev/null &
	sleep 3
}
guest early
lvchange -qq -ay vg0/early && settle
lvchange -qq -ay vg0/late && settle
sleep 12
guest late

say "they end, and have seen what they wanted"
counted /lab/out/bpftrace1.txt
kill -INT $recorder
wait $recorder
[ "$(trace-cmd report -i /tmp/trace.dat | grep -c 'sched_process_exec.*qemu')" -ge 2 ]
second bootrace show --near-miss 10s --format json >/lab/out/tracefs.json
bootrace show --near-miss 10s --format json >/lab/out/trace.json

say "bootrace ends, and bpftrace goes on"
watch /lab/out/bpftrace2.txt
kill -TERM $pid
wait $pid || true
# A unit's job may time out where the host is slow; what it began goes on.
# shellcheck disable=SC2016 # the inner shell expands it
systemctl stop bootrace || timeout 120 sh -c 'until [ "$(systemctl show -P ActiveState bootrace)" = inactive ]; do sleep 0.5; done'
dmsetup ls >/dev/null
counted /lab/out/bpftrace2.txt
[ -z "$(ls /sys/kernel/tracing/instances)" ]
[ -z "$(cat /sys/kernel/tracing/kprobe_events)" ]
