#!/bin/sh
# The group came up in the initramfs, and bootrace was there before.
set -eu

until systemctl is-active -q bootrace; do sleep 0.5; done
timeout 60 sh -c 'until [ -e /run/bootrace/flushed ]; do sleep 0.2; done'
bootrace show --format json > /lab/out/trace.json || [ $? -ge 3 ] # what it comes to is for the test to say
bootrace status || [ $? = 5 ]
bootrace check --format json > /lab/out/check.json || true
journalctl -b -o short-monotonic --no-hostname > /lab/out/journal.txt
cp /run/bootrace/early.log /lab/out/

echo "== one process, in bootrace.service"
pid=$(systemctl show -P MainPID bootrace)
[ "$(systemctl show -P MainPID bootrace-early)" = "$pid" ]
[ "$(cat "/proc/$pid/comm")" = bootraced ]
grep -q '/bootrace\.service$' "/proc/$pid/cgroup"
head -c 10 "/proc/$pid/cmdline" | grep -q '^@bootraced'
[ "$(pgrep -c -x bootraced)" = 1 ]

echo "== the service can be started anew, and stopped; nothing is left of the early one"
systemctl restart bootrace
[ "$(systemctl show -P MainPID bootrace)" != "$pid" ]
[ ! -e "/proc/$pid" ]
[ "$(systemctl show -P ActiveState bootrace-early)" = inactive ]
bootrace status > /dev/null || [ $? = 5 ]
systemctl stop bootrace
! pgrep -x bootraced
