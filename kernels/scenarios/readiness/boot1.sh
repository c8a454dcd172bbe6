#!/bin/bash
# What `bootrace wait` says of a disk in each state that it can be in, and when
# it goes on. One boot serves all.
set -eu

failures=0
say() { echo "== $*"; }
settle() { udevadm settle --timeout=60; }
fail() {
	echo "FAIL: $*"
	failures=$((failures + 1))
}

state() { # PATH: what it waits for now, or ready
	local out kind
	for _ in $(seq 20); do # on a busy machine the time can be over before it has looked
		out=$(bootrace wait --raw --json --timeout 300ms "$1" 2>/dev/null) && { echo ready; return; }
		kind=$(sed -n 's/^ *"kind": "\(.*\)",$/\1/p' <<<"$out" | head -1)
		[ -z "$kind" ] || break
	done
	echo "$kind"
}

expect() { # WHAT PATH WANT
	local got
	got=$(state "$2")
	echo "$1: $got"
	[ "$got" = "$3" ] || fail "$1: $got, want $3"
}

waiter() { # NAME PATH...: waits in the background
	local name=$1
	shift
	rm -f "/run/$name.done"
	{
		bootrace wait --timeout 10m "$@"
		echo $? >"/run/$name.done"
	} &
}

waits() { # NAME
	sleep 1
	[ ! -e "/run/$1.done" ] || fail "$1: ended too early, with $(cat "/run/$1.done")"
}

goes_on() { # NAME
	for _ in $(seq 600); do
		[ -e "/run/$1.done" ] && break
		sleep 0.2
	done
	[ "$(cat "/run/$1.done" 2>/dev/null)" = 0 ] || fail "$1: did not go on: $(cat "/run/$1.done" 2>/dev/null || echo waits)"
}

vgcreate -qq --setautoactivation n vg0 /dev/vdb /dev/vdc
lv() { lvcreate -qq -y -an -Wn -Zn -L 8M -n "$1" vg0; }
up() { lvchange -qq -ay "vg0/$1"; }
down() { lvchange -qq -an "vg0/$1"; }
table() { echo "0 16384 linear /dev/vdd $1"; }

say "a mapping from its creation to its end"
expect "nothing" /dev/mapper/plain missing
dmsetup create --notable plain
settle
expect "created" /dev/mapper/plain no-table
dmsetup load plain --table "$(table 2048)"
settle
expect "loaded" /dev/mapper/plain no-table
waiter plain --raw /dev/mapper/plain
waits plain
udevadm control --stop-exec-queue
dmsetup --noudevsync resume plain
expect "live, not handled by udev" /dev/mapper/plain udev
waits plain
udevadm control --start-exec-queue
goes_on plain
settle
expect "ready" /dev/mapper/plain ready
udevadm trigger --subsystem-match=block --action=change
expect "ready, while udev looks again" /dev/mapper/plain ready
settle
dmsetup suspend plain
expect "suspended" /dev/mapper/plain suspended
waiter suspended --raw /dev/mapper/plain
waits suspended
dmsetup resume plain
goes_on suspended
dmsetup remove plain
settle
expect "removed" /dev/mapper/plain missing
dmsetup create other --table "$(table 4096)"
settle
expect "another has its number" /dev/mapper/plain missing
dmsetup create plain --table "$(table 2048)"
settle
expect "made again, with another number" /dev/mapper/plain ready
dmsetup remove other
dmsetup remove plain

say "a logical volume: down and up, removed and made again"
lv web
expect "inactive" /dev/vg0/web missing
waiter web --raw /dev/vg0/web /dev/vg0/web
up web
goes_on web
expect "active" /dev/vg0/web ready
waiter gone --raw /dev/vg0/later
waits gone
lvremove -qq -y vg0/web
lv later
up later
goes_on gone
down later
lv web
waiter again --raw /dev/vg0/web
waits again
up web
goes_on again

say "a snapshot of an active volume, and its private layers"
lvcreate -qq -y -s -L 4M -n snap vg0/web
settle
expect "origin" /dev/vg0/web ready
expect "snapshot" /dev/vg0/snap ready
expect "layer" /dev/mapper/vg0-web-real private
lvremove -qq -y vg0/snap
down web

say "paths that are no mapping"
touch /run/file
ln -s /dev/vg0/web /run/link
expect "file" /run/file ready
expect "disk" /dev/vdb ready
expect "link to a volume" /run/link missing
up web
expect "link to a volume, active" /run/link ready
down web

say "no udev"
systemctl stop -q systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udevd.service
DM_DISABLE_UDEV=1 dmsetup create alone --table "$(table 2048)"
expect "nobody to wait for" /dev/mapper/alone ready
DM_DISABLE_UDEV=1 dmsetup remove alone
systemctl start -q systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udevd.service
settle

say "a chain of three images that come up in each order"
for n in top mid base; do
	lv "$n"
	up "$n"
done
qemu-img create -q -f qcow2 /dev/vg0/base 4M
qemu-img create -q -f qcow2 -F qcow2 -b /dev/vg0/base /dev/vg0/mid
qemu-img create -q -f qcow2 -F qcow2 -b mid /dev/vg0/top
for order in "top mid base" "base mid top" "mid base top" "mid top base"; do
	for n in top mid base; do down "$n"; done
	settle
	waiter chain /dev/vg0/top
	for n in $order; do
		waits chain
		up "$n"
	done
	goes_on chain
	echo "$order: went on with the last"
done
bootrace wait --json /dev/vg0/top >/lab/out/chain.json

say "twelve that wait for four"
for n in 1 2 3 4; do lv "many$n"; done
for n in $(seq 12); do waiter "many$n" --raw "/dev/vg0/many$((n % 4 + 1))"; done
sleep 5
up many3
up many1
settle
for n in $(seq 12); do
	case $((n % 4 + 1)) in
	3 | 1) goes_on "many$n" ;;
	*) [ ! -e "/run/many$n.done" ] || fail "many$n: went on for another's volume" ;;
	esac
done
up many4
up many2
for n in $(seq 12); do goes_on "many$n"; done

bootrace show --format json >/lab/out/trace.json || [ $? -ge 3 ] # what it comes to is for the test to say
echo "$failures failures"
exit $((failures > 0))
