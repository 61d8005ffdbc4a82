package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/internal/durable"
)

// OpenFile opens the file of a stored incident for reading.
func (a *Archive) OpenFile(s Stored) (durable.File, error) {
	f, err := a.dir.Open(s.Path())
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return f, nil
}

// Trigger identifies the trigger of an incident, as its publisher claims: only equal
// content proves that two incidents are the same, see [ContentOf].
type Trigger struct {
	Incarnation string
	Num         event.Num // event.NoNum if the trigger has no number
}

// TriggerOf returns what identifies a trigger event.
func TriggerOf(ev *event.Event) Trigger {
	num, ok := ev.Num()
	if !ok {
		num = event.NoNum
	}
	return Trigger{ev.Incarnation(), num}
}

// Known reports whether t identifies anything: an event of another program may
// lack either part.
func (t Trigger) Known() bool { return t.Incarnation != "" && t.Num != event.NoNum }

// Trigger returns what identifies the trigger of a stored incident.
func (a *Archive) Trigger(s Stored) (Trigger, error) {
	f, err := a.OpenFile(s)
	if err != nil {
		return Trigger{}, err
	}
	defer f.Close()
	in, err := flogfile.NewReader(f, s.Path())
	if err != nil {
		return Trigger{}, err
	}
	defer in.Close()
	line, err := in.Next()
	if err != nil {
		return Trigger{}, err
	}
	return TriggerOf(incident.HeaderTrigger(line.Header())), nil
}

// ErrNameTaken is the error of [Archive.Longer] if the two are not the same
// incident.
var ErrNameTaken = errors.New("archive: another incident of this name is stored")

// Longer reports whether an incident that was fetched again, with this header and
// number of events, is to replace the stored one: it has more events, or the
// stored one cannot be read. An incident with another trigger is another one.
func (a *Archive) Longer(s Stored, header event.Dict, events int) (bool, error) {
	f, err := a.OpenFile(s)
	if err != nil {
		return false, err
	}
	defer f.Close()
	storedHeader, stored, err := readIncident(f, s.Path())
	if err != nil {
		return true, nil
	}
	if TriggerOf(incident.HeaderTrigger(storedHeader)) != TriggerOf(incident.HeaderTrigger(header)) {
		return false, ErrNameTaken
	}
	return events > stored, nil
}

// Summary reads a stored incident and returns what is published of it.
func (a *Archive) Summary(s Stored) (*incident.Summary, error) {
	f, err := a.OpenFile(s)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, f)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	header, events, content, err := readContent(f, s.Path())
	if err != nil {
		return nil, err
	}
	state, _ := a.State(s.ID)
	sum := incident.NewSummary(s.Name, header, events)
	sum.Tubs = append([]string{s.Tub}, a.Also(s.ID)...)
	sum.Categories = state.Categories
	sum.File, sum.Size, sum.SHA256 = s.Path(), size, hex.EncodeToString(hash.Sum(nil))
	sum.Content = content
	sum.Object = incident.ObjectName(sum.Incarnation, sum.File, sum.SHA256)
	return sum, nil
}

// Content returns the digest of the header and the events of a stored incident: see
// [ContentOf].
func (a *Archive) Content(s Stored) (string, error) {
	f, err := a.OpenFile(s)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, _, content, err := readContent(f, s.Path())
	return content, err
}

// readIncident reads an incident file to its end and returns its header and the
// number of its events. Of a damaged file it returns what can be read.
func readIncident(r io.Reader, name string) (header event.Dict, events int, err error) {
	return scan(r, name, nil)
}

// readContent is readIncident, and returns the digest of the content too. The part of
// a damaged file that can be read is another content than the whole.
func readContent(r io.Reader, name string) (header event.Dict, events int, content string, err error) {
	d := &digest{hash: sha256.New()}
	header, events, err = scan(r, name, d)
	if err != nil {
		return nil, 0, "", err
	}
	return header, events, d.sum(), nil
}

// scan reads an incident file to its end and adds the header and the events to d,
// unless that is nil.
func scan(r io.Reader, name string, d *digest) (header event.Dict, events int, err error) {
	in, err := flogfile.NewReader(r, name)
	if err != nil {
		return nil, 0, err
	}
	defer in.Close()
	for {
		line, err := in.Next()
		if err != nil {
			if header == nil {
				return nil, 0, fmt.Errorf("archive: %s: no header can be read: %w", name, err)
			}
			return header, events, nil
		}
		if line.Kind&flogfile.KindHeader != 0 && header == nil {
			header = line.Header()
			if d != nil {
				d.addLine(line, "header")
			}
		}
		if line.Kind&flogfile.KindEvent != 0 {
			events++
			if d != nil {
				d.addLine(line, "d")
			}
		}
	}
}
