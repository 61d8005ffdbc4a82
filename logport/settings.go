package logport

import (
	"github.com/flogtool/flogtool/event"
)

// settings are what was set for facilities: a setting covers the facility's
// dotted children unless they have their own; "" is the default for all.
type settings struct {
	thresholds map[string]event.Level
	rings      map[ringKey]ringSize
}

type ringKey struct {
	facility string
	band     int
}

type ringSize struct{ bytes, events int }

// threshold returns the level below which facility makes no events.
func (s *settings) threshold(facility string) event.Level {
	for {
		if l, ok := s.thresholds[facility]; ok {
			return l
		}
		if facility == "" {
			return event.Noisy
		}
		facility = parentFacility(facility)
	}
}

// least returns the lowest threshold that any facility may have.
func (s *settings) least() event.Level {
	least := s.threshold("")
	for _, l := range s.thresholds {
		least = min(least, l)
	}
	return least
}

// ring returns the limits of facility's ring for this level, 0 for none.
func (s *settings) ring(facility string, level event.Level) (bytes, events int) {
	for {
		if size, ok := s.rings[ringKey{facility, level.Band()}]; ok {
			return size.bytes, size.events
		}
		if facility == "" {
			return 0, 0
		}
		facility = parentFacility(facility)
	}
}

// parentFacility returns "a.b" for "a.b.c", and "" for "a".
func parentFacility(name string) string {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '.' {
			return name[:i]
		}
	}
	return ""
}
