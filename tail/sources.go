package tail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/flogtool/flogtool/event/flogfile"
)

// Expand returns the files that paths name. A file and "-" stand for themselves, and a
// directory for all flog files below it. DIR/incident-NAME, if there is no such file, stands
// for the file of this incident in DIR or in the gatherer's or application's directory DIR.
// The error is of package os, or says that a directory has no flog file.
func Expand(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		if path == "-" {
			files = append(files, path)
			continue
		}
		st, err := os.Stat(path)
		switch {
		case err == nil && st.IsDir():
			found, err := inDirectory(path)
			if err != nil {
				return nil, err
			}
			if len(found) == 0 {
				return nil, fmt.Errorf("%s: no flog file in this directory", path)
			}
			files = append(files, found...)
		case errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(filepath.Base(path), "incident-"):
			found := incidentFile(path)
			if found == "" {
				return nil, err
			}
			files = append(files, found)
		default:
			files = append(files, path) // an error is reported when it is opened
		}
	}
	return files, nil
}

// inDirectory returns the flog files below dir, sorted by name. It ignores a plain file with
// a compressed form, which is what a crash leaves.
func inDirectory(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if path == dir {
				return err
			}
			return nil // skip only the part that cannot be read
		}
		if entry.Type().IsRegular() && flogfile.IsName(path) {
			files = append(files, path)
		}
		return nil
	})
	slices.Sort(files)
	return slices.DeleteFunc(files, func(f string) bool {
		return strings.HasSuffix(f, ".flog") && (slices.Contains(files, f+".zst") || slices.Contains(files, f+".bz2"))
	}), err
}

// incidentFile returns the file of the incident that path names, or "" if it does not exist.
func incidentFile(path string) string {
	dir, name := filepath.Split(path)
	for _, below := range []string{"", "incidents", "incidents/*", "*/incidents", "*"} {
		for _, suffix := range []string{".flog.zst", ".flog.bz2", ".flog"} {
			if found, _ := filepath.Glob(filepath.Join(dir, below, name+suffix)); len(found) > 0 {
				return found[0]
			}
		}
	}
	return ""
}

// sources reads the lines of files: those of one file in its order, those of several merged
// by the times of their events.
type sources struct {
	names    []string
	in       io.Reader // standard input
	want     flogfile.Selection
	any      bool // as flogfile.Reader.AnyJSON
	progress *Progress
	damages  []error // of files that could not be read, or not completely
}

// open opens one of the files.
func (s *sources) open(name string) (*flogfile.Reader, error) {
	var r *flogfile.Reader
	var err error
	if name == "-" {
		r, err = flogfile.NewReader(s.in, "-")
	} else {
		r, err = flogfile.OpenSelected(name, s.want)
	}
	if err == nil {
		r.AnyJSON = s.any
		s.progress.add(r)
	}
	return r, err
}

// fault takes the error that ended the reading of a file. It adds it to damages and returns
// nil, except that it returns an error other than damage if there is one file only.
func (s *sources) fault(err error) error {
	if err == nil || err == io.EOF {
		return nil
	}
	if len(s.names) == 1 {
		if damage, ok := errors.AsType[*flogfile.DamageError](err); ok {
			s.damages = append(s.damages, damage)
			return nil
		}
		return err
	}
	s.damages = append(s.damages, err)
	return nil
}

// err returns damages, joined.
func (s *sources) err() error { return errors.Join(s.damages...) }

// each calls f for every line and returns its error. A line is valid until f returns.
func (s *sources) each(ctx context.Context, f func(l *flogfile.Line, r *flogfile.Reader) error) error {
	if len(s.names) != 1 {
		return s.merged(ctx, f)
	}
	r, err := s.open(s.names[0])
	if err != nil {
		return s.fault(err)
	}
	defer r.Close()
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		l, err := r.Next()
		if err != nil {
			return s.fault(err)
		}
		if err := f(l, r); err != nil {
			return err
		}
	}
}

// growing reads a file that another process writes to. At the end of the file it waits for
// more, and returns io.EOF when ctx is done, or when the file has been renamed or replaced.
type growing struct {
	ctx  context.Context
	name string
	file *os.File
	at   int64 // bytes that have been read
}

// pollEvery is the time between attempts to read more. A person would not notice if the
// kernel reported changes instead.
const pollEvery = 200 * time.Millisecond

// Interactive makes a flogfile.Reader return each line as soon as it is complete.
func (g *growing) Interactive() bool { return true }

func (g *growing) Read(p []byte) (int, error) {
	for {
		n, err := g.file.Read(p)
		g.at += int64(n)
		if n > 0 {
			return n, nil
		}
		if err != nil && err != io.EOF {
			return 0, err
		}
		if st, err := g.file.Stat(); err == nil && st.Size() < g.at {
			return 0, fmt.Errorf("%s was truncated while it was followed", g.name)
		}
		now, err := os.Stat(g.name)
		if old, oerr := g.file.Stat(); err == nil && oerr == nil && !os.SameFile(now, old) || errors.Is(err, fs.ErrNotExist) {
			// The file has been rotated. Read what was written before.
			if n, _ := g.file.Read(p); n > 0 {
				g.at += int64(n)
				return n, nil
			}
			return 0, io.EOF
		}
		select {
		case <-g.ctx.Done():
			return 0, io.EOF
		case <-time.After(pollEvery):
		}
	}
}
