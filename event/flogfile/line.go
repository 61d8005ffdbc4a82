package flogfile

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/pytext"
)

// Kind says what a line holds: one thing, several, or nothing that the format knows.
type Kind uint8

// The kinds of lines. A line is of a kind if its wrapper has this key.
const (
	KindHeader  Kind = 1 << iota // "header"
	KindEvent                    // "d"
	KindTrailer                  // "trailer"
)

// Line is one line of a flog file: a wrapper object, which holds an event, a header or
// a trailer. It is an [event.View] of the event, and decodes a field each time that
// the field is asked for. It serves one goroutine.
//
// A Line of a [Reader] or a [Block] is valid until the next line is read, and so are
// the bytes that its methods return. Strings and decoded values last.
type Line struct {
	Raw    []byte // without the line end
	Number int    // in the file; the magic line is 1
	Offset int64  // bytes before the line in the (decompressed) file

	Kind Kind

	outer  []field      // of the wrapper
	fields []field      // of the event, if that is an object
	at     [slots]int16 // of the known fields: 1 + its index in fields, 0 if the event lacks it
	plain  bool         // no escape in the whole line
	keys   bool         // no escape in the keys of fields
	left   int          // values that the line may have and does not; below 0 if it has too many
	values int          // in the whole line
	event  *event.Event // decoded, if Event was called
	texts  interned
}

// known holds the fields that nearly every caller asks for. Each has its slot here and
// in Line.at, so that no method searches for it.
var known = func() (t [slots]string) {
	for _, name := range []string{"num", "time", "level", "message", "format", "args", "facility", "failure", "parent", "incarnation"} {
		if t[slot(name)] != "" {
			panic("flogfile: two known fields have one slot: change slot")
		}
		t[slot(name)] = name
	}
	return t
}()

const slots = 16 // the least power of two for which each known field has its own

// slot returns the index in known that the field key has if it is one of them.
func slot[T string | []byte](key T) int {
	if len(key) == 0 {
		return 0
	}
	return (4*len(key) + int(key[0])) % slots
}

// interned holds texts that many lines have: senders, formats.
type interned [64]string

const maxInterned = 4 << 10 // bytes of a text

func (t *interned) get(raw []byte) string {
	if len(raw) == 0 || len(raw) > maxInterned {
		return string(raw)
	}
	slot := &t[(len(raw)*7+int(raw[0])+int(raw[len(raw)/2])*3+int(raw[len(raw)-1]))%len(t)]
	if *slot != string(raw) {
		*slot = string(raw)
	}
	return *slot
}

// ParseLine returns a Line of the JSON object raw, or nil if raw is not one. The Line
// keeps raw and is valid as long as raw does not change.
func ParseLine(raw []byte) *Line {
	l := &Line{Raw: raw, left: maxValues}
	if !l.parse() {
		return nil
	}
	return l
}

// Reset makes l the line raw, which was read before, at number and offset of its file.
// It keeps raw, and reports whether raw is a JSON object.
func (l *Line) Reset(raw []byte, number int, offset int64) bool {
	l.Raw, l.Number, l.Offset, l.left = raw, number, offset, maxValues
	return l.parse()
}

// parse finds the fields of the line; false if the line is not a JSON object, or has
// more than left values.
func (l *Line) parse() bool {
	l.Kind, l.event = 0, nil
	l.outer, l.fields = l.outer[:0], l.fields[:0]
	data := l.Raw
	s := scanner{data: data, left: l.left}
	var end int
	l.outer, end = s.object(l.outer, scanBlanks(data, 0), 0, &l.fields)
	l.values = l.left - s.left
	if l.left = s.left; end < 0 || scanBlanks(data, end) < len(data) {
		l.outer, l.fields = l.outer[:0], l.fields[:0]
		return false
	}
	l.plain = !s.escaped
	l.keys = len(l.fields) < 1<<15
	l.at = [slots]int16{}
	if l.keys {
		for i := range l.fields {
			key := l.text(l.fields[i].key)
			if k := slot(key); known[k] == string(key) {
				l.at[k] = int16(i + 1) // if keys are equal, the last one counts
			} else if !l.plain && bytes.IndexByte(key, '\\') >= 0 {
				l.keys = false
			}
		}
	}
	for i := range l.outer {
		switch string(l.text(l.outer[i].key)) {
		case "d":
			l.Kind |= KindEvent
		case "header":
			l.Kind |= KindHeader
		case "trailer":
			l.Kind |= KindTrailer
		}
	}
	return true
}

func (l *Line) text(s span) []byte { return l.Raw[s.start:s.end] }

// find returns the value of the field key, the last one if there are several.
func (l *Line) find(fields []field, key string) ([]byte, bool) {
	for i := len(fields) - 1; i >= 0; i-- {
		k := l.text(fields[i].key)
		if string(k) == key || !l.plain && bytes.IndexByte(k, '\\') >= 0 && unescape(k) == key {
			return l.text(fields[i].value), true
		}
	}
	return nil, false
}

// field returns the value of a known field.
func (l *Line) field(name string) ([]byte, bool) {
	if !l.keys {
		return l.find(l.fields, name)
	}
	if i := l.at[slot(name)]; i > 0 {
		return l.text(l.fields[i-1].value), true
	}
	return nil, false
}

// unescape returns the text of a key that has escapes.
func unescape(key []byte) string {
	quoted := make([]byte, 0, len(key)+2)
	quoted = append(append(append(quoted, '"'), key...), '"')
	v, _ := event.ParseJSON(quoted)
	s, _ := v.(string)
	return s
}

// RawField returns the JSON of the event's field key. ok is false if the event does not
// have it.
func (l *Line) RawField(key string) (value []byte, ok bool) {
	if known[slot(key)] == key {
		return l.field(key)
	}
	return l.find(l.fields, key)
}

// NumValues returns how many values the line has: texts, numbers, lists and so on. Each
// takes memory when it is decoded, whatever its length.
func (l *Line) NumValues() int { return l.values }

// NumFields returns how many fields the event has: finding one of them by its name may
// compare them all.
func (l *Line) NumFields() int { return len(l.fields) }

// Plain reports whether the line has no escapes: every JSON string in it is the text
// between its quotes.
func (l *Line) Plain() bool { return l.plain }

// Intern returns text as a string, which lasts. It does not allocate for a text of up to
// 4 KiB that it returned lately.
func (l *Line) Intern(text []byte) string { return l.texts.get(text) }

// RawWrapper returns the JSON of a key of the wrapper: from, rx_time, d, header or
// another. ok is false if the wrapper does not have it.
func (l *Line) RawWrapper(key string) (value []byte, ok bool) { return l.find(l.outer, key) }

// Get returns the value of the event's field key, or nil and false if the event does
// not have it. It decodes this field only.
func (l *Line) Get(key string) (value any, ok bool) {
	raw, ok := l.RawField(key)
	if !ok {
		return nil, false
	}
	v, err := event.ParseJSON(raw)
	return v, err == nil
}

// IsObject reports whether the line has an event and the event is an object.
func (l *Line) IsObject() bool {
	raw, ok := l.find(l.outer, "d")
	return ok && raw[0] == '{'
}

// Event returns the event, decoded. The event lasts longer than the line. The error
// says that the line has no event, or one that is not an object.
func (l *Line) Event() (*event.Event, error) {
	if l.event == nil {
		raw, ok := l.find(l.outer, "d")
		if !ok {
			return nil, errNoEvent
		}
		e, err := event.ParseEvent(raw)
		if err != nil {
			return nil, err
		}
		l.event = e
	}
	return l.event, nil
}

var errNoEvent = errors.New("flogfile: line without an event")

// Dict returns the event's fields, decoded, or nil if [Line.Event] fails.
func (l *Line) Dict() event.Dict {
	e, err := l.Event()
	if err != nil {
		return nil
	}
	return e.Dict()
}

// Header returns the line's header, decoded, or nil if the line does not have one or it
// is not an object.
func (l *Line) Header() event.Dict { return l.dict("header") }

// Trailer returns the line's trailer, as [Line.Header] returns the header.
func (l *Line) Trailer() event.Dict { return l.dict("trailer") }

func (l *Line) dict(key string) event.Dict {
	raw, ok := l.find(l.outer, key)
	if !ok {
		return nil
	}
	v, _ := event.ParseJSON(raw)
	d, _ := v.(event.Dict)
	return d
}

// From returns who recorded the event, or "" if the line does not have it as text.
func (l *Line) From() string {
	raw, _ := l.find(l.outer, "from")
	if l.plain && len(raw) >= 2 && raw[0] == '"' {
		return l.texts.get(raw[1 : len(raw)-1])
	}
	return rawText(raw)
}

// RxTime returns when the writer received the event, in seconds since 1970. ok is false
// unless the line has it as a number.
func (l *Line) RxTime() (seconds float64, ok bool) {
	raw, _ := l.find(l.outer, "rx_time")
	return rawFloat(raw)
}

// Seconds returns the event's time in seconds since 1970, as [event.Event.Seconds]
// does.
func (l *Line) Seconds() (seconds float64, ok bool) {
	raw, _ := l.field("time")
	return rawFloat(raw)
}

// Num returns the event's number as [event.Event.Num] does.
func (l *Line) Num() (n event.Num, ok bool) { return rawNum(l.field("num")) }

// Parent returns the number of the event's parent as [event.Event.Parent] does.
func (l *Line) Parent() (n event.Num, ok bool) { return rawNum(l.field("parent")) }

// Facility returns the event's facility, or "" if it does not have one as text.
func (l *Line) Facility() string {
	raw, _ := l.field("facility")
	return rawText(raw)
}

// Incarnation returns the event's incarnation as [event.Event.Incarnation] does.
func (l *Line) Incarnation() string {
	raw, ok := l.field("incarnation")
	if !ok {
		return ""
	}
	v, _ := event.ParseJSON(raw)
	list, _ := v.([]any)
	if len(list) == 0 {
		return ""
	}
	s, _ := list[0].(string)
	return s
}

// Level returns the event's level as [event.Event.Level] does.
func (l *Line) Level() event.Level {
	raw, ok := l.field("level")
	if !ok {
		return event.Operational
	}
	if n, ok := rawInt(raw); ok && n == int64(int32(n)) {
		return event.Level(n)
	}
	v, _ := event.ParseJSON(raw)
	e := event.Event{Fields: []event.Field{{Key: "level", Value: v}}}
	return e.Level()
}

// AppendText appends the event's text for people, as [pytext.AppendText] does: 1 MiB of
// it at most.
func (l *Line) AppendText(dst []byte) []byte {
	// A plain message, which most events have, needs no decoding.
	if raw, ok := l.field("message"); ok && raw[0] == '"' && (l.plain || bytes.IndexByte(raw, '\\') < 0) {
		if _, ok := l.field("format"); !ok {
			if _, ok := l.field("args"); !ok {
				if text := raw[1 : len(raw)-1]; len(text) <= pytext.MaxText {
					return append(dst, text...)
				}
			}
		}
	}
	return pytext.AppendText(dst, l)
}

// rawText returns the text of a JSON string, or "" if raw is not one.
func rawText(raw []byte) string {
	if len(raw) < 2 || raw[0] != '"' {
		return ""
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	v, _ := event.ParseJSON(raw)
	s, _ := v.(string)
	return s
}

// rawInt returns a whole number of up to 18 digits.
func rawInt(raw []byte) (n int64, ok bool) {
	digits := raw
	if len(digits) > 0 && digits[0] == '-' {
		digits = digits[1:]
	}
	if len(digits) == 0 || len(digits) > 18 {
		return 0, false
	}
	for _, c := range digits {
		if c-'0' > 9 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if len(digits) < len(raw) {
		n = -n
	}
	return n, true
}

func rawNum(raw []byte, ok bool) (event.Num, bool) {
	if !ok {
		return event.NoNum, false
	}
	if n, ok := rawInt(raw); ok {
		return event.Num(n), n >= 0
	}
	n, err := strconv.ParseUint(string(raw), 10, 64)
	return event.Num(n), err == nil && event.Num(n) != event.NoNum
}

func rawFloat(raw []byte) (f float64, ok bool) {
	// The digits, as a number below 2^53, divided by a power of ten: both are exact
	// doubles, and so the quotient is rounded once.
	if len(raw) > len(powers) {
		return slowFloat(raw)
	}
	var n, point uint64
	for i, c := range raw {
		switch {
		case c-'0' <= 9:
			n = n*10 + uint64(c-'0')
		case c == '.' && point == 0 && i > 0:
			point = uint64(i + 1)
		default:
			return slowFloat(raw)
		}
		if n >= 1<<53 {
			return slowFloat(raw)
		}
	}
	switch {
	case len(raw) == 0:
		return 0, false
	case point == 0:
		return float64(n), true
	}
	return float64(n) / powers[uint64(len(raw))-point], true
}

var powers = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

func slowFloat(raw []byte) (f float64, ok bool) {
	if raw[0] != '-' && raw[0]-'0' > 9 && raw[0] != 'N' && raw[0] != 'I' {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(raw), 64) // does not allocate
	return f, err == nil || errors.Is(err, strconv.ErrRange)
}

// AppendEventJSON appends the event as one JSON object, as [AppendCanonical] does.
func (l *Line) AppendEventJSON(dst []byte) []byte {
	raw, _ := l.find(l.outer, "d")
	return AppendCanonical(dst, raw)
}

// AppendLine appends the whole line without a line end, as [AppendCanonical] does.
func (l *Line) AppendLine(dst []byte) []byte { return AppendCanonical(dst, l.Raw) }

// AppendCanonical appends raw, a valid JSON value, in the form in which this package
// writes it. It copies raw if that has this form, and else decodes and encodes it.
func AppendCanonical(dst, raw []byte) []byte {
	if canonical(raw) {
		return append(dst, raw...)
	}
	v, err := event.ParseJSON(raw)
	if err != nil {
		return append(dst, raw...)
	}
	return event.AppendJSON(dst, v)
}
