#!/bin/sh
# The same disks after a reboot, activated where Debian does it: by udev in the
# initramfs.
set -ex
[ "$(cat /root/boot_id)" != "$(cat /proc/sys/kernel/random/boot_id)" ]
[ "$(lvs --noheadings -o lv_active vg/first | tr -d ' ')" = active ]
# A device's node is as old as the device: the boot's clock tells it from init.
mapped=$(udevadm info --query=property --property=USEC_INITIALIZED --value /dev/vg/first)
systemd=$(systemctl show --value --property=UserspaceTimestampMonotonic)
echo "first known to udev after $mapped us, systemd started after $systemd us"
[ "$mapped" -lt "$systemd" ]
echo "written in the machine" >/lab/out/result
exit 3
