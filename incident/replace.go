package incident

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"crypto/rand"
)

// Replace writes the file name in root so that, whenever the machine stops,
// either the old file is there or the whole new one: write fills a temporary
// file beside it, which is synced and renamed, and the directory is synced. The
// file's mode is 0600. On any error nothing of it is left. name may have
// directories; they must exist.
func Replace(root *os.Root, name string, write func(w io.Writer) error) (err error) {
	temp := name + "." + rand.Text()[:8] + ".tmp"
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("incident: write %q: %w", name, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			root.Remove(temp)
			err = fmt.Errorf("incident: write %q: %w", name, err)
		}
	}()
	w := bufio.NewWriterSize(f, 64<<10)
	if err := write(w); err != nil {
		return err
	}
	if err := errors.Join(w.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := root.Rename(temp, name); err != nil {
		return err
	}
	return SyncDir(root, path.Dir(name))
}

// SyncDir makes the names in the directory dir of root durable.
func SyncDir(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
