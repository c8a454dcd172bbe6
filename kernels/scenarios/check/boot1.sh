#!/bin/bash
# One host, and what `bootrace check` says of it: as it is, with each setting
# that keeps a guest's volume from being activated, in enforce mode, and with a
# kernel that allows less and less. The test has the verdicts.
set -eu

say() { echo "== $*"; }

check() { # NAME COMMAND...
	local name=$1 status=0
	shift
	"$@" bootrace check --format json >"/lab/out/$name.json" || status=$?
	echo "$name: status $status"
	echo $status >"/lab/out/$name.status"
}

lvm() { printf '%s\n' "$@" >/etc/lvm/lvmlocal.conf; }

say "two guests, each on a volume of a group of its own"
for guest in web:vg0:/dev/vdb db:vg1:/dev/vdc; do
	IFS=: read -r name vg disk <<<"$guest"
	vgcreate -qq "$vg" "$disk"
	lvcreate -qq -y -L 8M -n "$name" "$vg"
	qemu-system-x86_64 -name "$name" -machine none -S -display none -nodefaults \
		-drive "file=/dev/$vg/$name,if=none,format=raw,cache=none" &
done
for volume in vg0-web vg1-db; do
	timeout 120 sh -c "until grep -qs '\"$volume\"' /var/lib/bootrace/memory.jsonl; do sleep 0.5; done"
done
check demo

say "settings that keep a guest's volume from coming up by itself"
lvm 'activation { auto_activation_volume_list = [ "vg1" ] }'
check autolist
lvm 'global { event_activation = 0 }'
check events
mkdir -p /etc/lvm/devices
pvid=$(pvs --noheadings -o pv_uuid /dev/vdb | tr -d ' -')
lvm 'devices { use_devicesfile = 1 }'
printf 'VERSION=1.1.1\nIDTYPE=devname IDNAME=/dev/vdb DEVNAME=/dev/vdb PVID=%s\n' "$pvid" >/etc/lvm/devices/system.devices
check devicesfile
rm /etc/lvm/devices/system.devices
rm /etc/lvm/lvmlocal.conf
lvchange -qq --setactivationskip y vg0/web
lvchange -qq --setautoactivation n vg1/db
check flags
lvchange -qq --setactivationskip n vg0/web
lvchange -qq --setautoactivation y vg1/db

say "enforce mode: with the programs as they are, and with a pattern that leads to none"
configure() { # STATUS LINE...: until the status says so
	local status=$1
	shift
	printf '%s\n' "$@" >/etc/bootrace/config.yaml
	systemctl reload bootrace
	timeout 120 sh -c "until bootrace status --format json | grep -q '$status'; do sleep 0.5; done"
}
configure '"programs": \[' 'mode: enforce'
check enforce
configure '"mode": "trace"' 'mode: trace'
configure '"programs": null' 'mode: enforce' 'enforce: { binaries: [/opt/qemu] }'
cp /bin/true /usr/bin/qemu-lite-system-x86_64
check noprogram
rm /usr/bin/qemu-lite-system-x86_64
configure '"mode": "trace"' 'mode: trace'

say "a container: rights and namespaces of its own, and the service out of sight"
cat >/run/contained <<'SH'
mount -t tmpfs none /run/bootrace
exec setpriv --bounding-set=-sys_admin,-bpf,-perfmon,-sys_ptrace,-net_admin,-sys_resource "$@"
SH
contain() { unshare --mount --pid --net --fork --mount-proc sh /run/contained "$@"; }
check container contain
contain timeout 6 bootrace run --state-dir /run/contained.d 2>/lab/out/container.log || true

say "no BTF, as on kernels without CONFIG_DEBUG_INFO_BTF"
systemctl stop bootrace
mkdir /run/empty
mount --bind /run/empty /sys/kernel/btf
check btf
umount /sys/kernel/btf

say "lockdown, which goes one way"
echo integrity >/sys/kernel/security/lockdown
check integrity
echo confidentiality >/sys/kernel/security/lockdown
check confidentiality
systemctl start bootrace
bootrace status || [ $? = 5 ]
journalctl -b -o cat -u bootrace -n 20 >/lab/out/confidentiality.log
cat /lab/out/confidentiality.log
