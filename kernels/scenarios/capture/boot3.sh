#!/bin/sh
# The host that was captured really reboots, as it is.
set -eu

systemctl is-active --quiet activate-web-a.service
for guest in db-b shop-c; do
	lab-await 120 "guest $guest to boot from its volume" "grep -qs '$guest runs' /run/guest-$guest.console"
done
lab-await 60 "the service to write down what the early one saw" '[ -e /run/bootrace/flushed ]'
bootrace show --format json >/lab/out/trace.json || [ $? = 3 ]

# The next boot holds starts.
sed -i 's/^mode: trace/mode: enforce/' /etc/bootrace/config.yaml
