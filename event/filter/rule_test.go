package filter_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
)

// incidentInput is an incident of 100 events, the last of them the trigger.
func incidentInput(t testing.TB) *filter.RuleInput {
	t.Helper()
	var events []*event.Event
	for i := range 100 {
		events = append(events, parse(t, fmt.Sprintf(`{"num": %d, "level": %d, "time": %d, "incarnation": ["x", null], "message": "event %d", "ms": %d, "source": "a/b.go:%d"}`, i, 10+i%3*10, 1700000000+i, i, i, i)))
	}
	header, err := event.ParseJSON([]byte(`{"type": "incident", "versions": {"orders": "2.1"}, "pid": 7}`))
	if err != nil {
		t.Fatal(err)
	}
	return &filter.RuleInput{
		Trigger: events[99], Header: header.(event.Dict), Origin: filter.Origin{From: "abc", Program: "orders"},
		Events: func() ([]*event.Event, error) { return events, nil },
	}
}

func TestRule(t *testing.T) {
	in := incidentInput(t)
	for _, c := range []struct {
		source string
		want   []string
		events bool
	}{
		{`level == 10 ? "low" : nil`, []string{"low"}, false},
		{`level > 90 ? "low" : nil`, nil, false},
		{`["a", "b", "a", level > 90 ? "c" : nil]`, []string{"a", "b"}, false},
		{`trigger.num == 99 && num == 99 && header.pid == 7 && versions.orders == "2.1" && tub == "abc" ? "x" : nil`, []string{"x"}, false},
		{`from == "abc" && program == "orders" && source.file == "a/b.go" && source.line == 99 ? "x" : nil`, []string{"x"}, false},
		{`trigger.from == from && event.program == program && trigger.source.line == 99 ? "x" : nil`, []string{"x"}, false},
		{`all(events, .from == "abc" && .program == "orders" && .source.file == "a/b.go" && .source.line == .num) ? "x" : nil`, []string{"x"}, true},
		{`fmt(trigger) == "event 99" ? "x" : nil`, []string{"x"}, false},
		{`"v-" + versions.orders`, []string{"v-2.1"}, false},
		{`count(events, .level >= WEIRD) == 33 ? "x" : nil`, []string{"x"}, true},
		{`len(before("10s")) == 10 ? "x" : nil`, []string{"x"}, true},
		{`any(before("5s"), .message == "event 95") ? "x" : nil`, []string{"x"}, true},
		{`any(before("5s"), .message == "event 50") ? "x" : nil`, nil, true},
		{`any(events, fmt(#) == "event 5" && .attrs.ms == 5) ? "x" : nil`, []string{"x"}, true},
		{`map(filter(events, .num < 3), "n" + string(.num))`, []string{"n0", "n1", "n2"}, true},
		{"// A comment\n// of two lines\nnum == 99 ? \"x\" : nil", []string{"x"}, false},
	} {
		r, err := filter.CompileRule(c.source)
		if err != nil {
			t.Errorf("CompileRule(%s): %v", c.source, err)
			continue
		}
		if len(r.Warnings()) > 0 {
			t.Errorf("%s: warned of %v", c.source, r.Warnings()[0])
		}
		if r.NeedsEvents() != c.events {
			t.Errorf("%s: NeedsEvents() = %v", c.source, r.NeedsEvents())
		}
		got, err := r.Run(in) // the same input for all: what one rule computed, the next has
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v, want %q", c.source, got, err, c.want)
		}
	}
}

func TestRuleNeedsNoEvents(t *testing.T) {
	r, err := filter.CompileRule(`level >= 0 ? "x" : nil`)
	if err != nil {
		t.Fatal(err)
	}
	in := incidentInput(t)
	in.Events = func() ([]*event.Event, error) { t.Error("events were read"); return nil, nil }
	if got, err := r.Run(in); err != nil || len(got) != 1 {
		t.Errorf("%q, %v", got, err)
	}

	r, err = filter.CompileRule(`len(events) > 5 ? "x" : nil`)
	if err != nil {
		t.Fatal(err)
	}
	damaged := errors.New("damaged")
	in = incidentInput(t)
	in.Events = func() ([]*event.Event, error) { return nil, damaged }
	if _, err := r.Run(in); !errors.Is(err, damaged) {
		t.Errorf("Run with events that cannot be read: %v", err)
	}
}

func TestRuleWarnings(t *testing.T) {
	for source, want := range map[string]string{
		`nil`:                             "never gives a category",
		`1 > 2 ? "x" : nil`:               "",
		`attrs.mesage == "x" ? "x" : nil`: "attrs.message",
		`attrs.umdi == "x" ? "x" : nil`:   "attrs.umid",
		`facility == "a" && level > 3 && facility == "b" ? "x" : nil`: "cannot be both",
		`facility == "a" || facility == "b" ? "x" : nil`:              "",
		`attrs.ms == 5 ? "x" : nil`:                                   "",
	} {
		r, err := filter.CompileRule(source)
		if err != nil {
			t.Errorf("CompileRule(%s): %v", source, err)
			continue
		}
		var got []string
		for _, w := range r.Warnings() {
			got = append(got, w.Error())
		}
		if all := strings.Join(got, "\n"); want == "" && strings.Contains(source, "1 > 2") == false && all != "" || !strings.Contains(all, want) {
			t.Errorf("%s: warnings %q, want %q", source, all, want)
		}
	}
}

func TestExplain(t *testing.T) {
	r, err := filter.CompileRule(`level >= WEIRD && (facility == "a" || any(events, .num == 5)) ? "x" : nil`)
	if err != nil {
		t.Fatal(err)
	}
	clauses, err := r.Explain(incidentInput(t))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range clauses {
		fmt.Fprintf(&b, "%s%s = %s\n", strings.Repeat(" ", c.Depth), c.Text, c.Value)
	}
	want := `level >= WEIRD && (facility == "a" || any(events, .num == 5)) ? "x" : nil = nil
 level >= WEIRD && (facility == "a" || any(events, .num == 5)) = false
  level >= WEIRD = false
   level = 10
  facility == "a" || any(events, .num == 5) = true
   facility == "a" = false
    facility = ""
   any(events, .num == 5) = true
    events = 100 events
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func BenchmarkThousandRules(b *testing.B) {
	var rules []*filter.Rule
	for i := range 1000 {
		r, err := filter.CompileRule(fmt.Sprintf(`umid == "%06d" || facility startsWith "f%d." && level >= WEIRD ? "x" : nil`, i, i))
		if err != nil {
			b.Fatal(err)
		}
		rules = append(rules, r)
	}
	b.ReportAllocs()
	for b.Loop() {
		in := incidentInput(b)
		for _, r := range rules {
			if _, err := r.Run(in); err != nil {
				b.Fatal(err)
			}
		}
	}
}
