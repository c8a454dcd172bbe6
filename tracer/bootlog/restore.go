package bootlog

import (
	"context"
	"fmt"
	"os"
)

// FileName is the name of a boot's log while it is written.
func FileName(bootID string) string { return bootID + plainSuffix }

// Continues reports whether a Writer can go on with what is at path: nothing, or a
// log of that boot. A link is none, wherever it leads.
func Continues(path, bootID string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return os.IsNotExist(err)
	}
	if !info.Mode().IsRegular() {
		return false
	}
	if info.Size() == 0 {
		return true
	}
	l, err := Open(path)
	if err != nil {
		return false
	}
	defer l.Close()
	return l.header.BootID == bootID
}

// Restore looks whether the log's file still has its name. Where somebody removed
// it, or its folder, all of the log is written there once more: an open file lives
// on without a name, and would be gone with its Writer.
func (w *Writer) Restore(ctx context.Context) (restored bool, err error) {
	err = w.request(ctx, func() error {
		var err error
		if restored, err = w.restore(); err != nil {
			return fmt.Errorf("restore boot log %s: %w", w.path(), err)
		}
		return nil
	})
	select {
	case <-w.done: // closed: its file may go
		return false, nil
	default:
	}
	return restored, err
}
