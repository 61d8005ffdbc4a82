package tail

import (
	"text/template"
	"time"
)

// Style says how events are shown. Its zero value is the original's dump.
type Style struct {
	Verbose     bool           // whole events as JSON after their text, and whole headers
	JustNumbers bool           // time and number only
	RxTime      bool           // the time of receipt too
	Times       TimeMode       //
	Zone        *time.Location // of local times; default time.Local
	Color       bool           // by level
	Terminal    bool           // make control characters visible, which a terminal would obey
	Form        Form
	Template    *template.Template // for FormTemplate
}

// Form is the form in which events are shown.
type Form int

const (
	FormText     Form = iota // the original's line
	FormJSON                 // one object a line: the file's, with the text added
	FormTemplate             // Style.Template for each event
	FormTable                // a table
	FormTree                 // below their parents
	FormSummary              // counts of all of them
)
