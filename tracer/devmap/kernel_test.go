package devmap

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAvailable(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  bool
	}{
		"module":     {map[string]string{"lib/modules/1/modules.dep": "kernel/drivers/md/dm-mod.ko.xz: kernel/drivers/dax/dax.ko.xz\n"}, true},
		"built in":   {map[string]string{"lib/modules/1/modules.builtin": "kernel/drivers/md/dm-mod.ko\n"}, true},
		"none":       {map[string]string{"lib/modules/1/modules.dep": "kernel/drivers/md/dm-crypt.ko: kernel/drivers/md/dm-mod.ko\n", "proc/modules": ""}, false},
		"no lists":   {map[string]string{"proc/modules": ""}, true},
		"no modules": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range c.files {
				path := filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := Available(root, "1"); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestMajor(t *testing.T) {
	root := t.TempDir()
	if got := Major(root); got != 0 {
		t.Errorf("no list: %d", got)
	}
	if err := os.Mkdir(filepath.Join(root, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]uint32{
		"Character devices:\n  1 mem\n253 device-mapper\n\nBlock devices:\n  8 sd\n254 device-mapper\n": 254,
		"Character devices:\n  1 mem\n\nBlock devices:\n  8 sd\n":                                       0,
		"": 0,
	} {
		if err := os.WriteFile(filepath.Join(root, "proc/devices"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Major(root); got != want {
			t.Errorf("%q: %d", content, got)
		}
	}
}
