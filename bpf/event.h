/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */

/* What goes over the ring buffer, little endian. bpf2go makes the Go types
 * from these, so the two cannot drift apart. Explicit padding only: what the
 * compiler would insert would carry kernel stack to user space. */

#pragma once

enum kind {
	KIND_EXEC = 1,
	KIND_FORK,
	KIND_EXIT,
	KIND_OPEN,
	KIND_LINK,
	KIND_DM,
	/* Never on the ring: a guest that did not fit into the map of guests. */
	KIND_GUEST,
	/* Never on the ring: an open by who is no guest, of which KIND_OPEN tells. */
	KIND_LOOK,
	KIND_MAX,
};

#define COMM_LEN 16
#define PATH_LEN 4096	  /* PATH_MAX */
#define FILENAME_LEN 256  /* of an exec; longer ones are cut */
#define LINK_LEN 512	  /* names under /dev; longer ones are cut */
#define CALLER_ARGS 512	  /* command line of a process that changed a mapping */
#define TABLE_LEN 4096	  /* target specs of one table load; longer ones are cut */
#define TABLE_PIECE 512
#define GUEST_NAMES 16	  /* see guest_name */
#define SYSTEM_DIRS 16	  /* see path_head */

#define ARGS_SMALL 4096
#define ARGS_MEDIUM 16384
#define ARGS_LARGE 131072

/* Every record begins so. */
struct header {
	__u32 kind;
	__s32 ret; /* of the system call: negative errno, or not negative */
	__u64 from; /* boottime, ns; entry of the system call, 0 if at is exact */
	__u64 at;
	__u32 pid; /* thread group */
	__u32 tid;
	__u32 ppid;
	__u32 uid;
	char comm[COMM_LEN];
};

/* Followed by min(args_len, size of the record) bytes of arguments. */
struct exec_event {
	struct header h;
	__u32 args_len; /* of the argument area: can be more than what follows */
	__u32 captured; /* bytes that follow */
	char filename[FILENAME_LEN];
};

/* h.pid is the child, h.ppid the guest. */
struct fork_event {
	struct header h;
};

struct exit_event {
	struct header h;
	__u32 code; /* as in wait(2) */
	__u32 pad;
};

/* Followed by path_len bytes of path, its terminating NUL included. */
struct open_event {
	struct header h;
	__s64 size; /* -1: not known */
	__u32 flags;
	__u32 dev; /* of a block or character device: major << 20 | minor */
	__u32 mode; /* 0: the open failed */
	__u32 path_len;
	__u32 guest;
	__u32 pad;
};

enum link_op {
	LINK_SYMLINK,
	LINK_RENAME,
};

struct link_event {
	struct header h;
	__u32 op;
	__u32 pad;
	char path[LINK_LEN]; /* the new name */
	char from[LINK_LEN]; /* symlink: where it leads; rename: the old name */
};

/* struct dm_ioctl of the device-mapper user interface, version 4. */
struct dm_ioctl {
	__u32 version[3];
	__u32 data_size;
	__u32 data_start;
	__u32 target_count;
	__s32 open_count;
	__u32 flags;
	__u32 event_nr;
	__u32 padding;
	__u64 dev;
	char name[128];
	char uuid[129];
	char data[7];
};

/* Followed by table_len bytes of target specs, as the caller passed them. */
struct dm_event {
	struct header h;
	__u64 live; /* when the table went live, 0 if not known */
	__u32 nr; /* of the ioctl: DM_DEV_CREATE_CMD, ... */
	__u32 flags_in; /* what the caller asked for; io has what came back */
	__u32 cookie;
	__u32 targets;
	__u32 args_len; /* bytes of args that are valid */
	__u32 table_len;
	__u32 table_size; /* bytes that the caller passed: can be more than table_len */
	__u32 pad;
	struct dm_ioctl io;
	char new_name[136]; /* rename: the new name or UUID; 129 bytes are used */
	char args[CALLER_ARGS];
};

/* What makes a process a guest: its comm & mask == value. */
struct guest_name {
	__u64 value[2];
	__u64 mask[2];
};

/* The beginning of a path: its first 8 bytes & mask == value. */
struct path_head {
	__u64 value;
	__u64 mask;
};
