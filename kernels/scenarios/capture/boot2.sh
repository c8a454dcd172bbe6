#!/bin/sh
# The demo's host has rebooted, and was traced. It is captured while its guests run.
set -eu

for guest in db-b shop-c; do
	lab-await 120 "guest $guest to boot from its volume" "grep -qs '$guest runs' /run/guest-$guest.console"
done
lab-await 60 "the service to write down what the early one saw" '[ -e /run/bootrace/flushed ]'

# What must not be in a capture: a guest's data, what lies in a folder that is left out,
# and secrets.
echo marker-in-a-volume | dd of=/dev/vg0/db-b bs=1 seek=1048576 conv=notrunc,fsync status=none
mkdir -p /srv/data
echo marker-in-a-folder >/srv/data/file
echo 'password = marker-password' >/etc/agent.conf
printf -- '-----BEGIN PRIVATE KEY-----\nmarker-key\n' >/etc/agent.pem
vgcfgbackup -qq -f /run/before vg0

strace -f -qq --seccomp-bpf -e trace=open,openat -o /run/opens bootrace capture -o /lab/out/host.tar.zst >/lab/out/capture.txt
cat /lab/out/capture.txt
grep '"/dev/vd' /run/opens >/lab/out/opens.txt
vgcfgbackup -qq -f /run/after vg0
grep -v -e '^creation_time' -e '^description' -e '^#' /run/before >/run/before.text
grep -v -e '^creation_time' -e '^description' -e '^#' /run/after | cmp /run/before.text -
if bootrace capture -o /lab/out/host.tar.zst; then
	echo "a second capture wrote over the first one" >&2
	exit 1
fi
