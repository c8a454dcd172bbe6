package lab

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const script = "#!/bin/sh\n"

// write makes the files of a test; those with an interpreter are executable.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadScenario(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"boot1.sh": script, "boot2.sh": script, "helper.sh": "x", "rootfs/etc/motd": "hello",
	})
	s, err := ReadScenario(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := Scenario{Dir: dir, Boots: 2, Rootfs: filepath.Join(dir, "rootfs")}
	if s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
}

func TestScenariosShareARoot(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a/boot1.sh": script, "b/boot1.sh": script, "c/boot1.sh": script, "a/rootfs/etc/motd": "hello"})
	for at, to := range map[string]string{"b": filepath.Join("..", "a", "rootfs"), "c": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(dir, at, "rootfs")); err != nil {
			t.Fatal(err)
		}
	}
	s, err := ReadScenario(filepath.Join(dir, "b"))
	if want := filepath.Join(dir, "a", "rootfs"); err != nil || s.Rootfs != want {
		t.Errorf("got %q, %v, want %q", s.Rootfs, err, want)
	}
	if _, err := ReadScenario(filepath.Join(dir, "c")); err == nil {
		t.Error("no error for a root that leads nowhere")
	}
}

func TestScenariosShareAScript(t *testing.T) {
	dir, machine := t.TempDir(), t.TempDir()
	write(t, dir, map[string]string{"a/boot1.sh": script + "echo of a\n", "b/boot2.sh": script})
	if err := os.Symlink(filepath.Join("..", "a", "boot1.sh"), filepath.Join(dir, "b", "boot1.sh")); err != nil {
		t.Fatal(err)
	}
	s, err := ReadScenario(filepath.Join(dir, "b"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.copyTo(machine); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(machine, "boot1.sh"))
	if info, _ := os.Lstat(filepath.Join(machine, "boot1.sh")); err != nil || string(got) != script+"echo of a\n" || info.Mode() != 0o755 {
		t.Errorf("the machine gets %q, %v, %v", got, err, info)
	}
}

func TestReadScenarioErrors(t *testing.T) {
	tests := map[string]struct {
		files map[string]string
		want  string
	}{
		"empty":          {nil, "no boot1.sh"},
		"gap":            {map[string]string{"boot1.sh": script, "boot3.sh": script}, "boot2.sh is missing"},
		"no first":       {map[string]string{"boot2.sh": script}, "boot1.sh is missing"},
		"from zero":      {map[string]string{"boot0.sh": script, "boot1.sh": script}, "boot2.sh is missing"},
		"leading zero":   {map[string]string{"boot1.sh": script, "boot2.sh": script, "boot02.sh": script, "boot3.sh": script, "boot4.sh": script}, "without leading zeros"},
		"no interpreter": {map[string]string{"boot1.sh": "echo"}, "not executable"},
		"empty script":   {map[string]string{"boot1.sh": ""}, "not executable"},
		"a folder":       {map[string]string{"boot1.sh/x": ""}, "not a regular file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, tt.files)
			_, err := ReadScenario(dir)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want an error about %s with %q", err, dir, tt.want)
			}
		})
	}
}

func TestReadScenarioWithoutInterpreter(t *testing.T) {
	for _, text := range []string{"", "#", "echo hello\n"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "boot1.sh")
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadScenario(dir); err == nil || !strings.Contains(err.Error(), "#!/bin/sh") {
			t.Errorf("script %q: got %v, want an error that names the remedy", text, err)
		}
	}
}

func TestReadScenarioThatIsNotThere(t *testing.T) {
	if _, err := ReadScenario(filepath.Join(t.TempDir(), "no")); err == nil {
		t.Error("got no error")
	}
}
