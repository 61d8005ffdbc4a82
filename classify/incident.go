package classify

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
)

// Open opens an incident file and reads its header. It reads the events only when a
// rule needs them. The caller closes the File after that. The error is that of
// [flogfile.Open] or of reading the header, or says that the file is not an incident.
func Open(name string) (*File, error) {
	r, err := flogfile.Open(name)
	if err != nil {
		return nil, err
	}
	return NewFile(name, r)
}

// NewFile is [Open] for a file of that name that is open already. The File owns
// r: its Close, and an error, closes r.
func NewFile(name string, r *flogfile.Reader) (*File, error) {
	f := &File{r: r}
	f.Name = name
	f.Tub = tubOf(name)
	f.Events = f.events
	if err := f.header(); err != nil {
		r.Close()
		return nil, err
	}
	return f, nil
}

// File is an incident in a file. It serves one goroutine.
type File struct {
	Incident
	r      *flogfile.Reader
	damage error
}

// Close closes the file.
func (f *File) Close() error { return f.r.Close() }

// Damage returns a [*flogfile.DamageError] if a rule needed the events and part of them
// could not be read, else nil.
func (f *File) Damage() error { return f.damage }

// tubOf returns the TubID of a file in a gatherer's directory, which is the name of its
// folder, or "" if that is not a TubID.
func tubOf(name string) string {
	dir := filepath.Base(filepath.Dir(name))
	if len(dir) != 32 || strings.Trim(dir, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return ""
	}
	return dir
}

func (f *File) header() error {
	line, err := f.r.Next()
	if err != nil && err != io.EOF {
		return err
	}
	if err == io.EOF || line.Kind&flogfile.KindHeader == 0 {
		return fmt.Errorf("%s: not an incident: its first line is not a header", f.Name)
	}
	f.Header = line.Header()
	v, _ := f.Header.Get("trigger")
	trigger, ok := v.(event.Dict)
	if !ok {
		kind, _ := f.Header.Get("type")
		return fmt.Errorf("%s: not an incident: its header, of type %s, has no trigger", f.Name, event.AppendJSON(nil, kind))
	}
	f.Trigger = event.FromDict(trigger)
	return nil
}

// events reads the file's events, of a damaged file those that can be read.
func (f *File) events() ([]*event.Event, error) {
	var events []*event.Event
	for {
		line, err := f.r.Next()
		if err == io.EOF {
			return events, nil
		}
		if damage, ok := errors.AsType[*flogfile.DamageError](err); ok {
			f.damage = damage
			return events, nil
		}
		if err != nil {
			return nil, err
		}
		if !line.IsObject() {
			continue
		}
		e, err := line.Event()
		if err != nil {
			continue
		}
		events = append(events, e)
	}
}
