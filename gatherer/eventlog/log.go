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

// The names of log files: from-START---to-END.flog; flogfile.md section 5.
const (
	logTime    = "2006-01-02--15-04-05Z"
	logPresent = "present"
)

// The forms in which a complete log file is kept.
const (
	Zstd  = "zst"
	Bzip2 = "bz2"
	None  = "none"
)

// Config says when a log file is complete and what becomes of it.
type Config struct {
	Rotate       time.Duration // 0: only when Rotate is called
	Compress     string        // Zstd, Bzip2 or None
	SyncInterval time.Duration // the most that a power cut can lose
}

func logName(start time.Time, end string) string {
	return "from-" + start.Format(logTime) + "---to-" + end + ".flog"
}

// parseLogName returns the times in a log file's name; end is zero for the
// present one.
func parseLogName(file string) (start, end time.Time, ending string, ok bool) {
	name, ending, found := strings.Cut(file, ".flog")
	from, found2 := strings.CutPrefix(name, "from-")
	from, to, found3 := strings.Cut(from, "---to-")
	if !found || !found2 || !found3 || ending != "" && ending != ".zst" && ending != ".bz2" {
		return start, end, "", false
	}
	start, err := time.Parse(logTime, from)
	if err == nil && to != logPresent {
		end, err = time.Parse(logTime, to)
	}
	return start, end, ".flog" + ending, err == nil
}

// Log is the growing log file of a gatherer's directory and what became of the
// earlier ones:
//
//	from-START---to-present.flog      plain; an event is in it before its sender is told so
//	from-START---to-END.flog.zst      complete; END is the START of the next one
//
// The START of a file is later than any other's, if need be a little in the
// future: two rotations within a second, or a clock that went back, overwrite
// nothing.
type Log struct {
	dir *durable.Dir
	cfg Config
	log *slog.Logger

	full chan string // complete files to be compressed; the compressor is its reader

	mu sync.Mutex
	t  logTables // guarded by mu
}

type logTables struct {
	file  durable.File
	start time.Time
	size  int64
	dirty bool // written to since it was last synced
}

// Open completes the files that a killed gatherer left and begins a new one.
// The caller must call Run of the returned Log.
func Open(dir *durable.Dir, cfg Config, log *slog.Logger, now time.Time) (*Log, error) {
	l := &Log{dir: dir, cfg: cfg, log: log, full: make(chan string, 1)}
	entries, err := dir.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("eventlog: %w", err)
	}
	var newest time.Time
	var unfinished []time.Time
	for _, e := range entries {
		start, end, ending, ok := parseLogName(e.Name())
		if !ok || !e.Type().IsRegular() {
			if strings.HasPrefix(e.Name(), "from-") && durable.IsTemporary(e.Name()) {
				dir.Remove(e.Name()) // of a compression that was cut short
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
		end, err := l.complete(start)
		if err != nil {
			return nil, err
		}
		if end.After(newest) {
			newest = end
		}
	}
	return l, l.begin(later(now, newest))
}

// later returns now in whole seconds, or the second after newest if that is
// later. A newest far in the future is no reason to go on from there.
func later(now, newest time.Time) time.Time {
	now = now.UTC().Truncate(time.Second)
	if next := newest.Add(time.Second); next.After(now) && next.Before(now.Add(24*time.Hour)) {
		return next
	}
	return now
}

// complete gives the file that a killed gatherer left its END: the time it was
// last written to. A last line without its end was acknowledged to nobody, and
// is cut off so that all readers can read the file.
func (l *Log) complete(start time.Time) (end time.Time, err error) {
	name := logName(start, logPresent)
	f, err := l.dir.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return end, fmt.Errorf("eventlog: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return end, fmt.Errorf("eventlog: %w", err)
	}
	whole, err := wholeLines(f, st.Size())
	if err == nil && whole < st.Size() {
		l.log.Warn("log file ended within a line", "file", name, "bytes_cut", st.Size()-whole)
		err = f.Truncate(whole)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return end, fmt.Errorf("eventlog: %w", err)
	}
	end = later(st.ModTime(), start)
	for l.taken(start, end) {
		end = end.Add(time.Second)
	}
	if err := l.dir.Rename(name, logName(start, end.Format(logTime))); err != nil {
		return end, fmt.Errorf("eventlog: %w", err)
	}
	l.log.Info("log file of an earlier run completed", "file", logName(start, end.Format(logTime)))
	return end, l.dir.SyncDir(".")
}

// taken reports whether a complete file of these times is there in any form.
func (l *Log) taken(start, end time.Time) bool {
	for _, ending := range []string{"", ".zst", ".bz2"} {
		if _, err := l.dir.Lstat(logName(start, end.Format(logTime)) + ending); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
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

// begin makes the file that starts at start and writes to it from now on. The
// caller holds mu, or is alone.
func (l *Log) begin(start time.Time) error {
	var f durable.File
	for {
		var err error
		f, err = l.dir.OpenFile(logName(start, logPresent), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			start = start.Add(time.Second)
			continue
		}
		if err != nil {
			return fmt.Errorf("eventlog: %w", err)
		}
		break
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
		l.dir.Remove(logName(start, logPresent))
		return fmt.Errorf("eventlog: %w", err)
	}
	l.t = logTables{file: f, start: start, size: int64(len(head)), dirty: true}
	return nil
}

// Write adds a line. When it returns, the line outlives the process. After an
// error the file is as it was before.
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

// Rotate ends the present file and begins the next.
func (l *Log) Rotate(now time.Time) error {
	l.mu.Lock()
	old, start := l.t.file, l.t.start
	if old == nil {
		l.mu.Unlock()
		return fs.ErrClosed
	}
	end := later(now, start)
	for l.taken(start, end) {
		end = end.Add(time.Second)
	}
	// The next file first: without it the old one goes on.
	if err := l.begin(end); err != nil {
		l.mu.Unlock()
		return err
	}
	end = l.t.start
	err := l.dir.Rename(logName(start, logPresent), logName(start, end.Format(logTime)))
	l.mu.Unlock()

	name := logName(start, end.Format(logTime))
	if err == nil {
		err = errors.Join(old.Sync(), l.dir.SyncDir("."))
	}
	if err = errors.Join(err, old.Close()); err != nil {
		return fmt.Errorf("eventlog: rotate %s: %w", name, err)
	}
	l.log.Info("log rotated", "file", name)
	select {
	case l.full <- name:
	default: // the compressor looks for all there is
	}
	return nil
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
	if errors.Is(err, os.ErrClosed) {
		return nil // rotated, which has synced it
	}
	return err
}

// Run rotates by the clock, syncs, and compresses what is complete, until ctx
// is done; then it closes the present file, which keeps its name as it does in
// the original.
func (l *Log) Run(ctx context.Context) {
	var compressor sync.WaitGroup
	compressor.Go(func() { l.compressAll(ctx) })
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

// compressAll compresses every complete log file that is there, now and after
// each rotation, until ctx is done.
func (l *Log) compressAll(ctx context.Context) {
	if l.cfg.Compress == None {
		return
	}
	for {
		entries, err := l.dir.ReadDir(".")
		if err != nil {
			l.log.Error("look for log files", "err", err)
		}
		var plain []string
		for _, e := range entries {
			_, end, ending, ok := parseLogName(e.Name())
			if ok && !end.IsZero() && ending == ".flog" && e.Type().IsRegular() {
				plain = append(plain, e.Name())
			}
		}
		slices.Sort(plain)
		for _, name := range plain {
			if ctx.Err() != nil {
				return
			}
			if err := l.compress(ctx, name); err != nil && ctx.Err() == nil {
				l.log.Error("compress log file", "file", name, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-l.full:
		}
	}
}

// compress replaces the complete log file name by its compressed form. A
// compressed one that is there already was not finished, or the plain one
// would be gone: it is replaced.
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
