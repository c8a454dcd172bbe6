# shellcheck shell=sh
# Run in the root of a new machine, in a chroot: sh -e -s KEY UNIT...
# KEY is 32 hexadecimal digits; the units are enabled.

echo lab >/etc/hostname
printf '127.0.0.1 localhost lab\n' >/etc/hosts
# Without an id, systemd takes the boot for an installation's first.
echo "$1" >/etc/machine-id
shift
printf 'UUID=%s / ext4 errors=remount-ro 0 0\n' 6c61622d-726f-4f74-a000-000000000001 >/etc/fstab

# Nobody logs in, and the clock of an emulated processor is no reason to clean up.
systemctl --quiet mask getty@.service serial-getty@.service \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
	e2scrub_all.timer e2scrub_reap.service fstrim.timer
systemctl --quiet enable lab.service "$@"

if command -v update-initramfs >/dev/null; then
	for modules in /lib/modules/*; do update-initramfs -c -k "${modules##*/}"; done
	exit
fi
# dracut's bash reads from /dev/fd, which leads to /proc.
mount -t proc proc /proc
trap 'umount /proc' EXIT
for modules in /lib/modules/*; do
	version=${modules##*/}
	dracut --quiet --force "/boot/initrd.img-$version" "$version"
done
