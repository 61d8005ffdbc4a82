package gatherer

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/flogtool/flogtool/internal/durable"
)

// The ledgers of a gatherer's directory: append-only, a relative name and a
// target a line, written after the target has acknowledged.
const (
	publishedFile = "published" // on NATS; the target is a subject up to its category
	toldFile      = "told"      // to people
)

// everyTarget stands for all targets: the incidents that an original gatherer
// left have it, because whoever wanted to know of them does.
const everyTarget = "*"

// startLedgers makes the ledgers of a directory that holds no incidents yet.
func startLedgers(dir *durable.Dir) error {
	for _, name := range []string{publishedFile, toldFile} {
		if _, err := dir.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := dir.WriteFile(name, nil, 0o600); err != nil {
			return fmt.Errorf("gatherer: %w", err)
		}
	}
	return nil
}

// adoptLedgers makes the ledgers that a directory lacks, with all its incidents
// in them: a directory without ledgers was not made by Create, so it comes from
// the original, and what it holds counts as published and told.
func adoptLedgers(dir *durable.Dir, incidents []stored) error {
	var text strings.Builder
	for _, inc := range incidents {
		fmt.Fprintf(&text, "%s %s\n", inc.path(), everyTarget)
	}
	for _, name := range []string{publishedFile, toldFile} {
		if _, err := dir.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := dir.WriteFile(name, []byte(text.String()), 0o600); err != nil {
			return fmt.Errorf("gatherer: %w", err)
		}
	}
	return nil
}

// readLedger returns which targets the ledger name has for each incident.
func readLedger(dir *durable.Dir, name string) (map[incidentID][]string, error) {
	targets := map[incidentID][]string{}
	err := dir.EachLine(name, func(line string) {
		rel, target, _ := strings.Cut(line, " ")
		id, _, ok := parsePath(rel)
		if ok && !slices.Contains(targets[id], target) {
			targets[id] = append(targets[id], target)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("gatherer: %w", err)
	}
	return targets, nil
}
