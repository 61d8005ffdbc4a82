// Package event defines an event: its fields, its level, its JSON form in files
// and its encoded form in rings.
//
//	slog, Log ──► Record (bytes in a ring) ──► Event (fields) ──► JSON line, wire dict
//	                                              ▲
//	            flog file line, a peer's dict ────┘
//
// An [Event] is a list of fields, as a program logged them or as a peer or a file
// claims. A [Record] is an event encoded into bytes without pointers. A [Level] is
// an event's severity. A [View] reads the fields of an event that may not be
// decoded yet.
//
// The package stores nothing and sends nothing. Package event/pytext makes the text
// of an event, package event/filter selects events, package event/flogfile reads
// and writes files.
//
// Spec: logging-semantics.md sections 1 to 3, flogfile.md section 2.
package event

import (
	"math"
	"math/big"
	"strings"
	"time"

	"github.com/flogtool/flogtool/rpc/banana"
)

// Num is an event's number: ascending from 0 and unique within one incarnation.
// The pair of incarnation and number identifies an event across processes.
type Num uint64

// NoNum is not the number of any event. A logging call below the threshold returns
// it, and an event whose parent is NoNum has no parent.
const NoNum = ^Num(0)

// The values of fields have the types of package banana, which these names save
// an import of.
type (
	Tuple = banana.Tuple
	Dict  = banana.Dict
	Item  = banana.Item
)

// Event is one event: its fields in their order. It may come from a peer or a
// file, so that any field may be missing or have any type. Each method says what it
// returns then.
type Event struct {
	Fields []Field
}

// Field is one field of an Event.
type Field struct {
	Key   string
	Value any // nil, or of one of the types of package banana
}

// A View reads an event's fields. An [*Event] is one, and so is a line of a flog
// file, which decodes only the fields that are asked for.
type View interface {
	// Get returns the value of the field key, or nil and false if the event does
	// not have it.
	Get(key string) (value any, ok bool)

	// Dict returns all fields.
	Dict() Dict
}

// Get returns the value of the field key, or nil and false if the event does not
// have it. The value belongs to the event.
func (e *Event) Get(key string) (value any, ok bool) {
	for i := range e.Fields {
		if e.Fields[i].Key == key {
			return e.Fields[i].Value, true
		}
	}
	return nil, false
}

// Set replaces the value of the field key, or appends the field.
func (e *Event) Set(key string, value any) {
	for i := range e.Fields {
		if e.Fields[i].Key == key {
			e.Fields[i].Value = value
			return
		}
	}
	e.Fields = append(e.Fields, Field{key, value})
}

// Text returns the value of the field key if it is text or bytes, else "".
func (e *Event) Text(key string) string {
	v, _ := e.Get(key)
	s, _ := banana.Text(v)
	return s
}

// Num returns the event's number. ok is false unless that is a whole number from 0
// to 2^64-2.
func (e *Event) Num() (n Num, ok bool) { return e.number("num") }

// Parent returns the number of the event's parent. ok is as for [Event.Num].
func (e *Event) Parent() (n Num, ok bool) { return e.number("parent") }

func (e *Event) number(key string) (Num, bool) {
	switch v, _ := e.Get(key); v := v.(type) {
	case int64:
		return Num(v), v >= 0
	case *big.Int:
		return Num(v.Uint64()), v.IsUint64() && Num(v.Uint64()) != NoNum
	}
	return NoNum, false
}

// Level returns the event's level. It returns [Operational] if the event has no
// level or one that is not a number. As in Python it truncates a fraction, and true
// counts as 1.
func (e *Event) Level() Level {
	switch v, _ := e.Get("level"); v := v.(type) {
	case int64:
		return clampLevel(float64(v))
	case float64:
		return clampLevel(v)
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return clampLevel(f)
	case bool:
		if v {
			return 1
		}
		return 0
	}
	return Operational
}

func clampLevel(f float64) Level {
	switch {
	case math.IsNaN(f):
		return Operational
	case f > math.MaxInt32:
		return math.MaxInt32
	case f < math.MinInt32:
		return math.MinInt32
	}
	return Level(f)
}

// Seconds returns the event's time in seconds since 1970. ok is false unless that
// is a number, which may be NaN or infinite.
func (e *Event) Seconds() (s float64, ok bool) {
	switch v, _ := e.Get("time"); v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return f, true
	}
	return 0, false
}

// Time returns the event's time in UTC. It returns the zero time if the event has
// none, or one that is more than 10^11 seconds from 1970.
func (e *Event) Time() time.Time {
	s, ok := e.Seconds()
	if !ok || math.IsNaN(s) || math.Abs(s) > 1e11 {
		return time.Time{}
	}
	whole, frac := math.Modf(s)
	return time.Unix(int64(whole), int64(frac*1e9)).UTC()
}

// Facility returns the event's facility, or "" if it does not have one.
func (e *Event) Facility() string { return e.Text("facility") }

// Incarnation returns the first element of the event's incarnation, which
// identifies one run of a process, or "" if the event does not have it.
func (e *Event) Incarnation() string {
	switch v, _ := e.Get("incarnation"); v := v.(type) {
	case Tuple:
		return firstText(v)
	case []any:
		return firstText(v)
	}
	return ""
}

func firstText(v []any) string {
	if len(v) == 0 {
		return ""
	}
	s, _ := banana.Text(v[0])
	return s
}

// Match reports whether a setting for the facility pattern applies to facility:
// whether they are the same, or facility is a dotted child of pattern. The pattern
// "" matches every facility.
func Match(pattern, facility string) bool {
	if pattern == "" {
		return true
	}
	rest, ok := strings.CutPrefix(facility, pattern)
	return ok && (rest == "" || rest[0] == '.')
}

// FromDict returns the event in d, a dict that a peer sent. Keys in bytes become
// text. It drops a field whose key is neither text nor bytes: the original cannot
// write such an event to a file either. The values are those of d, not copies.
func FromDict(d Dict) *Event {
	e := &Event{Fields: make([]Field, 0, len(d))}
	for _, item := range d {
		key, ok := banana.Text(item.Key)
		if !ok {
			continue
		}
		e.Fields = append(e.Fields, Field{key, item.Value})
	}
	return e
}

// Dict returns the event's fields as a dict that can be sent to a peer. The values
// are those of e, not copies.
func (e *Event) Dict() Dict {
	d := make(Dict, len(e.Fields))
	for i, f := range e.Fields {
		d[i] = Item{Key: f.Key, Value: f.Value}
	}
	return d
}
