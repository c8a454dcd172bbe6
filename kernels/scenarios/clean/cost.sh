#!/bin/sh
# What a boot of this host took, with or without bootrace, as names and numbers
# in /lab/out/cost.txt.
set -eu

value() { # UNIT PROPERTY
	systemctl show --property "$2" --value "$1"
}

{
	echo "up_us $(systemctl show --property FinishTimestampMonotonic --value)"
	echo "guest_us $(value guest@db-b.service ExecMainStartTimestampMonotonic)"
	pid=$(value bootrace.service MainPID)
	if [ "${pid:-0}" -gt 0 ]; then
		sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/rss_kb \1/p; s/^RssAnon:[[:space:]]*\([0-9]*\) kB/anon_kb \1/p' "/proc/$pid/status"
		bootrace show --format json > /lab/out/cost.json
	fi
} > /lab/out/cost.txt
sync
