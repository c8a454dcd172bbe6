/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */

/* What all probe families share: the ring and its losses, the set of guests,
 * and the system calls that are under way. */

#pragma once

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} events SEC(".maps");

/* Events that could not be delivered, by kind: root's, and all that are not known
 * to be a single user's. The ring itself does not count what it refuses. A variable,
 * because while a process asks the kernel for an entry of a map, programs of
 * tracepoints and kprobes are skipped on that processor (bpf_disable_instrumentation),
 * and the process can be preempted. */
__u64 losses[KIND_MAX];

/* What one user can cost the others is bounded. Room in maps is counted by user,
 * and a quarter of it is root's alone. Of the ring a user gets a share each second,
 * which is small while the ring fills up; what is left then is for others, in
 * this order: for who looks for devices, guests of users, and root's guests and
 * device-mapper. What a user has no room for is counted for that user. */
#define OWNERS 1024
#define GUESTS 16384
#define GUESTS_OF_USERS (GUESTS / 4 * 3)
#define CALLS 8192
#define CALLS_OF_USERS (CALLS / 4 * 3)
/* Records a second: of guests (a qemu opens some 200 files as it starts), and of
 * others; and each while the ring is filled to a quarter. */
#define TOLD_OF_GUESTS 32768
#define TOLD_OF_GUESTS_BUSY 1024
#define TOLD_OF_OTHERS 1024
#define TOLD_OF_OTHERS_BUSY 64

/* What a user may have in guests and in calls. Tests set less. */
volatile const __u32 guests_of_user = 4096;
volatile const __u32 calls_of_user = 1024;

/* A user other than root. */
struct owner {
	__u64 second; /* in which the two below were told */
	__u32 of_guests;
	__u32 of_others;
	__u32 guests; /* entries in guests */
	__u32 calls; /* entries in calls */
	__u64 lost[KIND_MAX];
};

/* By owner_key. Entries stay. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, OWNERS);
	__type(key, __u32);
	__type(value, struct owner);
} owners SEC(".maps");

/* The users that have no entry of their own, since there are too many. User space
 * makes this entry. */
#define OWNER_REST 0xffffffff

/* The sum of all lost in owners: whether to look. */
__u64 owners_lost;

__u32 guests_of_users;
__u32 calls_of_users;

/* Thread groups that are guests, or children of one, and the user whose count they
 * are in. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GUESTS);
	__type(key, __u32);
	__type(value, __u32);
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
	__u32 uid;
	__u32 general; /* seen by the probes of all ioctls, see dm.h */
};

/* Set before loading: whether a call is kept with its task. Then nobody's calls can
 * take the room of another's, however long they take. Kernels that can't do that
 * have a map for all, with a share for each user. */
volatile const bool task_storage;

/* A thread is in one system call at a time: in none if kind is 0. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct call);
} task_calls SEC(".maps");

/* The same by pid_tgid. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CALLS);
	__type(key, __u64);
	__type(value, struct call);
} calls SEC(".maps");

/* Calls under way. While it is 0 the exit probes, which see
 * every ioctl of every virtual CPU, have nothing to look up. */
__u64 calls_open;

/* Device-mapper's requests among them. */
__u64 requests_open;

/* The device-mapper's major: dynamic, 0 as long as it is not known. */
__u32 dm_major;

/* There are two ways to see a system call, which share everything but their
 * entry points; package ebpf chooses. Either a kernel function, which costs
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

/* owner_key is the number of a user; from 100000 on, of the block of 65536 that
 * one user was given for his containers (subuid(5)), which are all his. */
static __always_inline __u32 owner_key(__u32 uid)
{
	return uid < 100000 ? uid : 100000 + (uid - 100000) / 65536;
}

/* owner_of finds the entry of a user who is not root. */
static __always_inline struct owner *owner_of(__u32 uid)
{
	__u32 key = owner_key(uid), rest = OWNER_REST;
	struct owner none = {};
	struct owner *o = bpf_map_lookup_elem(&owners, &key);

	if (o)
		return o;
	bpf_map_update_elem(&owners, &key, &none, BPF_NOEXIST);
	o = bpf_map_lookup_elem(&owners, &key);
	return o ? o : bpf_map_lookup_elem(&owners, &rest);
}

/* lost counts an event of the current process. */
static __always_inline void lost(const __u32 kind)
{
	__u32 uid = bpf_get_current_uid_gid();
	struct owner *o = uid ? owner_of(uid) : NULL;

	if (!o) {
		__sync_fetch_and_add(&losses[kind], 1);
		return;
	}
	__sync_fetch_and_add(&o->lost[kind], 1);
	__sync_fetch_and_add(&owners_lost, 1);
}

/* within reports whether the ring has room for a record of the current process:
 * of a guest, or of another. */
static __always_inline bool within(bool guest)
{
	__u64 used = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
	__u64 quarter = bpf_ringbuf_query(&events, BPF_RB_RING_SIZE) / 4;
	__u32 uid = bpf_get_current_uid_gid();
	bool busy = used >= quarter;
	struct owner *o;
	__u64 second;

	if (!guest && used >= 2 * quarter)
		return false;
	if (!uid)
		return true;
	o = owner_of(uid);
	if (!o || used >= 3 * quarter)
		return false;
	/* Two processors can both begin a second: some more are told then. */
	second = bpf_ktime_get_boot_ns() >> 30;
	if (o->second != second) {
		o->second = second;
		o->of_guests = o->of_others = 0;
	}
	if (guest) {
		__sync_fetch_and_add(&o->of_guests, 1);
		return o->of_guests <= (busy ? TOLD_OF_GUESTS_BUSY : TOLD_OF_GUESTS);
	}
	__sync_fetch_and_add(&o->of_others, 1);
	return o->of_others <= (busy ? TOLD_OF_OTHERS_BUSY : TOLD_OF_OTHERS);
}

/* may_tell is within, and counts what has no room. */
static __always_inline bool may_tell(const __u32 kind, bool guest)
{
	if (within(guest))
		return true;
	lost(kind);
	return false;
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

/* add_guest makes a guest of a process of the current user. */
static __always_inline void add_guest(__u32 tgid)
{
	__u32 uid = bpf_get_current_uid_gid();
	struct owner *o = NULL;

	if (is_guest(tgid))
		return;
	if (uid) {
		o = owner_of(uid);
		if (!o || o->guests >= guests_of_user || guests_of_users >= GUESTS_OF_USERS) {
			lost(KIND_GUEST);
			return;
		}
	}
	if (bpf_map_update_elem(&guests, &tgid, &uid, BPF_NOEXIST)) {
		lost(KIND_GUEST);
		return;
	}
	if (o) {
		__sync_fetch_and_add(&o->guests, 1);
		__sync_fetch_and_add(&guests_of_users, 1);
	}
}

/* remove_guest reports whether it was this caller who removed it. */
static __always_inline bool remove_guest(__u32 tgid)
{
	__u32 *entry = bpf_map_lookup_elem(&guests, &tgid);
	struct owner *o;
	__u32 uid;

	if (!entry)
		return false;
	uid = *entry;
	if (bpf_map_delete_elem(&guests, &tgid))
		return false;
	o = uid ? owner_of(uid) : NULL;
	if (o && o->guests && guests_of_users) {
		__sync_fetch_and_add(&o->guests, -1);
		__sync_fetch_and_add(&guests_of_users, -1);
	}
	return true;
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

/* count_call counts a call of that kind that begins, or one that is over. */
static __always_inline void count_call(__u32 kind, const __s64 by)
{
	__sync_fetch_and_add(&calls_open, by);
	if (kind == CALL_DM)
		__sync_fetch_and_add(&requests_open, by);
}

/* keep_call keeps a call in the map for all. */
static __always_inline void keep_call(struct call *c, const __u32 lossy)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct owner *o = NULL;
	struct call *kept;
	__u32 before;

	c->uid = bpf_get_current_uid_gid();
	if (c->uid) {
		o = owner_of(c->uid);
		if (!o || o->calls >= calls_of_user || calls_of_users >= CALLS_OF_USERS) {
			lost(lossy);
			return;
		}
	}
	if (!bpf_map_update_elem(&calls, &id, c, BPF_NOEXIST)) {
		count_call(c->kind, 1);
		if (o) {
			__sync_fetch_and_add(&o->calls, 1);
			__sync_fetch_and_add(&calls_of_users, 1);
		}
		return;
	}
	/* The exit of the thread's last call was missed, or the map is full. */
	lost(lossy);
	kept = bpf_map_lookup_elem(&calls, &id);
	if (!kept)
		return;
	before = kept->kind;
	if (bpf_map_update_elem(&calls, &id, c, BPF_EXIST))
		return;
	count_call(before, -1);
	count_call(c->kind, 1);
}

static __always_inline void call_enter(struct call *c, const __u32 lossy)
{
	struct call *kept;

	c->from = bpf_ktime_get_boot_ns();
	if (!task_storage) {
		keep_call(c, lossy);
		return;
	}
	kept = bpf_task_storage_get(&task_calls, bpf_get_current_task_btf(), NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!kept) {
		lost(lossy);
		return;
	}
	if (kept->kind) { /* the exit of the thread's last call was missed */
		lost(lossy);
		count_call(kept->kind, -1);
	}
	count_call(c->kind, 1);
	__builtin_memcpy(kept, c, sizeof(*c));
}

/* this_call is the call that the thread is in, if any. */
static __always_inline struct call *this_call(void)
{
	struct call *c;
	__u64 id;

	if (task_storage) {
		c = bpf_task_storage_get(&task_calls, bpf_get_current_task_btf(), NULL, 0);
		return c && c->kind ? c : NULL;
	}
	id = bpf_get_current_pid_tgid();
	return bpf_map_lookup_elem(&calls, &id);
}

static __always_inline bool any_call(void)
{
	return *(volatile __u64 *)&calls_open != 0;
}

/* call_exit takes the thread's call out of the map. It is false if there is
 * none of this kind. */
static __always_inline bool call_exit(struct call *out, __u32 kind)
{
	struct call *c;
	struct owner *o;
	__u64 id;

	if (!any_call())
		return false;
	c = this_call();
	if (!c)
		return false;
	__builtin_memcpy(out, c, sizeof(*out));
	if (task_storage) {
		c->kind = 0;
		count_call(out->kind, -1);
		return out->kind == kind;
	}
	id = bpf_get_current_pid_tgid();
	if (bpf_map_delete_elem(&calls, &id))
		return out->kind == kind;
	count_call(out->kind, -1);
	o = out->uid ? owner_of(out->uid) : NULL;
	if (o && o->calls && calls_of_users) {
		__sync_fetch_and_add(&o->calls, -1);
		__sync_fetch_and_add(&calls_of_users, -1);
	}
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
#define S_IFDIR 0040000
#define S_IFCHR 0020000
#define MAJOR(dev) ((dev) >> 20)
#define MINOR(dev) ((dev) & 0xfffff)
