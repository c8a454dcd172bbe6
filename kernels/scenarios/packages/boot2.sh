#!/bin/sh
# The host has rebooted, and guest web-a does not run: nobody knows why. Its operator
# takes the package, and does what the README says.
set -eu
not() { if "$@"; then echo "not expected: $*" >&2; exit 1; fi; }
here=/lab/share/scenario packages=/opt/packages

lab-await 120 "guest db-b to boot from its volume" "grep -qs 'db-b runs' /run/guest-db-b.console"
not grep -qs 'web-a runs' /run/guest-web-a.console
sh $here/tree > /var/tmp/before.txt

export DEBIAN_FRONTEND=noninteractive
apt-get install -qq -y $packages/old.deb
not systemctl is-enabled bootrace.service
not systemctl is-active bootrace.service
bootrace version
bootrace check || [ $? -le 3 ]

systemctl enable --now bootrace
update-initramfs -u
lsinitramfs /boot/initrd.img-* | grep -q bootraced
systemctl is-active bootrace.service
cp /boot/initrd.img-* /lab/out/initrd
