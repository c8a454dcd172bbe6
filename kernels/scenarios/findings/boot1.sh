#!/bin/bash
# One boot, one guest for each finding, and its near neighbours that must have
# none. Guests are started with -S: they open their disks and wait.
set -eu

guest() { # NAME PATH...: starts a guest and waits until it waits, or has failed
	local name=$1 drives=()
	shift
	for path; do drives+=(-drive "file=$path,if=none,format=raw,cache=none"); done
	qemu-system-x86_64 -name "$name" -machine none -S -display none -nodefaults \
		-qmp "unix:/run/$name.qmp,server=on,wait=off" "${drives[@]}" 2>"/run/$name.err" &
	local pid=$!
	until [ -S "/run/$name.qmp" ] && grep -qs ' S ' "/proc/$pid/stat"; do
		kill -0 $pid 2>/dev/null || { wait $pid || true; return 0; }
		sleep 0.05
	done
}

settle() { udevadm settle --timeout=30; }
say() { echo "== $*"; }

say "a volume group with autoactivation off: its volumes come up when we say"
vgcreate -qq --setautoactivation n vg0 /dev/vdb /dev/vdc
for lv in missing linklate nearmiss clean twice removed ghost; do
	lvcreate -qq -y -an -Wn -Zn -L 8M -n "$lv" vg0
done
settle

say "missing: the guest comes 1 s before the volume"
guest missing /dev/vg0/missing
sleep 1
lvchange -qq -ay vg0/missing
settle

say "never-ready: a volume that nobody activates, and one that doesn't exist"
guest never /dev/vg0/ghost
guest nowhere /dev/vg0/nothing

say "removed: a volume that was there, and was deactivated again"
lvchange -qq -ay vg0/removed && settle
lvchange -qq -an vg0/removed && settle
guest removed /dev/vg0/removed

say "not-live: the node is there, its table is not"
dmsetup create --notable notlive
dmsetup load notlive --table "0 16384 linear /dev/vdd 2048"
settle
[ -b /dev/mapper/notlive ] || dmsetup mknodes notlive
guest notlive /dev/mapper/notlive
sleep 0.5
dmsetup resume notlive
settle

say "link-late: live, and udev has not made the link yet"
udevadm control --stop-exec-queue
lvchange -qq -ay --noudevsync vg0/linklate
guest linklate /dev/vg0/linklate
udevadm control --start-exec-queue
settle

say "near-miss: opened right after somebody else had made it"
systemd-run -q --wait lvchange -qq -ay vg0/nearmiss
settle
guest nearmiss /dev/vg0/nearmiss

say "nothing: ready for longer than the threshold"
lvchange -qq -ay vg0/clean
settle
sleep 12
guest clean /dev/vg0/clean

say "nothing: up, down, up again, and then a guest"
lvchange -qq -ay vg0/twice && settle
lvchange -qq -an vg0/twice && settle
lvchange -qq -ay vg0/twice && settle
udevadm trigger --subsystem-match=block --action=change && settle
sleep 12
guest twice /dev/vg0/twice

say "nothing: no guest at all, only a question about the program"
qemu-system-x86_64 -machine none -device virtio-net-pci,help >/dev/null 2>&1 || true

# An emulated host takes seconds for what takes a real one milliseconds.
trouble() { "$@" || [ $? = 3 ]; } # what it comes to is known, and it is trouble
trouble bootrace show --near-miss 10s
trouble bootrace races --near-miss 10s
trouble bootrace show --near-miss 10s --format json > /lab/out/trace.json
trouble bootrace boots
cp "$(bootrace status --format json | sed -n 's/^ *"log": "\(.*\)",*$/\1/p')" /lab/out/trace.jsonl
