package filter

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/flogtool/flogtool/event"
)

// These limits apply to one evaluation. A step is one turn of a loop or one match of a
// regular expression; nothing else can take long.
const (
	maxSteps  = 1_000_000
	maxTime   = time.Second // checked every timeSteps steps
	timeSteps = 64
	maxText   = 64 << 10 // bytes of one text; a longer one of an event is cut; taste
	maxTexts  = 1 << 20  // bytes of all texts that the expression makes
)

// ErrOverrun is wrapped by the error of an expression that exceeds its limits.
var ErrOverrun = errors.New("filter: expression exceeds its limits")

// The names of the functions that meterPatch inserts. guard refuses them in a source.
const (
	nameTick   = "__tick"
	nameAdd    = "__add"
	nameLower  = "__lower"
	nameUpper  = "__upper"
	nameString = "__string"
)

// meter counts what one evaluation uses.
type meter struct {
	steps int
	texts int
	start time.Time
}

func (m *meter) reset() { *m = meter{} }

// overrun ends the evaluation: expr recovers and returns the error.
func overrun(format string, args ...any) {
	panic(fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrOverrun))
}

func (m *meter) tick() bool {
	m.steps++
	if m.steps%timeSteps == 0 {
		switch {
		case m.steps > maxSteps:
			overrun("more than %d steps", maxSteps)
		case m.start.IsZero():
			m.start = time.Now()
		case time.Since(m.start) > maxTime:
			overrun("longer than %v", maxTime)
		}
	}
	return true
}

// made counts a text of n bytes, before it is made.
func (m *meter) made(n int) {
	if n > maxText {
		overrun("a text of %d bytes, more than the limit of %d", n, maxText)
	}
	if m.texts += n; m.texts > maxTexts {
		overrun("more than %d bytes of text", maxTexts)
	}
}

func (m *meter) add(a, b any) any {
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			m.made(len(x) + len(y))
			return x + y
		}
	case int:
		switch y := b.(type) {
		case int:
			return x + y
		case float64:
			return float64(x) + y
		}
	case float64:
		switch y := b.(type) {
		case int:
			return x + float64(y)
		case float64:
			return x + y
		}
	}
	panic(fmt.Errorf("cannot add %s and %s", typeName(a), typeName(b)))
}

func (m *meter) lower(s string) string { m.made(len(s)); return strings.ToLower(s) }
func (m *meter) upper(s string) string { m.made(len(s)); return strings.ToUpper(s) }

// text is string(v): text unchanged, a number as in JSON, "" for nil. The form of other
// values is only for searching.
func (m *meter) text(v any) string {
	var s string
	switch v := v.(type) {
	case string:
		return v
	case nil:
		return ""
	case bool, int, float64:
		s = string(event.AppendJSON(nil, v))
	case *Event, []*Event:
		panic(fmt.Errorf("string cannot convert an event: write fmt(event)"))
	default:
		s = cut(string(appendPlain(nil, v, maxText)))
	}
	m.made(len(s))
	return s
}

func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "nil"
	case string:
		return "a text"
	case int, float64:
		return "a number"
	case bool:
		return "a boolean"
	case map[string]any:
		return "a map"
	case []any:
		return "a list"
	case *Event:
		return "an event"
	case *Source:
		return "a source"
	}
	return fmt.Sprintf("a %T", v)
}
