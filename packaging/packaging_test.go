// Package packaging tests what is installed.
package packaging

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/config"
)

// What the hook puts into an initramfs, which all users may read, has the
// settings that count there, and no token.
func TestConfigInInitramfs(t *testing.T) {
	settings := "mode: enforce\nenforce:\n  deadline: 30s\nkeep-boots: 3\n"
	want, err := config.Parse([]byte(settings))
	if err != nil {
		t.Fatal(err)
	}
	for name, export := range map[string]string{
		"block":  "export:\n  endpoint: http://h:4318\n  headers:\n    # for Jaeger\n    authorization: Bearer hunter2\n\n  settle: 1m\n",
		"flow":   "export: {headers: {authorization: Bearer hunter2,\n  x: hunter2}}\n",
		"quoted": "\"export\":\n  headers: {authorization: Bearer hunter2}\n",
	} {
		t.Run(name, func(t *testing.T) {
			text := runHook(t, "# hunter2\n"+export+settings, true)
			if strings.Contains(text, "hunter2") {
				t.Errorf("a token is in the initramfs:\n%s", text)
			}
			got, err := config.Parse([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

// Where the service is not enabled, nothing starts in the initramfs.
func TestNotEnabled(t *testing.T) {
	if text := runHook(t, "mode: enforce\n", false); text != "" {
		t.Errorf("the initramfs has bootrace:\n%s", text)
	}
}

// runHook returns the configuration that the hook puts into an initramfs. The
// places outside a test's folder are replaced in it.
func runHook(t *testing.T, text string, enabled bool) string {
	t.Helper()
	hook, err := os.ReadFile("initramfs-tools/hooks/bootrace")
	if err != nil {
		t.Fatal(err)
	}
	host, initramfs := t.TempDir(), t.TempDir()
	script := strings.NewReplacer(
		". /usr/share/initramfs-tools/hook-functions", "copy_exec() { :; }",
		"@LIBEXECDIR@/bootraced", "/bin/sh",
		"cd /etc", "cd "+host+"/etc",
		"-L /etc/systemd/", "-L "+host+"/etc/systemd/",
	).Replace(string(hook))
	if err := os.MkdirAll(filepath.Join(host, "etc/bootrace"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(host, "etc/bootrace/config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	dropIn := filepath.Join(host, "etc/bootrace/config.d/50-site.yaml")
	if err := os.MkdirAll(filepath.Dir(dropIn), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dropIn, []byte("export:\n  headers: {authorization: s3cret}\nnear-miss: 2s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wants := filepath.Join(host, "etc/systemd/system/sysinit.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		t.Fatal(err)
	}
	if enabled {
		if err := os.Symlink("/usr/lib/systemd/system/bootrace.service", filepath.Join(wants, "bootrace.service")); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Env = append(os.Environ(), "DESTDIR="+initramfs)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("the hook: %v: %s", err, out)
	}
	// Drop-ins are there, too, and their secrets are not.
	if text, err := os.ReadFile(filepath.Join(initramfs, "etc/bootrace/config.d/50-site.yaml")); enabled && (err != nil || string(text) != "near-miss: 2s\n") {
		t.Errorf("the drop-in in the initramfs: %q, %v", text, err)
	}
	got, err := os.ReadFile(filepath.Join(initramfs, "etc/bootrace/config.yaml"))
	if err != nil && (enabled || !errors.Is(err, fs.ErrNotExist)) {
		t.Fatal(err)
	}
	return string(got)
}

// What the units may do doesn't grow unnoticed: systemd-analyze says how exposed
// each is, 0 to 10. bootrace.service says for each thing why it stays open.
func TestUnitsAreNarrow(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("NOT RUN: there is no systemd-analyze: install systemd")
	}
	if exec.Command(analyze, "security", "--help").Run() != nil || !offline(analyze) {
		t.Skip("NOT RUN: systemd-analyze security knows no --offline: it takes systemd 250")
	}
	for unit, most := range map[string]string{
		"bootrace.service": "55", "bootrace-early.service": "57", "bootrace-deliver.service": "39", "bootrace-metrics.service": "39",
	} {
		text, err := os.ReadFile("systemd/" + unit)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), unit)
		if err := os.WriteFile(path, []byte(strings.NewReplacer("@@LIBEXECDIR@/bootraced", "@/bin/sh", "@LIBEXECDIR@/bootraced", "/bin/sh", "@SBINDIR@/bootrace", "/bin/sh").Replace(string(text))), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+most, path).CombinedOutput()
		if err != nil {
			t.Errorf("%s is more exposed than %s tenths: %v\n%s", unit, most, err, out)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "Failed to parse") || strings.Contains(line, "Unknown") {
				t.Errorf("%s: %s", unit, line)
			}
		}
	}
}

func offline(analyze string) bool {
	out, _ := exec.Command(analyze, "--help").CombinedOutput()
	return strings.Contains(string(out), "--offline")
}
