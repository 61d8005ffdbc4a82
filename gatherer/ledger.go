package gatherer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
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
func startLedgers(root *os.Root) error {
	for _, name := range []string{publishedFile, toldFile} {
		if _, err := root.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := replace(root, name, nil); err != nil {
			return err
		}
	}
	return nil
}

// adoptLedgers makes the ledgers that a directory lacks, with all its incidents
// in them: a directory without ledgers was not made by Create, so it comes from
// the original, and what it holds counts as published and told.
func adoptLedgers(root *os.Root, incidents []stored) error {
	var text strings.Builder
	for _, inc := range incidents {
		fmt.Fprintf(&text, "%s %s\n", inc.path(), everyTarget)
	}
	for _, name := range []string{publishedFile, toldFile} {
		if _, err := root.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := replace(root, name, []byte(text.String())); err != nil {
			return err
		}
	}
	return nil
}

// readLedger returns which targets the ledger name has for each incident.
func readLedger(root *os.Root, name string) (map[incidentID][]string, error) {
	targets := map[incidentID][]string{}
	err := eachLine(root, name, func(line string) {
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
