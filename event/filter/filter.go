// Package filter compiles and evaluates expressions over events. A [Filter] gives
// true or false for an event; a [Rule] gives categories for an incident. The language
// is expr.
//
//	level >= WEIRD && facility startsWith "net."
//	attrs.path matches "^/api/" && attrs.ms > 500
//	any(before("10s"), .message contains "disk full") ? "disk-full" : nil
//
// The names of an event, which in a rule speak of the incident's trigger:
//
//	num time level            numbers
//	message facility umid     text; message has its arguments filled in
//	parent failure            number or nil; the exception with its traceback, text
//	from program              who recorded it, and the program's name; see Origin
//	source.file source.line   the log statement; see Source
//	attrs.NAME                any field of the event as it is, nil if it is absent
//	event                     all of these: event.level
//	NOISY … BAD               the named levels
//
// A rule also knows trigger (an event), header, versions, tub (the same as from),
// events, and before(DURATION).
//
// An expression may come from anyone: it cannot crash or hang the process, and cannot
// use much memory. guard.go and pattern.go have what is refused at compile time, meter.go
// what is limited at run time, contradiction.go what a rule is warned of. A [Share] limits
// the processor time of many filters together. Only this package imports expr.
package filter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"github.com/flogtool/flogtool/event"
)

// Error says what is wrong with an expression, and where.
type Error struct {
	Line, Column int    // from 1; 0 if the place is unknown
	Msg          string // one line, up to 500 bytes: it may quote what an event holds
	Snippet      string // the line of the expression and a caret below the column; may be empty
	err          error
}

// Error returns the place, the message and the snippet.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Msg
	}
	s := fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Msg)
	if e.Snippet != "" {
		s += "\n" + e.Snippet
	}
	return s
}

// Unwrap returns the cause, such as [ErrOverrun], or nil.
func (e *Error) Unwrap() error { return e.err }

const (
	maxSnippet = 200 // bytes of the longest line that is shown
	maxMsg     = 500 // bytes
)

// message returns a text as the Msg of an Error.
func message(s string) string {
	if len(s) > maxMsg {
		s = strings.ToValidUTF8(s[:maxMsg-len("…")], "") + "…"
	}
	return strings.ReplaceAll(s, "\n", " ")
}

// newError returns err, an error of package expr, as an *Error.
func newError(err error) error {
	fe, ok := errors.AsType[*file.Error](err)
	if !ok {
		return &Error{Line: 1, Column: 1, Msg: message(err.Error()), err: err}
	}
	e := &Error{Line: fe.Line, Column: fe.Column + 1, Msg: message(fe.Message), err: fe.Prev}
	var lines []string
	for line := range strings.Lines(strings.TrimPrefix(fe.Snippet, "\n")) {
		line = strings.TrimPrefix(strings.TrimRight(line, "\n"), " | ")
		lines = append(lines, "  "+line)
	}
	if n := len(lines); n > 0 && len(lines[0]) <= maxSnippet {
		lines[n-1] = strings.ReplaceAll(lines[n-1], ".", " ")
		e.Snippet = strings.Join(lines, "\n")
	}
	return e
}

// Filter is a compiled expression that gives true or false for an event. Several
// goroutines may use it at once.
type Filter struct {
	expression string
	program    *vm.Program
	use        *use
	scopes     sync.Pool // of *scope
}

// Compile compiles a filter: an expression that gives a boolean. The error is an
// [*Error].
func Compile(expression string) (*Filter, error) {
	program, use, err := compile(expression, filterNames, expr.AsBool())
	if err != nil {
		return nil, err
	}
	f := &Filter{expression: expression, program: program, use: use}
	f.scopes.New = func() any { return newScope() }
	return f, nil
}

// String returns the expression.
func (f *Filter) String() string { return f.expression }

// Uses reports whether the expression uses this name of an event, such as "program".
func (f *Filter) Uses(name string) bool { return f.use.names[name] || f.use.fields[name] }

// Match is [Filter.MatchFrom] for an event of unknown origin.
func (f *Filter) Match(e *event.Event) (bool, error) { return f.MatchFrom(e, Origin{}) }

// MatchFrom reports whether the filter is true for e, an event from origin. The error
// is an [*Error]: an attribute is missing or of another type, or the filter exceeds its
// limits, for which it wraps [ErrOverrun].
func (f *Filter) MatchFrom(e event.View, origin Origin) (bool, error) {
	return f.match(context.Background(), e, origin)
}

// MatchContext is [Filter.MatchFrom] that stops within 10 ms when ctx ends. The error
// then wraps the cause of ctx.
func (f *Filter) MatchContext(ctx context.Context, e event.View, origin Origin) (bool, error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return f.match(ctx, e, origin)
}

func (f *Filter) match(ctx context.Context, e event.View, origin Origin) (bool, error) {
	s := f.scopes.Get().(*scope)
	defer f.scopes.Put(s)
	s.setEvent(f.use, e, origin)
	v, err := s.run(ctx, f.program, maxTime)
	if err != nil {
		return false, err
	}
	return v.(bool), nil
}
