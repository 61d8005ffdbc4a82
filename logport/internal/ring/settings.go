package ring

import (
	"strings"

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

func (s *settings) setThreshold(facility string, l event.Level) {
	if s.thresholds == nil {
		s.thresholds = map[string]event.Level{}
	}
	s.thresholds[facility] = l
}

func (s *settings) setRing(facility string, l event.Level, size ringSize) {
	if s.rings == nil {
		s.rings = map[ringKey]ringSize{}
	}
	s.rings[ringKey{facility, l.Band()}] = size
}

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

// minimum returns the lowest threshold that any facility may have.
func (s *settings) minimum() event.Level {
	lowest := s.threshold("")
	for _, l := range s.thresholds {
		lowest = min(lowest, l)
	}
	return lowest
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
	return name[:max(0, strings.LastIndexByte(name, '.'))]
}
