// Package bpf holds the eBPF programs that watch device-mapper changes, opens,
// guests and links under /dev, compiled and embedded, and the records that they
// send. Package tracer/probe/ebpf loads and reads them.
//
// bootrace.bpf.c is the entry; each header is one family of probes. After a
// change run go generate and commit the result: the same clang makes the same
// bytes.
package bpf

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cc clang-14 -strip llvm-strip-14 -go-package bpf -no-global-types Probes bootrace.bpf.c -- -mcpu=v3 -Wall -Wextra -Werror
