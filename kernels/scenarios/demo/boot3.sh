#!/bin/sh
# The host has rebooted once more, in enforce mode: the volume of guest web-a is
# as late as before, and the guest runs.
set -eu

systemctl is-active --quiet activate-web-a.service
for guest in web-a db-b shop-c; do
	timeout 120 sh -c "until grep -qs '$guest runs' /run/guest-$guest.console; do sleep 0.2; done"
done
timeout 60 sh -c 'until [ -e /run/bootrace/flushed ]; do sleep 0.2; done'

bootrace show
bootrace races
bootrace show --format json > /lab/out/enforce.json
bootrace status || [ $? = 5 ]
bootrace status --format json > /lab/out/enforce-status.json || [ $? = 5 ]

# Guests that have run for a while are remembered: what would activate their
# volumes, and what if LVM's list left them out?
timeout 120 sh -c "until grep -qs '\"vg0-web--a\"' /var/lib/bootrace/memory.jsonl; do sleep 0.5; done"
bootrace check
bootrace check --format json > /lab/out/check.json
echo 'activation { auto_activation_volume_list = [ "vg1" ] }' > /etc/lvm/lvmlocal.conf
bootrace check --format json > /lab/out/autolist.json

systemctl stop bootrace
cp /var/lib/bootrace/"$(cat /proc/sys/kernel/random/boot_id)".jsonl /lab/out/enforce.jsonl
