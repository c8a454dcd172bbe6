#!/bin/sh
# One of many boots in which every volume is there in time. What is recorded of
# it goes to /lab/out/BOOT_ID.json.
set -eu

for guest in web-a db-b shop-c; do
	timeout 120 sh -c "until grep -qs '$guest runs' /run/guest-$guest.console; do sleep 0.2; done"
done
timeout 60 sh -c 'until [ -e /run/bootrace/flushed ]; do sleep 0.2; done'

bootrace show
bootrace show --format json > "/lab/out/$(cat /proc/sys/kernel/random/boot_id).json"
