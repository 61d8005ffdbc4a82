// Package filter compiles the expressions by which people select and name
// events: filters and qualifiers, which give true or false for one event, and
// rules, which give categories for an incident. The language is expr's.
//
//	level >= WEIRD && facility startsWith "net."
//	attrs.path matches "^/api/" && attrs.ms > 500
//	any(before("10s"), .message contains "disk full") ? "disk-full" : nil
//
// An expression may come from anybody: it can neither hang nor crash the
// process, nor fill its memory. What is refused before it runs is in guard.go,
// what is metered while it runs in meter.go.
//
// It is the only package that knows expr.
package filter

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"github.com/flogtool/flogtool/event"
)

// Error is what is wrong with an expression, and where.
type Error struct {
	Line, Column int    // from 1
	Msg          string // one line
	Snippet      string // the source's line, and a caret below the place; may be empty
	err          error
}

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

func (e *Error) Unwrap() error { return e.err }

const maxSnippet = 200 // bytes of a source line that is shown

// newError returns err, of package expr, as an *Error.
func newError(err error) error {
	fe, ok := errors.AsType[*file.Error](err)
	if !ok {
		return &Error{Line: 1, Column: 1, Msg: err.Error(), err: err}
	}
	e := &Error{Line: fe.Line, Column: fe.Column + 1, Msg: fe.Message, err: fe.Prev}
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

// Filter is a compiled expression that gives true or false for an event. It may
// be used by several goroutines at once.
type Filter struct {
	source  string
	program *vm.Program
	use     *use
	scopes  sync.Pool // of *scope
}

// Compile compiles a filter. The error is an [*Error].
func Compile(source string) (*Filter, error) {
	program, use, err := compile(source, filterNames, expr.AsBool())
	if err != nil {
		return nil, err
	}
	f := &Filter{source: source, program: program, use: use}
	f.scopes.New = func() any { return newScope() }
	return f, nil
}

// String returns the filter's source.
func (f *Filter) String() string { return f.source }

// Uses reports whether the filter uses this name of an event, such as program.
func (f *Filter) Uses(name string) bool { return f.use.names[name] || f.use.fields[name] }

// Match is MatchFrom for an event of unknown origin.
func (f *Filter) Match(e *event.Event) (bool, error) { return f.MatchFrom(e, Origin{}) }

// MatchFrom reports whether the filter is true for e. The error says why it could
// not be evaluated: an attribute is missing or of another type, or the filter
// ran over its limits; it is an [*Error].
func (f *Filter) MatchFrom(e event.View, origin Origin) (bool, error) {
	s := f.scopes.Get().(*scope)
	defer f.scopes.Put(s)
	s.setEvent(f.use, e, origin)
	v, err := s.run(f.program)
	if err != nil {
		return false, err
	}
	return v.(bool), nil
}
