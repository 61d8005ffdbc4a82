package filter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/flogtool/flogtool/event"
)

// These limits apply to one evaluation. A step is one turn of a loop or one match of a
// regular expression.
const (
	maxSteps = 1_000_000
	maxTime  = time.Second
	maxText  = 64 << 10 // bytes of one text; a longer one of an event is cut; taste
	maxTexts = 1 << 20  // bytes of all texts that the expression makes
)

// What an evaluation does is counted in units of about 10 ns, as if each text had 64 KiB
// and each list as many values as an event of a ring can hold. After checkWork of them the
// meter reads the clock and the context, so that an evaluation ends within milliseconds
// of its context. guard.go inserts ticks with the weight of what follows them.
const (
	checkWork   = 64 << 10
	loopWork    = 16
	compareWork = 100
	textWork    = 2000          // searching a text
	listWork    = checkWork / 4 // visiting or comparing all values of an event
	matchWork   = 2 * checkWork // of a match that is not interrupted
)

// ErrOverrun is wrapped by the error of an expression that exceeds its limits.
var ErrOverrun = errors.New("filter: expression exceeds its limits")

// The names of the functions that meterPatch inserts. guard refuses them in a source.
const (
	nameTick    = "__tick"     // a step with loopWork
	nameText    = "__tickText" // with textWork
	nameList    = "__tickList" // with listWork
	nameWork    = "__tickWork" // with the work that is its argument
	nameMatches = "__matches"
	nameAdd     = "__add"
	nameLower   = "__lower"
	nameUpper   = "__upper"
	nameString  = "__string"
	nameTrim    = "__trim"
)

// meter counts what one evaluation uses.
type meter struct {
	ctx    context.Context // nil between two evaluations
	limit  time.Duration
	shared *SharedFilter // nil unless it evaluates one

	steps  int
	texts  int
	work   int // since the last check
	checks int
	start  time.Time // of the first check
}

func (m *meter) reset(ctx context.Context, limit time.Duration) {
	*m = meter{ctx: ctx, limit: limit, shared: m.shared}
}

// stop ends the evaluation: expr recovers and returns the error.
func stop(err error) { panic(err) }

func overrun(format string, args ...any) {
	stop(fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrOverrun))
}

// step counts a step, and work that follows it.
func (m *meter) step(work int) bool {
	if m.steps++; m.steps > maxSteps {
		overrun("more than %d steps", maxSteps)
	}
	m.does(work)
	return true
}

func (m *meter) tick() bool { return m.step(loopWork) }
func (m *meter) text() bool { return m.step(textWork) }
func (m *meter) list() bool { return m.step(listWork) }

// does counts work.
func (m *meter) does(work int) {
	if m.work += work; m.work >= checkWork {
		m.check()
	}
}

// check ends the evaluation if its context has ended or its time is over.
func (m *meter) check() {
	m.work = 0
	if m.checks++; m.checks == 1 {
		m.start = time.Now()
	} else if time.Since(m.start) > m.limit {
		overrun("longer than %v", m.limit)
	}
	if m.ctx != nil && m.ctx.Err() != nil {
		stop(context.Cause(m.ctx))
	}
	if m.shared != nil {
		paused := time.Now()
		if err := m.shared.slice(m.ctx, m.checks); err != nil {
			stop(err)
		}
		m.start = m.start.Add(time.Since(paused))
	}
}

// matches is text matches p, where p is a *pattern.
func (m *meter) matches(text, p any) bool {
	if text == nil {
		return false
	}
	s, ok := text.(string)
	if !ok {
		stop(fmt.Errorf("cannot match %s", typeName(text)))
	}
	pattern := p.(*pattern)
	m.tick()
	if work := len(s) * pattern.size; work <= matchWork {
		m.does(work)
		return pattern.re.MatchString(s)
	}
	m.check()
	if pattern.prefix != "" && !strings.Contains(s, pattern.prefix) {
		return false
	}
	return pattern.re.MatchReader(&meteredText{m, s, pattern.size})
}

// meteredText gives a text to a regular expression, which does work for each character.
type meteredText struct {
	m    *meter
	text string
	work int
}

// ReadRune ends the evaluation if that has used its time.
func (t *meteredText) ReadRune() (r rune, size int, err error) {
	if t.text == "" {
		return 0, 0, io.EOF
	}
	t.m.does(t.work)
	r, size = utf8.DecodeRuneInString(t.text)
	t.text = t.text[size:]
	return r, size, nil
}

// made counts a text of n bytes, before it is made.
func (m *meter) made(n int) {
	if n > maxText {
		overrun("a text of %d bytes, more than the limit of %d", n, maxText)
	}
	if m.texts += n; m.texts > maxTexts {
		overrun("more than %d bytes of text", maxTexts)
	}
	m.does(n)
}

// trim is trim(text, chars).
func (m *meter) trim(text, chars any) string {
	s, ok := text.(string)
	set, ok2 := chars.(string)
	if !ok || !ok2 {
		stop(fmt.Errorf("cannot trim %s from %s", typeName(chars), typeName(text)))
	}
	if len(s)*len(set) > matchWork {
		overrun("trim compares %d characters with %d", len(s), len(set))
	}
	m.does(len(s) * len(set))
	return strings.Trim(s, set)
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

// string is string(v): text unchanged, a number as in JSON, "" for nil. The form of other
// values is only for searching.
func (m *meter) string(v any) string {
	var s string
	switch v := v.(type) {
	case string:
		return v
	case nil:
		return ""
	case bool, int, float64:
		s = string(event.AppendJSON(nil, v))
	case *Event, []*Event:
		stop(fmt.Errorf("string cannot convert an event: write fmt(event)"))
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
