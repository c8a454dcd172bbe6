#!/bin/sh
# A host where nothing is wrong: one volume group over three disks, and the
# guests of the demo, each on a volume that comes up with its group.
set -eu

vgcreate -q vg0 /dev/vdb /dev/vdc /dev/vdd
for lv in web-a db-b template-c shop-c; do
	lvcreate -qq -y -L 64M -n "$lv" vg0
done

for guest in web-a db-b; do
	/usr/local/lib/demo/bootsector "$guest runs" | dd of=/dev/vg0/$guest conv=notrunc,fsync status=none
done
truncate -s 32M /tmp/template
/usr/local/lib/demo/bootsector "shop-c runs" | dd of=/tmp/template conv=notrunc status=none
qemu-img convert -f raw -O qcow2 /tmp/template /dev/vg0/template-c
qemu-img create -q -f qcow2 -F qcow2 -b /dev/vg0/template-c /dev/vg0/shop-c 32M

systemctl enable -q guest@web-a.service guest@db-b.service guest@shop-c.service
sync
