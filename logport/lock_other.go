//go:build !unix

package logport

import (
	"errors"
	"os"
)

var errLocked = errors.New("locked by another process")

// lockFile is not built here: a slot cannot be taken, and all stays in memory.
func lockFile(*os.File) error { return errors.New("files are not locked on this platform") }
