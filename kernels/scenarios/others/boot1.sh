#!/bin/bash
# Others who use BPF and the trace files beside both backends: bpftrace, on the
# functions that bootrace watches and in each way that it does, and trace-cmd, in
# the kernel's main trace. What they count is known, or bootrace has it, too.
set -eu
trace=/sys/kernel/tracing
rename=do_renameat2
grep -q " $rename\$" /proc/kallsyms || rename=filename_renameat2 # from Linux 7.0 on

trampolines='
	kfunc:do_sys_openat2 /comm == "marked"/ { @fentry = count(); }
	kretfunc:do_sys_openat2 /comm == "marked"/ { @fexit = count(); }'
opened=(kretprobe fentry fexit)
if [ "$(ls /sys/kernel/btf)" = vmlinux ]; then
	# Where no module has BTF (5.10), bpftrace 0.17 has no trampolines, and takes the
	# kernel's BTF only if told to.
	export BPFTRACE_BTF=/sys/kernel/btf/vmlinux
	trampolines='' opened=(kretprobe)
elif ! grep -qE '\((none|voluntary)\)' /sys/kernel/debug/sched/preempt; then
	opened=(kretprobe) # where the kernel preempts itself it skips trampolines' programs, anybody's
fi

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
until second bootrace status --format json 2>/dev/null | grep -q '"tracefs"'; do
	kill -0 $pid
	sleep 0.5
done

# The first tick comes once everything is attached.
watch() { # OUT
	bpftrace -e '
		kprobe:do_sys_openat2 /comm == "marked"/ { @kprobe = count(); }
		kretprobe:do_sys_openat2 /comm == "marked"/ { @kretprobe = count(); }
		'"$trampolines"'
		tracepoint:syscalls:sys_enter_openat /str(args->filename) == "/run/marker"/ { @marker = count(); }
		tracepoint:sched:sched_process_exec /comm == "marked"/ { @exec = count(); }
		kprobe:'"$rename"' { @rename = count(); }
		kretprobe:'"$rename"' { @renamed = count(); }
		kprobe:dm_ctl_ioctl { @request = count(); }
		kretprobe:dm_ctl_ioctl { @requested = count(); }
		kprobe:dm_kobject_uevent { @live = count(); }
		interval:s:1 { printf("tick\n"); }' >"$1" 2>&1 &
	bpftrace=$!
	until_there "grep -q tick $1 || ! kill -0 $bpftrace" 2>/dev/null || true
	grep -q tick "$1" || { echo "bpftrace did not begin:" && cat "$1" && return 1; }
}
counted() { sed -n "s/^@$2: //p" "$1"; } # OUT WHAT
same() { # OUT NUMBER WHAT...: bpftrace has counted that many of each
	local what n out=$1 want=$2
	shift 2
	for what; do
		n=$(counted "$out" "$what")
		[ "$n" = "$want" ] || { echo "bpftrace counted $n times $what, not $want" && cat "$out" && return 1; }
	done
}
ends() { # OUT: bpftrace has ended in order, and counted all there was
	kill -INT $bpftrace
	wait $bpftrace
	echo "bpftrace: $(grep '^@' "$1" | tr '\n' ' ')"
	same "$1" $rounds marker exec
	same "$1" "$(counted "$1" kprobe)" "${opened[@]}"
	same "$1" "$(counted "$1" rename)" renamed
	same "$1" "$(counted "$1" request)" requested
}
recorded() { # FILE NUMBER|+ PATTERN: trace-cmd has recorded that many, or some
	local n
	n=$(trace-cmd report -i "$1" 2>/run/report.err | grep -c -- "$3") || true
	echo "trace-cmd: $n times $3"
	if [ "$2" = + ]; then [ "$n" -gt 0 ]; else [ "$n" = "$2" ]; fi || {
		echo "not $2"
		cat /lab/out/trace-cmd.txt /run/report.err
		trace-cmd report -i "$1" 2>/dev/null | head -20
		return 1
	}
}
record() { # NAME EVENT...: records into /run/NAME.dat until recorded_all
	local name=$1 events=()
	shift
	for event; do events+=(-e "$event"); done
	trace-cmd record -q -o "/run/$name.dat" "${events[@]}" sh -c "until [ -e /run/$name.stop ]; do sleep 0.2; done" >>/lab/out/trace-cmd.txt 2>&1 &
	recorder=$!
	until_there "grep -q sched_process_exec $trace/set_event"
	sleep 1
	echo "the main trace has $(cat $trace/buffer_size_kb) KiB for each processor"
}
recorded_all() { # NAME
	touch "/run/$1.stop"
	wait $recorder
}
rounds=50
act() { for _ in $(seq $rounds); do /usr/local/bin/marked /run/marker; done; }
install -m 755 /bin/cat /usr/local/bin/marked
: >/run/marker

guest() { # NAME: a guest that waits, or has failed
	qemu-system-x86_64 -name "$1" -machine none -S -display none -nodefaults \
		-qmp "unix:/run/$1.qmp,server=on,wait=off" \
		-drive "file=/dev/vg0/$1,if=none,format=raw,cache=none" 2>/dev/null &
	local guest=$!
	until [ -S "/run/$1.qmp" ] && grep -qs ' S ' "/proc/$guest/stat"; do
		kill -0 $guest 2>/dev/null || { wait $guest || true; return 0; }
		sleep 0.05
	done
}
log() { "$@" bootrace status --format json | sed -n 's/^ *"log": "\(.*\)",*$/\1/p'; } # [second]
logged() { # KIND [second]: how many of the kind are in the log of an instance
	local kind=$1
	shift
	"$@" grep -c "\"kind\":\"$kind\"" "$(log "$@")" || true
}

vgcreate -qq --setautoactivation n vg0 /dev/vdb
for lv in early late reset; do lvcreate -qq -y -an -Wn -Zn -L 8M -n $lv vg0; done

say "they begin"
watch /run/first
record first sched:sched_process_exec block:block_rq_issue
before=$(logged dm_resume)

say "a guest that comes too early, and one in time"
guest early
lvchange -qq -ay vg0/early && settle
lvchange -qq -ay vg0/late && settle
act
sleep 12
guest late

say "they end, and have seen what there was"
recorded_all first
recorded /run/first.dat 2 'sched_process_exec.*filename=/usr/bin/qemu-system-x86_64'
recorded /run/first.dat $rounds 'sched_process_exec.*filename=/usr/local/bin/marked'
recorded /run/first.dat + block_rq_issue
ends /run/first
cp "$(log)" /lab/out/trace.jsonl
echo "activations in the log: $(logged dm_resume)"
same /run/first $(($(logged dm_resume) - before)) live

say "trace-cmd takes away every probe that it finds; the instance with tracefs says so, and both see the next guest"
trace-cmd reset
for _ in $(seq 300); do
	[ "$(logged loss second)" -gt 0 ] && break
	sleep 0.2
done
guest reset
lvchange -qq -ay vg0/reset && settle
sleep 3

bootrace show --near-miss 10s || [ $? = 3 ]
second bootrace show --near-miss 10s --format json >/lab/out/tracefs.json || [ $? = 3 ]
bootrace show --near-miss 10s --format json >/lab/out/trace.json || [ $? = 3 ]

say "bootrace ends, and bpftrace and trace-cmd go on"
watch /run/second
record second sched:sched_process_exec
kill -TERM $pid
wait $pid || true
# A unit's job may time out where the host is slow; what it began goes on.
# shellcheck disable=SC2016 # the inner shell expands it
systemctl stop bootrace || timeout 120 sh -c 'until [ "$(systemctl show -P ActiveState bootrace)" = inactive ]; do sleep 0.5; done'
act
dmsetup ls >/dev/null
recorded_all second
recorded /run/second.dat $rounds 'sched_process_exec.*filename=/usr/local/bin/marked'
ends /run/second
[ -z "$(ls $trace/instances)" ]
[ -z "$(cat $trace/kprobe_events)" ]
dmesg | grep -E 'WARNING:|BUG:|Oops' && exit 1
echo "nothing is left"
