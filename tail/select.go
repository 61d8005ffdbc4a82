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

// Select says which events are wanted: those for which all conditions hold. The zero
// value wants all events. A field that is nil, 0 or "" is no condition.
//
// The fields must not change while a Dump, Filter or Follow runs with it. Several
// goroutines may use a Select at once.
type Select struct {
	// Conditions on one event.
	Only     *filter.Filter // the expression is true
	Level    *event.Level   // this level or above
	Facility *string        // this facility or its dotted children
	Since    float64        // the time is this or later; seconds since 1970
	Until    float64        // the time is this or earlier; seconds since 1970
	From     string         // from begins with this text
	Grep     *regexp.Regexp // the text of the event matches

	// Conditions of the original's filter command. After and Before hold for an event
	// without a time.
	After, Before *int64  // the time is greater, or less; seconds since 1970
	NotFacility   *string // the facility does not begin with this text

	// Conditions on the place of an event among the events for which the others hold.
	Last    int       // the event is one of the last so many; ignored if Around is set
	Around  *EventRef // the event is this one, or one of Context events before or after it
	Context int
	Parents *EventRef // the event is this one, its parent, the parent's parent, and so on

	mu     sync.Mutex
	failed int   // events on which Only could not be evaluated; guarded by mu
	err    error // of the first of them; guarded by mu
}

// EventRef names an event as dump shows it.
type EventRef struct {
	Prefix string // the beginning of the event's from or incarnation; "" is any
	Num    event.Num
}

// ParseEventRef parses a number, or a prefix, # and a number: "12", "local#12",
// "4yewzbar#12".
func ParseEventRef(s string) (*EventRef, error) {
	prefix, num, ok := strings.Cut(s, "#")
	if !ok {
		prefix, num = "", s
	}
	n, err := strconv.ParseUint(num, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%q is not an event: want its number, or FROM#NUMBER as dump shows it", s)
	}
	return &EventRef{Prefix: prefix, Num: event.Num(n)}, nil
}

func (ref *EventRef) match(r record) bool {
	n, ok := r.Num()
	return ok && n == ref.Num && (ref.Prefix == "" || strings.HasPrefix(r.From(), ref.Prefix) || strings.HasPrefix(r.Incarnation(), ref.Prefix))
}

// spansEvents reports whether a condition concerns more than one event.
func (s *Select) spansEvents() bool { return s.Last > 0 || s.Around != nil || s.Parents != nil }

// matchesAll reports whether match is true for every event.
func (s *Select) matchesAll() bool {
	return s == nil || s.Only == nil && s.Level == nil && s.Facility == nil && s.Since == 0 && s.Until == 0 && s.From == "" &&
		s.Grep == nil && s.After == nil && s.Before == nil && s.NotFacility == nil
}

// want returns the conditions for which a reader of a file with an index can skip parts
// of the file.
func (s *Select) want() flogfile.Selection {
	var w flogfile.Selection
	if s == nil || s.spansEvents() && s.Last == 0 {
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

// match reports whether the conditions on one event hold for r, which the named program
// recorded; "" if its name is not known. If Only cannot be evaluated, it does not hold,
// and Err counts the event.
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
		// An event without a time is not known to be outside of After and Before.
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
	if it, ok := r.(*liveEvent); ok {
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

// forPublisher splits the conditions on one event: a publisher that supports the
// extensions evaluates the level and the expression of package event/filter, and rest
// remains for match. With Parents a publisher evaluates nothing, because a chain of
// parents may lead through events for which the conditions do not hold.
func (s *Select) forPublisher() (level event.Level, expression string, rest *Select) {
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
		// An expression that begins with let cannot stand in parentheses, and all
		// together may be too long.
		here := &Select{Only: s.Only, Level: rest.Level, Facility: s.Facility, Since: s.Since, Until: s.Until, From: s.From, Grep: s.Grep}
		return level, "", here
	}
	return level, expression, rest
}

// Err returns nil if Only could be evaluated for every event, else an error with the
// number of events for which it could not, and the reason for the first of them. A nil
// Select has no error.
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
