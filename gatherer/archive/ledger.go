package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/flogtool/flogtool/internal/durable"
)

// The ledgers. A line is a path, a space and a target, and is written after the
// target has acknowledged the incident.
const (
	publishedFile = "published" // on NATS; the target is incident.CategorySubject
	toldFile      = "told"      // to people
)

// EveryTarget stands for all targets: what an original gatherer has stored counts
// as known to everybody.
const EveryTarget = "*"

// openLedgers makes missing ledgers and reads `published` into the index.
func (a *Archive) openLedgers() error {
	if err := createLedgers(a.dir, a.t.incidents); err != nil {
		return err
	}
	return a.dir.EachLine(publishedFile, func(line string) {
		rel, target, _ := strings.Cut(line, " ")
		if s, ok := ParsePath(rel); ok && !strings.Contains(target, "\x00") {
			a.t.addPublished(s.ID, target)
		}
	})
}

// createLedgers makes the ledgers that dir lacks, with these incidents in them.
func createLedgers(dir *durable.Dir, incidents map[ID]entry) error {
	for _, name := range []string{publishedFile, toldFile} {
		if _, err := dir.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		err := dir.Replace(name, 0o600, func(w io.Writer) error {
			out := bufio.NewWriter(w)
			for id, e := range incidents {
				fmt.Fprintf(out, "%s %s\n", Stored{id, e.ending}.Path(), EveryTarget)
			}
			return out.Flush()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *index) addPublished(id ID, target string) {
	t.change(id, func(e *entry) { e.published = t.lists.with(e.published, target) })
}

// AddPublished notes durably that a target has acknowledged an incident. After an
// error it may be called again.
func (a *Archive) AddPublished(s Stored, target string) error {
	if err := a.dir.AppendLines(publishedFile, s.Path()+" "+target); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.addPublished(s.ID, target)
	return nil
}
