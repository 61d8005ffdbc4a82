package archive

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/flogtool/flogtool/incident"
)

// Files that say what a publisher has offered, in the directory of its TubID.
const (
	latestFile = "latest"
	alsoFile   = "also"
)

func (a *Archive) readOffers(tub string) error {
	at := path.Join(incidentsDir, tub)
	text, err := a.dir.ReadFile(path.Join(at, latestFile))
	if latest := strings.TrimSpace(string(text)); err == nil && incident.ValidName(latest) && latest <= LatestLimit(time.Now()) {
		a.t.latest[tub] = latest // otherwise all incidents are offered again
	}
	return a.dir.EachLine(path.Join(at, alsoFile), func(line string) {
		if s, ok := ParsePath(line); ok {
			a.t.addAlso(tub, s.ID)
		}
	})
}

// LatestLimit returns the text that every name of an incident that began up to an hour
// after now sorts before. No greater name becomes `latest`: later incidents, whose
// names are smaller, would never be offered again.
func LatestLimit(now time.Time) string {
	return incident.NamePrefix(now.Add(time.Hour))
}

// Latest returns the name up to which all incidents of a publisher are stored,
// or known not to exist any more; "" if there is none.
func (a *Archive) Latest(tub string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.t.latest[tub]
}

// SetLatest changes what Latest returns, durably. A smaller name is ignored, and so is
// one above LatestLimit.
func (a *Archive) SetLatest(tub, name string) error {
	if name <= a.Latest(tub) || name > LatestLimit(time.Now()) {
		return nil
	}
	err := a.makeTub(tub)
	if err == nil {
		err = a.dir.WriteFile(path.Join(incidentsDir, tub, latestFile), []byte(name+"\n"), 0o600)
	}
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.latest[tub] = name
	return nil
}

// AddAlso notes durably that the publisher tub offered an incident that is stored
// under another TubID: a process with a new key offers its old incidents again. The
// caller has compared the content.
// added is false if that was known.
func (a *Archive) AddAlso(tub string, s Stored) (added bool, err error) {
	if slices.Contains(a.Also(s.ID), tub) {
		return false, nil
	}
	err = a.makeTub(tub)
	if err == nil {
		err = a.dir.AppendLines(path.Join(incidentsDir, tub, alsoFile), s.Path())
	}
	if err != nil {
		return false, fmt.Errorf("archive: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.addAlso(tub, s.ID)
	return true, nil
}

// KnownElsewhere reports whether AddAlso was called for the publisher tub and an
// incident of this name.
func (a *Archive) KnownElsewhere(tub, name string) bool {
	return slices.ContainsFunc(a.Elsewhere(tub, name), func(s Stored) bool { return slices.Contains(a.Also(s.ID), tub) })
}

// Also returns the other TubIDs under which the stored incident was offered.
func (a *Archive) Also(id ID) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.t.also[id])
}
