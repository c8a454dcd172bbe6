package scenarios

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/kernels/lab"
)

// The eBPF programs load on a kernel of arm64, attach, and tell of opens, links
// and a guest's life: the tests of package ebpf run there.
func TestARM64(t *testing.T) {
	if os.Getenv("BOOTRACE_ARM64") == "" {
		t.Skip("NOT RUN: boots a virtual machine of another architecture; `make arm64-test` runs it")
	}
	out := outFolder(t)
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	program := filepath.Join(out, "ebpf.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, "./tracer/probe/ebpf")
	build.Dir, build.Env = repo(t), append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm64")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the tests of the probes: %v: %s", err, text)
	}
	tests := []string{"TestEveryWayLoads", "TestAbilities", "TestFailingOpenUnderDev", "TestLinks", "TestGuestLife$/^small"}
	status, err := lab.RunForeign(ctx, lab.Foreign{
		Arch: "arm64", Kernel: os.Getenv("BOOTRACE_KERNEL"), Program: program,
		Args: []string{"-test.v", "-test.run=^" + strings.Join(tests, "$|^") + "$"},
		Repo: repo(t), Out: out, Progress: progress{t},
	})
	if err != nil {
		t.Fatal(err)
	}
	console, err := os.ReadFile(filepath.Join(out, "console.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", console)
	if status != 0 {
		t.Errorf("the tests ended with status %d", status)
	}
	for _, name := range tests {
		name, _, _ = strings.Cut(name, "$")
		if !strings.Contains(string(console), "--- PASS: "+name) {
			t.Errorf("%s did not pass", name)
		}
	}
}
