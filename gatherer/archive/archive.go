package archive

import (
	"cmp"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/internal/durable"
)

const (
	IncidentsDir = "incidents"
	latestFile   = "latest"
	alsoFile     = "also"
)

// ID names an incident in this directory: the Tub it came from and its
// name there. Whether it is Stored as .zst, .bz2 or plain is no part of it.
type ID struct{ Tub, Name string }

// Stored is an incident in the archive.
type Stored struct {
	ID
	Ending string // .flog, .flog.zst, .flog.bz2
}

// Path returns the incident's file, relative to the gatherer's directory: the
// form in which classified/ and the ledgers name it.
func (s Stored) Path() string { return path.Join(IncidentsDir, s.Tub, s.Name+s.Ending) }

// endings of incident files, the best one first: where a file stands there in
// two forms, a conversion was cut short and the first is the one to read.
var endings = []string{".flog.zst", ".flog.bz2", ".flog"}

// splitEnding returns an incident file's name and its ending.
func splitEnding(file string) (name, ending string, ok bool) {
	for _, ending := range endings {
		if name, ok := strings.CutSuffix(file, ending); ok {
			return name, ending, incident.ValidName(name)
		}
	}
	return "", "", false
}

// ParsePath reads what Path wrote.
func ParsePath(rel string) (id ID, ending string, ok bool) {
	rest, ok := strings.CutPrefix(rel, IncidentsDir+"/")
	if !ok {
		return id, "", false
	}
	tub, file, ok := strings.Cut(rest, "/")
	if !ok || !ValidTub(tub) {
		return id, "", false
	}
	name, ending, ok := splitEnding(file)
	return ID{tub, name}, ending, ok
}

// ValidTub reports whether s has the form of a TubID, which every peer's proved
// identity has: it is a directory's name here.
func ValidTub(s string) bool {
	return len(s) == 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// Archive is the incidents of a gatherer's directory:
//
//	incidents/TUBID/NAME.flog.zst   one incident, as TUBID gave it
//	incidents/TUBID/latest          the name up to which all is here
//	incidents/TUBID/also            what TUBID offered that is here under another Tub
//
// The files are the truth; what is in memory is found again at start.
type Archive struct {
	dir *durable.Dir

	mu sync.Mutex
	t  archiveTables // guarded by mu
}

type archiveTables struct {
	files  map[ID]string       // ending of each stored incident
	tubs   map[string][]string // Tubs under which an incident of this name is Stored
	latest map[string]string   // of each Tub
	also   map[ID][]string
}

func (t *archiveTables) addAlso(tub string, id ID) {
	if !slices.Contains(t.also[id], tub) {
		t.also[id] = append(t.also[id], tub)
	}
}

func (t *archiveTables) add(s Stored) {
	if _, ok := t.files[s.ID]; !ok {
		t.tubs[s.Name] = append(t.tubs[s.Name], s.Tub)
	}
	t.files[s.ID] = s.Ending
}

// Open finds what is Stored below dir. A file that has no business
// there is left alone.
func Open(dir *durable.Dir) (*Archive, error) {
	a := &Archive{dir: dir, t: archiveTables{
		files: map[ID]string{}, tubs: map[string][]string{}, latest: map[string]string{},
		also: map[ID][]string{},
	}}
	if err := dir.Mkdir(IncidentsDir); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	tubs, err := dir.ReadDir(IncidentsDir)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	for _, tub := range tubs {
		if !tub.IsDir() || !ValidTub(tub.Name()) {
			continue
		}
		at := path.Join(IncidentsDir, tub.Name())
		files, err := dir.ReadDir(at)
		if err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
		for _, file := range files {
			name, ending, ok := splitEnding(file.Name())
			switch {
			case durable.IsTemporary(file.Name()) && strings.HasPrefix(file.Name(), "incident"):
				dir.Remove(path.Join(at, file.Name())) // of a store that was cut short
			case !ok || !file.Type().IsRegular():
			default:
				s := Stored{ID{tub.Name(), name}, ending}
				if have, ok := a.t.files[s.ID]; ok && slices.Index(endings, have) < slices.Index(endings, ending) {
					continue
				}
				a.t.add(s)
			}
		}
		text, err := dir.ReadFile(path.Join(at, latestFile))
		if latest := strings.TrimSpace(string(text)); err == nil && incident.ValidName(latest) {
			a.t.latest[tub.Name()] = latest
		}
		err = dir.EachLine(path.Join(at, alsoFile), func(line string) {
			if id, _, ok := ParsePath(line); ok {
				a.t.addAlso(tub.Name(), id)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
	}
	return a, nil
}

// All returns what is Stored, ordered by Tub and name.
func (a *Archive) All() []Stored {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]Stored, 0, len(a.t.files))
	for id, ending := range a.t.files {
		list = append(list, Stored{id, ending})
	}
	slices.SortFunc(list, func(x, y Stored) int {
		return cmp.Or(cmp.Compare(x.Tub, y.Tub), cmp.Compare(x.Name, y.Name))
	})
	return list
}

// Find returns the stored incident id, if it is there.
func (a *Archive) Find(id ID) (Stored, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ending, ok := a.t.files[id]
	return Stored{id, ending}, ok
}

// Elsewhere returns the incidents of this name that other Tubs than tub gave.
func (a *Archive) Elsewhere(tub, name string) []Stored {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []Stored
	for _, other := range a.t.tubs[name] {
		if other != tub {
			id := ID{other, name}
			list = append(list, Stored{id, a.t.files[id]})
		}
	}
	return list
}

// Latest returns the name from which on tub's incidents are to be asked for,
// "" for all.
func (a *Archive) Latest(tub string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.t.latest[tub]
}

// SetLatest notes that all of tub's incidents up to name are here. It never
// goes back.
func (a *Archive) SetLatest(tub, name string) error {
	if name <= a.Latest(tub) {
		return nil
	}
	if err := a.dir.WriteFile(path.Join(IncidentsDir, tub, latestFile), []byte(name+"\n"), 0o600); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.latest[tub] = name
	return nil
}

// AddTub makes the directory of a Tub.
func (a *Archive) AddTub(tub string) error {
	if err := a.dir.Mkdir(path.Join(IncidentsDir, tub)); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	return nil
}

// SetAlso notes that tub offered the incident s, which is Stored under another
// Tub: one process with a new identity offers its old incidents again. It
// reports whether that is news.
func (a *Archive) SetAlso(tub string, s Stored) (news bool, err error) {
	if slices.Contains(a.AlsoTubs(s.ID), tub) {
		return false, nil
	}
	if err := a.AddTub(tub); err != nil {
		return false, err
	}
	if err := a.dir.AppendLines(path.Join(IncidentsDir, tub, alsoFile), s.Path()); err != nil {
		return false, fmt.Errorf("archive: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.addAlso(tub, s.ID)
	return true, nil
}

// AlsoTubs returns the Tubs under which the stored incident id was offered too.
func (a *Archive) AlsoTubs(id ID) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.t.also[id])
}

// Store writes the incident id durably, as it was fetched at the time now:
// its header, and its events without their wrappers.
func (a *Archive) Store(id ID, header event.Dict, events []event.Dict, now time.Time) (Stored, error) {
	s := Stored{id, ".flog.zst"}
	if err := a.AddTub(id.Tub); err != nil {
		return s, err
	}
	err := a.dir.Replace(s.Path(), 0o600, func(w io.Writer) error {
		out, err := flogfile.NewWriter(w, s.Path(), nil)
		if err != nil {
			return err
		}
		line := flogfile.AppendHeader(nil, header)
		if _, err := out.Write(line); err != nil {
			return err
		}
		var d []byte
		for _, dict := range events {
			d = event.FromDict(dict).AppendJSON(d[:0])
			line = flogfile.AppendEvent(line[:0], id.Tub, now, d)
			if _, err := out.Write(line); err != nil {
				return err
			}
		}
		return out.Close()
	})
	if err != nil {
		return s, fmt.Errorf("archive: store incident %q: %w", id.Name, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.add(s)
	return s, nil
}

// StoreAttachment writes an attachment of the incident id durably, as
// incidents/TUBID/NAME.ATTACHMENT, with what write writes.
func (a *Archive) StoreAttachment(id ID, attachment string, write func(io.Writer) error) error {
	if err := a.AddTub(id.Tub); err != nil {
		return err
	}
	return a.dir.Replace(path.Join(IncidentsDir, id.Tub, id.Name+"."+attachment), 0o600, write)
}
