// Package pytext makes the text of an event as Python makes it: by the % operator,
// str() and repr().
//
//	{"format": "%(op)s took %(ms).1f ms", "op": "GET", "ms": 512.25}  ──►  GET took 512.2 ms
//	{"message": "%s and %d", "args": ["x", 4]}                        ──►  x and 4
//
// It differs from the original where the original loses an event. A list under
// args fills the directives as the tuple did that a file has stored as a list. An
// event that cannot be formatted shows its pattern, followed by
// " [formatting failed]". No function of this package fails or panics, whatever a
// peer has sent.
//
// Text may contain lone surrogates, as WTF-8: three bytes each.
//
// Spec: logging-semantics.md section 3.
package pytext

import "github.com/flogtool/flogtool/event/internal/pyrepr"

// AppendStr appends v, a value of package banana's model, as Python's str() has
// it: text unchanged, an exception with its traceback, any other value in its
// source form.
func AppendStr(dst []byte, v any) []byte { return pyrepr.AppendStr(dst, v) }

// AppendRepr appends v, a value of package banana's model, in its source form, as
// Python's repr() has it. Containers nest up to 1000 deep; "..." stands for what
// is deeper.
func AppendRepr(dst []byte, v any) []byte { return pyrepr.Append(dst, v) }
