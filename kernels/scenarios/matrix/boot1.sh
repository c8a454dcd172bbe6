#!/bin/bash
# Two instances watch the same boot: the service, with eBPF, and a second one,
# with folders of its own, that finds what CentOS 7 offers and no more. Both are
# there before device-mapper is. Then the acts of the scenario "findings".
set -eu

tracing=/sys/kernel/debug/tracing
second() { nsenter --mount --target "$pid" "$@"; }
say() { echo "== $*"; }

# As on CentOS 7: trace files below debugfs only, the clocks of old, no types,
# and no README, which says what newer kernels can. (A kernel must be asked for
# more room for calls where it keeps it for one a processor only, and this machine
# has one; and where it preempts itself, which has many under way at a time.
# CentOS 7 does neither.)
mkdir -p /lab/out/tracefs /run/el7
echo '[local] global counter uptime perf x86-tsc' >/run/el7/trace_clock
: >/run/el7/README
cat >/run/el7/start <<'END'
set -e
mount -t tmpfs none /run/bootrace
mount -t tmpfs none /var/lib/bootrace
mount -t tmpfs none /sys/kernel/tracing
mount -t tmpfs none /sys/kernel/btf
mount --bind /run/el7/trace_clock /sys/kernel/debug/tracing/trace_clock
if uname -v | grep -q PREEMPT && grep -qE '[(](none|voluntary)[)]' /sys/kernel/debug/sched/preempt; then mount --bind /run/el7/README /sys/kernel/debug/tracing/README; fi
exec bootrace run
END

# A unit's job may time out where the host is slow; what it began goes on.
# shellcheck disable=SC2016 # the inner shell expands it
service_ends() { systemctl stop bootrace || timeout 120 sh -c 'until [ "$(systemctl show -P ActiveState bootrace)" = inactive ]; do sleep 0.5; done'; }
service_traces() {
	systemctl start bootrace || true
	timeout 120 sh -c 'until bootrace status 2>/dev/null | grep -q "^ebpf *attached"; do systemctl start bootrace || sleep 0.5; done'
}

# start starts the second instance, and returns when it traces.
start() {
	unshare --mount sh /run/el7/start 2>>/lab/out/tracefs/log.txt &
	pid=$!
	until second bootrace status --format json 2>/dev/null | grep -q '"tracefs"'; do
		kill -0 $pid
		sleep 0.5
	done
}

say "both are there before device-mapper is"
service_ends
modprobe -r dm_mod
service_traces
start
ls $tracing/instances >/lab/out/tracefs/instances.txt
[ ! -e /sys/module/dm_mod ]

/lab/out/findings.sh

say "held: the service holds a start, and the second instance sees what comes of it"
mode() { # MODE: switch, and wait until it is in effect
	sed -i "s/^mode: .*/mode: $1/" /etc/bootrace/config.yaml
	systemctl reload bootrace
	timeout 120 sh -c "until bootrace status | grep -q '^hold *$2'; do sleep 0.2; done"
}
lvcreate -qq -y -an -Wn -Zn -L 8M -n held vg0
mode enforce attached
qemu-system-x86_64 -name held -machine none -S -display none -nodefaults \
	-drive file=/dev/vg0/held,if=none,format=raw,cache=none &
guest=$!
timeout 120 sh -c "until bootrace status | grep -q '/dev/vg0/held'; do sleep 0.2; done"
tr '\0' ' ' </proc/$guest/cmdline | grep -q '^qemu' && exit 1
systemd-run -q --wait lvchange -qq -ay vg0/held # not by what starts the guest, which would be no luck
timeout 120 sh -c "until ls -l /proc/$guest/fd 2>/dev/null | grep -q dm-; do sleep 0.2; done"
mode trace ended

second bootrace show --near-miss 10s --format json >/lab/out/tracefs/trace.json || [ $? = 3 ]
second bootrace status --format json >/lab/out/tracefs/status.json || [ $? = 5 ]
bootrace show --near-miss 10s --format json >/lab/out/trace.json || [ $? = 3 ]
bootrace status --format json >/lab/out/status.json || [ $? = 5 ]

say "killed: what is left is removed by the next, and nothing grows"
count() { grep -c 'bootrace_' $tracing/kprobe_events || true; }
instances() { find $tracing/instances -mindepth 1 -maxdepth 1 | wc -l; }
left=$(count)
[ "$left" -gt 0 ]
kill -KILL $pid
wait $pid || true
systemctl kill -s KILL bootrace
service_traces
start
[ "$(count)" = "$left" ]
[ "$(instances)" = 1 ]

say "another user of the trace files is left alone, and an orderly end leaves nothing"
echo 'p:theirs/exit do_exit' >>$tracing/kprobe_events
echo 1 >$tracing/events/theirs/exit/enable
kill -TERM $pid
wait $pid || true
start
kill -TERM $pid
wait $pid || true
service_ends
[ "$(count)" = 0 ]
[ "$(instances)" = 0 ]
[ "$(cat $tracing/events/theirs/exit/enable)" = 1 ]
[ "$(cat $tracing/tracing_on)" = 1 ]
grep -q exit: $tracing/trace
echo 0 >$tracing/events/theirs/exit/enable
echo '-:theirs/exit' >>$tracing/kprobe_events

say "both backends watch the same acts; starts are held as on old kernels"
failed() { # FILE: what a test says beside what it has passed
	grep -vE '^ *(=== |--- (PASS|SKIP))' "$1"
	exit 1
}
cd /tmp
run() { # PACKAGE TESTS
	"/lab/out/$1.test" -test.v -test.run "$2" >"/lab/out/$1.txt" 2>&1 || failed "/lab/out/$1.txt"
}
if [ -x /lab/out/ebpf.test ]; then
	run ebpf 'TestEveryWayLoads|TestGuestLife/^(small|medium|large|beyond_the_record)$|TestDeviceMapper|TestLinks|TestNothingIsLost'
	run tracefs 'TestTellsTheSame/^(clock_|few_returns)$|TestLayout|TestAttachesAgain|TestNothingIsLost'
	run hold 'OldKernels|OldWays|TryKill'
fi
say "the kernel had nothing to complain about"
dmesg | grep -E -A60 'WARNING:|BUG:|Oops' && exit 1
bootrace check >/lab/out/check.txt || true
