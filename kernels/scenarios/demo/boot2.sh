#!/bin/sh
# The host has rebooted, and was traced. Shows what bootrace says of it.
set -eu

# The late volume is there once its unit is done; the guests have booted once
# they have said so. Guest web-a never does: it came first.
systemctl is-active --quiet activate-web-a.service
for guest in db-b shop-c; do
	lab-await 120 "guest $guest to boot from its volume" "grep -qs '$guest runs' /run/guest-$guest.console"
done
lab-await 60 "the service to write down what the early one saw" '[ -e /run/bootrace/flushed ]'

trouble() { # COMMAND...: ends with the status of a boot with trouble
	status=0
	"$@" || status=$?
	[ "$status" = 3 ] || { echo "$* ended with $status, expected 3" >&2; exit 1; }
}
trouble bootrace show
trouble bootrace races
trouble bootrace show --format json > /lab/out/trace.json
bootrace status || [ $? = 5 ]

grep VmRSS "/proc/$(systemctl show -P MainPID bootrace)/status" > /lab/out/rss.txt
# The log of a service that has ended says so; a copy of a running one's is cut.
systemctl stop bootrace
cp /var/lib/bootrace/"$(cat /proc/sys/kernel/random/boot_id)".jsonl /lab/out/trace.jsonl
cp /run/bootrace/early.log /lab/out/ || true
journalctl -b -o short-monotonic --no-hostname -u 'guest@*' -u 'activate-*' -u 'bootrace*' > /lab/out/journal.txt

# The next boot holds starts.
sed -i 's/^mode: trace/mode: enforce/' /etc/bootrace/config.yaml
