/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */

/* Symbolic links under /dev: udev making the names that guests open. systemd
 * up to 252 makes a new link in place; later ones, and all that replace one,
 * make it under a temporary name and rename it. */

#pragma once

/* wanted_link decides by the name of a link. Most that udev makes are those of
 * terminals, under /dev/char: no character device is a disk. */
static __always_inline bool wanted_link(const void *path)
{
	struct {
		__u64 first; /* "/dev/cha" */
		__u16 next; /* "r/" */
	} head = {};

	/* Not there yet: decide at the exit. */
	if (bpf_probe_read_user(&head.first, sizeof(head.first), path))
		return true;
	if (head.first != 0x6168632f7665642fULL)
		return in_dev(head.first);
	return bpf_probe_read_user(&head.next, sizeof(head.next), path + sizeof(head.first)) || head.next != 0x2f72;
}

static __always_inline int link_enter(__u32 op, unsigned long from, unsigned long path)
{
	struct call c = { .kind = CALL_LINK, .op = op, .arg = (const void *)path, .arg2 = (const void *)from };

	if (!wanted_link(c.arg) || (op == LINK_RENAME && !wanted_link(c.arg2)))
		return 0;
	call_enter(&c, KIND_LINK);
	return 0;
}

static __always_inline int link_exit(long ret)
{
	struct link_event *e;
	struct call c;

	if (!call_exit(&c, CALL_LINK) || ret || !wanted_link(c.arg))
		return 0;
	e = reserve(KIND_LINK, sizeof(*e));
	if (!e)
		return 0;
	fill_header(&e->h, KIND_LINK, c.from, ret);
	e->op = c.op;
	e->pad = 0;
	e->path[0] = e->from[0] = 0;
	bpf_probe_read_user_str(e->path, sizeof(e->path), c.arg);
	bpf_probe_read_user_str(e->from, sizeof(e->from), c.arg2);
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

/* user_name returns where the caller has the name. */
static __always_inline unsigned long user_name(unsigned long name, bool by_filename)
{
	if (by_filename)
		return (unsigned long)BPF_CORE_READ((struct filename *)name, uptr);
	return name;
}

/* The registers at a kprobe. A kernel of arm64 has other ones, and no di. */
struct pt_regs___arm64 {
	unsigned long regs[31];
} __attribute__((preserve_access_index));

#define ARGUMENT(ctx, n, x86)                       \
	(bpf_core_field_exists((ctx)->di) ?         \
		 BPF_CORE_READ(ctx, x86) :          \
		 BPF_CORE_READ((struct pt_regs___arm64 *)(ctx), regs[n]))

#define RESULT(ctx) ARGUMENT(ctx, 0, ax)

/* do_symlinkat(from, int newdfd, to) */
SEC("kprobe/do_symlinkat")
int probe_enter_symlink(struct pt_regs *ctx)
{
	return link_enter(LINK_SYMLINK, user_name(ARGUMENT(ctx, 0, di), symlink_by_filename),
			  user_name(ARGUMENT(ctx, 2, dx), symlink_by_filename));
}

/* do_renameat2(int olddfd, from, int newdfd, to, unsigned int flags) */
SEC("kprobe/do_renameat2")
int probe_enter_rename(struct pt_regs *ctx)
{
	return link_enter(LINK_RENAME, user_name(ARGUMENT(ctx, 1, si), rename_by_filename),
			  user_name(ARGUMENT(ctx, 3, cx), rename_by_filename));
}

/* For the returns of both. */
SEC("kretprobe/do_symlinkat")
int probe_exit_link(struct pt_regs *ctx)
{
	return link_exit((int)RESULT(ctx));
}
