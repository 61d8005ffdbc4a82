package incident

import (
	"encoding/json"
	"path"
	"strings"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/pytext"
)

// Summary is what is published of an incident. Everything but Tubs, Categories and
// Object is a property of the incident itself.
//
// Spec: docs/nats.md.
type Summary struct {
	Name        string
	Incarnation string
	Program     string   // the program's name; "" if the incident does not say it
	Tubs        []string // TubIDs that offered it, the one it is stored under first
	Trigger     *event.Event
	Categories  []string
	Events      int
	File        string // where it is stored, relative to the directory of the publishing program
	Size        int64  // of the file, in bytes
	SHA256      string // of the file, in hex
	Content     string // digest of the header and the events, in hex, whatever file has them; "" if it is not known
	Object      string // its name in the object store; "" if it is not there
}

// NewSummary returns the summary of an incident as far as its header and the number
// of its events tell it.
func NewSummary(name string, header event.Dict, events int) *Summary {
	trigger := HeaderTrigger(header)
	return &Summary{
		Name: name, Incarnation: trigger.Incarnation(), Program: flogfile.Program(header), Trigger: trigger, Events: events,
	}
}

// HeaderTrigger returns the trigger in an incident's header; an empty event if it
// has none.
func HeaderTrigger(header event.Dict) *event.Event {
	v, _ := header.Get("trigger")
	d, _ := v.(event.Dict)
	return event.FromDict(d)
}

// ObjectName returns the name in the object store of an incident's file with this
// SHA-256 in hex: INCARNATION/NAME-HASH.ENDING. Two files never have one name, whatever
// their publishers claim.
func ObjectName(incarnation, file, sha256 string) string {
	name, ending := path.Base(file), ""
	if i := strings.LastIndex(name, ".flog"); i >= 0 {
		name, ending = name[:i], name[i:]
	}
	return Token(incarnation) + "/" + name + "-" + shortHash(sha256) + ending
}

// shortHash returns the first 128 bits of a hash in hex. Nobody can make another
// content that has the same.
func shortHash(hash string) string { return hash[:min(len(hash), 32)] }

// Distinct returns the subject of s in a category for the case that another incident,
// with other content, has the one of [IncidentSubject] already: the token of the name
// is NAME#HASH, escaped. No name of an incident contains `#`.
func (s *Summary) Distinct(category string) string {
	return IncidentSubject(category, s.Incarnation, s.Name+"#"+shortHash(s.Content))
}

// ObjectStore is the bucket for the files of incidents.
const ObjectStore = "flog-incidents"

// maxTrigger bounds the trigger in a summary, in bytes of JSON; a longer one is
// shortened, and stands whole in the file.
const maxTrigger = 64 << 10

// Same reports whether a published summary is of the same incident as s: its header and
// events are equal, or it is stored under the same TubID. The latter may have grown
// since. Summaries on one subject have the same incarnation and name.
func (s *Summary) Same(published []byte) bool {
	var other struct {
		Content string
		Tubs    []string
	}
	if json.Unmarshal(published, &other) != nil {
		return false
	}
	return s.Content != "" && s.Content == other.Content ||
		len(s.Tubs) > 0 && len(other.Tubs) > 0 && s.Tubs[0] == other.Tubs[0]
}

// AppendJSON appends the summary as a JSON object that every reader accepts: NaN
// and infinities in the trigger become null.
func (s *Summary) AppendJSON(dst []byte) []byte {
	trigger := s.Trigger
	if n := len(trigger.AppendJSON(nil)); n > maxTrigger {
		trigger = event.Shortened(trigger, n, maxTrigger)
	}
	d := event.Dict{
		{Key: "name", Value: s.Name},
		{Key: "incarnation", Value: s.Incarnation},
		{Key: "program", Value: s.Program},
		{Key: "tubs", Value: list(s.Tubs)},
	}
	if t, ok := trigger.Seconds(); ok {
		d = append(d, event.Item{Key: "time", Value: t})
	}
	d = append(d, event.Dict{
		{Key: "text", Value: pytext.Format(trigger)},
		{Key: "trigger", Value: trigger.Dict()},
		{Key: "categories", Value: list(s.Categories)},
		{Key: "events", Value: int64(s.Events)},
		{Key: "file", Value: s.File},
		{Key: "sha256", Value: s.SHA256},
		{Key: "size", Value: s.Size},
		{Key: "content", Value: s.Content},
		{Key: "object", Value: s.Object},
	}...)
	return event.AppendJSON(dst, event.Finite(d))
}

func list(texts []string) []any {
	l := make([]any, len(texts))
	for i, t := range texts {
		l[i] = t
	}
	return l
}
