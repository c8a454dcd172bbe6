// Package initramfs writes what a kernel boots without a disk: a program as its init,
// other programs with their libraries, and the modules that these need.
package initramfs

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Modules lists the files of modules with those that they need, in the order to
// load them in, from a kernel's modules.dep (modules.dep(5)). What is built in, or not
// there at all, is left out.
func Modules(dir string, names []string) ([]string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	type entry struct {
		file  string
		needs []string
	}
	modules := map[string]entry{}
	for line := range strings.Lines(string(raw)) {
		file, needs, ok := strings.Cut(line, ":")
		if ok {
			modules[ModuleName(file)] = entry{file, strings.Fields(needs)}
		}
	}
	var list []string
	for _, name := range names {
		m, ok := modules[name]
		if !ok {
			continue
		}
		needs := slices.Clone(m.needs) // what others there need is last
		slices.Reverse(needs)
		for _, file := range append(needs, m.file) {
			if !slices.Contains(list, file) {
				list = append(list, file)
			}
		}
	}
	return list, nil
}

// ModuleName is the name of the module in a file.
func ModuleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// ReadModule returns a module as the kernel takes it.
func ReadModule(ctx context.Context, path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	switch filepath.Ext(path) {
	case ".xz":
		c := exec.CommandContext(ctx, "xz", "-dc")
		c.Stdin = bytes.NewReader(raw)
		if raw, err = c.Output(); err != nil {
			return nil, fmt.Errorf("unpack %s with xz: %w", path, err)
		}
		return raw, nil
	case ".zst":
		d, err := zstd.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return io.ReadAll(d)
	case ".gz":
		d, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(d)
	}
	return raw, nil
}

// Archive is a cpio archive in the "newc" form, as the kernel takes an initramfs
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type Archive struct {
	to    *bufio.Writer
	known map[string]bool
	ino   int
	err   error
}

// New begins an archive.
func New(w io.Writer) *Archive {
	return &Archive{to: bufio.NewWriterSize(w, 1<<20), known: map[string]bool{}}
}

// Add adds a file, and the folders that it is in.
func (a *Archive) Add(name string, data []byte, mode uint32) {
	if a.known[name] {
		return
	}
	parts := strings.Split(name, "/")
	for i := 1; i < len(parts); i++ {
		if dir := strings.Join(parts[:i], "/"); !a.known[dir] {
			a.entry(dir, nil, unix.S_IFDIR|0o755)
		}
	}
	a.entry(name, data, unix.S_IFREG|mode)
}

func (a *Archive) entry(name string, data []byte, mode uint32) {
	a.known[name] = true
	a.ino++
	pad := func(n int) string { return strings.Repeat("\x00", (4-n%4)%4) }
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	for _, part := range []string{head, pad(len(head)), string(data), pad(len(data))} {
		if a.err == nil {
			_, a.err = a.to.WriteString(part)
		}
	}
}

// Finish writes the end.
func (a *Archive) Finish() error {
	a.entry("TRAILER!!!", nil, 0)
	if a.err != nil {
		return a.err
	}
	return a.to.Flush()
}

// Program adds a program with the libraries that it loads.
func (a *Archive) Program(ctx context.Context, name, from string) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	a.Add(name, raw, 0o755)
	out, err := exec.CommandContext(ctx, "ldd", from).Output()
	if err != nil {
		return nil // it is static: ldd fails on such
	}
	for line := range strings.Lines(string(out)) {
		path := ""
		for _, field := range strings.Fields(line) {
			if strings.HasPrefix(field, "/") {
				path = field
			}
		}
		if path == "" {
			continue
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		a.Add(strings.TrimPrefix(path, "/"), raw, 0o755)
	}
	return nil
}
