#!/bin/bash
# A host with many volumes, and a guest on each: what it takes until they are there
# without bootrace, in trace mode, and in enforce mode; how soon after its volume each
# guest goes on; and what it takes to hold them while nothing happens. One volume group
# has them all; so many of them are activated each time, the same in each mode.
# /lab/out/scale.txt has lines of: volumes, mode, what, number.
set -eu

sizes=$(sed -n 's/.*lab\.volumes=\([0-9,]*\).*/\1/p' /proc/cmdline | tr , ' ')
most=${sizes##* }
idle=60 # seconds

say() { echo "== $(cut -d' ' -f1 /proc/uptime) $*"; }
note() { echo "$n $mode $1 $2" >>/lab/out/scale.txt; }
now() { cut -d' ' -f1 /proc/uptime; }
since() { awk -v now="$(now)" -v then="$1" 'BEGIN { print now - then }'; }

# What lvcreate would write in a thousand turns, one volume a line.
volumes() {
	awk -v most="$most" -v sizes="$sizes" 'BEGIN {
		print "\tlogical_volumes {"
		n = split(sizes, size, " ")
		for (i = 1; i <= most; i++) {
			tags = ""
			for (s = 1; s <= n; s++) if (i <= size[s]) tags = tags (tags ? ", " : "") "\"n" size[s] "\""
			printf "\t\tv%d {\n\t\t\tid = \"Labxxx-xxxx-xxxx-xxxx-xxxx-xxxx-%06d\"\n", i, i
			printf "\t\t\tstatus = [\"READ\", \"WRITE\", \"VISIBLE\"]\n\t\t\tflags = []\n\t\t\ttags = [%s]\n", tags
			printf "\t\t\tcreation_time = 1700000000\n\t\t\tcreation_host = \"lab\"\n\t\t\tsegment_count = 1\n"
			printf "\t\t\tsegment1 {\n\t\t\t\tstart_extent = 0\n\t\t\t\textent_count = 1\n\t\t\t\ttype = \"striped\"\n"
			printf "\t\t\t\tstripe_count = 1\n\t\t\t\tstripes = [ \"pv0\", %d ]\n\t\t\t}\n\t\t}\n", i - 1
		}
		print "\t}"
	}'
}
say "a volume group of $most volumes"
pvcreate -qq --metadatasize 16m /dev/vdb
vgcreate -qq -s 1m --setautoactivation n vgs /dev/vdb
vgcfgbackup -qq -f /tmp/empty vgs
last=$(grep -n '^}' /tmp/empty | tail -n 1 | cut -d: -f1) # the end of the group
{ head -n "$((last - 1))" /tmp/empty; volumes; echo "}"; } >/tmp/full
vgcfgrestore -qq -f /tmp/full vgs
[ "$(lvs --noheadings -o name vgs | wc -l)" = "$most" ]

install -D /bin/true /usr/local/bin/qemu-system-held
held() { exec /usr/local/bin/qemu-system-held -name "$1" -S -drive "file=/dev/vgs/$2,if=none,format=raw"; }

service() { # MODE: runs anew
	systemctl stop bootrace
	printf '%s\n' "mode: $1" 'enforce: {deadline: 30m}' >/etc/bootrace/config.yaml
	systemctl start bootrace
	lab-await 300 "the service in $1 mode" "bootrace status --format json | grep -q '\"mode\": \"$1\"'"
	[ "$1" = trace ] || lab-await 300 "holding" "bootrace status | grep -q '^hold *attached'"
	sleep 5
}
processor() { systemctl show -P CPUUsageNSec bootrace.service; }
logged() { cat /var/lib/bootrace/*.jsonl | wc -c; }

activate() {
	local begin
	begin=$(now)
	lvchange -qq -ay "@n$n"
	udevadm settle -t 3600
	note activation_s "$(since "$begin")"
	[ "$(find /dev/vgs -type l | wc -l)" = "$n" ]
}
deactivate() {
	lvchange -qq -an "@n$n"
	udevadm settle -t 3600
}
measured() { # of the service, while the volumes come
	local before log
	before=$(processor) log=$(logged)
	activate
	sleep 2
	note processor_ns "$(($(processor) - before))"
	note log_bytes "$(($(logged) - log))"
}
memory() {
	local pid
	pid=$(systemctl show -P MainPID bootrace.service)
	note rss_kb "$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status")"
	bootrace status --format json >"/lab/out/status-$n-$mode.json" || [ $? = 5 ]
}

systemctl stop bootrace
n=${sizes%% *} mode=first
activate # what is done once for all is done now
deactivate
for n in $sizes; do
	say "$n volumes without bootrace"
	mode=without
	systemctl stop bootrace
	activate
	deactivate
	for mode in trace enforce; do
		say "$n volumes, $mode mode"
		service "$mode"
		measured
		memory
		deactivate
	done
	say "$n guests held"
	mode=held
	service enforce
	for i in $(seq "$n"); do held "held-$n-v$i" "v$i" & done
	lab-await 1800 "all of them to be held" "bootrace status --format json | grep -q '\"holding\": $n\\b'"
	sleep 5
	before=$(processor)
	sleep "$idle"
	note idle_share "$(awk -v ns="$(($(processor) - before))" -v s="$idle" 'BEGIN { print ns / 1e9 / s }')"
	measured
	wait
	memory
	deactivate
done
cp "$(bootrace status --format json | sed -n 's/^ *"log": "\(.*\)",*$/\1/p')" /lab/out/trace.jsonl
say "done"
