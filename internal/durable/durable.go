// Package durable writes the files that a program promises to keep.
//
// A [Dir] is a directory. What its methods have written is on the disk when they
// return nil: it survives a kill of the process and a power cut. If the machine
// stops before that, the old content is there or the new one, never a mix.
//
//	WriteFile, Replace   NAME.XXXXXXXX.tmp ── write ── sync ── rename to NAME ── sync the directory
//	AppendLines          (sync the directory, if the file is new) ── write ── sync
//	Mkdir                mkdir ── sync the parent
//	OpenFile             a growing file: its owner calls Sync
//	Rename, Remove       durable when SyncDir has returned
//	Lock                 exclusive use of a directory; ends with the process
//
// Code that has a path and no Dir uses the functions of the package. Errors name
// the file and have no prefix of this package: callers add their own. The methods
// of a Dir may be called from any goroutine.
//
// Under a Dir there is a [Layer], normally the operating system. It is the one
// place where a test can come between: package durabletest has a layer that fails
// or crashes at a chosen operation and forgets what was not synced.
package durable

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Dir is a directory whose files are kept. The names of its files are relative,
// have slashes on every platform, and cannot lead out of it, as with [os.Root].
type Dir struct {
	layer Layer
	name  string
}

// Open opens the directory at path.
func Open(path string) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return FromRoot(root), nil
}

// FromRoot returns the Dir of root, which it owns: Close closes it.
func FromRoot(root *os.Root) *Dir { return New(root.Name(), osLayer{root}) }

// New returns a Dir over a layer, which it owns. It is for tests; name is what
// [Dir.Name] returns.
func New(name string, layer Layer) *Dir { return &Dir{layer, name} }

// Name returns the path that the directory was opened by.
func (d *Dir) Name() string { return d.name }

// Close closes the directory. Its open files and locks stay as they are.
func (d *Dir) Close() error { return d.layer.Close() }

// WriteFile replaces the file name by one with this content. perm, less the
// umask, is the mode of the new file, also where an old one had another mode.
func (d *Dir) WriteFile(name string, data []byte, perm fs.FileMode) error {
	return d.replace(name, perm, func(p *PendingFile) error {
		_, err := p.Write(data)
		return err
	})
}

// Replace replaces the file name by one with what write writes; w is buffered.
// On any error, also of write, the old file stays and no temporary one is left.
// The exception is a failed sync of the directory: then the new file is there,
// and a power cut may bring the old one back. The directory of name must exist.
func (d *Dir) Replace(name string, perm fs.FileMode, write func(w io.Writer) error) error {
	return d.replace(name, perm, func(p *PendingFile) error {
		w := bufio.NewWriterSize(p, 64<<10)
		if err := write(w); err != nil {
			return err
		}
		return w.Flush()
	})
}

func (d *Dir) replace(name string, perm fs.FileMode, write func(*PendingFile) error) error {
	p, err := d.NewFile(name, perm)
	if err == nil {
		defer p.Cleanup()
		if err = write(p); err == nil {
			err = p.Commit()
		}
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	return nil
}

// PendingFile is a new file under a temporary name beside its own. It serves one
// goroutine. Its owner calls Commit or CommitNew, and in any case Cleanup.
type PendingFile struct {
	dir   *Dir
	owned bool   // the PendingFile closes dir
	f     File   // nil when closed
	name  string // that it will have
	temp  string // that it has; "" when it has been removed or renamed
}

// NewFile begins a new version of the file name. perm is its mode, less the
// umask.
func (d *Dir) NewFile(name string, perm fs.FileMode) (*PendingFile, error) {
	temp := name + "." + rand.Text()[:8] + tempEnding
	f, err := d.layer.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	return &PendingFile{dir: d, f: f, name: name, temp: temp}, nil
}

// Write implements [io.Writer]. It is not buffered.
func (p *PendingFile) Write(b []byte) (int, error) {
	if p.f == nil {
		return 0, fs.ErrClosed
	}
	return p.f.Write(b)
}

// Chmod sets the mode, which the umask does not change.
func (p *PendingFile) Chmod(mode fs.FileMode) error {
	if p.f == nil {
		return fs.ErrClosed
	}
	return p.f.Chmod(mode)
}

// Commit makes the file durable under its name, in place of any other file of
// that name.
func (p *PendingFile) Commit() error {
	return p.commit(func() error {
		err := p.dir.layer.Rename(p.temp, p.name)
		if err == nil {
			p.temp = ""
		}
		return err
	})
}

// CommitNew makes the file durable under its name if there is no file of that
// name. Otherwise the error is [fs.ErrExist]. Of several processes that do this
// at once, one succeeds.
func (p *PendingFile) CommitNew() error {
	return p.commit(func() error {
		if err := p.dir.layer.Link(p.temp, p.name); err != nil {
			return err
		}
		return p.remove()
	})
}

func (p *PendingFile) commit(enter func() error) error {
	defer p.Cleanup()
	if p.f == nil {
		return fs.ErrClosed
	}
	err := errors.Join(p.f.Sync(), p.f.Close())
	p.f = nil
	if err != nil {
		return err
	}
	if err := enter(); err != nil {
		return err
	}
	return p.dir.SyncDir(path.Dir(p.name))
}

func (p *PendingFile) remove() error {
	err := p.dir.layer.Remove(p.temp)
	if err == nil {
		p.temp = ""
	}
	return err
}

// Cleanup removes the file unless it has been committed. It may be repeated.
func (p *PendingFile) Cleanup() {
	if p.f != nil {
		p.f.Close()
		p.f = nil
	}
	if p.temp != "" {
		p.remove()
	}
	if p.owned {
		p.owned = false
		p.dir.Close()
	}
}

const tempEnding = ".tmp"

// IsTemporary reports whether name has the ending of temporary names, here and in
// the original. The owner of a directory may remove such files at its start: a
// killed process left them.
func IsTemporary(name string) bool { return strings.HasSuffix(name, tempEnding) }

// Mkdir makes the directory name with mode 0700. If name exists, Mkdir does nothing
// and returns nil. The directory of name must exist.
func (d *Dir) Mkdir(name string) error {
	err := d.layer.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := d.SyncDir(path.Dir(name)); err != nil {
		d.layer.Remove(name) // the next call must not take it for a durable one
		return err
	}
	return nil
}

// Rename gives the file oldname the name newname, in place of any other file of
// that name. It is durable when SyncDir has returned for the directories of both.
func (d *Dir) Rename(oldname, newname string) error { return d.layer.Rename(oldname, newname) }

// Remove removes a file or an empty directory. It is durable when SyncDir has
// returned for the directory of name.
func (d *Dir) Remove(name string) error { return d.layer.Remove(name) }

// SyncDir makes durable which names there are in the directory name, "." for d
// itself. Where the platform has no such operation it does nothing.
func (d *Dir) SyncDir(name string) error { return d.layer.SyncDir(name) }

// Open opens a file for reading.
func (d *Dir) Open(name string) (File, error) { return d.layer.OpenFile(name, os.O_RDONLY, 0) }

// OpenFile opens a file as [os.Root.OpenFile] does. Its content is durable when
// its Sync has returned; the name of a new one, when SyncDir has.
func (d *Dir) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	return d.layer.OpenFile(name, flag, perm)
}

// ReadFile returns the content of a file.
func (d *Dir) ReadFile(name string) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// ReadDir returns the entries of the directory name, in any order.
func (d *Dir) ReadDir(name string) ([]fs.DirEntry, error) { return d.layer.ReadDir(name) }

// Lstat describes a file. It does not follow a symbolic link.
func (d *Dir) Lstat(name string) (fs.FileInfo, error) { return d.layer.Lstat(name) }
