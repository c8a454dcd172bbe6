/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */

/* Symbolic links under /dev: udev making the names that guests open. systemd
 * up to 252 makes a new link in place; later ones, and all that replace one,
 * make it under a temporary name and rename it. */

#pragma once

/* In call.flags: the names are in the kernel's memory, not the caller's. */
#define NAMES_IN_KERNEL 1

static __always_inline long read_head(void *to, const __u32 size, const void *name, __u32 flags)
{
	if (flags & NAMES_IN_KERNEL)
		return bpf_probe_read_kernel(to, size, name);
	return bpf_probe_read_user(to, size, name);
}

static __always_inline void read_link(char *to, const void *name, __u32 flags)
{
	to[0] = 0;
	if (flags & NAMES_IN_KERNEL)
		bpf_probe_read_kernel_str(to, LINK_LEN, name);
	else
		bpf_probe_read_user_str(to, LINK_LEN, name);
}

/* wanted_link decides by the name of a link. Most that udev makes are those of
 * terminals, under /dev/char: no character device is a disk. */
static __always_inline bool wanted_link(const void *path, __u32 flags)
{
	struct {
		__u64 first; /* "/dev/cha" */
		__u16 next; /* "r/" */
	} head = {};

	/* Not there yet: decide at the exit. */
	if (read_head(&head.first, sizeof(head.first), path, flags))
		return true;
	if (head.first != 0x6168632f7665642fULL)
		return in_dev(head.first);
	return read_head(&head.next, sizeof(head.next), path + sizeof(head.first), flags) || head.next != 0x2f72;
}

static __always_inline int link_enter_names(__u32 op, const void *from, const void *path, __u32 flags)
{
	struct call c = { .kind = CALL_LINK, .op = op, .arg = path, .arg2 = from, .flags = flags };

	if (!wanted_link(c.arg, flags) || (op == LINK_RENAME && !wanted_link(c.arg2, flags)))
		return 0;
	call_enter(&c, KIND_LINK);
	return 0;
}

static __always_inline int link_enter(__u32 op, unsigned long from, unsigned long path)
{
	return link_enter_names(op, (const void *)from, (const void *)path, 0);
}

static __always_inline int link_exit(long ret)
{
	struct link_event *e;
	struct call c;

	if (!call_exit(&c, CALL_LINK) || ret || !wanted_link(c.arg, c.flags))
		return 0;
	/* root's are udev's; other users have /dev/shm. */
	if (!may_tell(KIND_LINK, !(__u32)bpf_get_current_uid_gid()))
		return 0;
	e = reserve(KIND_LINK, sizeof(*e));
	if (!e)
		return 0;
	fill_header(&e->h, KIND_LINK, c.from, ret);
	e->op = c.op;
	e->pad = 0;
	read_link(e->path, c.arg, c.flags);
	read_link(e->from, c.arg2, c.flags);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_symlink")
int enter_symlink(struct sys_enter *ctx)
{
	return link_enter(LINK_SYMLINK, ctx->args[0], ctx->args[1]);
}

SEC("tracepoint/syscalls/sys_enter_symlinkat")
int enter_symlinkat(struct sys_enter *ctx)
{
	return link_enter(LINK_SYMLINK, ctx->args[0], ctx->args[2]);
}

SEC("tracepoint/syscalls/sys_enter_rename")
int enter_rename(struct sys_enter *ctx)
{
	return link_enter(LINK_RENAME, ctx->args[0], ctx->args[1]);
}

/* And renameat2. */
SEC("tracepoint/syscalls/sys_enter_renameat")
int enter_renameat(struct sys_enter *ctx)
{
	return link_enter(LINK_RENAME, ctx->args[1], ctx->args[3]);
}

/* For the exits of all five. */
SEC("tracepoint/syscalls/sys_exit_symlink")
int exit_link(struct sys_exit *ctx)
{
	return link_exit(ctx->ret);
}

/* Set before loading: whether the functions below get names that the kernel has
 * already read (struct filename: do_renameat2 since Linux 5.11, do_symlinkat
 * since 5.15), or the caller's pointers. */
volatile const bool symlink_by_filename;
volatile const bool rename_by_filename;

static __always_inline int function_enter(__u32 op, unsigned long from, unsigned long path, bool by_filename)
{
	struct filename *f = (struct filename *)from, *p = (struct filename *)path;

	if (!by_filename)
		return link_enter(op, from, path);
	if (bpf_core_field_exists(f->uptr))
		return link_enter_names(op, BPF_CORE_READ(f, uptr), BPF_CORE_READ(p, uptr), 0);
	/* Since Linux 7.0 it does not tell where the caller has the name, but lives
	 * on until the system call ends. */
	return link_enter_names(op, BPF_CORE_READ(f, name), BPF_CORE_READ(p, name), NAMES_IN_KERNEL);
}

/* do_symlinkat(from, int newdfd, to), since Linux 7.0 filename_symlinkat */
SEC("kprobe/do_symlinkat")
int probe_enter_symlink(struct pt_regs *ctx)
{
	return function_enter(LINK_SYMLINK, ARGUMENT(ctx, 0, di), ARGUMENT(ctx, 2, dx), symlink_by_filename);
}

/* do_renameat2(int olddfd, from, int newdfd, to, unsigned int flags), since
 * Linux 7.0 filename_renameat2 */
SEC("kprobe/do_renameat2")
int probe_enter_rename(struct pt_regs *ctx)
{
	return function_enter(LINK_RENAME, ARGUMENT(ctx, 1, si), ARGUMENT(ctx, 3, cx), rename_by_filename);
}

/* For the returns of both. */
SEC("kretprobe/do_symlinkat")
int probe_exit_link(struct pt_regs *ctx)
{
	return link_exit((int)RESULT(ctx));
}
