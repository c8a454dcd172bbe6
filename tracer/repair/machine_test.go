package repair

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// testKernel is what throwaway machines boot in tests: that of this host, or one that
// BOOTRACE_REPAIR_KERNEL and BOOTRACE_REPAIR_MODULES name.
func testKernel(t *testing.T) Kernel {
	t.Helper()
	if os.Getenv("BOOTRACE_REPAIR") == "" {
		t.Skip("boots virtual machines: make repair-test")
	}
	if image := os.Getenv("BOOTRACE_REPAIR_KERNEL"); image != "" {
		return Kernel{image, os.Getenv("BOOTRACE_REPAIR_MODULES")}
	}
	k, err := HostKernel()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Real damage is repaired by the real tools in a real machine, on a raw file, a loop
// device and a qcow2 image; the rehearsal writes nothing to the disk, and the undo
// gives it back byte for byte.
func TestRepair(t *testing.T) {
	kernel := testKernel(t)
	need(t, "xfs_repair", "e2fsck", "qemu-img", "qemu-nbd", "mkfs.xfs", "mkfs.ext4", "debugfs")
	xfs := func(t *testing.T) string {
		p := made(t, xfsSize, "mkfs.xfs", "-q")
		spoil(t, p, agfAt+40, "\xff\xff")
		return p
	}
	ext := func(t *testing.T) string {
		p := made(t, extSize, "mkfs.ext4", "-q", "-b", "4096", "-O", "metadata_csum,64bit")
		command(t, "debugfs", "-w", "-R", "mkdir kept", p)
		spoil(t, p, extGD, "\xff\xff")
		return p
	}
	for _, tc := range []struct {
		name   string
		disk   func(t *testing.T) string
		format string
		check  []string
	}{
		{"ext4 on a raw file", ext, "raw", []string{"e2fsck", "-f", "-n"}},
		{"xfs on a loop device", func(t *testing.T) string {
			out, err := exec.Command("losetup", "-f", "--show", xfs(t)).Output()
			if err != nil {
				t.Skip("no loop device: ", err)
			}
			dev := strings.TrimSpace(string(out))
			t.Cleanup(func() { _ = exec.Command("losetup", "-d", dev).Run() })
			return dev
		}, "raw", []string{"xfs_repair", "-n"}},
		{"ext4 in qcow2", func(t *testing.T) string {
			p := ext(t)
			command(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", p, p+".qcow2")
			return p + ".qcow2"
		}, "qcow2", []string{"e2fsck", "-f", "-n"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := tc.disk(t)
			before := content(t, path, tc.format)
			h, err := Hold(path, tc.format)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Release()
			targets, err := Targets(looked(path, tc.format))
			if err != nil {
				t.Fatal(err)
			}
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			dir := t.TempDir()
			r, err := Rehearse(context.Background(), h, &Job{
				Disk: path, Format: tc.format, Targets: targets, Kernel: kernel, Program: self, Dir: dir, Patience: 15 * time.Minute, Tell: func(s string) { t.Log(s) },
			})
			if err != nil {
				for _, log := range glob(dir, "*/console.log") {
					text, _ := os.ReadFile(log)
					t.Logf("%s", text[max(0, len(text)-3000):])
				}
				t.Fatal(err)
			}
			for _, res := range r.Results {
				for _, s := range res.Steps {
					t.Logf("%s: status %d, %d files, %.300q", s.What, s.Status, s.Files, s.Text)
				}
			}
			if r.Failed != "" || r.Blocks == 0 {
				t.Fatalf("failed: %q, %d blocks", r.Failed, r.Blocks)
			}
			t.Logf("rehearsed in %s: %d stretches, %d bytes", time.Since(begun).Round(time.Second), r.Blocks, r.Bytes)
			if content(t, path, tc.format) != before {
				t.Fatal("the rehearsal wrote to the disk")
			}
			if err := Apply(context.Background(), h, r.Changes); err != nil {
				t.Fatal(err)
			}
			after := content(t, path, tc.format)
			if _, err := Targets(looked(path, tc.format)); !IsRefusal(err) || !strings.Contains(err.Error(), "nothing") {
				t.Errorf("after the repair: %v", err)
			}
			if len(tc.check) > 0 {
				raw := path
				if tc.format != "raw" {
					raw = filepath.Join(t.TempDir(), "raw")
					command(t, "qemu-img", "convert", "-f", tc.format, "-O", "raw", path, raw)
				}
				command(t, tc.check[0], append(tc.check[1:], raw)...)
			}
			for _, step := range []struct {
				undo bool
				want string
			}{{true, before}, {false, after}, {true, before}} {
				if err := Restore(context.Background(), r.Changes, step.undo); err != nil {
					t.Fatal(err)
				}
				if content(t, path, tc.format) != step.want {
					t.Fatalf("undo %v does not give the disk back", step.undo)
				}
			}
		})
	}
}

// dirtyXFS makes an XFS that was shut down under its files.
func dirtyXFS(t *testing.T) string {
	t.Helper()
	need(t, "mkfs.xfs", "xfs_io", "mount", "umount")
	path, dir := made(t, xfsSize, "mkfs.xfs", "-q"), t.TempDir()
	if out, err := exec.Command("mount", "-o", "loop", path, dir).CombinedOutput(); err != nil {
		t.Skipf("this host can't mount XFS: %v: %s", err, out)
	}
	for i := range 500 {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), []byte("kept"), 0o600); err != nil {
			t.Error(err)
		}
	}
	out, err := exec.Command("xfs_io", "-x", "-c", "shutdown -f", dir).CombinedOutput()
	command(t, "umount", dir)
	if err != nil || t.Failed() {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// An XFS with a dirty log and a damaged header: the machine's kernel replays the log,
// or the repair says that it can't and writes nothing. A log that is only dirty is left
// to the guest.
func TestRepairDirty(t *testing.T) {
	kernel := testKernel(t)
	copied := dirtyXFS(t)
	if _, err := Targets(looked(copied, "raw")); !IsRefusal(err) || !strings.Contains(err.Error(), "the guest replays it") {
		t.Fatalf("only dirty: %v", err)
	}
	spoil(t, copied, agfAt+40, "\xff\xff")
	h, err := Hold(copied, "raw")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	before := sum(t, copied)
	targets, err := Targets(looked(copied, "raw"))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, drop := range []bool{false, true} {
		r, err := Rehearse(context.Background(), h, &Job{
			Disk: copied, Format: "raw", Targets: targets, DropLog: drop, Kernel: kernel, Program: self, Dir: t.TempDir(), Patience: 15 * time.Minute, Tell: func(s string) { t.Log(s) },
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, res := range r.Results {
			t.Logf("log thrown away: %v: %d files before, %d after: %+v", drop, res.Before, res.After, res.Steps)
		}
		if r.Failed != "" && (!r.LogStays || r.Changes != "" || drop) {
			t.Errorf("failed: %s", r.Failed)
		}
	}
	if sum(t, copied) != before {
		t.Error("the rehearsals wrote to the disk")
	}
}

// content is a sum of what a guest sees.
func content(t *testing.T, path, format string) string {
	t.Helper()
	if format == "raw" {
		return sum(t, path)
	}
	raw := filepath.Join(t.TempDir(), "content")
	command(t, "qemu-img", "convert", "-U", "-f", format, "-O", "raw", path, raw)
	defer os.Remove(raw)
	return sum(t, raw)
}

func glob(dir, pattern string) []string {
	list, _ := filepath.Glob(filepath.Join(dir, pattern))
	return list
}
