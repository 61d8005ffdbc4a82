//go:build !unix

package durable

import (
	"errors"
	"os"
)

// syncDir does nothing: a directory cannot be synced here.
func syncDir(*os.File) error { return nil }

// flock is not built here. A program that needs a lock reports this error.
func flock(f *os.File, _ bool) error {
	return &os.PathError{Op: "lock", Path: f.Name(), Err: errors.ErrUnsupported}
}
