#!/bin/sh
# The host reboots once more, in enforce mode.
set -eu

systemctl is-active --quiet activate-web-a.service
for guest in web-a db-b shop-c; do
	lab-await 120 "guest $guest to boot from its volume" "grep -qs '$guest runs' /run/guest-$guest.console"
done
lab-await 60 "the service to write down what the early one saw" '[ -e /run/bootrace/flushed ]'
bootrace show --format json >/lab/out/enforce.json
