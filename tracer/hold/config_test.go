package hold

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A guest's -readconfig names a file that is foreign: a regular one is read,
// and nothing else makes us wait.
func TestReadConfig(t *testing.T) {
	dir := t.TempDir()
	task := &Task{PID: os.Getpid(), TID: os.Getpid(), Cwd: dir}
	if err := os.WriteFile(filepath.Join(dir, "plain"), []byte("[name]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := readConfig(task, "plain"); err != nil || string(data) != "[name]\n" {
		t.Errorf("a file in the working directory: %q, %v", data, err)
	}
	if err := os.Symlink(filepath.Join(dir, "plain"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if data, err := readConfig(task, filepath.Join(dir, "link")); err != nil || string(data) != "[name]\n" {
		t.Errorf("through an absolute link: %q, %v", data, err)
	}
	task.Cwd = ""
	if _, err := readConfig(task, "plain"); err == nil {
		t.Error("a relative path was read without a working directory")
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := readConfig(task, filepath.Join(dir, "pipe"))
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a pipe was read")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("waits for somebody to write into a pipe")
	}
}
