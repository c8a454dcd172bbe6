package scenarios

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/kernels"
	"github.com/bootrace/bootrace/kernels/lab"
	"github.com/bootrace/bootrace/tracer/check"
)

// A host that has nothing but Debian takes the package as the README says: its next boot
// is recorded from the initramfs on, and says which guest came too early. An upgrade
// while a guest is held denies nothing, and a purge leaves the host as it was.
func TestPackages(t *testing.T) {
	for _, name := range []string{"6.1", "6.12"} {
		t.Run(name, func(t *testing.T) {
			old, newer := packageOf(t, "before/bootrace_*_amd64.deb"), packageOf(t, "bootrace_*_amd64.deb")
			out, _ := play(t, "packages", func(o *lab.Options) {
				kernel, err := kernels.Find(name)
				if err != nil {
					t.Fatal(err)
				}
				o.Kernel, o.Userland, o.OwnInitramfs = name, kernel.Suite, true
				o.Install, o.Enable = packagesThere(old, newer), []string{}
				o.Timeout = time.Hour
			})
			checkPackages(t, out)
		})
	}
}

// packageOf returns the one package of that name that was made.
func packageOf(t *testing.T, pattern string) string {
	t.Helper()
	dir := os.Getenv("BOOTRACE_PACKAGES")
	if dir == "" {
		t.Skip("NOT RUN: `make packages-test` runs it")
	}
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in %s: %v, %v", pattern, dir, found, err)
	}
	return found[0]
}

// packagesThere has the packages lie in a folder of the host, and installs nothing.
func packagesThere(old, newer string) lab.Install {
	return func(_ context.Context, root string) error {
		dir := filepath.Join(root, "opt/packages")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for name, from := range map[string]string{"old.deb": old, "new.deb": newer} {
			data, err := os.ReadFile(from)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
				return err
			}
		}
		return nil
	}
}

func checkPackages(t *testing.T, out string) {
	t.Helper()
	tl := readTimeline(t, filepath.Join(out, "trace.json"))
	if !tl.Complete {
		t.Errorf("the first recorded boot is not complete: %+v", tl.Incomplete)
	}
	if got := strings.Join(kinds(tl), ", "); got != "web-a missing, web-a would-hold" {
		t.Errorf("findings: %s", got)
	}
	m := mappingNamed(t, tl, "vg0-db--b")
	if len(m.Lives) != 1 || m.Lives[0].Backfilled {
		t.Errorf("vg0-db--b was not seen being created: %+v", m.Lives)
	}
	if item := readReport(t, out, "check").item(t, "early start"); item.Grade != check.Good {
		t.Errorf("check says %+v", item)
	}
	for name, what := range map[string]string{
		"left.txt": "files", "units.txt": "units", "probes.txt": "probes",
	} {
		text, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || strings.TrimSpace(string(text)) != "" {
			t.Errorf("a purge leaves %s: %v\n%s", what, err, text)
		}
	}
}
