#!/bin/sh
# The host has rebooted once more, in enforce mode: the volume of guest web-a is
# as late as before, and the guest runs.
set -eu

systemctl is-active --quiet activate-web-a.service
for guest in web-a db-b shop-c; do
	lab-await 120 "guest $guest to boot from its volume" "grep -qs '$guest runs' /run/guest-$guest.console"
done
lab-await 60 "the service to write down what the early one saw" '[ -e /run/bootrace/flushed ]'

bootrace show
bootrace races
bootrace show --format json > /lab/out/enforce.json
bootrace status || [ $? = 5 ]
bootrace status --format json > /lab/out/enforce-status.json || [ $? = 5 ]

# Guests that have run for a while are remembered: what would activate their
# volumes, and what if LVM's list left them out?
lab-await 120 "guest web-a to be remembered" "grep -qs '\"vg0-web--a\"' /var/lib/bootrace/memory.jsonl"
bootrace check
bootrace check --format json > /lab/out/check.json
echo 'activation { auto_activation_volume_list = [ "vg1" ] }' > /etc/lvm/lvmlocal.conf
bootrace check --format json > /lab/out/autolist.json

systemctl stop bootrace
cp /var/lib/bootrace/"$(cat /proc/sys/kernel/random/boot_id)".jsonl /lab/out/enforce.jsonl
