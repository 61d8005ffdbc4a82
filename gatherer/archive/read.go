package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/incident"
)

// Summarize reads the stored incident s.
func (a *Archive) Summarize(s Stored) (*incident.Summary, error) {
	f, err := a.dir.Open(s.Path())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, f)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	header, events, err := readIncident(f, s.Path())
	if err != nil {
		return nil, err
	}
	sum := incident.NewSummary(s.Name, header, events)
	sum.Tubs = append([]string{s.Tub}, a.AlsoTubs(s.ID)...)
	sum.File, sum.Size, sum.SHA256 = s.Path(), size, hex.EncodeToString(hash.Sum(nil))
	sum.Object = incident.ObjectName(sum.Incarnation, sum.File)
	return sum, nil
}

// readIncident reads an incident file to its end and returns its header and how
// many events it has. Of a damaged one it returns what is readable.
func readIncident(r io.Reader, name string) (header event.Dict, events int, err error) {
	in, err := flogfile.NewReader(r, name)
	if err != nil {
		return nil, 0, err
	}
	defer in.Close()
	for {
		line, err := in.Next()
		if err != nil {
			if header == nil {
				return nil, 0, fmt.Errorf("%s: no header can be read: %w", name, err)
			}
			return header, events, nil
		}
		if line.Kind&flogfile.KindHeader != 0 && header == nil {
			header = line.Header()
		}
		if line.Kind&flogfile.KindEvent != 0 {
			events++
		}
	}
}

// Trigger returns by what the trigger of the stored incident s is known.
func (a *Archive) Trigger(s Stored) (incarnation string, num event.Num, err error) {
	f, err := a.dir.Open(s.Path())
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	in, err := flogfile.NewReader(f, s.Path())
	if err != nil {
		return "", 0, err
	}
	defer in.Close()
	line, err := in.Next()
	if err != nil {
		return "", 0, err
	}
	incarnation, num = Identity(incident.HeaderTrigger(line.Header()))
	return incarnation, num, nil
}

// Longer reports whether an incident that was fetched again has more events
// than the stored s. One with another trigger is another incident, which does
// not take its place.
func (a *Archive) Longer(s Stored, header event.Dict, events int) (longer, another bool, err error) {
	f, err := a.dir.Open(s.Path())
	if err != nil {
		return false, false, err
	}
	defer f.Close()
	have, n, err := readIncident(f, s.Path())
	if err != nil {
		return true, false, nil // what is here cannot be read: any other is better
	}
	incarnation, num := Identity(incident.HeaderTrigger(have))
	newIncarnation, newNum := Identity(incident.HeaderTrigger(header))
	if incarnation != newIncarnation || num != newNum {
		return false, true, nil
	}
	return events > n, false, nil
}

// Identity returns by what a trigger is known, wherever it turns up.
func Identity(trigger *event.Event) (incarnation string, num event.Num) {
	num, ok := trigger.Num()
	if !ok {
		num = event.NoNum
	}
	return trigger.Incarnation(), num
}
