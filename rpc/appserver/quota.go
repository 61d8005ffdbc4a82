package appserver

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// begin takes a name for an upload, until end. If the target directory is
// limited, what it holds is counted anew: files come and go there without us.
func (u *uploader) begin(name string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, taken := u.coming[name]; taken {
		return fmt.Errorf("%q is being uploaded by somebody else", name)
	}
	if u.quota > 0 {
		if err := u.count(); err != nil {
			return fmt.Errorf("the directory cannot be counted: %w", err)
		}
	}
	u.coming[name] = 0
	return nil
}

// admit is asked before n more bytes of a file are written. All uploads together
// are never admitted more than the quota.
func (u *uploader) admit(name string, n int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.coming[name] += int64(n)
	if u.maxSize > 0 && u.coming[name] > u.maxSize {
		return fmt.Errorf("the file has more than %d bytes, which is the most this service takes", u.maxSize)
	}
	all := u.there
	for _, bytes := range u.coming {
		all += bytes
	}
	if u.quota > 0 && all > u.quota {
		return fmt.Errorf("the files of this service would have more than %d bytes, which is its quota", u.quota)
	}
	return nil
}

// arrive renames a file that is whole. A count sees it as it was or as it is,
// and never twice.
func (u *uploader) arrive(name string, rename func() error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := rename(); err != nil {
		return err
	}
	u.there += u.coming[name]
	u.coming[name] = 0
	return nil
}

// end gives the name of an upload back.
func (u *uploader) end(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.coming, name)
}

// count sets there. mu is held.
func (u *uploader) count() error {
	u.there = 0
	return fs.WalkDir(os.DirFS(u.target), ".", func(name string, entry fs.DirEntry, err error) error {
		upload, unfinished := strings.CutSuffix(name, partial)
		_, counted := u.coming[upload]
		if err == nil && entry.Type().IsRegular() && !(unfinished && counted) {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				u.there += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has gone meanwhile
		}
		return err
	})
}

// allowed writes what the limits of a service allow of one file.
type allowed struct {
	u    *uploader
	name string
	w    io.Writer
}

func (a allowed) Write(block []byte) (int, error) {
	if err := a.u.admit(a.name, len(block)); err != nil {
		return 0, err
	}
	return a.w.Write(block)
}
