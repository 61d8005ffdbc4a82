package tail

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/flogtool/flogtool/event/flogfile"
)

// maxCompleted is how many lines a completion reads, of all files together, so that it
// is immediate; taste.
const maxCompleted = 20_000

// Facilities returns the facilities of the events in the files that paths name, as for
// [Expand], sorted. It is for completion in a shell: it reads the first 20,000 lines
// only, and ignores files that it cannot read.
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

// CompleteFiles returns the names of incidents that begin with prefix, sorted. A shell
// completes names of files itself; these names are not files where prefix points to, but
// [Expand] finds the files in a gatherer's or application's directory there.
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
