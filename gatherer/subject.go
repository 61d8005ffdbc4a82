package gatherer

import (
	"strings"

	"github.com/flogtool/flogtool/event"
)

// NATS subjects; see docs/nats.md. What a peer wrote becomes one token, the
// bytes outside [A-Za-z0-9_-] as %XX and nothing as "-"; a facility keeps its
// own dots.
const (
	subjectEvent    = "flog.event."    // TUBID.LEVEL.FACILITY
	subjectIncident = "flog.incident." // CATEGORY.INCARNATION.NAME
)

// maxToken bounds a token made of a peer's words; NATS bounds a subject.
const maxToken = 200

func eventSubject(tub string, level event.Level, facility string) string {
	b := append([]byte(subjectEvent), tub...)
	b = append(b, '.')
	b = append(b, level.String()...)
	if len(facility) > maxToken {
		facility = facility[:maxToken]
	}
	for part := range strings.SplitSeq(facility, ".") {
		b = append(b, '.')
		b = appendToken(b, part)
	}
	return string(b)
}

// incidentSubject returns the subject up to its category, which is what the
// ledger notes, and the whole of it.
func incidentSubject(category, incarnation, name string) (target, subject string) {
	b := appendToken([]byte(subjectIncident), category)
	target = string(b)
	b = appendToken(append(b, '.'), incarnation)
	b = appendToken(append(b, '.'), name)
	return target, string(b)
}

func appendToken(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	if s == "" {
		return append(dst, '-')
	}
	if len(s) > maxToken {
		s = s[:maxToken]
	}
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}
