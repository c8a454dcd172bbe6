package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What can't be looked into is told in a line of its own, and never comes out as fine.
func TestInspectWrongInput(t *testing.T) {
	dir := t.TempDir()
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() { // where a file may have 64 TiB
		if dir, err = os.MkdirTemp("/dev/shm", "inspect"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string, size int64) string {
		f, err := os.Create(path(name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(size); err != nil {
			t.Skipf("NOT RUN: a sparse file of %d bytes: %v", size, err)
		}
		return f.Name()
	}
	if err := unix.Mkfifo(path("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	busy := write("busy", "", 1<<20)
	swap := make([]byte, 4096)
	copy(swap[4086:], "SWAPSPACE2")
	swap[1024], swap[1028] = 1, 255 // version 1, and the last page of 256
	if err := os.WriteFile(busy, append(swap, make([]byte, 1<<20-4096)...), 0o600); err != nil {
		t.Fatal(err)
	}
	open, err := os.OpenFile(busy, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	user := exec.Command("sleep", "600")
	user.Stdin = open // what this process has open itself does not count
	if err := user.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = user.Process.Kill()
		_ = user.Wait()
	}()
	encrypted := write("encrypted", "", 16<<20)
	if _, err := exec.LookPath("cryptsetup"); err == nil {
		if err := os.WriteFile(path("key"), []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		c := exec.Command("cryptsetup", "-q", "luksFormat", "--type", "luks1", "--pbkdf-force-iterations", "1000", "--key-file", path("key"), encrypted)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	} else {
		encrypted = ""
	}
	for _, tc := range []struct {
		name, path, says string
		format           string
		status           int
	}{
		{"encrypted", encrypted, "encrypted: what is inside can't be seen without the key", "raw", exitUnknown},
		{"unknown", write("unknown", "nothing that anybody knows", 1<<20), "no format that is known has its signature there", "raw", exitUnknown},
		{"empty", write("empty", "", 0), "it has no bytes", "raw", exitUnknown},
		{"not a disk", path("fifo"), "neither a block device nor a regular file", "raw", exitUnknown},
		{"a folder", dir, "neither a block device nor a regular file", "raw", exitUnknown},
		{"no qcow2 image", write("raw.qcow2", "QFI\xfb", 1<<20), "not a qcow2 image", "qcow2", exitUnknown},
		{"in use", busy, "in use by sleep", "raw", exitUnknown},
		{"64 TiB, sparse", write("large", "", 64<<40), "are zeros", "raw", exitUnknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.path == "" {
				t.Skip("NOT RUN: cryptsetup is not installed")
			}
			var out bytes.Buffer
			// Who waits for a disk waits for it here, too, so this ends the test where
			// the command does not.
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			err := newApp(&out, &out).RunContext(ctx, []string{"bootrace", "inspect", "--image-format", tc.format, tc.path})
			var exit *exitError
			if !errors.As(err, &exit) || exit.status != tc.status {
				t.Errorf("status %v, want %d\n%s", err, tc.status, out.String())
			}
			said := strings.Join(strings.Fields(out.String()), " ")
			if !strings.Contains(said, filepath.Base(tc.path)) || !strings.Contains(said, tc.says) || strings.Contains(said, " fine") {
				t.Errorf("it says %s", out.String())
			}
			t.Log(out.String())
		})
	}
}
