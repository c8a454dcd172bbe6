#!/bin/bash
# One boot, a guest for each way in which a volume can fail it that a single
# host can show: what the finding, the verdict and LVM's settings are for each is
# in causes_test.go. Guests are started with -S: they open their disks and wait.
#
# Not here: the lock of a cluster, for which lvmlockd would have to run.
set -eu
work=/run/causes tools=/usr/local/lib/causes # /run is mounted noexec
mkdir -p "$work" "$tools"

say() { echo "== $*"; }
settle() { udevadm settle --timeout=60; }

waits() { # PID: until the guest waits for its monitor, or has ended
	until [ -S "$work/$1.qmp" ] && grep -qs ' S ' "/proc/$2/stat"; do
		kill -0 "$2" 2>/dev/null || { wait "$2" || true; return 0; }
		sleep 0.05
	done
}

guest() { # NAME FORMAT PATH: starts a guest and waits until it waits, or has failed
	qemu-system-x86_64 -name "$1" -machine none -S -display none -nodefaults \
		-qmp "unix:$work/$1.qmp,server=on,wait=off" \
		-drive "file=$3,if=none,format=$2,cache=none" 2>"$work/$1.err" &
	waits "$1" $!
}

locking() { # NAME PATH: a guest with the disk in a slot, which takes qemu's lock
	qemu-system-x86_64 -name "$1" -machine pc,accel=tcg -m 16M -S -display none -nodefaults \
		-qmp "unix:$work/$1.qmp,server=on,wait=off" \
		-drive "file=$2,if=none,format=raw,cache=none,id=d" -device virtio-blk-pci,drive=d 2>"$work/$1.err" &
	waits "$1" $!
}

failed() { # PID: a guest that cannot run has said so and ended; its monitor was there before its disk was
	local n
	for n in $(seq 600); do
		kill -0 "$1" 2>/dev/null || return 0
		sleep 0.1
	done
	echo "process $1 still runs after $n looks" >&2
	return 1
}

pv() { # NAME: a loop device of 64 MiB that LVM can have
	truncate -s 64M "$work/$1.img"
	losetup --show -f "$work/$1.img"
}

lv() { lvcreate -qq -y -an -Wn -Zn -L 8M -n "$1" "$2" 2>/dev/null; settle; } # NAME VG

group() { # NAME PV...: a volume group whose volumes nothing activates yet
	vgcreate -qq --setautoactivation n "$@" && settle
}

release() { # VG: from now on its volumes may be activated by themselves
	mkdir -p /run/lvm/vgs_online
	touch "/run/lvm/vgs_online/$1" # LVM takes it to be up: not by what follows
	vgchange -qq --setautoactivation y "$1" && settle
}

appear() { # VG PV: what a PV's appearance at boot does, which LVM does once
	rm -f "/run/lvm/vgs_online/$1"
	grep -ls "vg:$1\$" /run/lvm/pvs_online/* | xargs -r rm -f
	udevadm trigger --action=change "$2" && settle
	sleep 2 # for the unit that the rule starts
	settle
}

log() { bootrace status --format json | sed -n 's/^ *"log": "\(.*\)",*$/\1/p'; }

asked() { # NAME: until LVM has been asked about the volume of that name
	local n
	for n in $(seq 600); do
		grep -qs "\"kind\":\"lvm\".*\"lv\":\"$1\"" "$(log)" && return 0
		sleep 0.5
	done
	echo "LVM was not asked about $1 after $n looks" >&2
	return 1
}

conf() { # TEXT: what lvmlocal.conf has
	echo "$1" > /etc/lvm/lvmlocal.conf
}

cp /etc/lvm/lvmlocal.conf "$work/lvmlocal.conf"
sed -i '/^ask-lvm-after/d' /etc/bootrace/config.yaml
echo 'ask-lvm-after: 3s' >> /etc/bootrace/config.yaml
systemctl reload bootrace

say "a volume group whose volumes come up when we say"
vgcreate -qq --setautoactivation n vg0 /dev/vdb /dev/vdc
for name in off base over looked served removed slowudev suspended shared crash rights clean; do lv "$name" vg0; done

say "off: autoactivation is off, and nobody activates it"
guest off raw /dev/vg0/off

say "skipped: the flag to skip activation"
loop=$(pv skip)
group vgskip "$loop"
lv skipped vgskip
lvchange -qq --setactivationskip y vgskip/skipped
release vgskip
appear vgskip "$loop"
guest skipped raw /dev/vgskip/skipped

say "backing: the overlay is there, its backing file is not"
lvchange -qq -ay vg0/over && settle
qemu-img create -q -u -f qcow2 -F qcow2 -b /dev/vg0/base /dev/vg0/over 4M # -u: without a look at it

say "shared: the lock of a cluster, whose daemon does not run"
group vgshared "$(pv shared)"
lv leased vgshared
release vgshared
vgcfgbackup -qq -f "$work/vgshared" vgshared
sed -i '/^\tstatus = /a\	lock_type = "sanlock"\n\tlock_args = "1.0.0:lvmlock"' "$work/vgshared"
vgcfgrestore -qq -f "$work/vgshared" vgshared
lvchange -ay vgshared/leased 2>"$work/leased.err" && exit 1
[ $? = 5 ] || { lvchange -ay vgshared/leased; exit 1; }
guest leased raw /dev/vgshared/leased

say "gone: no volume of that name, and no group"
guest novolume raw /dev/vg0/nothing
guest nogroup raw /dev/vgnone/a

say "bare: a mapping of dmsetup, which nothing makes again"
guest bare raw /dev/mapper/dm_bare

say "looked: an agent looks at the disk and gives up; no guest ever starts"
qemu-img info -U /dev/vg0/looked >/dev/null 2>&1 || true

say "served: an agent looks too early, and the guest starts later: no finding"
qemu-img info -U /dev/vg0/served >/dev/null 2>&1 || true
lvchange -qq -ay vg0/served && settle
sleep 2
guest served raw /dev/vg0/served

say "halves: one of the group's two disks is not there"
first=$(pv first) second=$(pv second)
group vghalf "$first" "$second"
lv half vghalf
release vghalf
losetup -d "$second" && settle
appear vghalf "$first"
guest half raw /dev/vghalf/half

say "removed: was there, and was deactivated before the guest came"
lvchange -qq -ay vg0/removed && settle
lvchange -qq -an vg0/removed && settle
guest removed raw /dev/vg0/removed

say "plugged: a disk is pulled, and plugged in again too late"
group vgplug /dev/vdd
lv plugged vgplug
release vgplug
device=$(basename "$(readlink -f /sys/block/vdd/device)")
echo "$device" > /sys/bus/virtio/drivers/virtio_blk/unbind && settle
rm -f /run/lvm/vgs_online/vgplug
guest plugged raw /dev/vgplug/plugged
sleep 5
echo "$device" > /sys/bus/virtio/drivers/virtio_blk/bind
timeout 120 sh -c 'until [ -e /dev/vgplug/plugged ]; do sleep 0.2; done' && settle

say "thin: its pool's metadata is checked for 4 s"
group vgthin "$(pv thin)"
lvcreate -qq -y -L 16M -Zn -T vgthin/pool && lvcreate -qq -y -an -Wn -V 8M -T vgthin/pool -n thin && settle
vgchange -qq -an vgthin && settle
printf '#!/bin/sh\nsleep 4\n' > "$tools/slow" && chmod +x "$tools/slow"
printf '#!/bin/sh\nexit 1\n' > "$tools/bad" && chmod +x "$tools/bad"
guest thin raw /dev/vgthin/thin
conf "global { thin_check_executable = \"$tools/slow\" }"
lvchange -qq -ay vgthin/thin && settle
vgchange -qq -an vgthin && settle

say "thinbad: its pool fails the check"
conf 'local { }'
group vgbad "$(pv bad)"
lvcreate -qq -y -L 16M -Zn -T vgbad/pool && lvcreate -qq -y -an -Wn -V 8M -T vgbad/pool -n thinbad && settle
vgchange -qq -an vgbad && settle
release vgbad
conf "global { thin_check_executable = \"$tools/bad\" }"
vgchange -qq -aay vgbad || true
settle
conf 'local { }'
guest thinbad raw /dev/vgbad/thinbad

say "slowudev: live, and udev is behind with other disks"
udevadm control --stop-exec-queue
udevadm trigger --subsystem-match=block --sysname-match='vd*' --action=change
lvchange -qq -ay --noudevsync vg0/slowudev
guest slowudev raw /dev/vg0/slowudev
sleep 1
udevadm control --start-exec-queue
settle

say "notable: made, and its table never became active"
dmsetup create --notable notable && dmsetup load notable --table "0 16384 zero" && settle
[ -b /dev/mapper/notable ] || dmsetup mknodes notable
guest notable raw /dev/mapper/notable

say "suspended: what opens it hangs"
lvchange -qq -ay vg0/suspended && settle
sleep 2
dmsetup suspend vg0-suspended
guest suspended raw /dev/vg0/suspended &
until grep -qs ' D ' /proc/[0-9]*/task/*/stat; do sleep 0.2; done
sleep 3
dmsetup resume vg0-suspended && settle
wait $!

say "overlay: that of a guest now"
guest overlay qcow2 /dev/vg0/over

say "locked: another guest has it"
lvchange -qq -ay vg0/shared && settle
sleep 2
locking holder /dev/vg0/shared
locking locked /dev/vg0/shared
failed $!
grep -q lock "$work/locked.err"

say "rights: the guest's user may not open it"
lvchange -qq -ay vg0/rights && settle
sleep 2
setpriv --reuid 65534 --clear-groups qemu-system-x86_64 -name rights -machine none -S -display none -nodefaults \
	-drive file=/dev/vg0/rights,if=none,format=raw,cache=none 2>"$work/rights.err" && exit 1

say "crash: nothing is wrong with its disk"
lvchange -qq -ay vg0/crash && settle
sleep 2
qemu-system-x86_64 -name crash -machine none -S -display none -nodefaults \
	-drive file=/dev/vg0/crash,if=none,format=raw,cache=none -device no-such-device 2>"$work/crash.err" && exit 1

say "clean: no finding, no verdict"
lvchange -qq -ay vg0/clean && settle
sleep 2
guest clean raw /dev/vg0/clean

asked off && asked leased && asked skipped && asked half && asked thinbad && asked base && asked looked

say "unlisted: auto_activation_volume_list does not name it"
loop=$(pv list)
group vglist "$loop"
lv unlisted vglist
conf 'activation { auto_activation_volume_list = [ "vg0/clean", "@fast" ] }'
release vglist
appear vglist "$loop"
guest unlisted raw /dev/vglist/unlisted
asked unlisted
conf 'local { }'

say "noevents: event_activation is 0"
loop=$(pv event)
group vgevent "$loop"
lv noevents vgevent
conf 'global { event_activation = 0 }'
release vgevent
appear vgevent "$loop"
guest noevents raw /dev/vgevent/noevents
asked noevents
cp "$work/lvmlocal.conf" /etc/lvm/lvmlocal.conf

trouble() { "$@" || [ $? = 3 ]; } # what it comes to is known, and it is trouble
trouble bootrace show
trouble bootrace races
trouble bootrace show --format json > /lab/out/trace.json
cp "$(log)" /lab/out/trace.jsonl
