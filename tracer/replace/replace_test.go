package replace

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

var kinds = map[string]Options{
	"alone":    {Perm: 0o600, Sole: true},
	"shared":   {Perm: 0o600},
	"fleeting": {Perm: 0o644, Fleeting: true},
}

// has checks what a folder has: one file with that text and mode.
func has(t *testing.T, dir, text string, perm fs.FileMode) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "file" {
		t.Fatalf("%v, %v", entries, err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "file"))
	if err != nil || string(got) != text {
		t.Errorf("it has %.20q of %d bytes, %v; want %.20q", got, len(got), err, text)
	}
	if info, err := os.Lstat(filepath.Join(dir, "file")); err != nil || info.Mode() != perm {
		t.Errorf("it is %v, %v; want %v", info.Mode(), err, perm)
	}
}

func TestReplace(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	for name, o := range kinds {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			for _, text := range []string{"one", "the other", ""} {
				if err := Bytes(path, []byte(text), o); err != nil {
					t.Fatal(err)
				}
				has(t, dir, text, o.Perm)
				if err := os.Chmod(path, 0o640); err != nil { // the next one's is its own
					t.Fatal(err)
				}
			}
			f, err := Create(path, o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write([]byte("half")); err != nil {
				t.Error(err)
			}
			if err := f.Abandon(); err != nil {
				t.Error(err)
			}
			has(t, dir, "", 0o640)
		})
	}
}

// A writer that was killed is in nobody's way, and a link leads nowhere.
func TestReplaceFollowsNoLink(t *testing.T) {
	for name, o := range kinds {
		t.Run(name, func(t *testing.T) {
			dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
			path := filepath.Join(dir, "file")
			err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), os.Symlink(victim, path))
			if o.Sole {
				err = errors.Join(err, os.Symlink(victim, path+Suffix))
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := Bytes(path, []byte("new"), o); err != nil {
				t.Fatal(err)
			}
			has(t, dir, "new", o.Perm)
			if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
				t.Errorf("what the link led to has %q, %v", text, err)
			}
		})
	}
}

// Where it can't be written, the old file stays as it was, and nothing beside it.
func TestReplaceFails(t *testing.T) {
	for name, o := range kinds {
		t.Run(name+", the disk is full", func(t *testing.T) {
			dir := small(t)
			path := filepath.Join(dir, "file")
			if err := Bytes(path, []byte("old"), o); err != nil {
				t.Fatal(err)
			}
			if err := Bytes(path, bytes.Repeat([]byte("x"), 1<<20), o); !errors.Is(err, unix.ENOSPC) {
				t.Errorf("written: %v", err)
			}
			has(t, dir, "old", o.Perm)
		})
		t.Run(name+", it may not be written", func(t *testing.T) {
			dir := small(t)
			path := filepath.Join(dir, "file")
			if err := Bytes(path, []byte("old"), o); err != nil {
				t.Fatal(err)
			}
			f, err := Create(path, o)
			if err != nil {
				t.Fatal(err)
			}
			// The folder is in the way of the rename: where no rename can be.
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700), os.WriteFile(path+"/x", nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			if err := f.Commit(); err == nil {
				t.Error("a folder was replaced")
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
				t.Errorf("%v, %v", entries, err)
			}
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			if err := Bytes(path, []byte("new"), o); !errors.Is(err, unix.EROFS) {
				t.Errorf("written: %v", err)
			}
		})
		t.Run(name+", without a folder", func(t *testing.T) {
			if err := Bytes(filepath.Join(t.TempDir(), "none", "file"), nil, o); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		})
	}
}

// small is a file system with room for little.
func small(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: needs root to mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Skip("NOT TESTED:", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Who reads meanwhile finds one of the files, whole, and the last of several writers stays.
func TestReplaceWhileOthersRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	texts := [][]byte{bytes.Repeat([]byte("a"), 100_000), bytes.Repeat([]byte("b"), 200_000)}
	if err := Bytes(path, texts[0], Options{Perm: 0o600}); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for _, text := range texts {
		writers.Go(func() {
			for range 20 {
				if err := Bytes(path, text, Options{Perm: 0o600, Fleeting: true}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for reads := 0; ; reads++ {
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, texts[0]) && !bytes.Equal(got, texts[1]) {
			t.Fatalf("read %d: %d bytes, %v", reads, len(got), err)
		}
		select {
		case <-done:
			has(t, dir, string(got), 0o600)
			return
		default:
		}
	}
}
