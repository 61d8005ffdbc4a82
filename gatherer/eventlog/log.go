// Package eventlog keeps the events that a gatherer receives, in files:
//
//	from-START---to-present.flog    the current file, plain
//	from-START---to-END.flog.zst    a complete file; END is the START of the next
//
// [Log.Write] appends to the current file, [Log.Rotate] completes it, and [Log.Run]
// rotates by the clock, syncs, and compresses complete files. A kill loses nothing
// that Write has returned for, a power cut at most [Config].SyncInterval.
//
// It does not read events: package flogfile does.
//
// Spec: flogfile.md section 5.
package eventlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/flogfile/bzip2"
	"github.com/flogtool/flogtool/internal/durable"
)

// The values of [Config].Compress: the ending of a complete file, or None.
const (
	Zstd  = "zst"
	Bzip2 = "bz2" // for the original's tools
	None  = "none"
)

// Config says when a file is complete and what is done with it.
type Config struct {
	Rotate       time.Duration // 0: only when Rotate is called
	Compress     string        // Zstd, Bzip2 or None
	SyncInterval time.Duration // how much a power cut may lose; not 0
	Log          *slog.Logger  // our own diagnostics; required
}

// The parts of a file's name; flogfile.md section 5.
const (
	timeLayout = "2006-01-02--15-04-05Z"
	present    = "present"
)

func fileName(start time.Time, end string) string {
	return "from-" + start.Format(timeLayout) + "---to-" + end + ".flog"
}

// parseName returns the times in a file's name; end is zero for the current file.
func parseName(file string) (start, end time.Time, ending string, ok bool) {
	name, ending, found := strings.Cut(file, ".flog")
	from, found2 := strings.CutPrefix(name, "from-")
	from, to, found3 := strings.Cut(from, "---to-")
	if !found || !found2 || !found3 || ending != "" && ending != ".zst" && ending != ".bz2" {
		return start, end, "", false
	}
	start, err := time.Parse(timeLayout, from)
	if err == nil && to != present {
		end, err = time.Parse(timeLayout, to)
	}
	return start, end, ".flog" + ending, err == nil
}

// Log is the log files of a directory. Its methods may be called from any
// goroutine.
//
// The START of a file is later than that of any other, if need be a little in the
// future: two rotations within a second, or a clock that went back, overwrite
// nothing.
type Log struct {
	dir *durable.Dir
	cfg Config
	log *slog.Logger

	complete chan string // receives the names of complete files; the compressor reads it

	mu sync.Mutex
	t  current // guarded by mu
}

// current is the current file.
type current struct {
	file  durable.File // nil after Run
	start time.Time
	size  int64
	dirty bool // written to since the last sync
}

// Open completes the files that a killed gatherer left, and begins a new one at the
// time now. The caller must call Run, which closes it.
func Open(dir *durable.Dir, cfg Config, now time.Time) (*Log, error) {
	l := &Log{dir: dir, cfg: cfg, log: cfg.Log, complete: make(chan string, 1)}
	newest, err := l.completeAll()
	if err == nil {
		err = l.begin(later(now, newest))
	}
	if err != nil {
		return nil, fmt.Errorf("eventlog: %w", err)
	}
	return l, nil
}

// completeAll completes the files that a killed gatherer left, and returns the
// latest time in the names of all files.
func (l *Log) completeAll() (newest time.Time, err error) {
	entries, err := l.dir.ReadDir(".")
	if err != nil {
		return newest, err
	}
	var unfinished []time.Time
	for _, e := range entries {
		start, end, ending, ok := parseName(e.Name())
		if !ok || !e.Type().IsRegular() {
			if strings.HasPrefix(e.Name(), "from-") && durable.IsTemporary(e.Name()) {
				l.dir.Remove(e.Name()) // of a compression that was cut short
			}
			continue
		}
		for _, t := range []time.Time{start, end} {
			if t.After(newest) {
				newest = t
			}
		}
		if end.IsZero() && ending == ".flog" {
			unfinished = append(unfinished, start)
		}
	}
	for _, start := range unfinished {
		end, err := l.completeOld(start)
		if err != nil {
			return newest, err
		}
		if end.After(newest) {
			newest = end
		}
	}
	return newest, nil
}

// later returns now in whole seconds, or the second after newest if that is
// later. If newest is more than a day in the future, a clock was wrong when it was
// written, and it does not count.
func later(now, newest time.Time) time.Time {
	now = now.UTC().Truncate(time.Second)
	if next := newest.Add(time.Second); next.After(now) && next.Before(now.Add(24*time.Hour)) {
		return next
	}
	return now
}

// completeOld gives the file that a killed gatherer left its END: the time it was
// last written to. A last line without a line end was not acknowledged; it is cut
// off, so that all readers can read the file. A file without a header, which a
// power cut leaves, is removed.
func (l *Log) completeOld(start time.Time) (end time.Time, err error) {
	name := fileName(start, present)
	f, err := l.dir.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return end, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return end, err
	}
	whole, err := wholeLines(f, st.Size())
	if err != nil {
		return end, err
	}
	if whole <= int64(len(flogfile.Magic)) {
		return start, l.dir.Remove(name)
	}
	if whole < st.Size() {
		l.log.Warn("log file ended within a line", "file", name, "bytes_cut", st.Size()-whole)
		if err := f.Truncate(whole); err != nil {
			return end, err
		}
	}
	if err := f.Sync(); err != nil {
		return end, err
	}
	if end, err = l.freeEnd(start, later(st.ModTime(), start)); err != nil {
		return end, err
	}
	if err := l.dir.Rename(name, fileName(start, end.Format(timeLayout))); err != nil {
		return end, err
	}
	l.log.Info("log file of an earlier run completed", "file", fileName(start, end.Format(timeLayout)))
	return end, l.dir.SyncDir(".")
}

// freeEnd returns the first second from end on with which the name of a complete
// file is free, in all its forms.
func (l *Log) freeEnd(start, end time.Time) (time.Time, error) {
	for {
		taken := false
		for _, ending := range []string{"", "." + Zstd, "." + Bzip2} {
			_, err := l.dir.Lstat(fileName(start, end.Format(timeLayout)) + ending)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return end, err
			}
			taken = taken || err == nil
		}
		if !taken {
			return end, nil
		}
		end = end.Add(time.Second)
	}
}

// wholeLines returns the size of f up to the end of its last whole line.
func wholeLines(f io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for size > 0 {
		n := min(size, int64(len(buf)))
		if _, err := f.ReadAt(buf[:n], size-n); err != nil {
			return 0, err
		}
		for i := n - 1; i >= 0; i-- {
			if buf[i] == '\n' {
				return size - n + i + 1, nil
			}
		}
		size -= n
	}
	return 0, nil
}

// begin makes the file that starts at start the current one. The caller holds mu,
// or is Open.
func (l *Log) begin(start time.Time) error {
	var f durable.File
	for {
		var err error
		f, err = l.dir.OpenFile(fileName(start, present), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		start = start.Add(time.Second)
	}
	head := flogfile.AppendHeader([]byte(flogfile.Magic), event.Dict{
		{Key: "type", Value: "gatherer"},
		{Key: "start", Value: flogfile.Seconds(start)},
	})
	_, err := f.Write(head)
	if err == nil {
		err = l.dir.SyncDir(".")
	}
	if err != nil {
		f.Close()
		l.dir.Remove(fileName(start, present))
		return err
	}
	l.t = current{file: f, start: start, size: int64(len(head)), dirty: true}
	return nil
}

// Write appends a line, which ends with a line end. When it returns, the line
// survives a kill of the process. After an error the file is as it was before; the
// error is [fs.ErrClosed] after Run.
func (l *Log) Write(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t.file == nil {
		return fs.ErrClosed
	}
	if _, err := l.t.file.WriteAt(line, l.t.size); err != nil {
		l.t.file.Truncate(l.t.size)
		return err
	}
	l.t.size += int64(len(line))
	l.t.dirty = true
	return nil
}

// Rotate completes the current file at the time now and begins the next one. If
// that cannot be made, the current one stays. The error is [fs.ErrClosed] after Run.
func (l *Log) Rotate(now time.Time) error {
	name, err := l.rotate(now)
	if err != nil {
		return fmt.Errorf("eventlog: rotate: %w", err)
	}
	l.log.Info("log rotated", "file", name)
	select {
	case l.complete <- name:
	default: // the compressor looks for all complete files
	}
	return nil
}

func (l *Log) rotate(now time.Time) (name string, err error) {
	old, end, err := l.next(now)
	if err != nil {
		return "", err
	}
	// The new name says that the file is whole: sync comes first.
	name = fileName(old.start, end.Format(timeLayout))
	err = errors.Join(old.file.Sync(), old.file.Close())
	if err == nil {
		err = l.dir.Rename(fileName(old.start, present), name)
	}
	if err == nil {
		err = l.dir.SyncDir(".")
	}
	return name, err
}

// next begins the next file, at end, and returns the one that was current.
func (l *Log) next(now time.Time) (old current, end time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old = l.t
	if old.file == nil {
		return old, end, fs.ErrClosed
	}
	if end, err = l.freeEnd(old.start, later(now, old.start)); err == nil {
		err = l.begin(end)
	}
	return old, l.t.start, err
}

// sync makes durable what was written since the last sync.
func (l *Log) sync() error {
	l.mu.Lock()
	file, dirty := l.t.file, l.t.dirty
	l.t.dirty = false
	l.mu.Unlock()
	if !dirty || file == nil {
		return nil
	}
	err := file.Sync()
	if err == nil || errors.Is(err, fs.ErrClosed) { // Rotate has synced and closed it
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t.dirty = true
	return err
}

// Run rotates by the clock, syncs, and compresses complete files, until ctx is
// done. Then it closes the current file, which keeps its name, as in the original.
func (l *Log) Run(ctx context.Context) {
	var compressor sync.WaitGroup
	if l.cfg.Compress != None {
		compressor.Go(func() { l.compressor(ctx) })
	}
	defer compressor.Wait()

	syncs := time.NewTicker(l.cfg.SyncInterval)
	defer syncs.Stop()
	var rotations <-chan time.Time
	if l.cfg.Rotate > 0 {
		t := time.NewTicker(l.cfg.Rotate)
		defer t.Stop()
		rotations = t.C
	}
	for {
		select {
		case <-ctx.Done():
			if err := l.close(); err != nil {
				l.log.Error("close log file", "err", err)
			}
			return
		case <-syncs.C:
			if err := l.sync(); err != nil {
				l.log.Error("sync log file", "err", err)
			}
		case <-rotations:
			if err := l.Rotate(time.Now()); err != nil {
				l.log.Error("rotate log file", "err", err)
			}
		}
	}
}

func (l *Log) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t.file == nil {
		return nil
	}
	err := errors.Join(l.t.file.Sync(), l.t.file.Close())
	l.t.file = nil
	return err
}

// compressor compresses complete files, now and after each rotation, until ctx is
// done.
func (l *Log) compressor(ctx context.Context) {
	for {
		l.compressAll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-l.complete:
		}
	}
}

// compressAll compresses the complete files that exist.
func (l *Log) compressAll(ctx context.Context) {
	entries, err := l.dir.ReadDir(".")
	if err != nil {
		l.log.Error("look for log files", "err", err)
	}
	var plain []string
	for _, e := range entries {
		_, end, ending, ok := parseName(e.Name())
		if ok && !end.IsZero() && ending == ".flog" && e.Type().IsRegular() {
			plain = append(plain, e.Name())
		}
	}
	slices.Sort(plain)
	for _, name := range plain {
		if err := l.compress(ctx, name); err != nil && ctx.Err() == nil {
			l.log.Error("compress log file", "file", name, "err", err)
		}
	}
}

// compress replaces a complete file by its compressed form. If that exists already,
// it is replaced: as long as the plain one exists it may not be finished.
func (l *Log) compress(ctx context.Context, name string) error {
	in, err := l.dir.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	err = l.dir.Replace(name+"."+l.cfg.Compress, 0o600, func(w io.Writer) error {
		out, err := flogfile.NewWriter(w, name+"."+l.cfg.Compress, bzip2.NewWriter)
		if err != nil {
			return err
		}
		if err := out.CopyPlain(ctx, in); err != nil {
			return err
		}
		return out.Close()
	})
	if err != nil {
		return err
	}
	if err := l.dir.Remove(name); err != nil {
		return err
	}
	if err := l.dir.SyncDir(path.Dir(name)); err != nil {
		return err
	}
	l.log.Info("log file compressed", "file", name)
	return nil
}
