/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */

/* What all probe families share: the ring and its losses, the set of guests,
 * and the system calls that are under way. */

#pragma once

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} events SEC(".maps");

/* Events that could not be delivered, by kind. The ring itself does not count
 * what it refuses. A variable, because while a process asks the kernel for an
 * entry of a map, programs of tracepoints and kprobes are skipped on that
 * processor (bpf_disable_instrumentation), and the process can be preempted. */
__u64 losses[KIND_MAX];

/* Thread groups that are guests, or children of one. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, __u8);
} guests SEC(".maps");

enum call_kind {
	CALL_OPEN = 1,
	CALL_DM,
	CALL_LINK,
};

/* One system call between its entry and its exit. */
struct call {
	__u64 from;
	__u64 live;
	const void *arg; /* path, struct dm_ioctl, or the new name */
	const void *arg2; /* struct open_how of the caller, or the old name */
	__u32 kind;
	__u32 op; /* ioctl number, enum link_op */
	__u32 flags;
	__u32 guest;
	__u32 data_size;
	__u32 data_start;
	__u32 targets;
	__u32 cookie;
};

/* Keyed by pid_tgid: a thread is in one system call at a time. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct call);
} calls SEC(".maps");

/* Entries in calls. While it is 0 the exit probes, which see
 * every ioctl of every virtual CPU, have nothing to look up. */
__u64 calls_open;

/* The device-mapper's major: dynamic, 0 as long as it is not known. */
__u32 dm_major;

/* There are two ways to see a system call, which share everything but their
 * entry points; package probe chooses. Either a kernel function, which costs
 * nothing but calls of that function: with trampolines (fentry and fexit) where
 * it is called all the time, else with kprobes; or where the kernel preempts
 * itself with multi-kprobes, which it can't preempt. Or the tracepoints of the
 * system calls, which are on all kernels but make every system call of every
 * process take the kernel's slow path.
 *
 * To attach takes the kernel several walks over all its functions: one for the
 * first trampoline of a function, two for each further one, and one for all
 * kprobes of a function together. */

/* The context of trampolines: the function's arguments, then what it returned. */
typedef __u64 function_args;

/* The context of syscall tracepoints (kernel/trace/trace_syscalls.c,
 * struct syscall_tp_t). Kernels with a larger common header grow it from 8 to
 * 12 bytes, which leaves the arguments where they are. */
struct sys_enter {
	__u64 common;
	__s64 nr;
	unsigned long args[6];
};

struct sys_exit {
	__u64 common;
	__s64 nr;
	long ret;
};

/* The registers at a kprobe. A kernel of arm64 has other ones, and no di. */
struct pt_regs___arm64 {
	unsigned long regs[31];
} __attribute__((preserve_access_index));

#define ARGUMENT(ctx, n, x86)                       \
	(bpf_core_field_exists((ctx)->di) ?         \
		 BPF_CORE_READ(ctx, x86) :          \
		 BPF_CORE_READ((struct pt_regs___arm64 *)(ctx), regs[n]))

#define RESULT(ctx) ARGUMENT(ctx, 0, ax)

/* at_most returns n or max, whichever is less, in a way that the verifiers
 * before 6.8 can follow: left to itself, the compiler tests one copy of n and
 * uses another. It is tested as a number of 32 bits, for it may be moved as one,
 * and what they know of its 64 does not count then. */
static __always_inline __u32 at_most(__u64 n, const __u32 max)
{
	__u32 low = n < max ? n : max;

	asm volatile("if %0 <= %[max] goto +1\n"
		     "%0 = %[max]"
		     : "+w"(low)
		     : [max] "i"(max));
	return low;
}

static __always_inline void lost(const __u32 kind)
{
	__sync_fetch_and_add(&losses[kind], 1);
}

static __always_inline void emit(const __u32 kind, void *record, __u64 size)
{
	if (bpf_ringbuf_output(&events, record, size, 0))
		lost(kind);
}

static __always_inline void *reserve(const __u32 kind, __u64 size)
{
	void *record = bpf_ringbuf_reserve(&events, size, 0);

	if (!record)
		lost(kind);
	return record;
}

static __always_inline bool is_guest(__u32 tgid)
{
	return bpf_map_lookup_elem(&guests, &tgid) != NULL;
}

static __always_inline void add_guest(__u32 tgid)
{
	__u8 one = 1;

	if (bpf_map_update_elem(&guests, &tgid, &one, BPF_ANY))
		lost(KIND_GUEST);
}

static __always_inline void fill_header(struct header *h, __u32 kind, __u64 from, long ret)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 id = bpf_get_current_pid_tgid();

	h->at = bpf_ktime_get_boot_ns();
	h->from = from;
	h->kind = kind;
	h->ret = ret;
	h->pid = id >> 32;
	h->tid = id;
	h->ppid = BPF_CORE_READ(task, real_parent, tgid);
	h->uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(h->comm, sizeof(h->comm));
}

static __always_inline void call_enter(struct call *c, const __u32 lossy)
{
	__u64 id = bpf_get_current_pid_tgid();

	c->from = bpf_ktime_get_boot_ns();
	if (!bpf_map_update_elem(&calls, &id, c, BPF_NOEXIST)) {
		__sync_fetch_and_add(&calls_open, 1);
		return;
	}
	/* The exit of the thread's last call was missed, or the map is full. */
	lost(lossy);
	bpf_map_update_elem(&calls, &id, c, BPF_EXIST);
}

static __always_inline bool any_call(void)
{
	return *(volatile __u64 *)&calls_open != 0;
}

/* call_exit takes the thread's call out of the map. It is false if there is
 * none of this kind. */
static __always_inline bool call_exit(struct call *out, __u32 kind)
{
	__u64 id;
	struct call *c;

	if (!any_call())
		return false;
	id = bpf_get_current_pid_tgid();
	c = bpf_map_lookup_elem(&calls, &id);
	if (!c)
		return false;
	__builtin_memcpy(out, c, sizeof(*out));
	if (!bpf_map_delete_elem(&calls, &id))
		__sync_fetch_and_add(&calls_open, -1);
	return out->kind == kind;
}

/* file_of finds an open file of the current process. The descriptor table can
 * change under us when threads share it; then a read fails or finds another
 * file, but cannot fault. */
static __always_inline struct file *file_of(__u32 fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *fdt = BPF_CORE_READ(task, files, fdt);
	struct file **table, *file = NULL;

	if (fd >= BPF_CORE_READ(fdt, max_fds))
		return NULL;
	table = BPF_CORE_READ(fdt, fd);
	bpf_probe_read_kernel(&file, sizeof(file), table + fd);
	return file;
}

#define S_IFMT 0170000
#define S_IFBLK 0060000
#define S_IFCHR 0020000
#define MAJOR(dev) ((dev) >> 20)
#define MINOR(dev) ((dev) & 0xfffff)
