package durable

import (
	"io"
	"io/fs"
	"os"
)

// Layer is what a [Dir] needs of an operating system. Each call is one operation,
// which a layer of a test can let fail. Names and errors are those of [os.Root].
type Layer interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Mkdir(name string, perm fs.FileMode) error
	Rename(oldname, newname string) error
	Link(oldname, newname string) error
	Remove(name string) error
	Lstat(name string) (fs.FileInfo, error)
	ReadDir(name string) ([]fs.DirEntry, error)

	// SyncDir makes durable which names there are in the directory name.
	SyncDir(name string) error

	// Lock locks an open file or directory until it is closed. If another
	// holds the lock, Lock waits for it or returns ErrInUse.
	Lock(f File, wait bool) error

	Close() error
}

// File is an open file; [*os.File] is one.
type File interface {
	io.ReadWriteCloser
	io.Seeker
	io.ReaderAt
	io.WriterAt
	Stat() (fs.FileInfo, error)
	Chmod(mode fs.FileMode) error
	Truncate(size int64) error

	// Sync makes durable what was written. After an error it is unknown what
	// is on the disk.
	Sync() error
}

// osLayer is the operating system.
type osLayer struct{ root *os.Root }

func (l osLayer) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := l.root.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // not a nil *os.File
	}
	return f, nil
}

func (l osLayer) Mkdir(name string, perm fs.FileMode) error { return l.root.Mkdir(name, perm) }
func (l osLayer) Rename(oldname, newname string) error      { return l.root.Rename(oldname, newname) }
func (l osLayer) Link(oldname, newname string) error        { return l.root.Link(oldname, newname) }
func (l osLayer) Remove(name string) error                  { return l.root.Remove(name) }
func (l osLayer) Lstat(name string) (fs.FileInfo, error)    { return l.root.Lstat(name) }
func (l osLayer) Close() error                              { return l.root.Close() }

func (l osLayer) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := l.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadDir(-1)
}

func (l osLayer) SyncDir(name string) error {
	d, err := l.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return syncDir(d)
}

func (l osLayer) Lock(f File, wait bool) error { return flock(f.(*os.File), wait) }
