#!/bin/bash
# The tests of the probes that need a kernel with device-mapper and kprobes, and what
# the probes cost, by the machine's clock, which counts instructions. bootrace is not
# installed: nothing else watches.
set -eu
cd /tmp
export PATH=$PATH:/usr/sbin
failed() { # FILE: what a test says beside what it has passed
	grep -vE '^ *(=== |--- (PASS|SKIP))' "$1"
	exit 1
}
run() { # FILE PACKAGE TESTS
	"/lab/out/$2.test" -test.v -test.run "$3" >"/lab/out/$1" 2>&1 || failed "/lab/out/$1"
}

echo "== device-mapper is loaded while its probes wait for it"
vgchange -qq -an
modprobe -r dm_mod
run late.txt ebpf 'TestDeviceMapper$'
echo "== all programs are accepted, and both backends tell the same"
run ebpf.txt ebpf 'TestEveryWayLoads|TestDeviceMapper$|TestLinks'
run tracefs.txt tracefs 'TestTellsTheSame/^(clock_|few_returns)$'
echo "== what it costs"
BOOTRACE_TEST_COST=1 run cost.txt probe 'TestCost$'
dmesg | grep -E 'WARNING:|BUG:|Oops' && exit 1
exit 0
