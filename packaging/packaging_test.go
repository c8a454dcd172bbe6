// Package packaging tests what is installed.
package packaging

import (
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
			text := runHook(t, "# hunter2\n"+export+settings)
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

// runHook returns the configuration that the hook puts into an initramfs. The
// places outside a test's folder are replaced in it.
func runHook(t *testing.T, text string) string {
	t.Helper()
	hook, err := os.ReadFile("initramfs-tools/hooks/bootrace")
	if err != nil {
		t.Fatal(err)
	}
	host, initramfs := t.TempDir(), t.TempDir()
	script := strings.NewReplacer(
		". /usr/share/initramfs-tools/hook-functions", "copy_exec() { :; }",
		"@LIBEXECDIR@/bootraced", "/bin/sh",
		"config=/etc", "config="+host+"/etc",
		`"$DESTDIR$config"`, `"$DESTDIR/etc/bootrace/config.yaml"`,
	).Replace(string(hook))
	if err := os.MkdirAll(filepath.Join(host, "etc/bootrace"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(host, "etc/bootrace/config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Env = append(os.Environ(), "DESTDIR="+initramfs)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("the hook: %v: %s", err, out)
	}
	got, err := os.ReadFile(filepath.Join(initramfs, "etc/bootrace/config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}
