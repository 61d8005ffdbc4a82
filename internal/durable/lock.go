package durable

import (
	"errors"
	"fmt"
	"os"
)

// ErrInUse says that another holds a lock: another process, or another Lock of
// this one.
var ErrInUse = errors.New("in use by another process")

// Lock is exclusive use of a directory or file, among those that lock it. It ends
// with Close, with the process, or when the Lock is garbage.
type Lock struct{ f File }

// Close ends the lock.
func (l *Lock) Close() error { return l.f.Close() }

// Lock locks the directory itself. If it is locked already, the error wraps
// [ErrInUse]. The lock does not end when d is closed. On a platform without file
// locks the error wraps [errors.ErrUnsupported].
func (d *Dir) Lock() (*Lock, error) { return d.lock(".", os.O_RDONLY, false) }

// LockWait is Lock, but waits until the directory is free.
func (d *Dir) LockWait() (*Lock, error) { return d.lock(".", os.O_RDONLY, true) }

// LockFile is Lock for the file name, which it makes with mode 0600 if need be.
func (d *Dir) LockFile(name string) (*Lock, error) {
	return d.lock(name, os.O_RDWR|os.O_CREATE, false)
}

func (d *Dir) lock(name string, flag int, wait bool) (*Lock, error) {
	f, err := d.layer.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	if err := d.layer.Lock(f, wait); err != nil {
		f.Close()
		if errors.Is(err, ErrInUse) {
			err = fmt.Errorf("%s: %w", d.name, err)
		}
		return nil, err
	}
	return &Lock{f}, nil
}

// LockOpen locks an open file, an [*os.File], until it is closed. If it is locked
// already, the error is [ErrInUse].
func LockOpen(f File) error { return osLayer{}.Lock(f, false) }
