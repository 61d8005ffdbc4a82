package incident

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/internal/durable"
)

// Store keeps the incidents of one process, as files of a directory or, without
// one, in memory. Its methods may be called from any goroutine; one incident is
// written at a time.
//
//	NAME.flog       being recorded, or left by a recorder that died
//	NAME.flog.zst   complete
//	NAME.flog.bz2   complete, made by the original
type Store struct {
	cfg StoreConfig
	dir *durable.Dir // nil: in memory
	old *durable.Dir // Config.Old, or nil

	mu sync.Mutex
	t  storeTable // guarded by mu
}

type storeTable struct {
	last   string            // the greatest name ever given or found
	memory map[string][]byte // complete files, if there is no directory
	order  []string          // names in memory, oldest first
	odd    map[string]bool   // unrecognized files that were reported
}

// StoreConfig says where a Store keeps incidents and how many.
type StoreConfig struct {
	Dir string // made if absent; "" keeps them in memory
	Old string // a directory whose incidents are read too and left alone, or ""

	MaxCount int           // incidents kept; default 1000 in a directory, 8 in memory
	MaxBytes int64         // of all files; default 1 GiB in a directory, 16 MiB in memory
	MaxAge   time.Duration // older ones are removed; default: age does not matter

	// Odd is called once for each file that is not an incident. It must not call
	// the Store. Default: Log.
	Odd func(file string, err error)
	Log *slog.Logger // default discards
}

// The endings of an incident's file.
const (
	plainEnding = ".flog"
	zstEnding   = ".flog.zst"
	bz2Ending   = ".flog.bz2"
)

// ErrNoIncident is wrapped by the errors of methods that name an incident that is not
// there.
var ErrNoIncident = errors.New("incident: no such incident")

// OpenStore opens the store and completes what a recorder that died left in it. It
// needs exclusive use of the directory: the caller holds a lock. The error is that of
// making or reading the directory.
func OpenStore(cfg StoreConfig) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{cfg: cfg}
	s.t.odd = map[string]bool{}
	if cfg.Dir == "" {
		s.cfg.MaxCount = cmp.Or(cfg.MaxCount, 8)
		s.cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 16<<20)
		s.t.memory = map[string][]byte{}
		return s, nil
	}
	s.cfg.MaxCount = cmp.Or(cfg.MaxCount, 1000)
	s.cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 1<<30)
	if err := durable.MkdirAll(cfg.Dir); err != nil {
		return nil, fmt.Errorf("incident: %w", err)
	}
	dir, err := durable.Open(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("incident: %w", err)
	}
	s.dir = dir
	if cfg.Old != "" {
		s.old, _ = durable.Open(cfg.Old) // a missing directory is not an error
	}
	if err := s.complete(); err != nil {
		s.Close()
		return nil, err
	}
	if names := s.Names(""); len(names) > 0 {
		s.t.last = max(s.t.last, names[len(names)-1])
	}
	return s, nil
}

// Close closes the directory. Nothing may be written after it.
func (s *Store) Close() error {
	var errs []error
	for _, d := range []*durable.Dir{s.dir, s.old} {
		if d != nil {
			errs = append(errs, d.Close())
		}
	}
	return errors.Join(errs...)
}

// complete completes or removes what a recorder that died left.
func (s *Store) complete() error {
	entries, err := s.dir.ReadDir(".")
	if err != nil {
		return fmt.Errorf("incident: %w", err)
	}
	for _, entry := range entries {
		file := entry.Name()
		if durable.IsTemporary(file) && strings.HasPrefix(file, "incident") {
			s.dir.Remove(file) // left by a replacement that was interrupted
			continue
		}
		name, ok := strings.CutSuffix(file, plainEnding)
		if !ok || !ValidName(name) || !entry.Type().IsRegular() {
			continue
		}
		s.t.last = max(s.t.last, name)
		if _, err := s.dir.Lstat(name + zstEnding); err == nil {
			s.dir.Remove(file) // died between the rename and the removal
			continue
		}
		if err := s.recover(name); err != nil {
			s.oddFile(file, err)
		}
	}
	return nil
}

// recover completes the plain file of a recorder that died: whole lines are
// kept, and a trailer says what happened.
func (s *Store) recover(name string) error {
	f, err := s.dir.Open(name + plainEnding)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(f)
	f.Close()
	if err != nil {
		return err
	}
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	lines := bytes.Count(data, []byte{'\n'})
	if !bytes.HasPrefix(data, []byte(flogfile.Magic)) || lines < 2 {
		// It died before the header was written: the rings' file has the events.
		return s.dir.Remove(name + plainEnding)
	}
	if !bytes.HasPrefix(lastLine(data), []byte(`{"trailer"`)) {
		data = flogfile.AppendTrailer(data, trailer{reason: Recovered, ended: time.Now()}.dict())
	}
	return s.finish(name, bytes.NewReader(data))
}

func lastLine(data []byte) []byte {
	data = bytes.TrimSuffix(data, []byte{'\n'})
	return data[bytes.LastIndexByte(data, '\n')+1:]
}

// finish writes the complete file of an incident from its plain text and removes
// the plain file.
func (s *Store) finish(name string, plain io.Reader) error {
	err := s.dir.Replace(name+zstEnding, 0o600, func(w io.Writer) error { return compress(w, plain) })
	if err != nil {
		return err
	}
	s.dir.Remove(name + plainEnding)
	s.prune(name)
	return s.dir.SyncDir(".")
}

// prune removes the oldest incidents, with all their files, until the bounds
// hold; keep stays in any case.
func (s *Store) prune(keep string) {
	entries, err := s.dir.ReadDir(".")
	if err != nil {
		return
	}
	files, sizes, total := map[string][]string{}, map[string]int64{}, int64(0)
	for _, e := range entries {
		name, _, ok := strings.Cut(e.Name(), ".")
		info, err := e.Info()
		if !ok || err != nil || !ValidName(name) || !e.Type().IsRegular() || durable.IsTemporary(e.Name()) {
			continue
		}
		files[name] = append(files[name], e.Name())
		sizes[name] += info.Size()
		total += info.Size()
	}
	names := slices.Sorted(maps.Keys(files))
	for i, name := range names {
		at := NameTime(name)
		tooOld := s.cfg.MaxAge > 0 && !at.IsZero() && time.Since(at) > s.cfg.MaxAge
		if name == keep || !tooOld && len(names)-i <= s.cfg.MaxCount && total <= s.cfg.MaxBytes {
			continue
		}
		for _, file := range files[name] {
			s.dir.Remove(file)
		}
		total -= sizes[name]
	}
}

// compress writes the text of a plain flog file as that of a `.flog.zst`.
func compress(w io.Writer, plain io.Reader) error {
	out, err := flogfile.NewWriter(w, zstEnding, nil)
	if err != nil {
		return err
	}
	if err := out.CopyPlain(context.Background(), plain); err != nil {
		return err
	}
	return out.Close()
}

// oddFile reports once a file that is not what its name says.
func (s *Store) oddFile(file string, err error) {
	s.mu.Lock()
	known := s.t.odd[file]
	s.t.odd[file] = true
	s.mu.Unlock()
	if known {
		return
	}
	if s.cfg.Odd != nil {
		s.cfg.Odd(file, err)
		return
	}
	s.cfg.Log.Warn("unrecognized file in the incident directory", "file", file, "err", err)
}

// Names returns the names of the complete incidents that are greater than since,
// in ascending order.
func (s *Store) Names(since string) []string {
	var names []string
	if s.dir == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, name := range s.t.order {
			if name > since {
				names = append(names, name)
			}
		}
		return names
	}
	for _, dir := range []*durable.Dir{s.dir, s.old} {
		if dir == nil {
			continue
		}
		entries, err := dir.ReadDir(".")
		if err != nil {
			s.cfg.Log.Warn("incident directory", "err", err)
		}
		for _, entry := range entries {
			name, ok := completeName(entry.Name(), dir == s.old)
			if ok && name > since && entry.Type().IsRegular() {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// completeName returns the name of the incident whose complete file this is. In
// a directory of the original a plain file counts too: nobody will complete it.
func completeName(file string, old bool) (name string, ok bool) {
	endings := []string{zstEnding, bz2Ending}
	if old {
		endings = append(endings, plainEnding)
	}
	for _, ending := range endings {
		if name, ok := strings.CutSuffix(file, ending); ok {
			return name, ValidName(name)
		}
	}
	return "", false
}

// Open returns a reader of an incident, which the caller closes. The error wraps
// [ErrNoIncident] if there is no incident of that name.
func (s *Store) Open(name string) (*flogfile.Reader, error) {
	if !ValidName(name) {
		return nil, fmt.Errorf("%w: %q is not the name of an incident", ErrNoIncident, name)
	}
	if s.dir == nil {
		s.mu.Lock()
		data, ok := s.t.memory[name]
		s.mu.Unlock()
		if !ok {
			return nil, fmt.Errorf("%w: %q", ErrNoIncident, name)
		}
		return flogfile.NewReader(bytes.NewReader(data), name+zstEnding)
	}
	f, file, err := s.openFile(name)
	if err != nil {
		return nil, err
	}
	r, err := flogfile.NewReader(f, file)
	if err != nil {
		f.Close()
		s.oddFile(file, err)
		return nil, err
	}
	return r, nil
}

func (s *Store) openFile(name string) (durable.File, string, error) {
	for _, dir := range []*durable.Dir{s.dir, s.old} {
		if dir == nil {
			continue
		}
		for _, ending := range []string{zstEnding, bz2Ending, plainEnding} {
			if ending == plainEnding && dir != s.old {
				continue
			}
			f, err := dir.Open(name + ending)
			if err == nil {
				return f, name + ending, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return nil, "", fmt.Errorf("incident: %w", err)
			}
		}
	}
	return nil, "", fmt.Errorf("%w: %q", ErrNoIncident, name)
}

// Trigger returns the trigger in the header of an incident and reads no further.
func (s *Store) Trigger(name string) (event.Dict, error) {
	r, err := s.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	line, err := r.Next()
	if err == nil {
		if v, ok := line.Header().Get("trigger"); ok {
			if d, ok := v.(event.Dict); ok {
				return d, nil
			}
		}
		err = errors.New("no incident header in the first line")
	}
	err = fmt.Errorf("incident: read %q: %w", name, err)
	s.oddFile(name, err)
	return nil, err
}

// Read returns the header and the events of an incident in the form in which an
// original peer gets them: a trailer is the header's key `trailer`. If the header can
// be read, damage ends the events and is not an error.
func (s *Store) Read(name string) (header event.Dict, events []any, err error) {
	r, err := s.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	events = []any{}
	for {
		line, err := r.Next()
		if err != nil {
			if header == nil {
				err = fmt.Errorf("incident: read %q: %w", name, err)
				s.oddFile(name, err)
				return nil, nil, err
			}
			return header, events, nil
		}
		if line.Kind&flogfile.KindHeader != 0 && header == nil {
			header = line.Header()
		}
		if line.Kind&flogfile.KindTrailer != 0 {
			header = append(header, event.Item{Key: "trailer", Value: line.Trailer()})
		}
		if line.Kind&flogfile.KindEvent != 0 {
			if e, err := line.Event(); err == nil {
				events = append(events, e.Dict())
			}
		}
	}
}

// next returns the name of an incident that begins now.
func (s *Store) next(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.last = NextName(s.t.last, now)
	return s.t.last
}

// keep stores the complete text of an incident in memory and removes the oldest ones
// that the bounds do not allow.
func (s *Store) keep(name string, plain []byte) error {
	var z bytes.Buffer
	if err := compress(&z, bytes.NewReader(plain)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.memory[name] = z.Bytes()
	s.t.order = append(s.t.order, name)
	var total int64
	for _, data := range s.t.memory {
		total += int64(len(data))
	}
	for len(s.t.order) > 1 && (len(s.t.order) > s.cfg.MaxCount || total > s.cfg.MaxBytes) {
		total -= int64(len(s.t.memory[s.t.order[0]]))
		delete(s.t.memory, s.t.order[0])
		s.t.order = s.t.order[1:]
	}
	return nil
}

// Part is one of the files of an incident.
type Part struct {
	Name string // FlogPart, or the attachment's name
	Size int64  // bytes
}

// FlogPart names the part of an incident that is its flog file.
const FlogPart = "flog"

// Parts returns the parts of an incident: its flog file, as `flog`, then its
// attachments.
func (s *Store) Parts(name string) ([]Part, error) {
	var parts []Part
	for _, part := range append([]string{FlogPart}, s.attachments(name)...) {
		r, err := s.OpenPart(name, part)
		if err != nil {
			return nil, err
		}
		size, err := r.Size()
		r.Close()
		if err != nil {
			return nil, fmt.Errorf("incident: %w", err)
		}
		parts = append(parts, Part{part, size})
	}
	return parts, nil
}

// PartReader reads a part at any offset. Close closes its file.
type PartReader struct {
	io.ReaderAt
	file durable.File
	size int64
}

// Size returns the part's size in bytes.
func (p *PartReader) Size() (int64, error) {
	if p.file == nil {
		return p.size, nil
	}
	info, err := p.file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Close closes the file.
func (p *PartReader) Close() error {
	if p.file == nil {
		return nil
	}
	return p.file.Close()
}

// OpenPart opens a part of an incident. The error wraps [ErrNoIncident] if there is no
// such incident or part.
func (s *Store) OpenPart(name, part string) (*PartReader, error) {
	if !ValidName(name) {
		return nil, fmt.Errorf("%w: %q", ErrNoIncident, name)
	}
	if part != FlogPart {
		f, err := s.openAttachment(name, part)
		if err != nil {
			return nil, fmt.Errorf("%w: %q, part %q", ErrNoIncident, name, part)
		}
		return &PartReader{ReaderAt: f, file: f}, nil
	}
	if s.dir == nil {
		s.mu.Lock()
		data, ok := s.t.memory[name]
		s.mu.Unlock()
		if !ok {
			return nil, fmt.Errorf("%w: %q", ErrNoIncident, name)
		}
		return &PartReader{ReaderAt: bytes.NewReader(data), size: int64(len(data))}, nil
	}
	f, _, err := s.openFile(name)
	if err != nil {
		return nil, err
	}
	return &PartReader{ReaderAt: f, file: f}, nil
}
