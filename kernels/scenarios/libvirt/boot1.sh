#!/bin/bash
# A real libvirt, and a domain whose volume is late: in enforce mode the hook
# keeps its start back. Without the service, and when the hook's time is over,
# libvirt does what it would do alone.
set -eu

failures=0
say() { echo "== $*"; }
fail() {
	echo "FAIL: $*"
	failures=$((failures + 1))
}
uptime_ms() {
	local up
	read -r up _ </proc/uptime
	echo "${up/./}0"
}

configure() { # LINE...
	printf '%s\n' "$@" >/etc/bootrace/config.yaml
	systemctl reload bootrace
	until bootrace status --format json | grep -q "\"mode\": \"${1#mode: }\""; do sleep 0.5; done
}

hook=/etc/libvirt/hooks/qemu.d/bootrace
up() { lvchange -qq -ay vg0/web; }
down() { lvchange -qq -an vg0/web && udevadm settle; }
start() { virsh -q start --paused web; }

refused() { # WHAT: the start fails; what libvirt says, and how long it took, in ms
	local began
	began=$(uptime_ms)
	if start 2>/run/refused; then
		fail "$1: it started"
		virsh -q destroy web
	fi
	took=$(($(uptime_ms) - began))
	said=$(tr '\n' ' ' </run/refused)
	echo "$1: after $took ms: $said"
}

checked() { # TEXT: what check says of libvirt
	COLUMNS=400 bootrace check >/run/check || true
	grep -q "libvirt .*$1" /run/check || fail "check does not say $1: $(cat /run/check)"
}

vgcreate -qq --setautoactivation n vg0 /dev/vdb
lvcreate -qq -y -an -Wn -Zn -L 8M -n web vg0
until systemctl is-active -q bootrace; do sleep 1; done
[ -x $hook ] || fail "make install left no hook"
cat >/run/web.xml <<XML
<domain type='qemu'>
  <name>web</name>
  <uuid>3aad3b6b-ddf8-474a-8906-06d83ef318cb</uuid>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw'/>
      <source dev='/dev/vg0/web'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <memballoon model='none'/>
  </devices>
</domain>
XML
virsh -q define /run/web.xml
up
start || fail "libvirt starts no domain here at all"
virsh -q destroy web
down

say "libvirt alone"
mv $hook /run/hook
systemctl restart libvirtd
refused "alone"
alone=$said
checked "without bootrace's hook"
mv /run/hook $hook
checked "its hook calls bootrace"
ln -s qemu.d/bootrace ${hook%.d/bootrace}
checked "more than once"
rm ${hook%.d/bootrace}
systemctl restart libvirtd

say "the hook, without the service"
systemctl stop bootrace
refused "no service"
[ "$said" = "$alone" ] || fail "libvirt says something else than alone"
systemctl start bootrace

say "the hook, in trace mode"
configure "mode: trace"
refused "trace"
[ "$said" = "$alone" ] || fail "libvirt says something else than alone"

say "enforce mode, and the volume comes"
configure "mode: enforce" "enforce: {deadline: 5m}"
start >/run/start.log 2>&1 &
starting=$!
sleep 10
kill -0 $starting 2>/dev/null || fail "not held: $(cat /run/start.log)"
up
wait $starting || fail "did not start: $(cat /run/start.log)"
virsh domstate web
virsh -q destroy web
down

say "enforce mode, and the time is over"
configure "mode: enforce" "enforce: {deadline: 5s}"
refused "timeout"
[ "$said" = "$alone" ] || fail "libvirt says something else than alone"
[ "$took" -ge 5000 ] || fail "not held"

say "enforce mode, the time is over, and libvirt starts qemu all the same: it is not held again"
up && udevadm settle
dmsetup suspend vg0-web
start >/run/start.log 2>&1 &
starting=$!
passes="a start is not held a second time.*web"
timeout 120 sh -c "until journalctl -b -u bootrace | grep '$passes'; do sleep 0.5; done" || fail "held twice"
dmsetup resume vg0-web
wait $starting || fail "did not start: $(cat /run/start.log)"
virsh -q destroy web
down

say "enforce mode, and the policy is to deny"
configure "mode: enforce" "enforce: {deadline: 2s, on-timeout: deny}"
refused "deny"
case $said in
*"not ready after 2 s: /dev/vg0/web"*) ;;
*) fail "libvirt does not say why" ;;
esac

bootrace status || [ $? = 5 ]
cp "$(bootrace status --format json | sed -n 's/^ *"log": "\(.*\)",*$/\1/p')" /lab/out/trace.jsonl
for kind in hold release; do # of four starts: the volume came, the time was over twice, denied
	n=$(grep -c "\"kind\":\"$kind\".*\"hook\":true" /lab/out/trace.jsonl) || true
	[ "$n" = 4 ] || fail "$n events of kind $kind by libvirt's hook, want 4"
done
echo "$failures failures"
exit $((failures > 0))
