package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile is [Dir.WriteFile] of the file at path.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	d, name, err := parent(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.WriteFile(name, data, perm)
}

// Replace is [Dir.Replace] of the file at path.
func Replace(path string, perm fs.FileMode, write func(w io.Writer) error) error {
	d, name, err := parent(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Replace(name, perm, write)
}

// NewFile is [Dir.NewFile] of the file at path.
func NewFile(path string, perm fs.FileMode) (*PendingFile, error) {
	d, name, err := parent(path)
	if err != nil {
		return nil, err
	}
	p, err := d.NewFile(name, perm)
	if err != nil {
		d.Close()
		return nil, err
	}
	p.owned = true
	return p, nil
}

// Mkdir is [Dir.Mkdir] of the directory at path.
func Mkdir(path string) error {
	d, name, err := parent(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Mkdir(name)
}

// MkdirAll makes the directory at path and those above it that are missing, each
// with mode 0700 and durably.
func MkdirAll(path string) error {
	st, err := os.Stat(path)
	switch {
	case err == nil && st.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is not a directory", path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	path = filepath.Clean(path)
	if up := filepath.Dir(path); up != path {
		if err := MkdirAll(up); err != nil {
			return err
		}
	}
	return Mkdir(path)
}

// SyncDir makes durable which names there are in the directory at path.
func SyncDir(path string) error {
	d, err := Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.SyncDir(".")
}

// LockDir is [Dir.Lock] of the directory at path.
func LockDir(path string) (*Lock, error) {
	d, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Lock()
}

// LockDirWait is [Dir.LockWait] of the directory at path.
func LockDirWait(path string) (*Lock, error) {
	d, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.LockWait()
}

// parent opens the directory of path, which is then the name in it.
func parent(path string) (d *Dir, name string, err error) {
	d, err = Open(filepath.Dir(path))
	return d, filepath.Base(path), err
}
