#!/bin/bash
# How long after a volume is live and linked its guest goes on: held by enforce
# mode, started after `bootrace wait`, after `udevadm wait`, and after a loop that
# looks every 100 ms. The contenders take turns, so that each has the same host.
# The log has the instants.
set -eu

rounds=$(sed -n 's/.*lab\.rounds=\([0-9]*\).*/\1/p' /proc/cmdline)
volume=/dev/vg0/late

vgcreate -qq --setautoactivation n vg0 /dev/vdb
lvcreate -qq -y -an -Wn -Zn -L 8M -n late vg0
printf '%s\n' "mode: enforce" >/etc/bootrace/config.yaml
until systemctl is-active -q bootrace; do sleep 1; done
systemctl reload bootrace
until bootrace status --format json | grep -q '"mode": "enforce"'; do sleep 0.5; done

# The guests are programs that do nothing, with the names of such that are traced.
# Only the first is one whose start is held.
install -D /bin/true /usr/local/bin/qemu-system-held
for n in wait udevadm poll; do install -D /bin/true "/opt/guests/qemu-system-$n"; done
sleep 2

held() { exec /usr/local/bin/qemu-system-held -name held -S -drive "file=$volume,if=none,format=raw"; }
wait_() { bootrace wait --raw "$volume" && exec /opt/guests/qemu-system-wait; }
udevadm_() { udevadm wait "$volume" && exec /opt/guests/qemu-system-udevadm; }
poll() {
	until [ -b "$volume" ]; do sleep 0.1; done
	exec /opt/guests/qemu-system-poll
}

for _ in $(seq "${rounds:-10}"); do
	for contender in held wait_ udevadm_ poll; do
		$contender &
		sleep 1.5
		lvchange -qq -ay vg0/late
		wait
		udevadm settle
		lvchange -qq -an vg0/late
		udevadm settle
	done
done
bootrace status
cp "$(bootrace status --format json | sed -n 's/^ *"log": "\(.*\)",*$/\1/p')" /lab/out/trace.jsonl
