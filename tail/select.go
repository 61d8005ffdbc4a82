package tail

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/event/flogfile"
)

// Select says which events are wanted: those that all its conditions hold for.
// The zero value wants all. It may be used by several goroutines at once.
type Select struct {
	Only     *filter.Filter // nil is no condition
	Level    *event.Level   // this and above
	Facility *string        // it and its dotted children
	Since    float64        // seconds since 1970, included; 0 is none
	Until    float64        // included; 0 is none
	From     string         // who recorded it begins so
	Grep     *regexp.Regexp // is found in the text

	// The original's, of filter.
	After, Before *int64  // time greater than, less than
	NotFacility   *string // the facility does not begin so

	// What depends on more than one event.
	Last    int       // the last so many of those selected; 0 is all
	Around  *EventRef // this one and so many before and after it as Context says
	Context int       // default 10
	Parents *EventRef // this one, its parent, and so on

	mu     sync.Mutex
	failed int   // events on which Only could not be evaluated; guarded by mu
	err    error // of the first of them; guarded by mu
}

// EventRef names an event as dump shows it: its number, or who recorded it or
// its incarnation or the begin of one, then # and the number.
type EventRef struct {
	Prefix string
	Num    event.Num
}

// ParseEventRef reads an EventRef: "12", "local#12", "4yewzbar#12".
func ParseEventRef(s string) (*EventRef, error) {
	prefix, num, ok := strings.Cut(s, "#")
	if !ok {
		prefix, num = "", s
	}
	n, err := strconv.ParseUint(num, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%q is no event: write its number, or FROM#NUMBER as dump shows it", s)
	}
	return &EventRef{Prefix: prefix, Num: event.Num(n)}, nil
}

func (ref *EventRef) match(r record) bool {
	n, ok := r.Num()
	return ok && n == ref.Num && (ref.Prefix == "" || strings.HasPrefix(r.From(), ref.Prefix) || strings.HasPrefix(r.Incarnation(), ref.Prefix))
}

// ParseTime reads a time: RFC 3339, "2006-01-02 15:04:05", a date, a time of
// today, as dump shows it with -t, seconds since 1970, or relative to now:
// "-15m", "-2h30m", "-3d". Local times are of now's zone.
func ParseTime(s string, now time.Time) (float64, error) {
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		days := time.Duration(0)
		if d, after, ok := strings.Cut(rest, "d"); ok {
			n, err := strconv.Atoi(d)
			if err != nil {
				return 0, badTime(s)
			}
			days, rest = time.Duration(n)*24*time.Hour, after
			if rest == "" {
				rest = "0s"
			}
		}
		d, err := time.ParseDuration(rest)
		if err != nil {
			return 0, badTime(s)
		}
		return flogfile.Seconds(now.Add(-d - days)), nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return f, nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02_15:04:05.999999999Z07:00", "2006-01-02_15:04:05.999999999-0700",
		"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02--15-04-05Z", "2006-01-02",
	} {
		loc := now.Location()
		if strings.HasSuffix(layout, "Z") {
			loc = time.UTC
		}
		if t, err := time.ParseInLocation(layout, s, loc); err == nil {
			return flogfile.Seconds(t), nil
		}
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			y, m, d := now.Date()
			return flogfile.Seconds(time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location())), nil
		}
	}
	return 0, badTime(s)
}

func badTime(s string) error {
	return fmt.Errorf("%q is no time: write RFC 3339 (2026-11-22T16:04:05Z), 2026-11-22 16:04:05, 16:04, seconds since 1970, or -15m", s)
}

// whole reports whether the conditions concern one event at a time.
func (s *Select) whole() bool { return s.Last > 0 || s.Around != nil || s.Parents != nil }

// all reports whether every event is wanted.
func (s *Select) all() bool {
	return s == nil || s.Only == nil && s.Level == nil && s.Facility == nil && s.Since == 0 && s.Until == 0 && s.From == "" &&
		s.Grep == nil && s.After == nil && s.Before == nil && s.NotFacility == nil
}

// want returns what a file's index can help with.
func (s *Select) want() flogfile.Selection {
	var w flogfile.Selection
	if s == nil || s.whole() && s.Last == 0 {
		return w
	}
	w.Since, w.Until = s.Since, s.Until
	if s.Level != nil && *s.Level > 0 {
		w.Level = *s.Level
	}
	if s.Facility != nil {
		w.Facility = *s.Facility
	}
	return w
}

// match reports whether r, an event of the named program, is wanted. An event on
// which Only cannot be evaluated is not, and counts in Err.
func (s *Select) match(r record, program string) bool {
	if s.Level != nil && r.Level() < *s.Level {
		return false
	}
	if s.Facility != nil && !event.Match(*s.Facility, r.Facility()) {
		return false
	}
	if s.NotFacility != nil && strings.HasPrefix(r.Facility(), *s.NotFacility) {
		return false
	}
	if s.From != "" && !strings.HasPrefix(r.From(), s.From) {
		return false
	}
	if s.Since != 0 || s.Until != 0 || s.After != nil || s.Before != nil {
		t, ok := r.Seconds()
		if (s.Since != 0 || s.Until != 0) && !ok || s.Since != 0 && !(t >= s.Since) || s.Until != 0 && !(t <= s.Until) {
			return false
		}
		// An event without a time is not known to be outside.
		if ok && (s.After != nil && !(t > float64(*s.After)) || s.Before != nil && !(t < float64(*s.Before))) {
			return false
		}
	}
	if s.Grep != nil && !s.Grep.Match(r.AppendText(nil)) {
		return false
	}
	if s.Only == nil {
		return true
	}
	origin := filter.Origin{From: r.From(), Program: program}
	if it, ok := r.(*live); ok {
		origin.From = it.tub
	}
	ok, err := s.Only.MatchFrom(r, origin)
	if err != nil {
		s.mu.Lock()
		if s.failed++; s.err == nil {
			s.err = err
		}
		s.mu.Unlock()
	}
	return ok
}

// pushed returns what of the conditions a publisher can see to, as a level and an
// expression of package event/filter, and the rest. With Parents that is nothing:
// a chain may lead through events that the conditions do not hold for.
func (s *Select) pushed() (level event.Level, expression string, rest *Select) {
	if s.Parents != nil {
		return 0, "", s
	}
	rest = &Select{From: s.From}
	if s.Level != nil && *s.Level > 0 {
		level = *s.Level
	} else {
		rest.Level = s.Level
	}
	var parts []string
	if s.Facility != nil && *s.Facility != "" {
		name := strconv.Quote(*s.Facility)
		parts = append(parts, fmt.Sprintf("(facility == %s || facility startsWith %s)", name, strconv.Quote(*s.Facility+".")))
	}
	if s.Since != 0 {
		parts = append(parts, "time >= "+strconv.FormatFloat(s.Since, 'f', -1, 64))
	}
	if s.Until != 0 {
		parts = append(parts, "time <= "+strconv.FormatFloat(s.Until, 'f', -1, 64))
	}
	if s.Grep != nil {
		parts = append(parts, "message matches "+strconv.Quote(s.Grep.String()))
	}
	if s.Only != nil {
		parts = append(parts, "(\n"+s.Only.String()+"\n)")
	}
	expression = strings.Join(parts, " && ")
	if expression == "" {
		return level, "", rest
	}
	if _, err := filter.Compile(expression); err != nil {
		// A variable cannot stand in brackets, and both together may be too long:
		// then the events are selected here.
		here := &Select{Only: s.Only, Level: rest.Level, Facility: s.Facility, Since: s.Since, Until: s.Until, From: s.From, Grep: s.Grep}
		return level, "", here
	}
	return level, expression, rest
}

// Err says on how many events Only could not be evaluated, and why on the
// first.
func (s *Select) Err() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == 0 {
		return nil
	}
	return fmt.Errorf("--only could not be evaluated for %d events, which were left out; the first: %w", s.failed, s.err)
}

// window chooses by Last and Around among the events it is given one after the
// other, and keeps no more of them than that takes.
type window[T any] struct {
	sel   *Select
	kept  []T // the last ones, as many as are wanted
	after int // how many are wanted yet
	found bool
}

// add takes an event that the other conditions hold for. It is shown by now, or
// keep makes what show shows later. The error is theirs, or errEnough if neither
// this event nor any after it is wanted.
func (w *window[T]) add(r record, keep func() T, show func(T) error, now func() error) error {
	n := w.sel.Last
	switch around := w.sel.Around; {
	case around == nil && n == 0:
		return now()
	case around == nil:
	case w.found && w.after == 0:
		return errEnough
	case w.found:
		w.after--
		return now()
	case around.match(r):
		w.found, w.after = true, w.sel.Context
		if err := w.flush(show); err != nil {
			return err
		}
		return now()
	default:
		n = w.sel.Context
	}
	if w.kept = append(w.kept, keep()); len(w.kept) > n {
		w.kept = w.kept[1:]
	}
	return nil
}

// end shows what is wanted of what was kept. The error is show's, or says that
// there was no event as Around names it.
func (w *window[T]) end(show func(T) error) error {
	if w.sel.Around == nil {
		return w.flush(show)
	}
	if !w.found {
		return fmt.Errorf("no event #%d is among those selected", w.sel.Around.Num)
	}
	return nil
}

func (w *window[T]) flush(show func(T) error) error {
	kept := w.kept
	w.kept = nil
	for _, k := range kept {
		if err := show(k); err != nil {
			return err
		}
	}
	return nil
}

// errEnough says that nothing more is wanted.
var errEnough = errors.New("tail: enough")

// chain finds the events that a chain of parents leads through.
type chain struct {
	ref     *EventRef
	parents map[string]map[event.Num]event.Num // by incarnation: number to parent
	found   bool
	inc     string
}

// add notes an event.
func (c *chain) add(r record) {
	n, ok := r.Num()
	if !ok {
		return
	}
	inc := r.Incarnation()
	if !c.found && c.ref.match(r) {
		c.found, c.inc = true, inc
	}
	if parent, ok := r.Parent(); ok && parent != n {
		if c.parents == nil {
			c.parents = make(map[string]map[event.Num]event.Num)
		}
		if c.parents[inc] == nil {
			c.parents[inc] = make(map[event.Num]event.Num)
		}
		c.parents[inc][n] = parent
	}
}

// wanted returns what tells whether an event is in the chain: the one that was
// asked for, or an ancestor of it.
func (c *chain) wanted() func(r record) bool {
	numbers := map[event.Num]bool{}
	if c.found {
		for n, ok := c.ref.Num, true; ok && !numbers[n]; n, ok = c.parents[c.inc][n] {
			numbers[n] = true
		}
	}
	return func(r record) bool {
		n, ok := r.Num()
		return ok && numbers[n] && r.Incarnation() == c.inc
	}
}
