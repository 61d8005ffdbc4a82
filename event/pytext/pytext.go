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
// A text is at most 1 MiB long, whatever the event asks for: the rest is not made, and
// the text ends with "…(cut)".
//
// Text may contain lone surrogates, as WTF-8: three bytes each.
//
// Spec: logging-semantics.md section 3.
package pytext

import (
	"unicode/utf8"

	"github.com/flogtool/flogtool/event/internal/pyrepr"
)

// MaxText bounds each text of this package, in bytes without the note that it is cut.
const MaxText = 1 << 20

// cutNote ends a text that is cut.
const cutNote = "…(cut)"

// AppendStr appends v, a value of package banana's model, as Python's str() has
// it: text unchanged, an exception with its traceback, any other value in its
// source form. It appends at most [MaxText] bytes and a note.
func AppendStr(dst []byte, v any) []byte { return AppendStrMax(dst, v, MaxText) }

// AppendStrMax is [AppendStr] for a caller that wants at most size bytes of the text.
// The note comes on top of these.
func AppendStrMax(dst []byte, v any, size int) []byte {
	a := pyrepr.Appender{Dst: dst, End: len(dst) + min(size, MaxText)}
	a.Str(v)
	return cut(a.Dst, len(dst), a.End)
}

// AppendRepr appends v, a value of package banana's model, in its source form, as
// Python's repr() has it. Containers nest up to 1000 deep; "..." stands for what
// is deeper. It appends at most [MaxText] bytes and a note.
func AppendRepr(dst []byte, v any) []byte { return AppendReprMax(dst, v, MaxText) }

// AppendReprMax is [AppendRepr] for a caller that wants at most size bytes of the text.
// The note comes on top of these.
func AppendReprMax(dst []byte, v any, size int) []byte {
	a := pyrepr.Appender{Dst: dst, End: len(dst) + min(size, MaxText)}
	a.Repr(v)
	return cut(a.Dst, len(dst), a.End)
}

// cut returns dst if the text that begins at start ends at end or before. It cuts a
// longer one between two characters and adds the note.
func cut(dst []byte, start, end int) []byte {
	if len(dst) <= end {
		return dst
	}
	for i := end; i > max(start, end-utf8.UTFMax); i-- {
		if utf8.RuneStart(dst[i]) {
			end = i
			break
		}
	}
	return append(dst[:end], cutNote...)
}
