#!/bin/bash
# The same host after a reboot: no disk is there. First in trace mode: guests that
# come before b, guests on c, which never comes, and guests that come after b. Then in
# enforce mode: guests on a, which comes late, and on c.
set -eu
# shellcheck source=kernels/scenarios/disks/kinds.sh
. /lab/share/scenario/kinds.sh
rm -f /var/lib/one/datastores/0/5?/disk.0 # who makes these links makes them anew after a reboot
serve

pv() { losetup --show -f "$(image "$1")"; } # NAME: a loop device that LVM can have

group() { # VG PV: a group with a volume that nothing activates yet
	vgcreate -qq --setautoactivation n "$@"
	lvcreate -qq -y -an -Wn -Zn -L 8M -n lv "$1"
	settle
}

appear() { # VG PV: what a PV's appearance at boot does, which LVM does once
	mkdir -p /run/lvm/vgs_online
	touch "/run/lvm/vgs_online/$1" # not by what follows
	vgchange -qq --setautoactivation y "$1" && settle
	rm -f "/run/lvm/vgs_online/$1"
	grep -ls "vg:$1\$" /run/lvm/pvs_online/* | xargs -r rm -f
	udevadm trigger --action=change "$2" && settle
	sleep 2 # for the unit that the rule starts
	settle
}

asked() { # VG: until LVM has been asked about the volume of that group
	local n
	for ((n = 0; n < 600; n++)); do
		grep -qs "\"kind\":\"lvm\".*\"vg\":\"$1\"" "$(log)" && return 0
		sleep 0.5
	done
	echo "LVM was not asked about $1" >&2
	return 1
}

sed -i 's/^ask-lvm-after.*/ask-lvm-after: 3s/' /etc/bootrace/config.yaml
systemctl reload bootrace
watch_opens
paths=()
for kind in $kinds; do
	[ "$kind" = scsi ] || paths+=("$(path "$kind" b)")
	paths+=("$(path "$kind" a)")
done
usable "$work/usable" "${paths[@]}"

say "trace: too early, and never"
names=()
for kind in $kinds; do
	[ "$kind" != scsi ] || continue
	guest "$kind-late" "$(path "$kind" b)"
	guest "$kind-never" "$(path "$kind" c)"
	names+=("$kind-late" "$kind-never")
done
wait_guests "${names[@]}"
for kind in $kinds; do
	[ "$kind" != scsi ] || continue
	say "up $kind b"
	up "$kind" b
done

say "trace: in time"
sleep 2
names=()
for kind in $kinds; do
	[ "$kind" != scsi ] || continue
	guest "$kind-intime" "$(path "$kind" b)"
	names+=("$kind-intime")
done
wait_guests "${names[@]}"

say "role: DRBD's device is there, and may not be written to yet"
kill "${guests[drbd-intime]}"
wait "${guests[drbd-intime]}" || true
drbdadm secondary b && settle
guest drbd-role "$(path drbd b)"
wait_guests drbd-role
drbdadm primary b && settle

say "noblkid: udev does not know the PV, so nothing activates its group"
loop=$(pv noblkid)
group vgnb "$loop"
mkdir -p /run/udev/rules.d
echo "SUBSYSTEM==\"block\", KERNEL==\"$(basename "$loop")\", ENV{ID_FS_TYPE}=\"\"" > /run/udev/rules.d/68-lab.rules
udevadm control --reload
appear vgnb "$loop"
guest noblkid /dev/vgnb/lv
wait_guests noblkid
asked vgnb # before a filter hides the group

say "bypath: a filter by a link that is not there when LVM's rule looks"
loop=$(pv bypath)
group vgbp "$loop"
mkdir -p /dev/disk/by-path
ln -s "$loop" /dev/disk/by-path/pci-0000:04:00.0-sas-phy0-lun-0
cp /etc/lvm/lvmlocal.conf "$work/lvmlocal.conf"
echo 'devices { global_filter = [ "a|pci-0000:04.*|", "a|^/dev/vd|", "r|.*|" ] }' > /etc/lvm/lvmlocal.conf
appear vgbp "$loop"
guest bypath /dev/vgbp/lv
wait_guests bypath
asked vgbp
cp "$work/lvmlocal.conf" /etc/lvm/lvmlocal.conf

say "nolink: the volume is live, and its link is gone"
lvcreate -qq -y -an -Wn -Zn -L 8M -n nolink vg0
lvchange -qq -ay vg0/nolink && settle
sleep 2
rm -f /dev/vg0/nolink
guest nolink /dev/vg0/nolink
wait_guests nolink

# All of it stands again in the log at the end: this is for when that is not reached.
keep traced 2
say "enforce: held until they are there, and to the deadline"
# Those that wait for c to the deadline; a comes as soon as this machine can.
sed -i -e 's/^mode: trace/mode: enforce/; s/deadline: 80s/deadline: 60s/' \
	-e 's|^  binaries:|&\n    - /usr/local/bin/cloud-hypervisor|' \
	-e 's|^  guests: \[\]|  guests:\n    - name: "*-a"\n      deadline: 20m|' /etc/bootrace/config.yaml
systemctl reload bootrace
timeout 300 sh -c 'until bootrace status | grep -q "^hold *attached"; do sleep 0.2; done'
names=()
for kind in $kinds; do
	for disk in c a; do
		[ "$kind-$disk" != scsi-c ] || continue
		guest "$kind-$disk" "$(path "$kind" $disk)"
		names+=("$kind-$disk")
	done
done
sleep 5
bootrace status | tee /lab/out/held.txt
bootrace status --format json > /lab/out/held.json || [ $? = 5 ]
# cloud-hypervisor has no name for its guest, and so the short deadline.
for kind in ch ${kinds% ch}; do
	say "up $kind a"
	up "$kind" a
done
wait_guests "${names[@]}"
say "done"

keep trace 2
bootrace show --format json > /lab/out/trace.json || [ $? = 3 ]
bootrace races || [ $? = 3 ]
jobs -p | xargs -r kill || true
umount /srv/nfs-b /srv/nfs-a || true
