//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */

/* The kernel side of bootrace, for Linux 5.8 and later with BTF. All times are
 * CLOCK_BOOTTIME, in nanoseconds. */

#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define bool _Bool
#define true 1
#define false 0
#define NULL ((void *)0)

#include "event.h"
#include "common.h"
#include "open.h"
#include "dm.h"
#include "exec.h"
#include "link.h"

/* Makes clang describe the records in the object's BTF. */
const struct {
	enum kind kind;
	enum link_op op;
	struct exec_event exec;
	struct fork_event fork;
	struct exit_event exit;
	struct open_event open;
	struct link_event link;
	struct dm_event dm;
	struct guest_name name;
	struct path_head head;
	struct owner owner;
} *wire_types;

/* The helpers that these programs use are open to the GPL only. */
char LICENSE[] SEC("license") = "GPL";
