package lab

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRun reboots a real machine, without bootrace: this is about the lab.
func TestRun(t *testing.T) {
	if os.Getenv("BOOTRACE_ENGINE") == "" {
		t.Skip("NOT RUN: boots a virtual machine; `make engine-test` runs it, and the scenarios use the same engine")
	}
	out := t.TempDir()
	result, err := Run(t.Context(), Options{
		Scenario: filepath.Join("testdata", "smoke"),
		Out:      out,
		Kernel:   os.Getenv("BOOTRACE_KERNEL"),
		Progress: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("image %v, machine %v, boots %+v", result.Built.Round(time.Second), result.Ran.Round(time.Second), result.Boots)
	if len(result.Boots) != 2 || result.Boots[0].Status != 0 || result.Status() != 3 {
		for _, name := range []string{"boot1.log", "boot2.log"} {
			log, err := os.ReadFile(filepath.Join(out, name))
			t.Logf("%s: %v\n%s", name, err, log)
		}
		t.Errorf("got %+v, want boots with status 0 and 3", result.Boots)
	}
	if got, err := os.ReadFile(filepath.Join(out, "result")); err != nil || string(got) != "written in the machine\n" {
		t.Errorf("result is %q, %v", got, err)
	}
	if console, err := os.Stat(filepath.Join(out, "console.log")); err != nil || console.Size() < 10_000 {
		t.Errorf("console.log: %v, %v", console, err)
	}
}
