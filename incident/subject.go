package incident

import (
	"strings"

	"github.com/flogtool/flogtool/event"
)

// NATS subjects, for every program that publishes. What a program or a peer wrote
// becomes one token: bytes outside [A-Za-z0-9_-] as %XX, nothing as "-"; a facility
// keeps its own dots.
//
// Spec: docs/nats.md.

// maxToken bounds a token, in bytes before escaping; NATS bounds a subject.
const maxToken = 200

// EventSubject returns flog.event.TUBID.LEVEL.FACILITY.
func EventSubject(tub string, level event.Level, facility string) string {
	b := appendToken([]byte("flog.event."), tub)
	b = append(append(b, '.'), level.String()...)
	facility = facility[:min(len(facility), maxToken)]
	for part := range strings.SplitSeq(facility, ".") {
		b = appendToken(append(b, '.'), part)
	}
	return string(b)
}

// TriggerSubject returns flog.trigger.TUBID.
func TriggerSubject(tub string) string { return string(appendToken([]byte("flog.trigger."), tub)) }

// GapSubject returns flog.gap.TUBID.
func GapSubject(tub string) string { return string(appendToken([]byte("flog.gap."), tub)) }

// CategorySubject returns flog.incident.CATEGORY, the beginning of the subjects of
// all its incidents.
func CategorySubject(category string) string {
	return string(appendToken([]byte("flog.incident."), category))
}

// IncidentSubject returns flog.incident.CATEGORY.INCARNATION.NAME.
func IncidentSubject(category, incarnation, name string) string {
	b := append([]byte(CategorySubject(category)), '.')
	b = appendToken(b, incarnation)
	return string(appendToken(append(b, '.'), name))
}

// IncidentSubjects matches the subjects of all incidents.
const IncidentSubjects = "flog.incident.>"

// Unclassified is the category of an incident that no rule has looked at or that
// none matches.
const Unclassified = "unknown"

// Token returns what others wrote as one token of a subject.
func Token(s string) string { return string(appendToken(nil, s)) }

func appendToken(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	if s == "" {
		return append(dst, '-')
	}
	for _, c := range []byte(s[:min(len(s), maxToken)]) {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}
