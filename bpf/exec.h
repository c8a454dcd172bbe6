/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */

/* The life of guests: exec, fork and exit, from the scheduler's raw tracepoints;
 * where the kernel preempts itself from perf's, which write a record of each hit
 * first, and then run the program without preemption. */

#pragma once

#define SIGNAL_GROUP_EXIT 4
#define CLONE_THREAD 0x10000

/* Set before loading. */
volatile const struct guest_name guest_names[GUEST_NAMES];
volatile const __u32 guest_names_len;

static __always_inline bool is_guest_name(const __u64 comm[2])
{
	__u32 i;

#pragma unroll
	for (i = 0; i < GUEST_NAMES; i++) {
		if (i >= guest_names_len)
			return false;
		if ((comm[0] & guest_names[i].mask[0]) == guest_names[i].value[0] &&
		    (comm[1] & guest_names[i].mask[1]) == guest_names[i].value[1])
			return true;
	}
	return false;
}

/* emit_exec delivers the event with size bytes of room for arguments, in one
 * record: either all of it arrives or it is counted as lost. It is false if
 * the ring has no such room. */
static __always_inline bool emit_exec(const char *filename, unsigned long start, __u32 len, const __u32 size)
{
	struct exec_event *e = bpf_ringbuf_reserve(&events, sizeof(*e) + size, 0);
	__u32 n;

	if (!e)
		return false;
	fill_header(&e->h, KIND_EXEC, 0, 0);
	e->filename[0] = 0;
	bpf_probe_read_kernel_str(e->filename, sizeof(e->filename), filename);
	e->args_len = len;
	n = at_most(len, size);
	/* The exec has just written these pages. */
	if (bpf_probe_read_user(e + 1, n, (const void *)start))
		n = 0;
	e->captured = n;
	bpf_ringbuf_submit(e, 0);
	return true;
}

static __always_inline void guest_exec(const char *filename)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	__u32 len = BPF_CORE_READ(task, mm, arg_end) - start;

	if (!may_tell(KIND_EXEC, true))
		return;
	if (len > ARGS_MEDIUM && emit_exec(filename, start, len, ARGS_LARGE))
		return;
	if (len > ARGS_SMALL && emit_exec(filename, start, len, ARGS_MEDIUM))
		return;
	if (!emit_exec(filename, start, len, ARGS_SMALL))
		lost(KIND_EXEC);
}

/* is_exec_of_guest also keeps the set of guests. */
static __always_inline bool is_exec_of_guest(void)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	__u64 comm[2] = {};

	bpf_get_current_comm(comm, sizeof(comm));
	if (is_guest_name(comm)) {
		add_guest(tgid);
		return true;
	}
	/* A child of a guest that went on to be something else. */
	remove_guest(tgid);
	return false;
}

SEC("raw_tracepoint/sched_process_exec")
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct linux_binprm *bprm = (struct linux_binprm *)ctx->args[2];

	if (is_exec_of_guest())
		guest_exec(BPF_CORE_READ(bprm, filename));
	return 0;
}

SEC("tracepoint/sched/sched_process_exec")
int trace_exec(struct trace_event_raw_sched_process_exec *ctx)
{
	/* Where in the record it begins, below its length. */
	if (is_exec_of_guest())
		guest_exec((const char *)ctx + (ctx->__data_loc_filename & 0xffff));
	return 0;
}

/* guest_fork: qemu -daemonize goes on in a child. */
static __always_inline void guest_fork(__u32 parent, __u32 child)
{
	struct fork_event *e;

	add_guest(child);
	if (!may_tell(KIND_FORK, true))
		return;
	e = reserve(KIND_FORK, sizeof(*e));
	if (!e)
		return;
	fill_header(&e->h, KIND_FORK, 0, 0);
	e->h.pid = child;
	e->h.tid = child;
	e->h.ppid = parent;
	bpf_ringbuf_submit(e, 0);
}

SEC("raw_tracepoint/sched_process_fork")
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *child = (struct task_struct *)ctx->args[1];
	__u32 parent = bpf_get_current_pid_tgid() >> 32;
	__u32 tgid;

	if (!is_guest(parent))
		return 0;
	tgid = BPF_CORE_READ(child, tgid);
	if (tgid != parent) /* else a thread */
		guest_fork(parent, tgid);
	return 0;
}

/* Before the child runs, like sched_process_fork, whose record does not tell a
 * process from a thread. */
SEC("tracepoint/task/task_newtask")
int trace_fork(struct trace_event_raw_task_newtask *ctx)
{
	__u32 parent = bpf_get_current_pid_tgid() >> 32;

	if (is_guest(parent) && !(ctx->clone_flags & CLONE_THREAD))
		guest_fork(parent, ctx->pid);
	return 0;
}

/* exit_code is what the parent's wait will see. */
static __always_inline __u32 exit_code(struct task_struct *task)
{
	if (BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT)
		return BPF_CORE_READ(task, signal, group_exit_code);
	return BPF_CORE_READ(task, group_leader, exit_code);
}

static __always_inline void guest_exit(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct exit_event *e;

	if (!is_guest(tgid) || BPF_CORE_READ(task, signal, live.counter) > 0)
		return;
	/* Two threads that end together both see 0; one of them removes it. */
	if (!remove_guest(tgid) || !may_tell(KIND_EXIT, true))
		return;
	e = reserve(KIND_EXIT, sizeof(*e));
	if (!e)
		return;
	fill_header(&e->h, KIND_EXIT, 0, 0);
	/* The process ends, whichever thread is the last. */
	e->h.tid = tgid;
	BPF_CORE_READ_INTO(&e->h.comm, task, group_leader, comm);
	e->code = exit_code(task);
	e->pad = 0;
	bpf_ringbuf_submit(e, 0);
}

SEC("raw_tracepoint/sched_process_exit")
int on_exit(void *ctx __attribute__((unused)))
{
	guest_exit();
	return 0;
}

SEC("tracepoint/sched/sched_process_exit")
int trace_exit(void *ctx __attribute__((unused)))
{
	guest_exit();
	return 0;
}
