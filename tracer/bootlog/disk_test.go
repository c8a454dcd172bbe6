package bootlog

import (
	"errors"
	"sync"
)

var errDead = errors.New("the power is gone")

// faultyDisk is a disk whose power fails at an operation: that one and all
// after it fail, clean-up included. Writes that fail get half of their bytes
// done. It can also refuse some operations for a while.
type faultyDisk struct {
	osDisk
	mu     sync.Mutex
	left   int // operations until the power fails, negative: never
	used   int
	refuse map[string]error // by operation: write, sync, truncate, open, rename, remove, syncdir, mkdir
}

func newFaultyDisk(left int) *faultyDisk {
	return &faultyDisk{left: left, refuse: make(map[string]error)}
}

func (d *faultyDisk) set(op string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse[op] = err
}

func (d *faultyDisk) op(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left == 0 {
		return errDead
	}
	d.left--
	d.used++
	return d.refuse[name]
}

func (d *faultyDisk) dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.left == 0
}

func (d *faultyDisk) Open(path string, flag int) (file, error) {
	if err := d.op("open"); err != nil {
		return nil, err
	}
	f, err := d.osDisk.Open(path, flag)
	if err != nil {
		return nil, err
	}
	return &faultyFile{f, d}, nil
}

func (d *faultyDisk) Mkdir(dir string) error {
	if err := d.op("mkdir"); err != nil {
		return err
	}
	return d.osDisk.Mkdir(dir)
}

func (d *faultyDisk) Rename(from, to string) error {
	if err := d.op("rename"); err != nil {
		return err
	}
	return d.osDisk.Rename(from, to)
}

func (d *faultyDisk) Remove(path string) error {
	if err := d.op("remove"); err != nil {
		return err
	}
	return d.osDisk.Remove(path)
}

func (d *faultyDisk) SyncDir(dir string) error {
	if err := d.op("syncdir"); err != nil {
		return err
	}
	return d.osDisk.SyncDir(dir)
}

type faultyFile struct {
	file
	d *faultyDisk
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.d.op("write"); err != nil {
		n, _ := f.file.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.file.WriteAt(p, off)
}

func (f *faultyFile) Sync() error {
	if err := f.d.op("sync"); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.d.op("truncate"); err != nil {
		return err
	}
	return f.file.Truncate(size)
}
