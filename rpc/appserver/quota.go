package appserver

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// claim reserves a name for an upload, until release. If the service has a quota it
// counts the target directory again, since others may add and remove files.
func (u *uploader) claim(name string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, taken := u.incoming[name]; taken {
		return fmt.Errorf("another upload of %q is in progress", name)
	}
	if u.quota > 0 {
		if err := u.count(); err != nil {
			return fmt.Errorf("the files in the directory cannot be counted: %w", err)
		}
	}
	u.incoming[name] = 0
	return nil
}

// admit counts n more bytes of a file before they are written. All uploads together
// never exceed the quota.
func (u *uploader) admit(name string, n int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.incoming[name] += int64(n)
	if u.maxSize > 0 && u.incoming[name] > u.maxSize {
		return fmt.Errorf("the file has more than %d bytes, the limit of this service", u.maxSize)
	}
	all := u.stored
	for _, bytes := range u.incoming {
		all += bytes
	}
	if u.quota > 0 && all > u.quota {
		return fmt.Errorf("the files of this service would exceed its quota of %d bytes", u.quota)
	}
	return nil
}

// commit renames a complete file. A count never includes the file under both names.
func (u *uploader) commit(name string, rename func() error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := rename(); err != nil {
		return err
	}
	u.stored += u.incoming[name]
	u.incoming[name] = 0
	return nil
}

// release ends the upload of a name.
func (u *uploader) release(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.incoming, name)
}

// entrySize is what an entry that is not a file counts, in bytes: about what a directory
// takes on a disk.
const entrySize = 4 << 10

// count sets u.stored. mu is held.
func (u *uploader) count() error {
	u.stored = 0
	return fs.WalkDir(os.DirFS(u.target), ".", func(name string, entry fs.DirEntry, err error) error {
		upload, unfinished := strings.CutSuffix(name, partial)
		_, counted := u.incoming[upload]
		switch {
		case err != nil || unfinished && counted:
		case entry.Type().IsRegular():
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				u.stored += info.Size()
			}
		case name != ".":
			u.stored += entrySize
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was removed in the meantime
		}
		return err
	})
}

// limitedWriter writes one file within the limits of a service.
type limitedWriter struct {
	u    *uploader
	name string
	w    io.Writer
}

func (a limitedWriter) Write(block []byte) (int, error) {
	if err := a.u.admit(a.name, len(block)); err != nil {
		return 0, err
	}
	return a.w.Write(block)
}
