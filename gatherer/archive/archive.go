// Package archive keeps the incidents of a gatherer: their files, their
// categories, and a ledger of where they were published.
//
//	incidents/TUBID/NAME.flog.zst   an incident of the publisher TUBID
//	incidents/TUBID/NAME.parts/     attachments of that incident
//	incidents/TUBID/latest          the name up to which all its incidents are stored
//	incidents/TUBID/also            what it offered that is stored under another TubID
//	classified/CATEGORY             the incidents of a category, one path a line
//	published, told                 ledgers: a path and a target a line
//
// The files are the truth. [Open] reads them into an index in memory, and each
// method of an [Archive] changes the files first, then the index. [Archive.Next]
// compares: it finds incidents that are not classified, or not published. So a
// gatherer that is killed at any point continues where it was. Nothing is lost, and
// nothing is listed twice.
//
// It does not fetch, classify or publish: packages collect and pipeline do.
//
// Spec: flogfile.md sections 5 and 6.
package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/internal/durable"
)

// Archive is the incidents in a gatherer's directory. Its methods may be called
// from any goroutine, but only one goroutine at a time may store what belongs to
// one TubID, and only one may call AddPublished.
type Archive struct {
	dir *durable.Dir

	listing sync.Mutex          // held while lists in classified/ are written
	pending map[Stored][]string // what pendingFile says; guarded by listing

	replacing sync.Mutex // held while a stored incident is replaced, or a mark of that removed

	mu sync.Mutex
	t  index // guarded by mu
}

// index is what the files say.
type index struct {
	incidents map[ID]entry
	tubs      map[string][]string // TubIDs under which an incident of this name is stored
	latest    map[string]string   // by TubID
	also      map[ID][]string     // other TubIDs that offered the incident
	lists     sharedLists
	grown     int // the number of the last replacement
}

// entry is what the files say of one incident.
type entry struct {
	ending     string
	categories []string // sorted; shared with other entries, as published is
	published  []string // sorted
	grown      int      // see State
	unsure     bool     // listing it has failed half way
}

// State is what the archive knows of a stored incident. The slices must not be
// changed.
type State struct {
	Stored
	Categories []string // sorted; empty until it is classified
	Published  []string // the targets that have acknowledged it, sorted

	// Grown is not 0 if the file has been replaced by a longer one and has not
	// been classified since. It tells one replacement from the next.
	Grown int
}

func (t *index) state(id ID) State {
	e := t.incidents[id]
	return State{Stored{id, e.ending}, e.categories, e.published, e.grown}
}

// change changes the entry of a stored incident.
func (t *index) change(id ID, f func(e *entry)) {
	if e, ok := t.incidents[id]; ok {
		f(&e)
		t.incidents[id] = e
	}
}

func (t *index) add(s Stored) {
	e, ok := t.incidents[s.ID]
	if !ok {
		t.tubs[s.Name] = append(t.tubs[s.Name], s.Tub)
	}
	e.ending = s.Ending
	t.incidents[s.ID] = e
}

func (t *index) remove(id ID) {
	delete(t.incidents, id)
	t.tubs[id.Name] = slices.DeleteFunc(t.tubs[id.Name], func(tub string) bool { return tub == id.Tub })
}

func (t *index) addAlso(tub string, id ID) {
	if !slices.Contains(t.also[id], tub) {
		t.also[id] = append(t.also[id], tub)
	}
}

// sharedLists are lists of texts that many incidents have in common: few rules
// make few combinations of categories.
type sharedLists map[string][]string

// with returns list, which is sorted, with text in it.
func (l sharedLists) with(list []string, text string) []string {
	i, found := slices.BinarySearch(list, text)
	if found {
		return list
	}
	longer := slices.Insert(slices.Clone(list), i, text)
	key := strings.Join(longer, "\x00") // no name of a file and no target contains it
	if shared, ok := l[key]; ok {
		return shared
	}
	l[key] = longer
	return longer
}

// Create makes the ledgers of a new directory: everything that will be stored in it
// is to be published. It does nothing if incidents may have been stored before.
func Create(dir *durable.Dir) error {
	if _, err := dir.Lstat(incidentsDir); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := createLedgers(dir, nil); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	return nil
}

// Open reads what is stored in dir, the gatherer's directory, and completes what
// a killed gatherer began. It needs exclusive use of the directory. It ignores
// files that it does not recognize.
//
// A directory without ledgers was made by the original: what is stored in it
// counts as published.
func Open(dir *durable.Dir) (*Archive, error) {
	a := &Archive{dir: dir, pending: map[Stored][]string{}, t: index{
		incidents: map[ID]entry{}, tubs: map[string][]string{}, latest: map[string]string{}, also: map[ID][]string{},
		lists: sharedLists{},
	}}
	for _, name := range []string{incidentsDir, classifiedDir} {
		if err := dir.Mkdir(name); err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
	}
	for _, at := range []string{".", classifiedDir} {
		if err := a.removeTemporary(at); err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
	}
	tubs, err := dir.ReadDir(incidentsDir)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	for _, tub := range tubs {
		if tub.IsDir() && ValidTub(tub.Name()) {
			if err := a.readTub(tub.Name()); err != nil {
				return nil, fmt.Errorf("archive: %w", err)
			}
		}
	}
	for _, read := range []func() error{a.readClassified, a.finishPending, a.openLedgers} {
		if err := read(); err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
	}
	return a, nil
}

// readTub reads the directory of a TubID into the index.
func (a *Archive) readTub(tub string) error {
	at := path.Join(incidentsDir, tub)
	files, err := a.dir.ReadDir(at)
	if err != nil {
		return err
	}
	var grown []ID
	var dotted []ID // whose names have a dot: attachments have one, of earlier versions
	for _, file := range files {
		if file.IsDir() && strings.HasSuffix(file.Name(), partsEnding) {
			if err := a.removeTemporary(path.Join(at, file.Name())); err != nil {
				return err
			}
		}
		if !file.Type().IsRegular() {
			continue
		}
		if durable.IsTemporary(file.Name()) {
			continue // removed below
		}
		if name, ok := strings.CutSuffix(file.Name(), grownEnding); ok {
			grown = append(grown, ID{tub, name})
			continue
		}
		name, ending, ok := splitEnding(file.Name())
		if !ok {
			continue
		}
		s := Stored{ID{tub, name}, ending}
		have, ok := a.t.incidents[s.ID]
		if !ok || slices.Index(endings, ending) < slices.Index(endings, have.ending) {
			a.t.add(s)
		}
		if strings.Contains(name, ".") {
			dotted = append(dotted, s.ID)
		}
	}
	for _, id := range dotted {
		name, _, _ := strings.Cut(id.Name, ".")
		if _, ok := a.t.incidents[ID{tub, name}]; ok {
			a.t.remove(id)
		}
	}
	for _, id := range grown {
		a.t.change(id, func(e *entry) {
			a.t.grown++
			e.grown = a.t.grown
		})
	}
	if err := a.removeTemporary(at); err != nil {
		return err
	}
	return a.readOffers(tub)
}

// leftover matches the temporary names of package durable.
var leftover = regexp.MustCompile(`\.[A-Z2-7]{8}\.tmp$`)

// removeTemporary removes what a killed gatherer left of the files that it was
// replacing in a directory.
func (a *Archive) removeTemporary(at string) error {
	files, err := a.dir.ReadDir(at)
	if err != nil {
		return err
	}
	for _, file := range files {
		name := file.Name()
		if file.Type().IsRegular() && (leftover.MatchString(name) || durable.IsTemporary(name) && strings.HasPrefix(name, "incident")) {
			a.dir.Remove(path.Join(at, name)) // what cannot be removed does no harm
		}
	}
	return nil
}

// Len returns how many incidents are stored.
func (a *Archive) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.t.incidents)
}

// State returns what the archive knows of an incident; ok is false if it is not
// stored.
func (a *Archive) State(id ID) (s State, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok = a.t.incidents[id]
	return a.t.state(id), ok
}

// Next returns the first limit incidents after the one given that match, ordered
// by TubID and name. It looks at all incidents: match should be fast, and must not
// call the Archive.
func (a *Archive) Next(after ID, limit int, match func(State) bool) []Stored {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []Stored
	first := func() {
		slices.SortFunc(list, func(x, y Stored) int { return x.Compare(y.ID) })
		list = list[:min(len(list), limit)]
	}
	for id, e := range a.t.incidents {
		if id.Compare(after) <= 0 || !match(a.t.state(id)) {
			continue
		}
		if len(list) >= 2*limit {
			first()
		}
		list = append(list, Stored{id, e.ending})
	}
	first()
	return list
}

// Elsewhere returns the incidents of this name that are stored under other TubIDs
// than tub.
func (a *Archive) Elsewhere(tub, name string) []Stored {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []Stored
	for _, other := range a.t.tubs[name] {
		if other != tub {
			list = append(list, a.t.state(ID{other, name}).Stored)
		}
	}
	return list
}

// grownEnding is that of an empty file beside an incident, which is there from
// before its file is replaced until the new one is classified. It cannot be the
// ending of an attachment: see incident.ValidAttachment.
const grownEnding = ".flog.grown"

// Store writes an incident durably: its header, and its events, which were
// received at that time. If the incident is stored already, the new file replaces
// the old one, and the incident counts as grown.
func (a *Archive) Store(id ID, header event.Dict, events []event.Dict, received time.Time) (Stored, error) {
	s := Stored{id, ".flog.zst"}
	if err := a.store(s, header, events, received); err != nil {
		return s, fmt.Errorf("archive: store incident %q: %w", id.Name, err)
	}
	return s, nil
}

func (a *Archive) store(s Stored, header event.Dict, events []event.Dict, received time.Time) error {
	if err := a.makeTub(s.Tub); err != nil {
		return err
	}
	_, again := a.State(s.ID)
	if again {
		a.replacing.Lock()
		defer a.replacing.Unlock()
		if err := a.dir.WriteFile(s.markPath(), nil, 0o600); err != nil {
			return err
		}
	}
	err := a.dir.Replace(s.Path(), 0o600, func(w io.Writer) error {
		return writeIncident(w, s, header, events, received)
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.add(s)
	if again {
		a.t.grown++
		a.t.change(s.ID, func(e *entry) { e.grown = a.t.grown })
	}
	return nil
}

func writeIncident(w io.Writer, s Stored, header event.Dict, events []event.Dict, received time.Time) error {
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
		line = flogfile.AppendEvent(line[:0], s.Tub, received, d)
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	return out.Close()
}

// forgetGrown removes the mark of the replacement with that number, unless
// another has followed it.
func (a *Archive) forgetGrown(id ID, grown int) error {
	a.replacing.Lock()
	defer a.replacing.Unlock()
	if now, _ := a.State(id); now.Grown != grown {
		return nil
	}
	if err := a.dir.Remove(Stored{ID: id}.markPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A mark that a power cut brings back costs one more classification.
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.change(id, func(e *entry) { e.grown = 0 })
	return nil
}

// partsEnding is that of the directory of an incident's attachments. Nothing in it can
// be taken for an incident. Earlier versions wrote NAME.ATTACHMENT beside the incident.
const partsEnding = ".parts"

// StoreAttachment writes an attachment of an incident durably; write writes its
// content. The name must be valid: see incident.ValidAttachment.
func (a *Archive) StoreAttachment(id ID, name string, write func(w io.Writer) error) error {
	at := path.Join(incidentsDir, id.Tub, id.Name+partsEnding)
	err := a.makeTub(id.Tub)
	if err == nil {
		err = a.dir.Mkdir(at)
	}
	if err == nil {
		err = a.dir.Replace(path.Join(at, name), 0o600, write)
	}
	if err != nil {
		return fmt.Errorf("archive: store attachment %q: %w", name, err)
	}
	return nil
}

func (a *Archive) makeTub(tub string) error { return a.dir.Mkdir(path.Join(incidentsDir, tub)) }
