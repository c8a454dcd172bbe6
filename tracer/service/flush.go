package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bootrace/bootrace/tracer/control"
)

// flushed is the file in RunDir that exists while the state folder can be
// written. It tells an instance that starts later, too.
const flushed = "flushed"

// Flush says that the state folder is writable from now on, to the running
// instance and to those that come.
func Flush(ctx context.Context) error {
	if err := os.MkdirAll(RunDir, 0o700); err != nil {
		return fmt.Errorf("note that the disk is writable: %w", err)
	}
	if err := os.WriteFile(filepath.Join(RunDir, flushed), nil, 0o600); err != nil {
		return fmt.Errorf("note that the disk is writable: %w", err)
	}
	return ask(ctx, control.Flush)
}

// Relinquish says that the state folder is about to go.
func Relinquish(ctx context.Context) error {
	if err := os.Remove(filepath.Join(RunDir, flushed)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note that the disk is not writable: %w", err)
	}
	return ask(ctx, control.Relinquish)
}

// ask is no error without a service: there is nothing to move then.
func ask(ctx context.Context, do string) error {
	err := control.Call(ctx, control.Socket, control.Request{Do: do}, nil)
	if errors.Is(err, control.ErrNoService) {
		return nil
	}
	return err
}
