/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */

/* Opens, from the entry and the exit of open, openat and openat2, or of what
 * these have in common. The system call boundary is the one place that sees
 * every failure, a dangling link included, and that no kernel has moved or
 * renamed. It does not see opens through io_uring, nor those of 32-bit
 * programs. */

#pragma once

#define O_ACCMODE 03
#define O_RDONLY 00
#define O_PATH 010000000

/* Device-mapper devices of which an open by somebody who is no guest has been
 * reported since they were created or resumed. Eviction costs one more event. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, __u8);
} opened SEC(".maps");

struct open_buffer {
	struct open_event e;
	char path[PATH_LEN];
};

/* Used by the exit only, and no program runs twice at a time on a CPU: perf sees
 * to that for tracepoints (bpf_prog_active), trampolines for each program (its
 * active counter). So one buffer a CPU is enough. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct open_buffer);
} open_buffers SEC(".maps");

struct open_how {
	__u64 flags;
};

/* in_dev looks at the first 8 bytes of a path: does it begin with "/dev/"? */
static __always_inline bool in_dev(__u64 head)
{
	return (head & 0xffffffffffULL) == 0x2f7665642fULL;
}

/* wanted_open decides by what most opens are not: a guest's, or of a name in /dev. */
static __always_inline bool wanted_open(struct call *c)
{
	__u64 head;

	c->guest = is_guest(bpf_get_current_pid_tgid() >> 32);
	/* A path on a page that is not there yet cannot be judged before the
	 * kernel has read it: at the exit. */
	return c->guest || bpf_probe_read_user(&head, sizeof(head), c->arg) || in_dev(head);
}

static __always_inline int note_open(struct call *c)
{
	if (c->guest)
		call_enter(c, KIND_OPEN);
	else
		call_enter(c, KIND_LOOK);
	return 0;
}

static __always_inline int open_enter(const char *path, __u32 flags, const void *how)
{
	struct call c = { .kind = CALL_OPEN, .arg = path, .arg2 = how, .flags = flags };

	return wanted_open(&c) ? note_open(&c) : 0;
}

/* describe_file fills in what fd is. */
static __always_inline void describe_file(struct open_event *e, __u32 fd)
{
	struct file *file = file_of(fd);
	struct inode *inode = BPF_CORE_READ(file, f_inode);

	e->mode = BPF_CORE_READ(inode, i_mode);
	e->dev = BPF_CORE_READ(inode, i_rdev);
	/* The mapping of an open block device belongs to the device's own
	 * inode, not to that of its node. O_PATH does not open the device. */
	if (!(e->flags & O_PATH))
		e->size = BPF_CORE_READ(file, f_mapping, host, i_size);
}

static __always_inline bool first_open(__u32 dev)
{
	__u8 one = 1;

	if (bpf_map_lookup_elem(&opened, &dev))
		return false;
	bpf_map_update_elem(&opened, &dev, &one, BPF_ANY);
	return true;
}

/* worth_telling decides about opens by others than guests, once their path is
 * known to be under /dev. */
static __always_inline bool worth_telling(const struct open_event *e)
{
	if (e->h.ret < 0)
		return true;
	if ((e->mode & S_IFMT) != S_IFBLK || (e->flags & O_PATH))
		return false;
	if (!dm_major || MAJOR(e->dev) != dm_major)
		return false;
	return first_open(e->dev);
}

/* Set before loading: folders that hold no disk, as the first bytes of a path. */
volatile const struct path_head system_dirs[SYSTEM_DIRS];
volatile const __u32 system_dirs_len;

static __always_inline bool in_system_dir(__u64 head)
{
	__u32 i;

#pragma unroll
	for (i = 0; i < SYSTEM_DIRS; i++) {
		if (i >= system_dirs_len)
			return false;
		if ((head & system_dirs[i].mask) == system_dirs[i].value)
			return true;
	}
	return false;
}

/* worth_telling_of_guest drops most of what a guest opens as it starts: libraries and
 * settings, which it only reads. A block device is told wherever its node is. */
static __always_inline bool worth_telling_of_guest(const struct open_event *e, __u64 head)
{
	if ((e->mode & S_IFMT) == S_IFBLK)
		return true;
	if ((e->mode & S_IFMT) == S_IFDIR)
		return false;
	return (e->flags & O_ACCMODE) != O_RDONLY || !in_system_dir(head);
}

static __always_inline int open_exit(long ret)
{
	struct open_buffer *b;
	struct open_how how = {};
	struct call c;
	__u32 zero = 0;
	long n;

	if (!call_exit(&c, CALL_OPEN))
		return 0;
	b = bpf_map_lookup_elem(&open_buffers, &zero);
	if (!b)
		return 0;
	b->e.flags = c.flags;
	if (c.arg2 && !bpf_probe_read_user(&how, sizeof(how), c.arg2))
		b->e.flags = how.flags;
	b->e.size = -1;
	b->e.mode = b->e.dev = 0;
	b->e.guest = c.guest;
	b->e.h.ret = ret;
	n = bpf_probe_read_user_str(b->path, sizeof(b->path), c.arg);
	if (n <= 0) {
		/* EFAULT: the caller's own mistake, of no use to a timeline. */
		n = 1;
		b->path[0] = 0;
	}
	if (!c.guest && (n < (long)sizeof("/dev/") || !in_dev(*(__u64 *)b->path)))
		return 0;
	if (ret >= 0)
		describe_file(&b->e, ret);
	if (c.guest ? !worth_telling_of_guest(&b->e, *(__u64 *)b->path) : !worth_telling(&b->e))
		return 0;
	fill_header(&b->e.h, KIND_OPEN, c.from, ret);
	b->e.path_len = n;
	if (!within(c.guest) || bpf_ringbuf_output(&events, b, sizeof(b->e) + at_most(n, PATH_LEN), 0)) {
		if (c.guest)
			lost(KIND_OPEN);
		else
			lost(KIND_LOOK);
	}
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_open")
int enter_open(struct sys_enter *ctx)
{
	return open_enter((const char *)ctx->args[0], ctx->args[1], NULL);
}

SEC("tracepoint/syscalls/sys_enter_openat")
int enter_openat(struct sys_enter *ctx)
{
	return open_enter((const char *)ctx->args[1], ctx->args[2], NULL);
}

SEC("tracepoint/syscalls/sys_enter_openat2")
int enter_openat2(struct sys_enter *ctx)
{
	return open_enter((const char *)ctx->args[1], 0, (const void *)ctx->args[2]);
}

/* For the exits of all three. */
SEC("tracepoint/syscalls/sys_exit_openat")
int exit_open(struct sys_exit *ctx)
{
	return open_exit(ctx->ret);
}

/* do_sys_openat2(int dfd, const char *filename, struct open_how *how), since
 * Linux 5.6. Here how is the kernel's own copy, and 32-bit programs come this
 * way, too. */
static __always_inline int function_open(const char *path, const struct open_how *kernel_how)
{
	struct call c = { .kind = CALL_OPEN, .arg = path };
	struct open_how how = {};

	if (!wanted_open(&c))
		return 0;
	bpf_probe_read_kernel(&how, sizeof(how), kernel_how);
	c.flags = how.flags;
	return note_open(&c);
}

SEC("fentry/do_sys_openat2")
int fast_enter_open(function_args *ctx)
{
	return function_open((const char *)ctx[1], (const struct open_how *)ctx[2]);
}

SEC("fexit/do_sys_openat2")
int fast_exit_open(function_args *ctx)
{
	return open_exit((int)ctx[3]);
}

SEC("kprobe.multi/do_sys_openat2")
int probe_enter_open(struct pt_regs *ctx)
{
	return function_open((const char *)ARGUMENT(ctx, 1, si), (const struct open_how *)ARGUMENT(ctx, 2, dx));
}

SEC("kprobe.multi/do_sys_openat2")
int probe_exit_open(struct pt_regs *ctx)
{
	return any_call() ? open_exit((int)RESULT(ctx)) : 0;
}
