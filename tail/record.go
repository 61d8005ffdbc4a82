package tail

import (
	"math"
	"math/big"
	"strconv"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/pytext"
)

// record is an event that can be selected and shown: a line of a file, or an event that a
// live process sent.
type record interface {
	event.View
	From() string
	RxTime() (seconds float64, ok bool)
	Seconds() (seconds float64, ok bool)
	Num() (n event.Num, ok bool)
	Parent() (n event.Num, ok bool)
	Level() event.Level
	Facility() string
	Incarnation() string
	AppendText(dst []byte) []byte
	AppendEventJSON(dst []byte) []byte
	Event() (*event.Event, error)
}

var (
	_ record = (*flogfile.Line)(nil)
	_ record = (*liveEvent)(nil)
)

// liveEvent is an event that a live process sent.
type liveEvent struct {
	ev   *event.Event
	tub  string  // the TubID of the process
	from string  // the beginning of tub, as it is shown
	rx   float64 // when the event was received, in seconds since 1970
}

func (l *liveEvent) Get(key string) (any, bool)        { return l.ev.Get(key) }
func (l *liveEvent) Dict() event.Dict                  { return l.ev.Dict() }
func (l *liveEvent) From() string                      { return l.from }
func (l *liveEvent) RxTime() (float64, bool)           { return l.rx, true }
func (l *liveEvent) Seconds() (float64, bool)          { return l.ev.Seconds() }
func (l *liveEvent) Num() (event.Num, bool)            { return l.ev.Num() }
func (l *liveEvent) Parent() (event.Num, bool)         { return l.ev.Parent() }
func (l *liveEvent) Level() event.Level                { return l.ev.Level() }
func (l *liveEvent) Facility() string                  { return l.ev.Facility() }
func (l *liveEvent) Incarnation() string               { return l.ev.Incarnation() }
func (l *liveEvent) AppendText(dst []byte) []byte      { return pytext.AppendText(dst, l.ev) }
func (l *liveEvent) AppendEventJSON(dst []byte) []byte { return l.ev.AppendJSON(dst) }
func (l *liveEvent) Event() (*event.Event, error)      { return l.ev, nil }

// appendNum appends the event's number in decimal. It appends another value as it is, or
// ? if there is none, and returns false.
func appendNum(dst []byte, r record) ([]byte, bool) {
	if n, ok := r.Num(); ok {
		return strconv.AppendUint(dst, uint64(n), 10), true
	}
	v, ok := r.Get("num")
	if !ok {
		return append(dst, '?'), false
	}
	switch v := v.(type) {
	case int64:
		return strconv.AppendInt(dst, v, 10), true
	case *big.Int:
		return v.Append(dst, 10), true
	case float64:
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			n, _ := big.NewFloat(v).Int(nil)
			return n.Append(dst, 10), true
		}
	case string:
		return append(dst, v...), false
	}
	return pytext.AppendRepr(dst, v), false
}

// failureText returns what the original shows for v, the value of the key failure.
func failureText(v any) string {
	switch v := v.(type) {
	case event.Dict:
		s, ok := v.Get("str")
		if !ok {
			return string(pytext.AppendRepr(nil, v))
		}
		return string(pytext.AppendStr(nil, s))
	}
	return string(pytext.AppendStr(nil, v))
}
