package gatherer

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/internal/durable"
)

const (
	classifiedDir = "classified"

	// pendingFile holds the line and the categories of an incident that is
	// being written into several files of classified/. Whoever finds it
	// finishes that: an incident in some of its categories would never be
	// looked at again.
	pendingFile = "classifying"
)

// listing is classified/CATEGORY: text, one incident's file a line.
type listing struct {
	dir *durable.Dir

	mu     sync.Mutex // held while lines are added
	broken bool       // adding failed half way; guarded by mu
}

// openListing finishes what a killed gatherer began.
func openListing(dir *durable.Dir) (*listing, error) {
	l := &listing{dir: dir}
	if err := dir.Mkdir(classifiedDir); err != nil {
		return nil, fmt.Errorf("gatherer: %w", err)
	}
	return l, l.finish()
}

// finish adds what pendingFile says is not there yet.
func (l *listing) finish() error {
	text, err := l.dir.ReadFile(pendingFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("gatherer: %w", err)
	}
	if fields := strings.Fields(string(text)); len(fields) > 1 {
		if err := l.addMissing(fields[0], fields[1:]); err != nil {
			return err
		}
	}
	if err := l.dir.Remove(pendingFile); err != nil {
		return fmt.Errorf("gatherer: %w", err)
	}
	return nil
}

// addMissing adds line to those of the categories that do not have it.
func (l *listing) addMissing(line string, categories []string) error {
	id, _, ok := parsePath(line)
	if !ok {
		return nil
	}
	listed, err := l.read()
	if err != nil {
		return err
	}
	for _, category := range categories {
		if filter.CheckCategory(category) != nil || slices.Contains(listed[id], category) {
			continue
		}
		if err := l.append(category, line); err != nil {
			return err
		}
	}
	return nil
}

// read returns the categories of every incident that some file names. The files
// of an original gatherer may have any name; those count as much.
func (l *listing) read() (map[incidentID][]string, error) {
	files, err := l.dir.ReadDir(classifiedDir)
	if err != nil {
		return nil, fmt.Errorf("gatherer: %w", err)
	}
	listed := map[incidentID][]string{}
	for _, file := range files {
		if !file.Type().IsRegular() || durable.IsTemporary(file.Name()) {
			continue
		}
		err := l.dir.EachLine(path.Join(classifiedDir, file.Name()), func(line string) {
			id, _, ok := parsePath(strings.TrimSpace(line))
			if ok && !slices.Contains(listed[id], file.Name()) {
				listed[id] = append(listed[id], file.Name())
			}
		})
		if err != nil {
			return nil, fmt.Errorf("gatherer: %w", err)
		}
	}
	for _, categories := range listed {
		slices.Sort(categories)
	}
	return listed, nil
}

// add writes the incident s, which no file names yet in these categories, into
// the file of each. When it returns, or when it is killed and the next
// openListing has returned, all of them are durable. After an error it may be
// called again.
func (l *listing) add(s stored, categories []string) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { l.broken = err != nil }()
	if l.broken {
		if err := l.finish(); err != nil {
			return err
		}
		return l.addMissing(s.path(), categories)
	}
	if len(categories) == 1 {
		return l.append(categories[0], s.path())
	}
	line := s.path() + " " + strings.Join(categories, " ") + "\n"
	if err := l.dir.WriteFile(pendingFile, []byte(line), 0o600); err != nil {
		return fmt.Errorf("gatherer: %w", err)
	}
	for _, category := range categories {
		if err := l.append(category, s.path()); err != nil {
			return err
		}
	}
	if err := l.dir.Remove(pendingFile); err != nil {
		return fmt.Errorf("gatherer: %w", err)
	}
	return nil
}

func (l *listing) append(category, line string) error {
	if err := l.dir.AppendLines(path.Join(classifiedDir, category), line); err != nil {
		return fmt.Errorf("gatherer: %w", err)
	}
	return nil
}
