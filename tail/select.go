package tail

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

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
