package archive

import (
	"cmp"
	"path"
	"strings"

	"github.com/flogtool/flogtool/incident"
)

// The directories of incidents and of categories, in the gatherer's directory.
const (
	incidentsDir  = "incidents"
	classifiedDir = "classified"
)

// ID identifies an incident in the archive: the TubID under which it is stored,
// and its name.
type ID struct{ Tub, Name string }

// Compare orders IDs by TubID, then by name.
func (id ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(id.Tub, other.Tub), cmp.Compare(id.Name, other.Name))
}

// Stored is an incident in the archive.
type Stored struct {
	ID
	Ending string // of its file: .flog, .flog.zst or .flog.bz2
}

// Path returns the name of the incident's file relative to the gatherer's
// directory, with slashes. The lists in classified/ and the ledgers name it so.
func (s Stored) Path() string { return path.Join(incidentsDir, s.Tub, s.Name+s.Ending) }

func (s Stored) markPath() string { return path.Join(incidentsDir, s.Tub, s.Name+grownEnding) }

// ParsePath is the inverse of [Stored.Path]; ok is false if no Stored has that
// path.
func ParsePath(rel string) (s Stored, ok bool) {
	rest, ok := strings.CutPrefix(rel, incidentsDir+"/")
	if !ok {
		return s, false
	}
	tub, file, ok := strings.Cut(rest, "/")
	if !ok || !ValidTub(tub) {
		return s, false
	}
	name, ending, ok := splitEnding(file)
	return Stored{ID{tub, name}, ending}, ok
}

// endings are those of incident files, the best one first. If a file exists in two
// forms, a conversion between them was cut short.
var endings = []string{".flog.zst", ".flog.bz2", ".flog"}

// splitEnding splits the name of an incident file.
func splitEnding(file string) (name, ending string, ok bool) {
	for _, ending := range endings {
		if name, ok := strings.CutSuffix(file, ending); ok {
			return name, ending, incident.ValidName(name)
		}
	}
	return "", "", false
}

// ValidTub reports whether s has the form of a TubID. Such a text is safe as the
// name of a file.
func ValidTub(s string) bool {
	return len(s) == 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}
