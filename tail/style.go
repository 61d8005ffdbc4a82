package tail

import (
	"text/template"
	"time"
)

// Style says how events are shown. The zero value shows them as the original's dump does.
type Style struct {
	Verbose     bool           // also the whole event as JSON, and whole headers
	JustNumbers bool           // only the time and the number
	RxTime      bool           // also the time at which the event was received
	Times       TimeMode       //
	Zone        *time.Location // zone of local times; default time.Local
	Color       bool           // colour events by their level
	Terminal    bool           // escape control characters, which a terminal would obey
	Form        Form
	Template    *template.Template // of ParseTemplate; required for FormTemplate
}

// Form is what is made of the events. The forms from FormTable on need all events: Follow,
// and Dump with its field Follow, cannot make them.
type Form int

const (
	FormText     Form = iota // a line for each event, as the original shows it
	FormJSON                 // a JSON object for each event: the line of a flog file, and the key "text"
	FormTemplate             // the output of Style.Template for each event
	FormTable                // a table with a row for each event
	FormTree                 // events indented below their parents
	FormSummary              // counts, the rate over time, and the triggers
)
