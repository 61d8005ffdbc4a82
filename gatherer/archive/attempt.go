package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/flogtool/flogtool/internal/durable"
)

// attemptsDir has two files for each step of the pipeline:
//
//	working/STEP          the incident that the step is at work on; empty if none
//	working/STEP.deaths   the incidents at which a gatherer died, and how often
//
// The first is written, and not synced, each time: what a dead process wrote is there,
// and after a power cut nothing is to be blamed. The second is durable, and is written
// at the start after a death.
const attemptsDir = "working"

// maxDeaths is how often a gatherer may die while it is at work on one incident.
const maxDeaths = 2

// markSize is the size of working/STEP, in bytes: that of the longest path, and more.
const markSize = 256

// Attempts guards a step against an incident that kills the process. It serves one
// goroutine. A nil Attempts guards against nothing.
type Attempts struct {
	dir    *durable.Dir
	deaths string         // the file's name
	file   durable.File   // working/STEP
	counts map[string]int // deaths, by path
}

// DeadlyError says that a step must not work on an incident.
type DeadlyError struct{ Deaths int }

func (e *DeadlyError) Error() string {
	return fmt.Sprintf("the gatherer died %d times while it was at work on this incident", e.Deaths)
}

// Attempts returns what guards a step, and blames the incident on which an earlier
// process was at work when it died. The caller must call Close when the step ends.
func (a *Archive) Attempts(step string) (*Attempts, error) {
	t := &Attempts{dir: a.dir, deaths: path.Join(attemptsDir, step+".deaths"), counts: map[string]int{}}
	if err := t.open(path.Join(attemptsDir, step)); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return t, nil
}

func (t *Attempts) open(mark string) error {
	if err := t.dir.Mkdir(attemptsDir); err != nil {
		return err
	}
	err := t.dir.EachLine(t.deaths, func(line string) {
		rel, count, _ := strings.Cut(line, " ")
		if n, err := strconv.Atoi(count); err == nil {
			t.counts[rel] = n
		}
	})
	if err != nil {
		return err
	}
	text, err := t.dir.ReadFile(mark)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s, ok := ParsePath(string(bytes.TrimSpace(text))); ok {
		t.counts[s.Path()]++
		if err := t.write(); err != nil {
			return err
		}
	}
	if t.file, err = t.dir.OpenFile(mark, os.O_WRONLY|os.O_CREATE, 0o600); err != nil {
		return err
	}
	t.mark("") // only after the death is durable
	return nil
}

// Guard calls work, which is for the incident s, unless two gatherers in a row died in
// it: then it returns a *DeadlyError. An incident at which work returns is not blamed
// any more.
func (t *Attempts) Guard(s Stored, work func() error) error {
	if t == nil {
		return work()
	}
	rel := s.Path()
	deaths := t.counts[rel]
	if deaths >= maxDeaths {
		return &DeadlyError{deaths}
	}
	t.mark(rel)
	err := work()
	t.mark("")
	if deaths > 0 {
		delete(t.counts, rel)
		if err := t.write(); err != nil {
			return err
		}
	}
	return err
}

// mark says on which incident the step is at work. A mark that cannot be written is
// missing after a death; the step goes on.
func (t *Attempts) mark(rel string) {
	record := bytes.Repeat([]byte{' '}, markSize)
	copy(record, rel)
	record[markSize-1] = '\n'
	t.file.WriteAt(record, 0)
}

func (t *Attempts) write() error {
	var text []byte
	for rel, n := range t.counts {
		text = fmt.Appendf(text, "%s %d\n", rel, n)
	}
	return t.dir.WriteFile(t.deaths, text, 0o600)
}

// Close ends the use of the files.
func (t *Attempts) Close() error {
	if t == nil {
		return nil
	}
	return t.file.Close()
}
