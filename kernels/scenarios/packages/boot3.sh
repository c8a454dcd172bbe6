#!/bin/sh
# The host has rebooted with the initramfs that the package's hook went into: its boot
# is recorded from there on. Then enforce mode, an upgrade while a guest is held, and
# the package's end.
set -eu
here=/lab/share/scenario packages=/opt/packages
export DEBIAN_FRONTEND=noninteractive

systemctl is-active --quiet activate-web-a.service
lab-await 120 "guest db-b to boot from its volume" "grep -qs 'db-b runs' /run/guest-db-b.console"
lab-await 60 "the service to write down what the early one saw" '[ -e /run/bootrace/flushed ]'
status=0
bootrace races || status=$?
[ $status = 3 ]
bootrace show --format json > /lab/out/trace.json || [ $? = 3 ]
bootrace check --format json > /lab/out/check.json || [ $? -le 3 ]

# Who is not root reads what is recorded as a member of one group, and in no other way.
# Members change nothing.
as() { # runs a command as somebody of these groups
	setpriv --reuid 4711 --regid 4711 "$@"
}
member() { as --groups "$(getent group bootrace | cut -d: -f3)" bootrace "$@"; }
fails() { # and not for what it found
	status=0
	"$@" || status=$?
	[ $status = 1 ]
}
member status
member boots
for what in show races; do # of the boot before: this one goes on
	member $what -1 > "/lab/out/member-$what.txt" || [ $? = 3 ]
	bootrace $what -1 > "/lab/out/root-$what.txt" || [ $? = 3 ]
	cmp "/lab/out/member-$what.txt" "/lab/out/root-$what.txt"
done
for what in status boots show races; do
	fails as --clear-groups bootrace $what
done
fails member release db-b
fails member accept db-b

gone() { # waits until web-a's process has ended
	lab-await 30 "web-a to have been let go" '! systemctl --quiet is-active guest@web-a'
}

held() { # waits until web-a is held, with its volume not there
	systemctl stop guest@web-a activate-web-a
	lvchange -an vg0/web-a
	rm -f /run/guest-web-a.console
	systemctl start --no-block guest@web-a
	lab-await 30 "web-a to be held" 'bootrace status | grep -q "web-a"'
}

sed -i 's/^mode: trace/mode: enforce/' /etc/bootrace/config.yaml
systemctl reload bootrace
held
before=$(systemctl show -P MainPID bootrace)
since=$(date +%s)
apt-get install -qq -y $packages/new.deb
[ "$before" != "$(systemctl show -P MainPID bootrace)" ]
systemctl is-active bootrace.service
grep -q '^mode: enforce' /etc/bootrace/config.yaml
# Its start went on, and was not denied: it is qemu that does not find its disk.
gone
journalctl -q -b -u guest@web-a --since "@$since" -o cat | tee /lab/out/let-go.txt
grep -q 'qemu-system-x86_64: .*/dev/vg0/web-a' /lab/out/let-go.txt

# The new one holds its starts.
systemctl reset-failed guest@web-a
held
lvchange -ay vg0/web-a
lab-await 120 "guest web-a to boot from its volume" "grep -qs 'web-a runs' /run/guest-web-a.console"
bootrace version

# Held once more, while the package is removed.
held
apt-get remove -qq -y bootrace
gone
[ -e /etc/bootrace/config.yaml ]
ls /var/lib/bootrace/*.jsonl* >/dev/null
apt-get purge -qq -y bootrace

sh $here/tree > /var/tmp/after.txt
diff -u /var/tmp/before.txt /var/tmp/after.txt > /lab/out/left.txt || true
lsinitramfs /boot/initrd.img-* | grep bootrace >> /lab/out/left.txt || true
systemctl list-units --all 'bootrace*' --no-legend > /lab/out/units.txt
cat /sys/kernel/tracing/kprobe_events > /lab/out/probes.txt 2>/dev/null || : > /lab/out/probes.txt
