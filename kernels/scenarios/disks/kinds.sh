# shellcheck shell=bash
# Sourced by the scripts of both boots: how each kind of disk is made once, and
# brought up. A kind has three disks: a, b and c; scsi has a alone, as all disks of
# scsi_debug have one serial number. Everything lies in files on the
# root file system, so that a reboot takes all of it down, and nothing brings it up
# again but these functions.

files=/var/lib/disks
work=/run/disks
# shellcheck disable=SC2034 # used by the scripts that source this
kinds="md loop iscsi nvme drbd nbd zram scsi bcache part lv lvfile nfs one onelink ch"

# Which disks of a kind are made, and on which of them guests run in the first boot:
# where the path does not say that it can only be a device, what a guest last ran on
# does. Elsewhere c is a path and no more.
disks() { # KIND MADE|USED
	case $1-$2 in
	scsi-made) echo a ;;
	lvfile-made | nfs-made | one-made | onelink-made) echo a b c ;;
	lvfile-used | nfs-used | one-used | onelink-used) echo a c ;;
	*-made) echo a b ;;
	esac
}

say() { echo "== $* ($(uptime_now))"; }
uptime_now() { cut -d' ' -f1 /proc/uptime; }
settle() { udevadm settle --timeout=300; }
there() { # PATH: until it is there
	local n
	for ((n = 0; n < 2400; n++)); do
		[ ! -e "$1" ] || return 0
		sleep 0.05
	done
	echo "$1 did not come" >&2
	return 1
}
number() { case $1 in a) echo 0 ;; b) echo 1 ;; c) echo 2 ;; esac; }
image() { # NAME: the file of that name, made if missing
	[ -e "$files/$1" ] || truncate -s 32M "$files/$1"
	echo "$files/$1"
}

# path KIND DISK: the path by which a guest opens it
path() {
	local n
	n=$(number "$2")
	case $1 in
	md) echo "/dev/md/$2" ;;
	loop) echo "/dev/loop4$n" ;;
	iscsi) echo "/dev/disk/by-path/ip-127.0.0.1:3260-iscsi-iqn.2003-01.org.lab:$2-lun-0" ;;
	nvme) echo "/dev/disk/by-id/nvme-uuid.6c61622d-0000-4000-8000-00000000000$n" ;;
	drbd) echo "/dev/drbd1$n" ;;
	nbd) echo "/dev/nbd$n" ;;
	zram) echo "/dev/zram$n" ;;
	scsi) echo /dev/disk/by-id/wwn-0x33333330000007d0 ;;
	bcache) echo "/dev/bcache/by-uuid/$(cat "$files/bcache-$2.uuid" 2>/dev/null || echo 6c61622d-0000-4000-8000-0000000000bc)" ;;
	part) echo "/dev/loop3${n}p1" ;;
	lv) echo "/dev/vg0/lv-$2" ;;
	lvfile) echo "/srv/lv-$2/disk.qcow2" ;;
	nfs) echo "/srv/nfs-$2/disk.qcow2" ;;
	one) echo "/var/lib/one/datastores/0/4$n/disk.0" ;;
	onelink) echo "/var/lib/one/datastores/0/5$n/disk.0" ;;
	ch) echo "/dev/vg0/ch-$2" ;;
	esac
}

# make KIND DISK: once; it may be left up or down
make() {
	local n one two
	n=$(number "$2")
	case $1 in
	md)
		one=$(losetup --show -f "$(image "md-$2-1")") two=$(losetup --show -f "$(image "md-$2-2")")
		mdadm --quiet --create "/dev/md/$2" --run --level=1 --raid-devices=2 --homehost=any --assume-clean "$one" "$two"
		there "/dev/md/$2" # where udev is slow, mdadm does not wait for it
		mdadm --detail --brief "/dev/md/$2" >> /etc/mdadm/mdadm.conf
		settle
		mdadm --quiet --stop "/dev/md/$2"
		losetup -d "$one" "$two"
		;;
	drbd)
		cat > "/etc/drbd.d/$2.res" <<-END
			resource $2 {
				net { protocol C; }
				disk { on-io-error detach; }
				on lab { device /dev/drbd1$n minor 1$n; disk /dev/loop5$n; address 127.0.0.1:779$n; meta-disk internal; }
				on other { device /dev/drbd1$n minor 1$n; disk /dev/loop5$n; address 127.0.0.2:779$n; meta-disk internal; }
			}
		END
		losetup "/dev/loop5$n" "$(image "drbd-$2")"
		drbdadm create-md --force "$2"
		drbdadm up "$2"
		drbdadm primary --force "$2"
		settle
		drbdadm down "$2"
		losetup -d "/dev/loop5$n"
		;;
	bcache)
		losetup "/dev/loop6$n" "$(image "bcache-$2")"
		make-bcache -B "/dev/loop6$n" | sed -n 's/^UUID:[[:space:]]*//p' > "$files/bcache-$2.uuid"
		settle
		[ ! -e "/dev/bcache/by-uuid/$(cat "$files/bcache-$2.uuid")" ] || echo 1 > "$(readlink -f "/sys/class/block/loop6$n/bcache")/stop"
		losetup -d "/dev/loop6$n"
		;;
	part) # an MBR with a partition of Linux: 16384 sectors from 2048 on
		printf '\0\0\0\0\203\0\0\0\0\010\0\0\0\100\0\0' | dd of="$(image "part-$2")" bs=1 seek=446 conv=notrunc status=none
		printf '\125\252' | dd of="$(image "part-$2")" bs=1 seek=510 conv=notrunc status=none
		;;
	lv | ch | one) lvcreate -qq -y -an -Wn -Zn -L 8M -n "$1-$2" vg0 ;;
	onelink)
		lvcreate -qq -y -an -Wn -Zn -L 8M -n "onelink-$2" vg0
		;;
	lvfile)
		lvcreate -qq -y -Wn -L 16M -n "file-$2" vg0
		mkfs.ext4 -q "/dev/vg0/file-$2"
		mkdir -p "/srv/lv-$2"
		echo "/dev/vg0/file-$2 /srv/lv-$2 ext4 noauto 0 0" >> /etc/fstab
		mount "/srv/lv-$2"
		qemu-img create -q -f qcow2 "/srv/lv-$2/disk.qcow2" 4M
		umount "/srv/lv-$2"
		lvchange -qq -an "vg0/file-$2"
		;;
	nfs)
		mkdir -p "/export/$2" "/srv/nfs-$2"
		qemu-img create -q -f qcow2 "/export/$2/disk.qcow2" 4M
		echo "/export/$2 127.0.0.1(rw,no_root_squash,no_subtree_check,fsid=1$n)" >> /etc/exports
		echo "127.0.0.1:/export/$2 /srv/nfs-$2 nfs noauto,vers=3,nolock 0 0" >> /etc/fstab
		exportfs -ra
		;;
	esac
	if [ "$1" = one ]; then mkdir -p "/var/lib/one/datastores/0/4$n" && ln -s "/dev/vg0/one-$2" "/var/lib/one/datastores/0/4$n/disk.0"; fi
	if [ "$1" = onelink ]; then mkdir -p "/var/lib/one/datastores/0/5$n"; fi
	settle
}

# serve: in each boot, what the disks of the network need, and links that are there
# before anybody opens them
serve() {
	local d n dir target=/sys/kernel/config/target nvmet=/sys/kernel/config/nvmet
	mkdir -p "$work"
	for m in loop nbd iscsi_target_mod target_core_file iscsi_tcp nvmet nvmet_tcp nvme_tcp drbd bcache nfsd; do modprobe "$m"; done
	modprobe zram num_devices=3
	modprobe scsi_debug add_host=0 dev_size_mb=8 vpd_use_hostno=0
	dir=$target/iscsi/iqn.2003-01.org.lab
	for d in a b c; do
		n=$(number $d)
		mkdir -p "$target/core/fileio_$n/$d"
		echo "fd_dev_name=$(image "iscsi-$d"),fd_dev_size=33554432" > "$target/core/fileio_$n/$d/control"
		echo "lab-$d" > "$target/core/fileio_$n/$d/wwn/vpd_unit_serial"
		echo 1 > "$target/core/fileio_$n/$d/enable"
		mkdir -p "$dir:$d/tpgt_1/lun/lun_0" "$dir:$d/tpgt_1/np/127.0.0.1:3260"
		ln -s "$target/core/fileio_$n/$d" "$dir:$d/tpgt_1/lun/lun_0/$d"
		for attribute in authentication=0 generate_node_acls=1 demo_mode_write_protect=0 cache_dynamic_acls=1; do
			echo "${attribute#*=}" > "$dir:$d/tpgt_1/attrib/${attribute%=*}"
		done
		echo 1 > "$dir:$d/tpgt_1/enable"

		mkdir -p "$nvmet/subsystems/lab-$d/namespaces/1"
		echo 1 > "$nvmet/subsystems/lab-$d/attr_allow_any_host"
		image "nvme-$d" > "$nvmet/subsystems/lab-$d/namespaces/1/device_path"
		echo "6c61622d-0000-4000-8000-00000000000$n" > "$nvmet/subsystems/lab-$d/namespaces/1/device_uuid"
		echo 1 > "$nvmet/subsystems/lab-$d/namespaces/1/enable"
	done
	mkdir -p $nvmet/ports/1
	for attribute in addr_trtype=tcp addr_adrfam=ipv4 addr_traddr=127.0.0.1 addr_trsvcid=4420; do
		echo "${attribute#*=}" > "$nvmet/ports/1/${attribute%=*}"
	done
	for d in a b c; do ln -s "$nvmet/subsystems/lab-$d" "$nvmet/ports/1/subsystems/lab-$d"; done
	systemctl start rpcbind nfs-server
	exportfs -ra
	settle
}

# up KIND DISK: brings it up; returns when a guest can use it
up() {
	local n p
	n=$(number "$2")
	case $1 in
	md) losetup -f "$(image "md-$2-1")" && losetup -f "$(image "md-$2-2")" ;;
	loop) losetup "/dev/loop4$n" "$(image "loop-$2")" ;;
	iscsi)
		iscsiadm -m node -o new -T "iqn.2003-01.org.lab:$2" -p 127.0.0.1:3260 >/dev/null
		iscsiadm -m node -T "iqn.2003-01.org.lab:$2" -p 127.0.0.1:3260 --login >/dev/null
		;;
	nvme) nvme connect -t tcp -a 127.0.0.1 -s 4420 -n "lab-$2" ;;
	drbd) losetup "/dev/loop5$n" "$(image "drbd-$2")" && drbdadm up "$2" && sleep 0.5 && drbdadm primary "$2" ;;
	nbd) qemu-nbd --fork -f raw -c "/dev/nbd$n" "$(image "nbd-$2")" ;;
	zram) echo 8M > "/sys/block/zram$n/disksize" ;;
	scsi)
		echo 1 > /sys/bus/pseudo/drivers/scsi_debug/add_host
		;;
	bcache) losetup "/dev/loop6$n" "$(image "bcache-$2")" ;;
	part) losetup -P "/dev/loop3$n" "$(image "part-$2")" ;;
	lv | ch | one | onelink) lvchange -qq -ay "vg0/$1-$2" ;;
	lvfile) lvchange -qq -ay "vg0/file-$2" && systemctl start "srv-lv\\x2d$2.mount" ;;
	nfs) systemctl start "srv-nfs\\x2d$2.mount" ;;
	esac
	if [ "$1" = onelink ]; then sleep 1 && ln -s "/dev/vg0/onelink-$2" "/var/lib/one/datastores/0/5$n/disk.0"; fi
	p=$(path "$1" "$2")
	there "$p"
	settle
	echo "$p $(uptime_now)" >> "$work/settled"
}

# guest NAME PATH: starts a guest in the background; wait_guests waits until each
# has opened its disk, or has failed.
declare -A guests
guest() {
	local format=raw
	case $2 in *.qcow2) format=qcow2 ;; esac
	case $1 in
	ch-*) cloud-hypervisor --api-socket "$work/$1.sock" --kernel /vmlinuz --disk "path=$2" 2>"$work/$1.err" & ;;
	*)
		qemu-system-x86_64 -name "$1" -machine none -S -display none -nodefaults \
			-qmp "unix:$work/$1.qmp,server=on,wait=off" \
			-drive "file=$2,if=none,format=$format,cache=none" 2>"$work/$1.err" &
		;;
	esac
	guests[$1]=$!
	echo "$1 $2 $!" >> "$work/guests"
}

wait_guests() { # NAME...: until it waits for its monitor (cloud-hypervisor: sleeps), or has ended
	local name pid n
	for name; do
		pid=${guests[$name]}
		for ((n = 0; n < 3000; n++)); do
			kill -0 "$pid" 2>/dev/null || break
			case $name in
			ch-*) find "/proc/$pid/fd" -lname '/dev/dm-*' 2>/dev/null | grep -q . && break ;;
			*) [ -S "$work/$name.qmp" ] && grep -qs ' S ' "/proc/$pid/stat" && break ;;
			esac
			sleep 0.1
		done
		if kill -0 "$pid" 2>/dev/null; then
			echo "$name runs"
		else
			wait "$pid" && echo "$name ended with 0" || echo "$name ended with $?: $(cat "$work/$name.err")"
		fi
	done
}

# usable OUT PATH...: writes down when each can be used first
usable() { /usr/local/lib/disks/witness "$@" & }

log() { bootrace status --format json | sed -n 's/^ *"log": "\(.*\)",*$/\1/p'; }

keep() { # NAME N: leaves the boot log so far, and what the witnesses saw in boot N
	local what
	cp "$(log)" "/lab/out/$1.jsonl"
	cat "$tracing/instances/disks/trace" > "/lab/out/opens$2.txt"
	# What the buffer had no room for would be missing from the witness.
	[ "$(sed -n 's/^\(overrun\|dropped events\): //p' "$tracing"/instances/disks/per_cpu/cpu*/stats | sort -u)" = 0 ]
	for what in usable settled guests; do cp "$work/$what" "/lab/out/$what$2.txt"; done
}

# The kernel's own tracing is the witness of the guests' opens, as in the scenario
# witness.
tracing=/sys/kernel/tracing
watch_opens() {
	[ -e $tracing/trace ] || mount -t tracefs tracefs $tracing
	echo 'p:disks/path do_sys_openat2 path=+0(%si):ustring' >> $tracing/kprobe_events
	mkdir $tracing/instances/disks
	echo boot > $tracing/instances/disks/trace_clock
	echo 16384 > $tracing/instances/disks/buffer_size_kb
	for event in syscalls/sys_enter_openat syscalls/sys_exit_openat disks/path; do
		echo 'comm ~ "qemu-system*" || comm ~ "cloud-hyper*"' > $tracing/instances/disks/events/$event/filter
		echo 1 > $tracing/instances/disks/events/$event/enable
	done
}
