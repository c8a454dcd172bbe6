// Package histories reads a boot that a person wrote down: a text with a line for
// each event, from which a timeline can be judged without a host. The tests of
// the timeline are written in it, and so can be any report of a wrong verdict:
//
//	TIME KIND WORD... KEY=VALUE...
//
// TIME is seconds since the boot, or FROM..AT where an instant is only known as a
// window. KIND is a kind of event as in a log. An empty line, and one that begins
// with "#", says nothing.
//
//	0.1 sources
//	1.0 activate lv=vg/a dev=253:0
//	2.0 exec pid=100 args: qemu-system-x86_64 -name vm -drive file=/dev/vg/a
//	2.1..2.2 open pid=100 /dev/vg/a dev=253:0 flags=O_RDWR,O_DIRECT
//	2.5 open pid=100 /dev/vg/b ENOENT
//	3 exit pid=100 status=1
//	60 lvm vg/b skip=1
//
// # Kinds
//
// Each kind with all words that it takes, those in brackets if need be, and values as
// examples. A test compares them with what is read.
//
//	sources
//	source ebpf attached [abilities=exec,open,-link] [why=the_kernel_has_no_BTF]
//	loss ebpf open [count=3] [uid=1000] [pid=100]
//	mark stop [text=orderly]
//	policy trace [inspect=on] [deadline=80s] [longest=5s] [on-timeout=deny] [filesystem=hold] [programs=/usr/bin/qemu-*] [spare=vm2]
//
//	exec pid=100 [parent=1] [binary=/usr/bin/kvm] [truncated=1] [holds=/dev/vg/a@253:0] [args: qemu-system-x86_64 -name vm]
//	fork pid=101 parent=100
//	exit pid=100 [parent=1] [status=1] [signal=9]
//	open pid=100 /dev/vg/a [ENOENT] [parent=1] [comm=qemu-system-x86] [dev=253:0] [type=block] [size=1024] [flags=O_RDWR,O_DIRECT] [args: qemu-system-x86_64]
//	way pid=100 /srv/vm/a /dev/dm-0 [ENOENT] [links=/srv/vm/a>/dev/dm-0] [type=file] [dev=253:0] [mount=/srv]
//	image pid=100 disk=/srv/a.qcow2 [cut=too_many]
//	member path=/srv/base.raw [role=backing] [over=0] [format=raw] [state=absent] [why=it_is_encrypted]
//	domain vm [pid=100] [uuid=6c1b] [phase=starts] [disks=/dev/vg/a,/dev/vg/b]
//
//	hold pid=100 [parent=1] [guest=vm] [identity=name:vm] [disk=/dev/vg/a] [blockers=/dev/vg/a] [reason=waits] [deadline=82] [outcome=allowed] [hook=1]
//	release pid=100 [parent=1] [guest=vm] [identity=name:vm] [disk=/dev/vg/a] [blockers=/dev/vg/a] [reason=ready] [deadline=82] [outcome=allowed] [hook=1]
//
//	activate lv=vg/a dev=253:0 [links=/dev/vg/a,/dev/mapper/vg-a] [size=1024] [pid=50] [parent=1] [comm=vgchange]
//	dm_create [lv=vg/a] [name=vg-a] [uuid=LVM-1] [dev=253:0] [table=0_8_linear_8:0_0] [size=1024] [live=1.5] [state=live] [flags=32] [errno=6] [new=vg-b] [newuuid=LVM-2] [pid=50] [parent=1] [comm=vgchange] [args: vgchange -ay]
//	uevent add sda [dev=8:0] [seq=900] [since=1.2] [links=/dev/disk/by-id/a] [under=8:16,8:32] [lv=vg/a] [ID_SERIAL=a] [sys.size=8]
//	udev add sda [dev=8:0] [seq=900] [since=1.2] [links=/dev/disk/by-id/a] [under=8:16,8:32] [lv=vg/a] [ID_SERIAL=a] [sys.size=8]
//	link /dev/vg/a ../dm-0
//	mount /srv [/dev/vg/srv] [action=unmounted] [dev=253:0] [fstype=xfs] [uuid=6c1b] [unit=srv.mount]
//	lvm vg/a [not-found] [skip=1] [noauto=1] [missing=1] [health=partial] [lock=sanlock] [exported=1] [pool=thin] [tags=a,b] [owner=hostb] [clustered=1] [same=2] [damaged=its_text] [pvs=/dev/sda@8:0,/dev/sdb@8:16@duplicate,/dev/sdc@@missing] [why=lvs_failed]
//	lvm config devices/use_devicesfile=1
//
//	backfill guest pid=100 [parent=1] [binary=/usr/bin/kvm] [truncated=1] [holds=/dev/vg/a@253:0] [args: qemu-system-x86_64 -name vm]
//	backfill dm [lv=vg/a] [name=vg-a] [uuid=LVM-1] [dev=253:0] [table=0_8_linear_8:0_0] [size=1024] [live=1.5] [state=live] [flags=32] [errno=6] [new=vg-b] [newuuid=LVM-2]
//	backfill sda [dev=8:0] [seq=900] [since=1.2] [links=/dev/disk/by-id/a] [under=8:16,8:32] [lv=vg/a] [ID_SERIAL=a] [sys.size=8]
//
//	memory guest=vm [pid=100] [accepted=1]
//	remembered path=/dev/vg/a [id=6c1b] [serial=S1] [backing_of=/dev/vg/b] [lv=vg/a] [name=vg-a] [uuid=LVM-1] [size=1024] [table=0_8_linear_8:0_0] [kind=mapping] [mount=/srv] [before=1]
//	kept xfs [uuid=6c1b] [needs=4096] [has=4096] [generation=7] [boot=b1] [short=b1]
//	inside /dev/vg/a [guest=vm] [pid=100] [live=1] [dev=253:0] [lv=vg/a] [cut=too_many] [why=it_could_not_be_read]
//	layer xfs [over=0] [name=p1] [uuid=6c1b] [needs=4096] [has=1024] [state=dirty] [damage=superblock] [at=512] [copy=1] [absent=2048] [generation=7] [why=it_is_encrypted]
//
//	unknown later-kind
//
// dm_load, dm_resume, dm_suspend, dm_rename and dm_remove have the words of dm_create.
// "lvm vg/b no-group" is a volume of a group that LVM does not find, either.
// "sources" is all sources attached. "activate" is what vgchange and udev do to one
// volume: live after 4 ms, the links made after 8, ready after 10. "remembered" and
// "member" add to the memory or image before them, "layer" to the look into a disk
// ("inside"), "kept" to the disk remembered before it. "unknown" is an event of a kind
// that this version does not have.
//
// An exec is one of qemu unless binary= names another program; an open without flags=
// reads only; what has no size= has 1 GiB. lv=VG/LV[/LAYER] stands for the name and the
// uuid that LVM gives a mapping. In the values of table=, reason=, why=, cut=, damage=
// and damaged= a "_" is a blank. A property of udev is KEY=VALUE with a key in capitals,
// an attribute in sysfs sys.KEY=VALUE, and under= lists the devices beneath one. "-" before
// an ability means that the source lacks it. In a policy the rest is as without a
// configuration, and spare= is a guest that is not held.
package histories
