#!/bin/sh
# A person's first ten minutes with bootrace, as far as they need no reboot: what the
# README says under "Use it on a host", below a root of its own and on a boot that was
# recorded elsewhere. `make build` comes first; nothing of this machine is changed.
set -eu
cd "$(dirname "$0")/.."
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
PATH=$root/usr/sbin:$PATH
export PATH LC_ALL=C.UTF-8

# expect STATUS COMMAND...: run it, show the beginning of what it says, and fail
# where it ends otherwise.
expect() {
	want=$1
	shift
	printf '\n$ %s\n' "$*"
	got=0
	"$@" >"$root/out" 2>&1 || got=$?
	head -n 12 "$root/out"
	[ "$got" = "$want" ] && return
	echo "first-minutes: it ended with status $got, and not $want: $*" >&2
	exit 1
}

# says TEXT: the last command said that.
says() {
	grep -qF -- "$1" "$root/out" && return
	echo "first-minutes: the last command did not say: $1" >&2
	cat "$root/out" >&2
	exit 1
}

expect 0 make --no-print-directory install DESTDIR="$root" INITRAMFS=yes DRACUT=yes LIBVIRT=yes
expect 0 bootrace version
expect 0 bootrace help races
[ -s "$root/usr/share/man/man8/bootrace-races.8" ] || { echo "first-minutes: no manual page was installed" >&2; exit 1; }

# Can this host be traced? Both answers are good here; to have none is not.
printf '\n$ bootrace check\n'
bootrace check >"$root/out" 2>&1 || [ $? = 3 ] || { cat "$root/out" >&2; exit 1; }
head -n 12 "$root/out"
says traced

# The boot, with a guest that came before its disk.
state=$root/var/lib/bootrace
mkdir -p "$state"
for log in race clean; do
	id=$(sed -n '1s/.*"boot_id":"\([^"]*\)".*/\1/p' cmd/bootrace/testdata/logs/$log.jsonl)
	cp cmd/bootrace/testdata/logs/$log.jsonl "$state/$id.jsonl"
	[ $log = race ] && bad=$id
	[ $log = clean ] && good=$id
done
expect 3 bootrace boots --state-dir "$state"
says "$(echo "$bad" | cut -c1-8)"
expect 3 bootrace races --state-dir "$state" "$bad"
says "guest web-a opened /dev/vg0/web-a"
says "To do:"
says "systemctl reload bootrace"
expect 3 bootrace races --guest web-a --kind missing --state-dir "$state" "$bad"
expect 3 bootrace show --state-dir "$state" "$bad"
expect 0 bootrace events --state-dir "$state" "$bad" 20
expect 0 bootrace races --state-dir "$state" "$good"

# To show it to somebody.
expect 0 bootrace export --state-dir "$state" -o "$root/boot.html" "$bad"
expect 0 bootrace export --state-dir "$state" -o "$root/boot.pftrace" "$bad"
expect 0 bootrace export --state-dir "$state" -o "$root/boots.html" "$bad" "$good"
expect 0 bootrace metrics --state-dir "$state" "$bad"
says 'bootrace_boot_outcome{outcome="failed"} 1'
expect 0 bootrace report --state-dir "$state" --anonymize -o "$root/report.tar.zst"
expect 3 bootrace races "$root/report.tar.zst:$bad"

# And then: enforce.
config=$root/etc/bootrace/config.yaml
echo "mode: enforce" | install -D -m 644 /dev/stdin "$root/etc/bootrace/config.d/50-enforce.yaml"
expect 0 bootrace check --config "$config"
expect 0 bootrace config --config "$config"
says "mode: enforce"
echo "enforce: {deadline: 80}" | install -D -m 644 /dev/stdin "$root/etc/bootrace/config.d/60-typo.yaml"
expect 1 bootrace check --config "$config"
says "60-typo.yaml: line 1: 80: a duration needs a unit, such as 80s"
rm "$root/etc/bootrace/config.d/60-typo.yaml"

# `systemctl reload bootrace` is what the unit says it is, and systemd takes the unit.
grep -q '^ExecReload=/bin/kill -HUP' "$root/usr/lib/systemd/system/bootrace.service" || { echo "first-minutes: bootrace.service can't be reloaded" >&2; exit 1; }
if command -v systemd-analyze >/dev/null && systemd-analyze --help | grep -q -- --root; then
	printf '\n$ systemd-analyze verify bootrace.service\n'
	systemd-analyze verify --man=no --recursive-errors=no --root="$root" bootrace.service >"$root/out" 2>&1 || :
	if grep -E 'bootrace[a-z-]*\.service:[0-9]+:' "$root/out"; then
		echo "first-minutes: systemd does not take all of that" >&2
		exit 1
	fi
fi

expect 0 make --no-print-directory uninstall DESTDIR="$root"
if [ -e "$root/usr/sbin/bootrace" ]; then
	echo "first-minutes: uninstall left the program" >&2
	exit 1
fi
printf '\nThat is all.\n'
