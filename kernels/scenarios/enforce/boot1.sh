#!/bin/bash
# One boot in enforce mode. The driver starts guests on volumes that are not
# there, and on none, and does to the service what must not keep them from
# starting.
set -eu

driver=/usr/local/lib/enforce/driver
orders=$(cat /usr/local/lib/enforce/orders)
say() { echo "== $*"; }
settle() { udevadm settle --timeout=60; }

say "enforce mode, by a reload"
# Two hundred starts take their time on an emulated processor.
sed -i 's/^mode: trace/mode: enforce/; s/deadline: 80s/deadline: 1h/' /etc/bootrace/config.yaml
systemctl reload bootrace
timeout 300 sh -c 'until bootrace status | grep -q "^hold *attached"; do sleep 0.2; done'

say "fifty volumes that nobody activates"
vgcreate -qq -s 1M --setautoactivation n vg0 /dev/vdb /dev/vdc
for i in $(seq 0 49); do echo "lvcreate -qq -y -an -Wn -Zn -L 1M -n lv$i vg0"; done | lvm >/dev/null
settle

"$driver" mass
"$driver" launcher
"$driver" orders "$orders"

say "a chain of three qcow2 images that comes up in the worst order"
lvcreate -qq -y -kn -L 4M -n base vg0; lvcreate -qq -y -kn -L 4M -n middle vg0; lvcreate -qq -y -kn -L 4M -n top vg0
qemu-img create -q -f qcow2 /dev/vg0/base 2M
qemu-img create -q -f qcow2 -F qcow2 -b /dev/vg0/base /dev/vg0/middle
qemu-img create -q -f qcow2 -F qcow2 -b /dev/vg0/middle /dev/vg0/top
settle
lvchange -qq -an vg0/top vg0/middle vg0/base
settle
qemu-system-x86_64 -name chain -machine none -S -display none -nodefaults \
	-drive file=/dev/vg0/top,if=none,cache=none 2>/run/chain.err &
chain=$!
held_on() { timeout 300 sh -c "until bootrace status | grep -q '^ *$1: '; do sleep 0.1; done"; }
held_on /dev/vg0/top
lvchange -qq -ay vg0/top
held_on /dev/vg0/middle
lvchange -qq -ay vg0/base
settle
held_on /dev/vg0/middle
lvchange -qq -ay vg0/middle
timeout 300 sh -c "until tr '\0' ' ' < /proc/$chain/cmdline | grep -q ^qemu; do sleep 0.1; done"
timeout 300 sh -c "until ls -l /proc/$chain/fd | grep -q dm-; do sleep 0.1; done"
sleep 1
kill "$chain"
wait "$chain" || true
if [ -s /run/chain.err ] && grep -v terminating /run/chain.err; then exit 1; fi
lvchange -qq -an vg0/top vg0/middle vg0/base

say "a program on a file system that is mounted later"
later=/usr/local/qemu-later
mkdir -p $later
sleep 1 # it is watched, and what comes now covers it
mount -t tmpfs none $later
install -D /usr/local/qemu-lab/bin/qemu-system-x86_64 $later/bin/qemu-system-x86_64
timeout 300 sh -c "until bootrace status | grep '^programs.*$later/'; do sleep 0.2; done"
$later/bin/qemu-system-x86_64 -name later -drive file=/dev/vg0/lv0,if=none,format=raw &
later_guest=$!
held_on /dev/vg0/lv0
lvchange -qq -ay vg0/lv0
wait $later_guest
settle
lvchange -qq -an vg0/lv0
umount $later
timeout 300 sh -c "while bootrace status | grep '^programs.*$later/'; do sleep 0.2; done"

bootrace show --near-miss 10s >/dev/null || [ $? -ge 3 ] # what it comes to is for the test to say
bootrace show --format json > /lab/out/trace.json || [ $? -ge 3 ] # what it comes to is for the test to say
cp "$(bootrace status --format json | sed -n 's/^ *"log": "\(.*\)",*$/\1/p')" /lab/out/trace.jsonl

# The rest breaks the service on purpose, and needs a machine with nothing else
# to do: `make soak-enforce` plays it, and the 500 orders.
[ "$orders" -ge 500 ] || exit 0

say "what must not keep guests from starting"
"$driver" killed
"$driver" stopped
"$driver" upgrade
"$driver" replaced

say "its log on a disk that dies"
lvcreate -qq -y -kn -L 32M -n state vg0
mkfs.ext4 -q /dev/vg0/state
systemctl stop bootrace
mount /dev/vg0/state /var/lib/bootrace
systemctl start bootrace
timeout 300 sh -c 'until bootrace status | grep -q "^hold *attached"; do sleep 0.2; done'
"$driver" stuck
systemctl stop bootrace
umount /var/lib/bootrace
systemctl start bootrace
timeout 300 sh -c 'until bootrace status | grep -q "^hold *attached"; do sleep 0.2; done'

say "what it costs: held or not, and in trace mode"
"$driver" probes
sed -i 's/^mode: enforce/mode: trace/' /etc/bootrace/config.yaml
systemctl reload bootrace
timeout 300 sh -c 'until bootrace status | grep -q "^hold *ended"; do sleep 0.2; done'
"$driver" probes

say "a reload to trace mode with a start held"
sed -i 's/^mode: trace/mode: enforce/' /etc/bootrace/config.yaml
systemctl reload bootrace
timeout 300 sh -c 'until bootrace status | grep -q "^hold *attached"; do sleep 0.2; done'
/usr/local/qemu-lab/bin/qemu-system-x86_64 -name switched -drive file=/dev/vg0/lv0 2>/dev/null &
held_on /dev/vg0/lv0
sed -i 's/^mode: enforce/mode: trace/' /etc/bootrace/config.yaml
systemctl reload bootrace
wait $! || [ $? = 1 ] # it ran, and its disk was not there
ls /run/enforce/switched

say "wrong input is one line, and guests start"
says() { # STATUS TEXT COMMAND...
	local want=$1 text=$2 status=0
	shift 2
	"$@" >/run/said 2>&1 || status=$?
	cat /run/said
	[ "$status" = "$want" ] && grep -q -- "$text" /run/said && [ "$(wc -l </run/said)" = 1 ]
}
says 2 'on-timeout.*use "allow", "deny"' bootrace run --on-timeout perhaps
says 2 'identity.*use "warn", "hold", "deny"' bootrace run --identity ask
says 1 'is not the absolute path of a program' bootrace run --binaries qemu-kvm
says 1 'bootrace is running already, as process' bootrace run
says 1 'no start is held: the mode is trace' bootrace release nobody
binaries() { # PATTERNS STATUS: by a reload; then the status says this of the programs
	printf 'mode: enforce\nenforce:\n  binaries: [%s]\n' "$1" >/etc/bootrace/config.yaml
	systemctl reload bootrace
	timeout 300 sh -c "until bootrace status | grep '^programs.*$2'; do sleep 0.2; done"
}
binaries '/opt/nothing/qemu-*, /usr/local/qemu-*/bin/qemu-system-*' /qemu-lab/
timeout 300 sh -c 'until journalctl -b -u bootrace | grep "matches no program.*/opt/nothing/qemu-"; do sleep 0.2; done'
# A pattern that is taken away holds nothing: held, it would take 80 s.
binaries '/opt/nothing/qemu-*' 'none found'
timeout 60 /usr/local/qemu-lab/bin/qemu-system-x86_64 -name taken-away -drive file=/dev/vg0/lv0 2>/dev/null || [ $? = 1 ]
ls /run/enforce/taken-away
binaries '/usr/local/qemu-*/bin/qemu-system-*' /qemu-lab/
cannot() { # WHY SETTING: with that setting of its unit, the service can't hold, says why, and guests start
	printf '[Service]\n%s\n' "$2" >/run/systemd/system/bootrace.service.d/cannot.conf
	systemctl daemon-reload
	systemctl restart bootrace
	timeout 300 sh -c "until bootrace status 2>/dev/null | grep 'holds.*$1'; do sleep 0.2; done"
	rm -f /run/enforce/cannot
	/usr/local/qemu-lab/bin/qemu-system-x86_64 -name cannot -drive file=/dev/vg0/lv0 2>/dev/null || [ $? = 1 ]
	ls /run/enforce/cannot
}
mkdir -p /run/systemd/system/bootrace.service.d
cannot "no right to: it takes CAP_SYS_ADMIN" 'CapabilityBoundingSet=~CAP_SYS_ADMIN'
# A kernel without CONFIG_FANOTIFY_ACCESS_PERMISSIONS refuses the mark, one without
# CONFIG_FANOTIFY has none of the system calls.
cannot "CONFIG_FANOTIFY_ACCESS_PERMISSIONS" 'SystemCallFilter=~fanotify_mark:EINVAL'
cannot "the kernel has no fanotify (CONFIG_FANOTIFY)" 'SystemCallFilter=~fanotify_init:ENOSYS fanotify_mark:ENOSYS'
rm -r /run/systemd/system/bootrace.service.d
systemctl daemon-reload
systemctl restart bootrace
bootrace status || [ $? = 5 ]
cp "$(bootrace status --format json | sed -n 's/^ *"log": "\(.*\)",*$/\1/p')" /lab/out/trace.jsonl
