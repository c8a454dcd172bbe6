#!/bin/bash
# How long after a volume is live and linked its guest goes on: held by enforce
# mode, started after `bootrace wait`, after `udevadm wait`, and after a loop that
# looks every 100 ms. The contenders take turns, so that each has the same host.
# The log has the instants. Before that: how long the exec of a guest takes that has
# nothing to wait for, looked at by enforce mode and not; the kernel's own tracing
# has the instants.
set -eu

rounds=$(sed -n 's/.*lab\.rounds=\([0-9]*\).*/\1/p' /proc/cmdline)
volume=/dev/vg0/late

vgcreate -qq --setautoactivation n vg0 /dev/vdb
lvcreate -qq -y -an -Wn -Zn -L 8M -n late vg0
lvcreate -qq -y -kn -Wn -Zn -L 8M -n there vg0
printf '%s\n' "mode: enforce" >/etc/bootrace/config.yaml
until systemctl is-active -q bootrace; do sleep 1; done
systemctl reload bootrace
until bootrace status --format json | grep -q '"mode": "enforce"'; do sleep 0.5; done

# The guests are programs that do nothing, with the names of such that are traced.
# Only the first is one whose start is held.
install -D /bin/true /usr/local/bin/qemu-system-held
for n in wait udevadm poll; do install -D /bin/true "/opt/guests/qemu-system-$n"; done
sleep 2

tracing=/sys/kernel/tracing
execs=$tracing/instances/execs
mkdir "$execs"
echo 'p:lab/execs bprm_execve' >>$tracing/kprobe_events
echo 1 >"$execs/events/lab/execs/enable"
echo 1 >"$execs/events/sched/sched_process_exec/enable"
starts() { # TRACE: starts of a guest whose disk is ready
	echo >"$execs/trace"
	for _ in $(seq 20); do
		volume=/dev/vg0/there held &
		wait
		sleep 0.2
	done
	cat "$execs/trace" >"/lab/out/$1"
}
mode() { # MODE STATE: switches, until holding has that state
	printf '%s\n' "mode: $1" >/etc/bootrace/config.yaml
	systemctl reload bootrace
	timeout 300 sh -c "until bootrace status | grep -q '^hold *$2'; do sleep 0.2; done"
}

held() { exec /usr/local/bin/qemu-system-held -name held -S -drive "file=$volume,if=none,format=raw"; }
wait_() { bootrace wait --raw "$volume" && exec /opt/guests/qemu-system-wait; }
udevadm_() { udevadm wait "$volume" && exec /opt/guests/qemu-system-udevadm; }
poll() {
	until [ -b "$volume" ]; do sleep 0.1; done
	exec /opt/guests/qemu-system-poll
}

starts enforce.execs # the first one that this service looks at is among them
bootrace status | grep starts
mode trace ended
starts trace.execs
mode enforce attached
for e in lab/execs sched/sched_process_exec; do echo 0 >"$execs/events/$e/enable"; done

for _ in $(seq "${rounds:-10}"); do
	for contender in held wait_ udevadm_ poll; do
		$contender &
		sleep 1.5
		lvchange -qq -ay vg0/late
		wait
		udevadm settle
		lvchange -qq -an vg0/late
		udevadm settle
	done
done
bootrace status || [ $? = 5 ]
cp "$(bootrace status --format json | sed -n 's/^ *"log": "\(.*\)",*$/\1/p')" /lab/out/trace.jsonl
