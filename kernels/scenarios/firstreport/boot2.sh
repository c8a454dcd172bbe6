#!/bin/bash
# After the reboot: nothing has made the concatenation again. The launcher takes
# the first part of it, and qemu starts without an error.
set -eu
template=73bd7f2a-9779-46d6-885d-92783ac4f6b9
iso=11111111-9779-46d6-885d-92783ac4f6b9
memory=/var/lib/bootrace/memory.jsonl

guest() { # NAME VOLUME [OPTIONS]: a guest on a volume; it may fail
	qemu-system-x86_64 -S -machine none -display none -nodefaults -name "$1" -daemonize -pidfile "/run/$1.pid" \
		-drive "file=/dev/vgdata/$2,if=none,id=drive_0${3-}" || echo "$1: qemu ended with $?"
}
settle() { udevadm settle --timeout=120; }

timeout 300 sh -c 'until [ -e /run/bootrace/flushed ]; do sleep 0.2; done'
timeout 300 sh -c "until pgrep -f 'qemu.*-name .vm-$template' >/dev/null; do sleep 0.2; done"
settle
guest iso $iso ,format=raw
dd if=/dev/zero of=/dev/vgdata/asfile bs=1M count=1 status=none # before the volume is there, it is a file
for name in grown moved recreated reduced asfile; do guest $name $name ,format=raw; done
guest over over
guest snapped snapped
setpriv --reuid=65534 --regid=65534 --clear-groups qemu-system-x86_64 -S -machine none -display none -nodefaults -name denied \
	-drive file=/dev/vgdata/$iso,if=none,format=raw,file.locking=off || echo "denied: qemu ended with $?"

echo "== the guest's file system on what is left"
mount -t xfs /dev/vgdata/$template /mnt 2>&1 | tee /lab/out/mount.txt || true
mountpoint -q /mnt && { echo "it can be mounted" >&2; exit 1; }

trouble() { "$@" || [ $? = 3 ]; } # what it comes to is known, and it is trouble
trouble bootrace show
trouble bootrace races | tee /lab/out/races.txt
trouble bootrace show --format json >/lab/out/trace.json

echo "== with identity: hold it does not start on what is left, until somebody says so"
running() { pgrep -f "qemu.*-name .vm-$template.*$1" >/dev/null; }
held() { bootrace status --format json | grep -q '"reason": "identity"'; }
systemctl stop launch@$template
sed -i 's/^mode: trace/mode: enforce/; s/identity: warn/identity: hold/' /etc/bootrace/config.yaml
systemctl reload bootrace
timeout 300 sh -c 'until bootrace status | grep -q "^hold *attached"; do sleep 0.2; done'
systemctl start launch@$template
for _ in $(seq 600); do held && break; sleep 0.2; done
bootrace status | tee /lab/out/held.txt
bootrace status --format json >/lab/out/held.json || [ $? = 5 ]
if running ""; then echo "it started on what is left" >&2; exit 1; fi
bootrace release "vm-$template"
for _ in $(seq 600); do running "/dev/vgdata/$template" && break; sleep 0.2; done
running "/dev/vgdata/$template"

echo "== with filesystem: hold it does not start on a disk that its file system does not fit on"
inside() { bootrace status --format json | grep -q '"reason": "filesystem"'; }
systemctl stop launch@$template
sed -i 's/identity: hold/identity: warn/; s/filesystem: warn/filesystem: hold/' /etc/bootrace/config.yaml
systemctl reload bootrace
systemctl start launch@$template
for _ in $(seq 600); do inside && break; sleep 0.2; done
bootrace status | tee /lab/out/inside.txt
bootrace status --format json >/lab/out/inside.json || [ $? = 5 ]
if running ""; then echo "it started on a disk that is cut off" >&2; exit 1; fi

echo "== repaired with the table that was remembered"
systemctl stop launch@$template
grep -o '"name":"dm_[^]]*\]' $memory | head -1 | sed 's/.*"table":\[//; s/\]//; s/"//g' | tr , '\n' | tee /lab/out/table.txt |
	dmsetup create dm_$template
mount -o ro /dev/mapper/dm_$template /mnt
[ -e /mnt/marker ]
umount /mnt
systemctl start launch@$template # held no longer: it is what the guest ran on
for _ in $(seq 600); do running "dm_$template" && break; sleep 0.2; done
running "dm_$template"
held && exit 1
inside && exit 1
sleep 2
trouble bootrace show --format json >/lab/out/repaired.json
