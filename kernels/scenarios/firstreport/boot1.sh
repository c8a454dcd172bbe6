#!/bin/bash
# The host of the first report before its reboot: a template guest runs on a
# bare device-mapper concatenation of two logical volumes, and its XFS has grown
# onto the second. Beside it run guests whose disks are changed before the
# reboot, rightly or not.
set -eu
template=73bd7f2a-9779-46d6-885d-92783ac4f6b9
iso=11111111-9779-46d6-885d-92783ac4f6b9
memory=/var/lib/bootrace/memory.jsonl

volume() { lvcreate -qq -y -Wn -Zn -L "$2" -n "$1" vgdata; }
guest() { # NAME VOLUME [OPTIONS]: a guest on a volume
	qemu-system-x86_64 -S -machine none -display none -nodefaults -name "$1" -daemonize -pidfile "/run/$1.pid" \
		-drive "file=/dev/vgdata/$2,if=none,id=drive_0${3-}"
}

vgcreate -qq vgdata /dev/vdb /dev/vdc /dev/vdd
volume $template 320M
volume ex_$template 96M
volume $iso 16M
for name in grown moved recreated reduced asfile snapped; do volume $name 16M; done
volume base 16M
volume over 16M
udevadm settle
lvchange -qq --setautoactivation n vgdata/base # for the next boot

echo "== the concatenation, and an XFS that grows onto its second part"
mkfs.xfs -q /dev/vgdata/$template # as large as the template was
a=$(blockdev --getsz /dev/vgdata/$template)
b=$(blockdev --getsz /dev/vgdata/ex_$template)
dmsetup create dm_$template <<TABLE
0 $a linear /dev/vgdata/$template 0
$a $b linear /dev/vgdata/ex_$template 0
TABLE
mount /dev/mapper/dm_$template /mnt
df -B1 --output=size /mnt | tail -1
xfs_growfs /mnt >/dev/null
df -B1 --output=size /mnt | tail -1
touch /mnt/marker
umount /mnt

qemu-img create -q -f qcow2 /dev/vgdata/base 8M
qemu-img create -q -f qcow2 -F qcow2 -b base /dev/vgdata/over 8M
qemu-img create -q -f qcow2 /dev/vgdata/snapped 8M

echo "== guests run, until they are remembered"
systemctl enable -q --now launch@$template
guest iso $iso ,format=raw
for name in grown moved recreated reduced asfile; do guest $name $name ,format=raw; done
guest over over
guest snapped snapped
timeout 400 sh -c "until [ \"\$(grep -sc '\"guest\"' $memory)\" = 9 ]; do sleep 0.5; done"
races=0
bootrace races || races=$?
[ "$races" = 0 ]

echo "== what is changed before the reboot"
for name in iso grown moved recreated reduced asfile over snapped; do
	pid=$(cat /run/$name.pid)
	kill "$pid"
	while [ -e "/proc/$pid" ]; do sleep 0.1; done
done
systemctl stop launch@$template
lvextend -qq -L 24M vgdata/grown
pvmove -qq -i 1 -n moved /dev/vdb /dev/vdd
lvremove -qq -y vgdata/recreated vgdata/asfile
lvcreate -qq -y -Wn -Zn -L 16M -n recreated vgdata
lvreduce -qq -f -L 8M vgdata/reduced
lvrename -qq vgdata snapped snap_1
volume snapped 16M
qemu-img create -q -f qcow2 -F qcow2 -b snap_1 /dev/vgdata/snapped 8M
sync
lvs -o lv_name,lv_size,devices vgdata
cp $memory /lab/out/memory1.jsonl
