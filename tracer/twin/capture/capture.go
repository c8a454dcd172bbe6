// Package capture writes what a twin of this host needs into one file: see package twin
// for the file's form.
//
// It only reads. Disks are opened read-only, and of each only those stretches are read
// that say what is on it: the partition table, labels and metadata of LVM, and the header
// of a qcow2 image in a volume. Guests' disks, images and data are never read beyond
// that. Files with secrets are left out, or go in without them.
package capture

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/twin"
)

// Options say what is captured.
type Options struct {
	// Root is the folder that the host's files, /proc, /sys and /dev are below: "/" on a
	// host.
	Root string
	// Boots are the recorded ones, the latest first.
	Boots   []bootlog.Boot
	Program string // version of bootrace
	// Exclude are further folders to leave out, as absolute paths.
	Exclude []string
	Now     time.Time
}

// Capture is a host that was looked at, and what of it will be written.
type Capture struct {
	o        Options
	manifest twin.Manifest
	files    []file
	bytes    int64
	kernel   string // path of the kernel
	initrd   string
	sources  map[string]string // how to open a disk, by its name
}

// Look finds out what there is to capture. It reads no file of the root but a few
// settings.
func Look(ctx context.Context, o Options) (*Capture, error) {
	c := &Capture{o: o, sources: map[string]string{}}
	m := &c.manifest
	m.FormatVersion, m.Program = twin.FormatVersion, o.Program
	m.Disks, m.Others, m.Hypervisors, m.Guests = []twin.Disk{}, []twin.Other{}, []twin.Hypervisor{}, []twin.Guest{}
	m.FileSystems, m.LeftOut, m.Missing = []twin.FileSystem{}, []twin.LeftOut{}, []string{}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("ask the kernel for its name: %w", err)
	}
	m.Host, m.Kernel, m.Machine = unix.ByteSliceToString(uts.Nodename[:]), unix.ByteSliceToString(uts.Release[:]), unix.ByteSliceToString(uts.Machine[:])
	line, err := os.ReadFile(c.path("proc/cmdline"))
	if err != nil {
		return nil, fmt.Errorf("read the kernel's command line: %w", err)
	}
	m.CommandLine = strings.TrimSpace(guest.RedactText(string(line)))
	for _, step := range []func(context.Context) error{c.boot, c.disks, c.root, c.list, c.guests} {
		if err := step(ctx); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
	}
	return c, nil
}

// Bytes is how large the capture will be at the most, before it is packed.
func (c *Capture) Bytes() int64 { return c.bytes }

// Manifest describes what was found. LeftOut grows while the capture is written.
func (c *Capture) Manifest() *twin.Manifest { return &c.manifest }

func (c *Capture) path(name string) string { return filepath.Join(c.o.Root, name) }

func (c *Capture) missing(format string, args ...any) {
	c.manifest.Missing = append(c.manifest.Missing, fmt.Sprintf(format, args...))
}

func (c *Capture) leftOut(path, why string, bytes int64) {
	c.manifest.LeftOut = append(c.manifest.LeftOut, twin.LeftOut{Path: path, Why: why, Bytes: bytes})
}

// boot finds the kernel that runs, and its initramfs.
func (c *Capture) boot(context.Context) error {
	release := c.manifest.Kernel
	var err error
	if c.kernel, err = c.first("the kernel", "boot/vmlinuz-"+release, "usr/lib/modules/"+release+"/vmlinuz", "lib/modules/"+release+"/vmlinuz"); err != nil {
		return err
	}
	c.initrd, err = c.first("the initramfs", "boot/initrd.img-"+release, "boot/initramfs-"+release+".img", "boot/initrd-"+release)
	return err
}

// first is the first of some files that is there.
func (c *Capture) first(what string, names ...string) (string, error) {
	for _, name := range names {
		info, err := os.Stat(c.path(name))
		if err == nil && info.Mode().IsRegular() {
			c.bytes += info.Size()
			return c.path(name), nil
		}
	}
	return "", fmt.Errorf("%s is in none of the usual places, /%s: mount /boot", what, strings.Join(names, ", /"))
}

// Write writes the capture.
func (c *Capture) Write(ctx context.Context, w io.Writer) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	a := &archive{tar: tar.NewWriter(z), now: c.o.Now}
	for name, path := range map[string]string{twin.KernelName: c.kernel, twin.InitrdName: c.initrd} {
		if err := a.copy(name, path); err != nil {
			return fmt.Errorf("capture %s: %w", path, err)
		}
	}
	if err := c.writePieces(a); err != nil {
		return err
	}
	for i := range c.files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := c.writeFile(a, &c.files[i]); err != nil {
			return err
		}
	}
	slices.SortFunc(c.manifest.LeftOut, func(a, b twin.LeftOut) int { return strings.Compare(a.Path, b.Path) })
	text, err := json.MarshalIndent(c.manifest, "", " ")
	if err != nil {
		return err
	}
	if err := a.put(twin.ManifestName, text); err != nil {
		return err
	}
	if err := errors.Join(a.tar.Close(), z.Close()); err != nil {
		return fmt.Errorf("write the capture: %w", err)
	}
	return nil
}

// archive writes entries.
type archive struct {
	tar *tar.Writer
	now time.Time
}

func (a *archive) put(name string, data []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(data)), ModTime: a.now, Format: tar.FormatPAX}
	if err := a.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("write the capture: %w", err)
	}
	if _, err := a.tar.Write(data); err != nil {
		return fmt.Errorf("write the capture: %w", err)
	}
	return nil
}

// copy puts a file of the host.
func (a *archive) copy(name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: info.Size(), ModTime: a.now, Format: tar.FormatPAX}
	if err := a.tar.WriteHeader(h); err != nil {
		return err
	}
	return a.fill(f, info.Size())
}

// fill writes exactly size bytes of r: what a file lost meanwhile becomes zeros.
func (a *archive) fill(r io.Reader, size int64) error {
	n, err := io.Copy(a.tar, io.LimitReader(r, size))
	if err != nil {
		return err
	}
	_, err = io.CopyN(a.tar, zeros{}, size-n)
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Room says whether the folder has room for a file of that many bytes.
func Room(dir string, bytes int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("ask for the room in %s: %w", dir, err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < uint64(bytes) {
		return fmt.Errorf("%s has room for %s, and up to %s may be needed: choose another folder", dir, humanize.IBytes(free), humanize.IBytes(uint64(bytes)))
	}
	return nil
}
