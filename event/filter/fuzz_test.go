package filter_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/rules"
)

// Whatever the source and the event, compiling and evaluating end in time, without a
// panic, with a result or with an error that says where.
func FuzzFilter(f *testing.F) {
	seeds := 0
	add := func(source string) {
		f.Add(source, []byte(sample))
		seeds++
	}
	entries, err := rules.Files.ReadDir(".")
	if err != nil {
		f.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".expr") {
			source, err := rules.Files.ReadFile(entry.Name())
			if err != nil {
				f.Fatal(err)
			}
			add(string(source))
		}
	}
	for _, source := range hostileFilters {
		add(source)
	}
	for _, source := range []string{
		`attrs.path matches "^/api/" && attrs.ms > 500`, `any(before("10s"), .message contains "x") ? "a" : ["b", nil]`,
		`let p = attrs.path; trim(p, "/") + string(attrs.deep) == lower(p)`, `source.line in [1, 2] ? header.x?.y ?? "z" : versions["a"]`,
		`sum(map(filter(events, .level > 3), .num)) / 0 > max(1, 2.5) ** 3`, `events[-1].attrs["k"][0:1] == trigger.attrs.deep.k`,
	} {
		add(source)
	}
	if seeds < 60 {
		f.Fatalf("only %d seeds", seeds)
	}
	slow := func(t *testing.T, what string, start time.Time, limit time.Duration) {
		if took := time.Since(start); took > limit {
			t.Errorf("%s took %v", what, took)
		}
	}
	f.Fuzz(func(t *testing.T, source string, json []byte) {
		e, err := event.ParseEvent(json)
		if err != nil {
			e = &event.Event{Fields: []event.Field{{Key: "message", Value: string(json)}, {Key: "path", Value: json}}}
		}
		checkPlace := func(err error) {
			if fe, ok := errors.AsType[*filter.Error](err); ok && (len(fe.Error()) > 2000 || strings.Contains(fe.Msg, "\n")) {
				t.Errorf("an error of %d bytes: %.300q", len(fe.Error()), fe.Error())
			}
		}
		start := time.Now()
		if compiled, err := filter.Compile(source); err == nil {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := compiled.MatchContext(ctx, e, filter.Origin{From: "a", Program: "b"})
			checkPlace(err)
			slow(t, "a filter", start, time.Second)
		} else {
			checkPlace(err)
		}
		start = time.Now()
		rule, err := filter.CompileRule(source)
		if err != nil {
			checkPlace(err)
			return
		}
		rule.Warnings()
		slow(t, "compiling", start, time.Second)
		start = time.Now()
		in := &filter.RuleInput{Trigger: e, Header: e.Dict(), Events: func() ([]*event.Event, error) { return []*event.Event{e, e, e}, nil }}
		categories, err := rule.Run(in)
		checkPlace(err)
		slow(t, "a rule", start, 2*time.Second)
		for _, c := range categories {
			if filter.CheckCategory(c) != nil {
				t.Errorf("the category %q", c)
			}
		}
		if len(source) > 200 {
			return // it compiles each part
		}
		if _, err := rule.Explain(in); err != nil {
			t.Errorf("a rule that runs cannot be explained: %v", err)
		}
	})
}
