package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/internal/durable"
)

// pendingFile has a line for each incident that is being added to several lists in
// classified/: its path and the categories. It exists only while there is one. After
// a kill, an incident that is in some of its categories must not count as
// classified.
const pendingFile = "classifying"

// maxPending bounds the incidents in pendingFile. There is more than one if some
// file of classified/ cannot be written.
const maxPending = 100

// readClassified reads the lists in classified/ into the index. A file of an
// original gatherer may have any name, and that is a category too.
func (a *Archive) readClassified() error {
	files, err := a.dir.ReadDir(classifiedDir)
	if err != nil {
		return err
	}
	for _, file := range files {
		if !file.Type().IsRegular() || durable.IsTemporary(file.Name()) {
			continue
		}
		err := a.dir.EachLine(path.Join(classifiedDir, file.Name()), func(line string) {
			if s, ok := ParsePath(strings.TrimSpace(line)); ok {
				a.t.addCategory(s.ID, file.Name())
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *index) addCategory(id ID, category string) {
	t.change(id, func(e *entry) { e.categories = t.lists.with(e.categories, category) })
}

// finishPending adds what pendingFile says and the lists do not have yet, and
// removes it.
func (a *Archive) finishPending() error {
	var pending []Stored
	categories := map[ID][]string{}
	text, err := a.dir.ReadFile(pendingFile) // not EachLine: a line may be long
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if s, ok := ParsePath(fields[0]); ok {
			pending = append(pending, s)
			categories[s.ID] = slices.DeleteFunc(fields[1:], func(c string) bool { return filter.CheckCategory(c) != nil })
		}
	}
	for _, s := range pending {
		for _, category := range categories[s.ID] {
			if err := a.list(s, category, true); err != nil {
				return err
			}
		}
	}
	return a.writePending()
}

// writePending writes pendingFile or, if nothing is pending, removes it.
func (a *Archive) writePending() error {
	if len(a.pending) == 0 {
		err := a.dir.Remove(pendingFile)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	var text []byte
	for s, categories := range a.pending {
		text = fmt.Appendf(text, "%s %s\n", s.Path(), strings.Join(categories, " "))
	}
	return a.dir.WriteFile(pendingFile, text, 0o600)
}

// list adds an incident to a category. If unsure, it looks whether the file has
// it already.
func (a *Archive) list(s Stored, category string, unsure bool) error {
	name := path.Join(classifiedDir, category)
	found := false
	if unsure {
		err := a.dir.EachLine(name, func(line string) {
			other, ok := ParsePath(strings.TrimSpace(line))
			found = found || ok && other.ID == s.ID
		})
		if err != nil {
			return err
		}
	}
	if !found {
		if err := a.dir.AppendLines(name, s.Path()); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.addCategory(s.ID, category)
	return nil
}

// Classify adds a stored incident to those of the categories in which it is not
// yet, and returns these. When it returns, or after a kill when the next Open
// returns, the incident is in all of them, once in each. After an error Classify
// may be called again.
//
// grown is State(s.ID).Grown from before its file was read. If the file was
// replaced since, the incident still counts as grown.
func (a *Archive) Classify(s Stored, categories []string, grown int) (added []string, err error) {
	a.listing.Lock()
	defer a.listing.Unlock()
	if added, err = a.classify(s, categories); err == nil && grown != 0 {
		err = a.forgetGrown(s.ID, grown)
	}
	if err != nil {
		return nil, fmt.Errorf("archive: classify incident %q: %w", s.Name, err)
	}
	return added, nil
}

func (a *Archive) classify(s Stored, categories []string) (added []string, err error) {
	a.mu.Lock()
	e := a.t.incidents[s.ID]
	a.mu.Unlock()
	for _, category := range categories {
		if !slices.Contains(e.categories, category) {
			added = append(added, category)
		}
	}
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.t.change(s.ID, func(e *entry) { e.unsure = err != nil })
	}()
	if len(added) > 1 {
		if len(a.pending) >= maxPending && a.pending[s] == nil {
			return nil, fmt.Errorf("%d incidents are in %s already", maxPending, pendingFile)
		}
		a.pending[s] = added
		if err := a.writePending(); err != nil {
			delete(a.pending, s)
			return nil, err
		}
	}
	for _, category := range added {
		if err := a.list(s, category, e.unsure); err != nil {
			return nil, err
		}
	}
	if a.pending[s] != nil {
		delete(a.pending, s)
		if err := a.writePending(); err != nil {
			return nil, err
		}
	}
	return added, nil
}
