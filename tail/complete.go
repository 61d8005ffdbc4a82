package tail

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/flogtool/flogtool/event/flogfile"
)

// maxCompleted is how many lines of a file a completion looks at: it must be
// there before the person notices.
const maxCompleted = 20_000

// Facilities returns the facilities in the files that paths name, as far as a
// quick look finds them. What cannot be read has none.
func Facilities(paths []string) []string {
	files, err := Expand(paths)
	if err != nil {
		return nil
	}
	found := make(map[string]bool)
	lines := 0
	for _, name := range files {
		if name == "-" {
			continue
		}
		r, err := flogfile.Open(name)
		if err != nil {
			continue
		}
		for lines < maxCompleted {
			l, err := r.Next()
			if err != nil {
				break
			}
			lines++
			if f := l.Facility(); f != "" {
				found[f] = true
			}
		}
		r.Close()
	}
	return slices.Sorted(maps.Keys(found))
}

// CompleteFiles returns the names of incidents that begin with prefix, for which
// shells know no file: those in a gatherer's or application's directory.
func CompleteFiles(prefix string) []string {
	dir, base := filepath.Split(prefix)
	if !strings.HasPrefix("incident-", base) && !strings.HasPrefix(base, "incident-") || base == "" {
		return nil
	}
	found := make(map[string]bool)
	for _, below := range []string{"incidents", "incidents/*", "*/incidents"} {
		matches, _ := filepath.Glob(filepath.Join(dir, below, base+"*.flog*"))
		for _, m := range matches {
			name, _, _ := strings.Cut(filepath.Base(m), ".")
			if _, err := os.Stat(m); err == nil {
				found[dir+name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
