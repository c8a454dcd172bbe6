/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */

/* Device-mapper changes, from the entry and the exit of the ioctl on
 * /dev/mapper/control. On success the kernel has filled in name, uuid and
 * device by the exit, even if the caller gave only one of them. None of dm_mod's
 * types is needed.
 *
 * There are two kinds of probes. General ones see every ioctl of the host, those of
 * each virtual CPU too, and work before dm_mod is loaded. Those in dm_mod itself see
 * its requests only, and cost all others nothing: they take over once it is there.
 * Until the general ones are detached, both see a request. */

#pragma once

#define DM_IOCTL 0xfd
#define DM_CONTROL_MAJOR 10 /* misc */
#define DM_CONTROL_MINOR 236 /* MAPPER_CTRL_MINOR */

enum {
	DM_REMOVE_ALL = 1,
	DM_DEV_CREATE = 3,
	DM_DEV_REMOVE = 4,
	DM_DEV_RENAME = 5,
	DM_DEV_SUSPEND = 6,
	DM_TABLE_LOAD = 9,
};

#define DM_SUSPEND_FLAG (1 << 1)
#define DM_SECURE_DATA_FLAG (1 << 15)

struct dm_table {
	__u32 len;
	__u32 pad;
	char specs[TABLE_LEN];
};

/* Tables of the loads under way, keyed like calls. They are read at the entry:
 * with DM_SECURE_DATA_FLAG the kernel wipes the caller's copy. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u64);
	__type(value, struct dm_table);
} dm_tables SEC(".maps");

struct dm_buffer {
	struct dm_event e;
	char specs[TABLE_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dm_buffer);
} dm_buffers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dm_table);
} dm_table_buffers SEC(".maps");

static __always_inline bool dm_wanted(__u32 nr)
{
	switch (nr) {
	case DM_REMOVE_ALL:
	case DM_DEV_CREATE:
	case DM_DEV_REMOVE:
	case DM_DEV_RENAME:
	case DM_DEV_SUSPEND:
	case DM_TABLE_LOAD:
		return true;
	}
	return false;
}

/* is_control tells the device-mapper's control node from others that happen
 * to use the same ioctl numbers. */
static __always_inline bool is_control(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	__u32 dev = BPF_CORE_READ(inode, i_rdev);

	return (BPF_CORE_READ(inode, i_mode) & S_IFMT) == S_IFCHR &&
	       MAJOR(dev) == DM_CONTROL_MAJOR && MINOR(dev) == DM_CONTROL_MINOR;
}

/* read_specs copies up to TABLE_LEN bytes of target specs and returns how many
 * it got. In pieces, because the caller's buffer is mostly larger than its
 * table, and one page that was never touched would fail a single read. */
static __always_inline __u32 read_specs(char *to, const struct call *c)
{
	const char *from = (const char *)c->arg + c->data_start;
	__u32 have, i, n = 0;

	if (c->data_size <= c->data_start)
		return 0;
	have = c->data_size - c->data_start;
#pragma unroll
	for (i = 0; i < TABLE_LEN / TABLE_PIECE; i++) {
		__u64 want;

		if (have <= i * TABLE_PIECE)
			break;
		want = at_most(have - i * TABLE_PIECE, TABLE_PIECE);
		if (bpf_probe_read_user(to + i * TABLE_PIECE, want, from + i * TABLE_PIECE))
			break;
		n = i * TABLE_PIECE + want;
	}
	return n;
}

static __always_inline void keep_table(const struct call *c)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct dm_table *t;
	__u32 zero = 0;

	t = bpf_map_lookup_elem(&dm_table_buffers, &zero);
	if (!t)
		return;
	t->len = read_specs(t->specs, c);
	/* Full: the exit reads what the caller still has. */
	bpf_map_update_elem(&dm_tables, &id, t, BPF_ANY);
}

/* is_dm is the first question: nearly every ioctl is about something else. */
static __always_inline bool is_dm(__u32 cmd)
{
	return ((cmd >> 8) & 0xff) == DM_IOCTL && dm_wanted(cmd & 0xff);
}

static __always_inline void dm_enter(__u32 cmd, unsigned long arg, bool general)
{
	struct call c = { .kind = CALL_DM, .arg = (const void *)arg, .op = cmd & 0xff, .general = general };
	struct {
		__u32 data_size, data_start, targets, open_count, flags, event_nr;
	} in = {};

	/* What the kernel overwrites on its way back. */
	bpf_probe_read_user(&in, sizeof(in), c.arg + __builtin_offsetof(struct dm_ioctl, data_size));
	c.data_size = in.data_size;
	c.data_start = in.data_start;
	c.targets = in.targets;
	c.flags = in.flags;
	c.cookie = in.event_nr;
	if (c.op == DM_TABLE_LOAD)
		keep_table(&c);
	call_enter(&c, KIND_DM);
}

SEC("tracepoint/syscalls/sys_enter_ioctl")
int enter_ioctl(struct sys_enter *ctx)
{
	if (is_dm(ctx->args[1]) && is_control(file_of(ctx->args[0])))
		dm_enter(ctx->args[1], ctx->args[2], true);
	return 0;
}

/* security_file_ioctl(struct file *file, unsigned int cmd, unsigned long arg):
 * the system call's own first step, and its only one on the way in. */
static __always_inline int function_ioctl(struct file *file, __u32 cmd, unsigned long arg)
{
	if (is_dm(cmd) && is_control(file))
		dm_enter(cmd, arg, true);
	return 0;
}

SEC("fentry/security_file_ioctl")
int fast_enter_ioctl(function_args *ctx)
{
	return function_ioctl((struct file *)ctx[0], ctx[1], ctx[2]);
}

SEC("kprobe.multi/security_file_ioctl")
int probe_enter_ioctl(struct pt_regs *ctx)
{
	__u32 cmd = ARGUMENT(ctx, 1, si);

	/* Before the other registers are read: nearly all end here. */
	if (!is_dm(cmd))
		return 0;
	return function_ioctl((struct file *)ARGUMENT(ctx, 0, di), cmd, ARGUMENT(ctx, 2, dx));
}

/* take_table moves the table of this thread's load into the event. */
static __always_inline void take_table(struct dm_buffer *b, const struct call *c)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct dm_table *t = bpf_map_lookup_elem(&dm_tables, &id);
	__u32 want = c->data_size > c->data_start ? c->data_size - c->data_start : 0;

	b->e.table_size = want;
	b->e.table_len = 0;
	if (t) {
		b->e.table_len = t->len;
		bpf_probe_read_kernel(b->specs, sizeof(b->specs), t->specs);
		bpf_map_delete_elem(&dm_tables, &id);
	}
	/* By now the kernel has touched all of it. */
	if (b->e.table_len < at_most(want, TABLE_LEN) && !(c->flags & DM_SECURE_DATA_FLAG))
		b->e.table_len = read_specs(b->specs, c);
}

static __always_inline void read_caller_args(struct dm_event *e)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	__u64 n = at_most(BPF_CORE_READ(task, mm, arg_end) - start, CALLER_ARGS);

	e->args_len = 0;
	if (!bpf_probe_read_user(e->args, n, (const void *)start))
		e->args_len = n;
}

/* learn takes what other probes need from a request that succeeded. */
static __always_inline void learn(const struct dm_event *e)
{
	__u32 major = (e->io.dev >> 8) & 0xfff;
	__u32 minor = (e->io.dev & 0xff) | ((e->io.dev >> 12) & 0xfff00);
	__u32 dev = major << 20 | minor;

	if (!major)
		return;
	if (dm_major != major)
		dm_major = major;
	if (e->nr == DM_DEV_CREATE || e->nr == DM_DEV_SUSPEND)
		bpf_map_delete_elem(&opened, &dev);
}

static __always_inline int dm_exit(long ret)
{
	struct dm_buffer *b;
	struct call c;
	__u32 zero = 0;

	if (!call_exit(&c, CALL_DM))
		return 0;
	b = bpf_map_lookup_elem(&dm_buffers, &zero);
	if (!b)
		return 0;
	b->e.live = c.live;
	b->e.nr = c.op;
	b->e.flags_in = c.flags;
	b->e.cookie = c.cookie;
	b->e.targets = c.targets;
	b->e.table_len = b->e.table_size = 0;
	b->e.new_name[0] = 0;
	bpf_probe_read_user(&b->e.io, sizeof(b->e.io), c.arg);
	if (c.op == DM_DEV_RENAME)
		bpf_probe_read_user_str(b->e.new_name, 129, c.arg + c.data_start);
	if (c.op == DM_TABLE_LOAD)
		take_table(b, &c);
	if (!ret)
		learn(&b->e);
	read_caller_args(&b->e);
	fill_header(&b->e.h, KIND_DM, c.from, ret);
	emit(KIND_DM, b, sizeof(b->e) + at_most(b->e.table_len, TABLE_LEN));
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_ioctl")
int exit_ioctl(struct sys_exit *ctx)
{
	return dm_exit(ctx->ret);
}

/* The system call itself, __x64_sys_ioctl. */
SEC("fexit/sys_ioctl")
int fast_exit_ioctl(function_args *ctx)
{
	return dm_exit(ctx[1]);
}

SEC("kprobe.multi/sys_ioctl")
int probe_exit_ioctl(struct pt_regs *ctx)
{
	return any_call() ? dm_exit(RESULT(ctx)) : 0;
}

/* dm_ctl_ioctl(struct file *file, unsigned int cmd, unsigned long arg) in dm_mod, which has had
 * this name and been called by its address from Linux 3.10 to 7.2. */
SEC("kprobe/dm_ctl_ioctl")
int request_enter(struct pt_regs *ctx)
{
	__u32 cmd = ARGUMENT(ctx, 1, si);
	unsigned long arg = ARGUMENT(ctx, 2, dx);
	struct call *c;

	if (!is_dm(cmd))
		return 0;
	c = this_call();
	if (c && c->kind == CALL_DM && c->general && c->op == (cmd & 0xff) && c->arg == (const void *)arg)
		return 0; /* the general probes have seen it */
	dm_enter(cmd, arg, false);
	return 0;
}

SEC("kretprobe/dm_ctl_ioctl")
int request_exit(struct pt_regs *ctx)
{
	return any_call() ? dm_exit((int)RESULT(ctx)) : 0;
}

/* The instant at which a table is live and I/O flows: after the swap of the
 * tables, before the uevent. That is when dm_kobject_uevent is called, which
 * announces it, and when dm_resume returns just before. Both are static in dm.c
 * or inside dm_mod, but not inlined on any kernel from 3.10 to 7.2, and have the
 * same name everywhere. */
SEC("kprobe/dm_kobject_uevent")
int live(void *ctx __attribute__((unused)))
{
	struct call *c = this_call();

	if (c && c->kind == CALL_DM && c->op == DM_DEV_SUSPEND)
		c->live = bpf_ktime_get_boot_ns();
	return 0;
}
