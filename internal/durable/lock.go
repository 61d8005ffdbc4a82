package durable

import (
	"errors"
	"fmt"
	"os"
)

// ErrInUse is what the error of a lock wraps if another process holds it. Another
// lock of the same process counts as one.
var ErrInUse = errors.New("in use by another process")

// Lock is exclusive use of a directory or file. It ends with Close or with the
// process.
type Lock struct{ f File }

// Close ends the lock.
func (l *Lock) Close() error { return l.f.Close() }

// Lock locks the directory itself. If another process has done so, the error
// wraps [ErrInUse]. The lock does not end with d.
func (d *Dir) Lock() (*Lock, error) { return d.lock(".", os.O_RDONLY, false) }

// LockWait is Lock, but waits for the other process.
func (d *Dir) LockWait() (*Lock, error) { return d.lock(".", os.O_RDONLY, true) }

// LockFile locks the file name, which is made with mode 0600 if need be. If
// another process has done so, the error wraps [ErrInUse].
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

// LockOpen locks an open file of the operating system until it is closed. If
// another process holds the lock, the error is [ErrInUse].
func LockOpen(f File) error { return osLayer{}.Lock(f, false) }
