#!/bin/bash
# The disks of all kinds are made. Guests run on those whose paths do not say what
# they are, for the next boot to remember. Nothing is wrong here.
set -eu
# shellcheck source=kernels/scenarios/disks/kinds.sh
. /lab/share/scenario/kinds.sh
mkdir -p "$files"

say "a volume group, and a disk of each kind"
vgcreate -qq --setautoactivation n vg0 /dev/vdb /dev/vdc
serve
for kind in $kinds; do
	say "make $kind"
	for disk in $(disks "$kind" made); do make "$kind" "$disk"; done
done
systemctl daemon-reload # of fstab
paths=()
for kind in $kinds; do
	for disk in $(disks "$kind" used); do paths+=("$(path "$kind" "$disk")"); done
done
usable "$work/usable" "${paths[@]}"
for kind in $kinds; do
	say "up $kind"
	for disk in $(disks "$kind" used); do up "$kind" "$disk"; done
done

say "guests"
sleep 2
watch_opens
names=()
for kind in $kinds; do
	for disk in $(disks "$kind" used); do
		guest "$kind-$disk" "$(path "$kind" "$disk")"
		names+=("$kind-$disk")
	done
done
wait_guests "${names[@]}"
say "until they are remembered, which takes half a minute"
for ((n = 0; n < 1200; n++)); do
	[ "$(grep -sc '"guest"' /var/lib/bootrace/memory.jsonl)" != ${#names[@]} ] || break
	sleep 0.5
done
[ "$(grep -sc '"guest"' /var/lib/bootrace/memory.jsonl)" = ${#names[@]} ]
say "done"
keep first 1
bootrace show --format json > /lab/out/first.json || [ $? != 1 ]
bootrace races || [ $? != 1 ]

# A disk of the network that is in use would keep the machine from turning off.
jobs -p | xargs -r kill || true
wait || true
umount /srv/nfs-a /srv/nfs-c /srv/lv-a /srv/lv-c
sync
