package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/klauspost/compress/gzip"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/report"
)

// fromStdin is the BOOT that is read from standard input.
const fromStdin = "-"

// maxUnpacked is as large as a log may be that is unpacked for one command, in
// bytes: sixteen times what a boot may log by default. A small file can unpack to
// any size.
const maxUnpacked = 1 << 30

// findLog is Store.Find, which knows of the store's own form of logs: a log can
// also come by mail, packed as its sender packs, or from a pipe.
func findLog(c *cli.Context, store *bootlog.Store, ref string) (bootlog.Boot, error) {
	if ref == fromStdin {
		in, ok := c.App.Reader.(*os.File)
		if ok && term.IsTerminal(int(in.Fd())) {
			return bootlog.Boot{}, usageError("%s -: reads a log from standard input, which is a terminal: redirect a file or a pipe into it", c.Command.Name)
		}
		return unpack(c, store, c.App.Reader, "from standard input")
	}
	if path, place, ok := reportRef(ref); ok {
		return bootOfReport(c, path, place)
	}
	boot, err := store.Find(ref)
	if err == nil || !packed(ref) {
		return boot, err
	}
	f, openErr := os.Open(ref)
	if openErr != nil {
		return boot, cmp.Or(err, openErr)
	}
	defer f.Close()
	return unpack(c, store, f, ref)
}

// What a packed log begins with.
var (
	gzipMagic = []byte{0x1f, 0x8b}
	xzMagic   = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
)

// packed reports whether path is a file that unpack unpacks.
func packed(path string) bool {
	// Opening a pipe that nobody writes would wait for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false
	}
	var head [6]byte
	n, _ := f.ReadAt(head[:], 0)
	return bytes.HasPrefix(head[:n], gzipMagic) || bytes.HasPrefix(head[:n], xzMagic)
}

// unpack has in, which may be packed, as a file that the store can read as often
// as it wants, and that is gone when the program ends. name is what errors call it.
// Of what is cut short or damaged the beginning is read, and that is said.
func unpack(c *cli.Context, store *bootlog.Store, in io.Reader, name string) (bootlog.Boot, error) {
	path, damage := unpackedFile(in)
	if damage != nil && !isCut(damage) {
		return bootlog.Boot{}, fmt.Errorf("open boot log %s: %w", name, damage)
	}
	if report.Is(path) {
		boot, err := bootOfReport(c, path, "0")
		if err != nil {
			return boot, errors.New(strings.ReplaceAll(err.Error(), path, name))
		}
		return boot, nil
	}
	boot, err := store.Find(path)
	switch {
	case err != nil && damage != nil: // nothing of it can be read
		return bootlog.Boot{}, fmt.Errorf("open boot log %s: %w", name, damage)
	case err != nil: // it names a path that means nothing to a reader
		return boot, errors.New(strings.ReplaceAll(err.Error(), path, name))
	case damage != nil:
		noteCut(c, name, damage)
	}
	return boot, nil
}

// cutError says that something packed ends early, or is damaged; what comes before that
// was unpacked.
type cutError struct{ err error }

func (e *cutError) Error() string { return e.err.Error() }
func (e *cutError) Unwrap() error { return e.err }

func isCut(err error) bool { return errors.As(err, new(*cutError)) }

func noteCut(c *cli.Context, name string, err error) {
	fmt.Fprintf(c.App.ErrWriter, "bootrace: note: %s is cut short or damaged: what comes before that is read: %s\n", name, oneLine(err))
}

func unpackedFile(in io.Reader) (path string, err error) {
	text := bufio.NewReaderSize(in, 64<<10)
	head, err := text.Peek(len(xzMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return keptFile(&bounded{left: maxUnpacked}, func(out io.Writer) error {
		switch {
		case bytes.HasPrefix(head, gzipMagic):
			return gunzip(out, text)
		case bytes.HasPrefix(head, xzMagic):
			return unxz(out, text)
		}
		return copyAll(out, text)
	})
}

// keptFile has what write writes, as far as bound lets it, in a file that has no name,
// and is gone when the program ends. Where the error is a *cutError, the file has what
// was written until then, and a torn line for the rest.
func keptFile(out *bounded, write func(io.Writer) error) (path string, err error) {
	f, err := os.CreateTemp("", "bootrace-*")
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return "", err
	}
	out.to = f
	var damage error
	err = write(out)
	if errors.Is(err, errTooLarge) || out.full {
		return "", errTooLarge
	}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) { // such as a full disk; the path is gone already
		return "", fmt.Errorf("unpack it into %s: %w", os.TempDir(), pathErr.Err)
	}
	if damage = err; isCut(err) {
		_, err = f.WriteString("{")
	}
	if err != nil {
		return "", err
	}
	// A number of its own, which no finalizer closes: the log is opened again and
	// again until the program ends.
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), damage
}

// copyAll copies; that from ends early, or can't be read, is a *cutError.
func copyAll(to io.Writer, from io.Reader) error {
	_, err := io.Copy(to, from)
	var pathErr *fs.PathError
	if err == nil || errors.Is(err, errTooLarge) || errors.As(err, &pathErr) {
		return err
	}
	return &cutError{err}
}

func gunzip(to io.Writer, from io.Reader) error {
	r, err := gzip.NewReader(from)
	if err != nil {
		return fmt.Errorf("unpack gzip: %w", err)
	}
	defer r.Close()
	if err := copyAll(to, r); err != nil {
		return fmt.Errorf("unpack gzip: %w", err)
	}
	return nil
}

// unxz has xz do it, whose memory can be bounded: a file says itself how much it
// wants, and `xz -9` 65 MiB.
func unxz(to io.Writer, from io.Reader) error {
	var said bytes.Buffer
	cmd := exec.Command("xz", "--decompress", "--stdout", "--memlimit-decompress=128MiB")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = from, to, &bounded{to: &said, left: 4096}
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return errors.New("it is packed with xz, which is not installed here: install xz-utils, or unpack it elsewhere")
	case said.Len() > 0:
		return &cutError{fmt.Errorf("unpack xz: %s", strings.TrimSpace(said.String()))}
	case err != nil:
		return fmt.Errorf("unpack xz: %w", err)
	}
	return nil
}

var errTooLarge = errors.New("it unpacks to more than " + humanize.IBytes(maxUnpacked) + ", which no boot's log is: unpack it yourself if it is one")

// bounded takes no more than left bytes.
type bounded struct {
	to   io.Writer
	left int64
	full bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		b.full = true
		return 0, errTooLarge
	}
	b.left -= int64(len(p))
	return b.to.Write(p)
}
