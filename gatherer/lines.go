package gatherer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/flogtool/flogtool/incident"
)

// maxLine bounds a line of the files that are read here; ours are a fraction of
// it, a longer one is none of ours.
const maxLine = 4 << 10

// appendLines adds lines to the text file name of root and returns when they
// are durable. A last line that a power cut left without its end is ended
// first: it names nothing that exists, and readers pass over it.
func appendLines(root *os.Root, name string, lines ...string) (err error) {
	_, err = root.Lstat(name)
	created := errors.Is(err, fs.ErrNotExist)
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	var text []byte
	if end > 0 {
		var last [1]byte
		if _, err := f.ReadAt(last[:], end-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			text = append(text, '\n')
		}
	}
	for _, line := range lines {
		text = append(append(text, line...), '\n')
	}
	if _, err := f.Write(text); err != nil {
		// What went in of it, on a full disk, must not become the front of
		// the next line. Should this fail too, the line's missing end is seen
		// next time.
		f.Truncate(end)
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if created {
		return incident.SyncDir(root, path.Dir(name))
	}
	return nil
}

// eachLine calls f with each line of the text file name of root; there are none
// if it does not exist.
func eachLine(root *os.Root, name string, f func(line string)) error {
	file, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewReaderSize(file, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case err == nil:
			f(string(line[:len(line)-1]))
		case err == io.EOF:
			if len(line) > 0 {
				f(string(line)) // torn, or written by hand
			}
			return nil
		case err == bufio.ErrBufferFull:
			for err == bufio.ErrBufferFull {
				_, err = in.ReadSlice('\n')
			}
			if err != nil && err != io.EOF {
				return fmt.Errorf("%s: %w", name, err)
			}
		default:
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}
