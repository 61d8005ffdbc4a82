package durable

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// MaxLine bounds a line of a text file in bytes, with its end. AppendLines
// refuses a longer one and EachLine skips it.
const MaxLine = 4 << 10

// AppendLines adds lines to the text file name, which it makes with mode 0600 if
// need be, and returns when they are durable. A last line without its end, which
// a power cut left, is ended first, so that it does not become the front of the
// next one. After an error the lines may be in the file, and may be added again.
// Two calls for one file must not run at the same time.
func (d *Dir) AppendLines(name string, lines ...string) error {
	if err := d.appendLines(name, lines); err != nil {
		return fmt.Errorf("append to %q: %w", name, err)
	}
	return nil
}

func (d *Dir) appendLines(name string, lines []string) (err error) {
	var text []byte
	for _, line := range lines {
		switch {
		case len(line) >= MaxLine:
			return fmt.Errorf("a line of %d bytes is longer than %d", len(line), MaxLine-1)
		case strings.Contains(line, "\n"):
			return fmt.Errorf("line %q contains a line end", line)
		}
		text = append(append(text, line...), '\n')
	}
	f, err := d.layer.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	end := st.Size()
	if end == 0 {
		// The name comes first: a file with lines in it is known to have a
		// durable name, even if an earlier call failed or was killed.
		if err := d.SyncDir(path.Dir(name)); err != nil {
			return err
		}
	} else {
		var last [1]byte
		if _, err := f.ReadAt(last[:], end-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			text = append([]byte{'\n'}, text...)
		}
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		// On a full disk a piece of it is in the file. Should this fail too, the
		// next call sees the missing end of the line.
		f.Truncate(end)
	}
	return err
}

// EachLine calls f with each line of the text file name, without its end. A file
// that does not exist has no lines. The last line may be torn.
func (d *Dir) EachLine(name string, f func(line string)) error {
	file, err := d.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewReaderSize(file, MaxLine)
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
				return fmt.Errorf("read %q: %w", name, err)
			}
		default:
			return fmt.Errorf("read %q: %w", name, err)
		}
	}
}
