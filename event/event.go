// Package event is the event itself: its fields and levels, how it becomes
// text for people, JSON for files, and the encoded record that rings hold.
//
//	slog, Log ──► Record (bytes in a ring) ──► Event (fields) ──► JSON line, wire dict, text
//	                                              ▲
//	             flog file line, a peer's dict ───┘
//
// It stores and sends nothing.
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

// Num is an event's number: unique and ascending within one incarnation, from
// 0. Events are identified across processes by (incarnation, number).
type Num uint64

// NoNum is the number of no event: what logging below the threshold returns,
// and a parent that adds nothing.
const NoNum = ^Num(0)

// Values inside events are the wire's: see package banana.
type (
	Tuple = banana.Tuple
	Dict  = banana.Dict
	Item  = banana.Item
)

// Event is one event as its fields in their order: what a program logged, or
// what a peer or a file claims one to be. Nothing is promised about it: any
// field may be missing or of any type, and the methods below say what they make
// of that.
type Event struct {
	Fields []Field
}

// Field is one field of an Event; Value is one of the types of package banana.
type Field struct {
	Key   string
	Value any
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

// Get returns the value of the field key, or nil and false if there is none.
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

// Text returns the field key if it is text or bytes, else "".
func (e *Event) Text(key string) string {
	v, _ := e.Get(key)
	s, _ := banana.Text(v)
	return s
}

// Num returns the event's number; ok is false if it has none that is a whole
// number from 0 to 2^64-2.
func (e *Event) Num() (n Num, ok bool) { return e.number("num") }

// Parent returns the number of the event's parent; ok is false if it has none.
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

// Level returns the event's level; a missing one, or one that is no number, is
// OPERATIONAL, a fraction is cut, and true counts as 1, as in Python.
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

// Seconds returns the event's time in seconds since 1970; ok is false if it has
// none that is a number.
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

// Time is Seconds as a time, in UTC; the zero time if there is none that a
// time.Time can hold.
func (e *Event) Time() time.Time {
	s, ok := e.Seconds()
	if !ok || math.IsNaN(s) || math.Abs(s) > 1e11 {
		return time.Time{}
	}
	whole, frac := math.Modf(s)
	return time.Unix(int64(whole), int64(frac*1e9)).UTC()
}

// Facility returns the event's facility, "" if it has none.
func (e *Event) Facility() string { return e.Text("facility") }

// Incarnation returns the first element of the event's incarnation, by which a
// run of a process is known; "" if there is none.
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

// Match reports whether facility is one that a setting for pattern covers: the
// same name or one of its dotted children; "" covers all.
func Match(pattern, facility string) bool {
	if pattern == "" {
		return true
	}
	rest, ok := strings.CutPrefix(facility, pattern)
	return ok && (rest == "" || rest[0] == '.')
}

// FromDict returns the dict of a peer's event as an Event. Names in bytes
// become text; a name that is neither is left out, as no event of the original
// has one that survives a file.
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

// Dict returns the event's fields as a dict that may be sent.
func (e *Event) Dict() Dict {
	d := make(Dict, len(e.Fields))
	for i, f := range e.Fields {
		d[i] = Item{Key: f.Key, Value: f.Value}
	}
	return d
}
