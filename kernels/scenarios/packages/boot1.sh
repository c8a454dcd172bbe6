#!/bin/sh
# The host of the demo is set up: one volume group over three disks, and three
# guests. Each guest's disk begins with a boot sector that says its name on the
# serial port, so a guest that runs has really booted from its logical volume.
set -eu

vgcreate -q vg0 /dev/vdb /dev/vdc /dev/vdd
lvcreate -qq -y -L 64M -n web-a vg0
lvcreate -qq -y -L 64M -n db-b vg0
lvcreate -qq -y -L 64M -n template-c vg0
lvcreate -qq -y -L 64M -n shop-c vg0

# Guest a: a raw volume that nothing activates by itself (autoactivation off);
# activate-web-a.service does, late.
lvchange --setautoactivation n vg0/web-a
/usr/local/lib/demo/bootsector "web-a runs" > /tmp/sector
dd if=/tmp/sector of=/dev/vg0/web-a conv=notrunc,fsync status=none

# Guest b: a raw volume that comes up with its group.
/usr/local/lib/demo/bootsector "db-b runs" > /tmp/sector
dd if=/tmp/sector of=/dev/vg0/db-b conv=notrunc,fsync status=none

# Guest c: qcow2 in a volume, with its backing file in another volume.
truncate -s 32M /tmp/template
/usr/local/lib/demo/bootsector "shop-c runs" | dd of=/tmp/template conv=notrunc status=none
qemu-img convert -f raw -O qcow2 /tmp/template /dev/vg0/template-c
qemu-img create -q -f qcow2 -F qcow2 -b /dev/vg0/template-c /dev/vg0/shop-c 32M

systemctl enable -q guest@web-a.service guest@db-b.service guest@shop-c.service activate-web-a.service
sync
lvs -o lv_name,lv_size,lv_active,autoactivation vg0
