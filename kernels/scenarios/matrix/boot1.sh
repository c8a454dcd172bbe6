#!/bin/bash
# Two instances watch the same boot: the service, with eBPF, and a second one
# with tracefs, with folders of its own and the trace files below debugfs only,
# as on CentOS 7. Then the acts of the scenario "findings".
set -eu

second() { nsenter --mount --target "$pid" "$@"; }

# start starts the second instance, and returns when it traces.
start() {
	unshare --mount sh -c '
		mount -t tmpfs none /run/bootrace
		mount -t tmpfs none /var/lib/bootrace
		mount -t tmpfs none /sys/kernel/tracing
		exec bootrace run --probes tracefs' 2>>/lab/out/tracefs/log.txt &
	pid=$!
	until second bootrace status --format json 2>/dev/null | grep -q '"tracefs"'; do
		kill -0 $pid
		sleep 0.5
	done
}

mkdir -p /lab/out/tracefs
start
ls /sys/kernel/debug/tracing/instances >/lab/out/tracefs/instances.txt

/lab/out/findings.sh

second bootrace show --near-miss 10s --format json >/lab/out/tracefs/trace.json
second bootrace status --format json >/lab/out/tracefs/status.json
bootrace status --format json >/lab/out/status.json

echo "== killed: it leaves its instance, which the next one removes, with its probes"
kill -KILL $pid
wait $pid || true
count() { grep -c bootrace_ /sys/kernel/debug/tracing/kprobe_events || true; }
left=$(count)
[ "$left" -gt 0 ]
for _ in 1 2; do
	start
	[ "$(count)" = "$left" ]
	[ "$(find /sys/kernel/debug/tracing/instances -mindepth 1 -maxdepth 1 | wc -l)" = 1 ]
	kill -KILL $pid
	wait $pid || true
done

echo "== another user of the trace files is left alone, and an orderly end leaves nothing"
echo 'p:theirs/exit do_exit' >>/sys/kernel/debug/tracing/kprobe_events
echo 1 >/sys/kernel/debug/tracing/events/theirs/exit/enable
start
kill -TERM $pid
wait $pid || true
[ "$(count)" = 0 ]
[ -z "$(ls /sys/kernel/debug/tracing/instances)" ]
[ "$(cat /sys/kernel/debug/tracing/events/theirs/exit/enable)" = 1 ]
[ "$(cat /sys/kernel/debug/tracing/tracing_on)" = 1 ]
grep -q exit: /sys/kernel/debug/tracing/trace
echo 0 >/sys/kernel/debug/tracing/events/theirs/exit/enable
echo '-:theirs/exit' >>/sys/kernel/debug/tracing/kprobe_events
bootrace status >/dev/null

echo "== both backends watch the same acts, by each trace clock"
if [ -x /lab/out/probe.test ]; then
	systemctl stop bootrace
	cd /tmp
	/lab/out/probe.test -test.v -test.run 'TestTracefsTellsTheSame|TestDeviceMapper|TestLinks' >/lab/out/probe.txt 2>&1 || { cat /lab/out/probe.txt; exit 1; }
fi
bootrace check >/lab/out/check.txt || true
