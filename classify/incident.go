package classify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/event/flogfile"
)

// Open opens an incident file, which a peer may have made, and reads its header. It reads
// the events only when a rule needs them. The caller closes the File after that. The error
// is that of [flogfile.OpenLimited] or of reading the header, or says that the file is not
// an incident.
func Open(name string) (*File, error) {
	r, err := flogfile.OpenLimited(name, flogfile.Limits{})
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
		return fmt.Errorf("%s: not an incident: its header, of type %.100s, has no trigger", f.Name, event.AppendJSON(nil, kind))
	}
	f.Trigger = event.FromDict(trigger)
	return nil
}

// These limits apply to the events of one incident that are decoded for its rules: the
// last ones.
const (
	maxDecoded = 32 << 20 // bytes that they may take, about; 10,000 ordinary events take 8 MB
	valueSize  = 48       // bytes that a decoded value takes beside its text, about
)

// events reads the file to its end and returns the last events that rules can see, of a
// damaged file those that can be read.
func (f *File) events() ([]*event.Event, error) {
	// What is not among the last events need not be decoded.
	type undecoded struct {
		json []byte
		size int // when it is decoded
	}
	var last []undecoded
	size := 0
	for {
		line, err := f.r.Next()
		if damage, ok := errors.AsType[*flogfile.DamageError](err); ok {
			f.damage = damage
			break
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if !line.IsObject() {
			continue
		}
		json, _ := line.RawWrapper("d")
		u := undecoded{bytes.Clone(json), len(json) + valueSize*line.NumValues()}
		last = append(last, u)
		for size += u.size; len(last) > filter.MaxEvents || size > maxDecoded && len(last) > 1; {
			size -= last[0].size
			last[0] = undecoded{}
			last = last[1:]
		}
	}
	events := make([]*event.Event, 0, len(last))
	for i := range last {
		if e, err := event.ParseEvent(last[i].json); err == nil {
			events = append(events, e)
		}
		last[i] = undecoded{}
	}
	return events, nil
}
