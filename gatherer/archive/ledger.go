package archive

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
	PublishedFile = "published" // on NATS; the target is a subject up to its category
	toldFile      = "told"      // to people
)

// EveryTarget stands for all targets: the incidents that an original gatherer
// left have it, because whoever wanted to know of them does.
const EveryTarget = "*"

// StartLedgers makes the ledgers of a directory that holds no incidents yet.
func StartLedgers(dir *durable.Dir) error {
	for _, name := range []string{PublishedFile, toldFile} {
		if _, err := dir.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := dir.WriteFile(name, nil, 0o600); err != nil {
			return fmt.Errorf("archive: %w", err)
		}
	}
	return nil
}

// AdoptLedgers makes the ledgers that a directory lacks, with all its incidents
// in them: a directory without ledgers was not made by Create, so it comes from
// the original, and what it holds counts as published and told.
func AdoptLedgers(dir *durable.Dir, incidents []Stored) error {
	var text strings.Builder
	for _, inc := range incidents {
		fmt.Fprintf(&text, "%s %s\n", inc.Path(), EveryTarget)
	}
	for _, name := range []string{PublishedFile, toldFile} {
		if _, err := dir.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := dir.WriteFile(name, []byte(text.String()), 0o600); err != nil {
			return fmt.Errorf("archive: %w", err)
		}
	}
	return nil
}

// ReadLedger returns which targets the ledger name has for each incident.
func ReadLedger(dir *durable.Dir, name string) (map[ID][]string, error) {
	targets := map[ID][]string{}
	err := dir.EachLine(name, func(line string) {
		rel, target, _ := strings.Cut(line, " ")
		id, _, ok := ParsePath(rel)
		if ok && !slices.Contains(targets[id], target) {
			targets[id] = append(targets[id], target)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return targets, nil
}
