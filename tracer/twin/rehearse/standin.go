package rehearse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
)

// IsStandin reports whether this program was executed in the place of a hypervisor.
func IsStandin(args []string) bool {
	return len(args) > 0 && guest.IsProgram(filepath.Base(args[0]))
}

// Standin is a hypervisor that opens the disks of its command line as qemu does, backing
// files included, and runs until ctx ends. Of a command line that starts no guest it says
// so, and fails: it can't answer questions.
func Standin(ctx context.Context, args []string) error {
	g := guest.Parse(args)
	if !g.IsGuest {
		return fmt.Errorf("this is the stand-in of a rehearsal, and no guest: %s", g.NotGuest)
	}
	var open []*os.File
	for i := range g.Disks {
		for img := range g.Disks[i].Images() {
			files, err := openImage(img, img.ReadOnly, 0)
			open = append(open, files...)
			if err != nil {
				return err
			}
		}
	}
	<-ctx.Done()
	for _, f := range open {
		f.Close()
	}
	return nil
}

// openImage opens an image, first to read its header and then for good, and what its
// header names.
func openImage(img *guest.Image, readOnly bool, depth int) ([]*os.File, error) {
	if img.Path == "" || img.Storage != guest.StorageFile {
		return nil, nil
	}
	if depth > image.MaxDepth {
		return nil, errors.New("the chain of backing files has no end")
	}
	mode := os.O_RDWR
	if readOnly {
		mode = os.O_RDONLY
	}
	probe, err := os.Open(img.Path)
	if err != nil {
		return nil, notOpened(img.Path, err)
	}
	h, headerErr := image.ReadHeader(probe)
	probe.Close()
	f, err := os.OpenFile(img.Path, mode, 0)
	if err != nil {
		return nil, notOpened(img.Path, err)
	}
	files := []*os.File{f}
	if headerErr != nil || img.Format == "raw" || h.Backing == "" || img.NoBacking || len(img.Backing) > 0 {
		return files, nil //nolint:nilerr // a raw image has no header
	}
	name := h.Backing
	if guest.IsRelative(name) {
		name = filepath.Join(filepath.Dir(img.Path), name)
	}
	backing, _ := guest.ParseFile(name, h.BackingFormat)
	more, err := openImage(&backing, true, depth+1)
	return append(files, more...), err
}

// notOpened is the error as qemu words it.
func notOpened(path string, err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Errorf("Could not open '%s': %w", path, err) //nolint:staticcheck // launchers look for qemu's words
}
