#!/bin/bash
# dracut module: starts bootrace in an initramfs with systemd in it, so that it
# sees the volume groups that come up there. Sourced by dracut. Whatever is
# missing, the initramfs is made without bootrace, and the host boots as before.
# shellcheck disable=SC2154 # dracut sets initdir and systemdsystemunitdir

check() {
	# Where nobody enabled the service, none would take over what starts early.
	[ -L /etc/systemd/system/sysinit.target.wants/bootrace.service ] || return 1
	[ -x @LIBEXECDIR@/bootraced ] && [ -r @UNITDIR@/bootrace-early.service ]
}

install() {
	# Without systemd nothing would start it, nor spare it at the switch of root.
	if ! dracut_module_included systemd; then
		dwarn "bootrace: no systemd in this initramfs; tracing starts in the host's root instead"
		return 0
	fi
	# A crash kernel's memory is for the dump.
	if dracut_module_included kdumpbase; then return 0; fi
	inst @LIBEXECDIR@/bootraced || return 0
	local config
	for config in /etc/bootrace/config.yaml /etc/bootrace/config.d/*.yaml; do
		[ -r "$config" ] && inst_simple "$config"
	done
	inst_simple @UNITDIR@/bootrace-early.service "$systemdsystemunitdir/bootrace-early.service"
	mkdir -p "$initdir$systemdsystemunitdir/sysinit.target.wants"
	ln -sfn ../bootrace-early.service "$initdir$systemdsystemunitdir/sysinit.target.wants/bootrace-early.service"
}
