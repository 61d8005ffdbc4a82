package filter_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
)

// What an event holds does not fill the log by way of an error that quotes it.
func TestHostileErrorText(t *testing.T) {
	e := &event.Event{Fields: []event.Field{{Key: "text", Value: strings.Repeat("é\n", 30_000)}, {Key: "list", Value: []any{}}}}
	for _, source := range []string{
		`int(attrs.text) > 0`, `float(attrs.text) > 0`, `attrs.list[attrs.text] == 1`, `attrs.text > 5`, `level in attrs.text`,
	} {
		f, err := filter.Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Match(e)
		fe, ok := errors.AsType[*filter.Error](err)
		if !ok || len(fe.Error()) > 1000 || strings.Contains(fe.Msg, "\n") {
			t.Errorf("%s: an error of %d bytes: %.200v", source, len(err.Error()), err)
		}
	}
	rule, err := filter.CompileRule(`len(before(attrs.text)) > 0 ? "x" : nil`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rule.Run(&filter.RuleInput{Trigger: e}); err == nil || len(err.Error()) > 1000 {
		t.Errorf("a duration: an error of %d bytes: %.200v", len(err.Error()), err)
	}
}
