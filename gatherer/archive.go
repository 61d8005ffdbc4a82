package gatherer

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
	incidentsDir = "incidents"
	latestFile   = "latest"
	alsoFile     = "also"
)

// incidentID names an incident in this directory: the Tub it came from and its
// name there. Whether it is stored as .zst, .bz2 or plain is no part of it.
type incidentID struct{ tub, name string }

// stored is an incident in the archive.
type stored struct {
	incidentID
	ending string // .flog, .flog.zst, .flog.bz2
}

// path returns the incident's file, relative to the gatherer's directory: the
// form in which classified/ and the ledgers name it.
func (s stored) path() string { return path.Join(incidentsDir, s.tub, s.name+s.ending) }

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

// parsePath reads what path wrote.
func parsePath(rel string) (id incidentID, ending string, ok bool) {
	rest, ok := strings.CutPrefix(rel, incidentsDir+"/")
	if !ok {
		return id, "", false
	}
	tub, file, ok := strings.Cut(rest, "/")
	if !ok || !validTub(tub) {
		return id, "", false
	}
	name, ending, ok := splitEnding(file)
	return incidentID{tub, name}, ending, ok
}

// validTub reports whether s has the form of a TubID, which every peer's proved
// identity has: it is a directory's name here.
func validTub(s string) bool {
	return len(s) == 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// archive is the incidents of a gatherer's directory:
//
//	incidents/TUBID/NAME.flog.zst   one incident, as TUBID gave it
//	incidents/TUBID/latest          the name up to which all is here
//	incidents/TUBID/also            what TUBID offered that is here under another Tub
//
// The files are the truth; what is in memory is found again at start.
type archive struct {
	dir *durable.Dir

	mu sync.Mutex
	t  archiveTables // guarded by mu
}

type archiveTables struct {
	files  map[incidentID]string // ending of each stored incident
	tubs   map[string][]string   // Tubs under which an incident of this name is stored
	latest map[string]string     // of each Tub
	also   map[incidentID][]string
}

func (t *archiveTables) addAlso(tub string, id incidentID) {
	if !slices.Contains(t.also[id], tub) {
		t.also[id] = append(t.also[id], tub)
	}
}

func (t *archiveTables) add(s stored) {
	if _, ok := t.files[s.incidentID]; !ok {
		t.tubs[s.name] = append(t.tubs[s.name], s.tub)
	}
	t.files[s.incidentID] = s.ending
}

// openArchive finds what is stored below dir. A file that has no business
// there is left alone.
func openArchive(dir *durable.Dir) (*archive, error) {
	a := &archive{dir: dir, t: archiveTables{
		files: map[incidentID]string{}, tubs: map[string][]string{}, latest: map[string]string{},
		also: map[incidentID][]string{},
	}}
	if err := dir.Mkdir(incidentsDir); err != nil {
		return nil, fmt.Errorf("gatherer: %w", err)
	}
	tubs, err := dir.ReadDir(incidentsDir)
	if err != nil {
		return nil, fmt.Errorf("gatherer: %w", err)
	}
	for _, tub := range tubs {
		if !tub.IsDir() || !validTub(tub.Name()) {
			continue
		}
		at := path.Join(incidentsDir, tub.Name())
		files, err := dir.ReadDir(at)
		if err != nil {
			return nil, fmt.Errorf("gatherer: %w", err)
		}
		for _, file := range files {
			name, ending, ok := splitEnding(file.Name())
			switch {
			case durable.IsTemporary(file.Name()) && strings.HasPrefix(file.Name(), "incident"):
				dir.Remove(path.Join(at, file.Name())) // of a store that was cut short
			case !ok || !file.Type().IsRegular():
			default:
				s := stored{incidentID{tub.Name(), name}, ending}
				if have, ok := a.t.files[s.incidentID]; ok && slices.Index(endings, have) < slices.Index(endings, ending) {
					continue
				}
				a.t.add(s)
			}
		}
		latest, err := oneLine(dir, path.Join(at, latestFile))
		if err == nil && incident.ValidName(latest) {
			a.t.latest[tub.Name()] = latest
		}
		err = dir.EachLine(path.Join(at, alsoFile), func(line string) {
			if id, _, ok := parsePath(line); ok {
				a.t.addAlso(tub.Name(), id)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("gatherer: %w", err)
		}
	}
	return a, nil
}

// all returns what is stored, ordered by Tub and name.
func (a *archive) all() []stored {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]stored, 0, len(a.t.files))
	for id, ending := range a.t.files {
		list = append(list, stored{id, ending})
	}
	slices.SortFunc(list, func(x, y stored) int {
		return cmp.Or(cmp.Compare(x.tub, y.tub), cmp.Compare(x.name, y.name))
	})
	return list
}

// find returns the stored incident id, if it is there.
func (a *archive) find(id incidentID) (stored, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ending, ok := a.t.files[id]
	return stored{id, ending}, ok
}

// elsewhere returns the incidents of this name that other Tubs than tub gave.
func (a *archive) elsewhere(tub, name string) []stored {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []stored
	for _, other := range a.t.tubs[name] {
		if other != tub {
			id := incidentID{other, name}
			list = append(list, stored{id, a.t.files[id]})
		}
	}
	return list
}

// latest returns the name from which on tub's incidents are to be asked for,
// "" for all.
func (a *archive) latest(tub string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.t.latest[tub]
}

// setLatest notes that all of tub's incidents up to name are here. It never
// goes back.
func (a *archive) setLatest(tub, name string) error {
	if name <= a.latest(tub) {
		return nil
	}
	if err := a.dir.WriteFile(path.Join(incidentsDir, tub, latestFile), []byte(name+"\n"), 0o600); err != nil {
		return fmt.Errorf("gatherer: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.latest[tub] = name
	return nil
}

// addTub makes the directory of a Tub.
func (a *archive) addTub(tub string) error {
	if err := a.dir.Mkdir(path.Join(incidentsDir, tub)); err != nil {
		return fmt.Errorf("gatherer: %w", err)
	}
	return nil
}

// setAlso notes that tub offered the incident s, which is stored under another
// Tub: one process with a new identity offers its old incidents again. It
// reports whether that is news.
func (a *archive) setAlso(tub string, s stored) (news bool, err error) {
	if slices.Contains(a.alsoTubs(s.incidentID), tub) {
		return false, nil
	}
	if err := a.addTub(tub); err != nil {
		return false, err
	}
	if err := a.dir.AppendLines(path.Join(incidentsDir, tub, alsoFile), s.path()); err != nil {
		return false, fmt.Errorf("gatherer: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.addAlso(tub, s.incidentID)
	return true, nil
}

// alsoTubs returns the Tubs under which the stored incident id was offered too.
func (a *archive) alsoTubs(id incidentID) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.t.also[id])
}

// store writes the incident id durably, as it was fetched at the time now:
// its header, and its events without their wrappers.
func (a *archive) store(id incidentID, header event.Dict, events []event.Dict, now time.Time) (stored, error) {
	s := stored{id, ".flog.zst"}
	if err := a.addTub(id.tub); err != nil {
		return s, err
	}
	err := a.dir.Replace(s.path(), 0o600, func(w io.Writer) error {
		out, err := flogfile.NewWriter(w, s.path(), nil)
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
			line = flogfile.AppendEvent(line[:0], id.tub, now, d)
			if _, err := out.Write(line); err != nil {
				return err
			}
		}
		return out.Close()
	})
	if err != nil {
		return s, fmt.Errorf("gatherer: store incident %q: %w", id.name, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.add(s)
	return s, nil
}
