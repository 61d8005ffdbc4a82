package tail

import (
	"fmt"
	"io"
	"strings"
	"text/template"
)

// ParseTemplate parses a template of package text/template, which is executed for each
// event with a [*TemplateEvent]: "{{.Time}} {{.Level}} {{.Text}}". It returns an error for
// a field that TemplateEvent does not have.
func ParseTemplate(text string) (*template.Template, error) {
	t, err := template.New("template").Option("missingkey=zero").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--template: %s", strings.TrimPrefix(err.Error(), "template: "))
	}
	if err := t.Execute(io.Discard, &TemplateEvent{Attrs: map[string]any{}}); err != nil {
		return nil, fmt.Errorf("--template: %s", strings.TrimPrefix(err.Error(), "template: "))
	}
	return t, nil
}

// TemplateEvent is an event as a template sees it.
type TemplateEvent struct {
	Time     string         // in the mode of Style.Times
	RxTime   string         // when the event was received, in the same mode; "" if unknown
	Seconds  float64        // the time in seconds since 1970; 0 if the event has none
	From     string         // the TubID or file that the event came from
	Num      string         // the number in decimal; "" if the event has none
	Level    int            //
	Name     string         // the name of the level, or its number if it has none
	Facility string         // "" if the event has none
	Text     string         // the message with its arguments filled in
	JSON     string         // the whole event
	Failure  string         // the traceback; "" if the event has none
	Attrs    map[string]any // every field by its name: numbers and texts as they are, others as JSON
}
