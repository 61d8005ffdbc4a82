package tail

import (
	"fmt"
	"strings"
	"text/template"
)

// ParseTemplate reads a template of package text/template for one event. It has
// the fields of [TemplateEvent]: "{{.Time}} {{.Level}} {{.Text}}".
func ParseTemplate(text string) (*template.Template, error) {
	t, err := template.New("template").Option("missingkey=zero").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--template: %s", strings.TrimPrefix(err.Error(), "template: "))
	}
	if err := t.Execute(discard{}, &TemplateEvent{Attrs: map[string]any{}}); err != nil {
		return nil, fmt.Errorf("--template: %s", strings.TrimPrefix(err.Error(), "template: "))
	}
	return t, nil
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// TemplateEvent is an event as templates see it.
type TemplateEvent struct {
	Time     string         // as -t says
	RxTime   string         // as -t says, "" if there is none
	Seconds  float64        // since 1970
	From     string         // who recorded it
	Num      string         //
	Level    int            //
	Name     string         // of the level, or its number
	Facility string         //
	Text     string         // for people
	JSON     string         // the whole event
	Failure  string         // "" if there is none
	Attrs    map[string]any // every field, by its name
}
