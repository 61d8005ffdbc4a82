//go:build unix

package logport

import (
	"errors"
	"os"
	"syscall"
)

// errLocked is the error of lockFile if another process holds the lock.
var errLocked = errors.New("locked by another process")

// lockFile locks f for this process as long as f is open.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return err
}
