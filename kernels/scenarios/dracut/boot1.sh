#!/bin/sh
# A host whose initramfs is made by dracut, with systemd in it.
set -eu

[ ! -e /usr/share/initramfs-tools/init ]
vgcreate -qq vg0 /dev/vdb
lvcreate -qq -y -L 8M -n a vg0
lvcreate -qq -y -L 8M -n b vg0
until systemctl is-active -q bootrace; do sleep 0.5; done
systemctl show -P MainPID bootrace bootrace-early
bootrace check || true
sync
