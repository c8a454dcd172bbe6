package hold

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// anyGuard can guard everything.
type anyGuard struct{}

func (anyGuard) Guard(string) error   { return nil }
func (anyGuard) Unguard(string) error { return nil }

// While many programs are upgraded at a time, each is there up to three times. That
// is no pattern that matches too many.
func TestUpgradeOfMany(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	p, err := newPrograms([]string{filepath.Join(dir, "qemu-system-*")}, anyGuard{}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	guarded := func() int {
		if err := p.scan(); err != nil {
			t.Fatal(err)
		}
		list, _ := p.list()
		return len(list)
	}
	for i := range maxPrograms {
		name := fmt.Sprint("qemu-system-", i)
		put(name, 0o755)
		put(name+".dpkg-new", 0) // dpkg gives it rights before the rename
		put(name+";5f3a9c01", 0o755)
		if err := os.Link(filepath.Join(dir, name), filepath.Join(dir, name+".dpkg-tmp")); err != nil {
			t.Fatal(err)
		}
	}
	if n := guarded(); n != 3*maxPrograms || log.Len() > 0 {
		t.Errorf("%d files are guarded, log:\n%s", n, &log)
	}
	put("qemu-system-one-more", 0o755)
	if n := guarded(); n != 0 || !strings.Contains(log.String(), "matches=65 limit=64") {
		t.Errorf("%d files are guarded of a pattern that matches too many, log:\n%s", n, &log)
	}
}
