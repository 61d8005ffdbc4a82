// Package pyrepr writes values in Python's source form: what repr() and str()
// return. Package event needs it for values that JSON cannot hold, package pytext
// for the texts of events.
//
// Text may be WTF-8, that is UTF-8 with lone surrogates in three bytes each: a
// Python peer can send them, and its log files keep them.
//
// Spec: logging-semantics.md section 3.
package pyrepr

import (
	"bytes"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/flogtool/flogtool/rpc/banana"
)

// Append appends v, a value of one of the types of package banana, in Python's
// source form: what repr() returns.
func Append(dst []byte, v any) []byte {
	a := Appender{Dst: dst, End: math.MaxInt}
	a.Repr(v)
	return a.Dst
}

// Appender appends values to Dst until that has End bytes: what comes after is left
// out, so that Dst is the start of the whole text. Dst may exceed End by some bytes;
// if it does not, the text is whole.
type Appender struct {
	Dst  []byte
	End  int
	Work int // grows by what conversions cost that are slow for their length, in bytes of ordinary text
}

// Str appends what Python's str() returns for v: text unchanged, an exception with
// its traceback, any other value in its source form.
func (a *Appender) Str(v any) {
	switch v := v.(type) {
	case string:
		a.add(v)
	case banana.Decimal:
		a.add(string(v))
	case *banana.Copyable:
		if v.Class == banana.FailureClass {
			a.failureStr(v)
			return
		}
		a.repr(v, 0)
	default:
		a.repr(v, 0)
	}
}

// Repr appends v in Python's source form.
func (a *Appender) Repr(v any) { a.repr(v, 0) }

// full reports whether the rest is left out.
func (a *Appender) full() bool { return len(a.Dst) > a.End }

// add appends s, or as much of it as makes a full.
func (a *Appender) add(s string) { a.Dst = append(a.Dst, head(s, a.End-len(a.Dst))...) }

// head returns as much of s as has room, and a character more, which may be cut.
func head[T string | []byte](s T, room int) T {
	if len(s) > room {
		s = s[:min(len(s), max(0, room+utf8.UTFMax))]
	}
	return s
}

func (a *Appender) repr(v any, depth int) {
	switch v := v.(type) {
	case nil:
		a.add("None")
	case bool:
		if v {
			a.add("True")
		} else {
			a.add("False")
		}
	case int64:
		a.Dst = strconv.AppendInt(a.Dst, v, 10)
	case int:
		a.Dst = strconv.AppendInt(a.Dst, int64(v), 10)
	case uint64:
		a.Dst = strconv.AppendUint(a.Dst, v, 10)
	case *big.Int:
		a.Work += v.BitLen()
		a.Dst = v.Append(a.Dst, 10)
	case float64:
		a.Dst = appendReprFloat(a.Dst, v)
	case string:
		a.Work += len(v) / searchSpeed
		quote := quoteFor(strings.IndexByte(v, '\'') >= 0, strings.IndexByte(v, '"') >= 0)
		a.Dst = appendReprText(a.Dst, head(v, a.End-len(a.Dst)), quote)
	case []byte:
		a.Work += len(v) / searchSpeed
		quote := quoteFor(bytes.IndexByte(v, '\'') >= 0, bytes.IndexByte(v, '"') >= 0)
		a.Dst = appendReprBytes(a.Dst, head(v, a.End-len(a.Dst)), quote)
	case []any:
		a.items("[", v, "]", depth)
	case banana.Tuple:
		if len(v) == 1 {
			a.items("(", v, ",)", depth)
		} else {
			a.items("(", v, ")", depth)
		}
	case banana.Dict:
		a.dict(v, depth)
	case banana.Set:
		if len(v) == 0 {
			a.add("set()")
		} else {
			a.items("{", v, "}", depth)
		}
	case banana.FrozenSet:
		if len(v) == 0 {
			a.add("frozenset()")
		} else {
			a.items("frozenset({", v, "})", depth)
		}
	case banana.Decimal:
		a.add("Decimal(")
		a.repr(string(v), depth)
		a.add(")")
	case *banana.Copyable:
		if v.Class == banana.FailureClass {
			a.failureRepr(v)
			return
		}
		a.add("<")
		a.add(v.Class)
		a.add(" ")
		a.dict(v.Attrs, depth)
		a.add(">")
	default:
		a.add("<object>")
	}
}

const maxNesting = 1000 // nesting of containers; deeper ones are "..."; about where Python gives up

func (a *Appender) items(begin string, items []any, end string, depth int) {
	a.add(begin)
	if depth >= maxNesting {
		a.add("...")
		items = nil
	}
	for i, item := range items {
		if a.full() {
			return
		}
		if i > 0 {
			a.add(", ")
		}
		a.repr(item, depth+1)
	}
	a.add(end)
}

func (a *Appender) dict(d banana.Dict, depth int) {
	if depth >= maxNesting {
		a.add("{...}")
		return
	}
	a.add("{")
	for i := range d {
		if a.full() {
			return
		}
		if i > 0 {
			a.add(", ")
		}
		a.repr(d[i].Key, depth+1)
		a.add(": ")
		a.repr(d[i].Value, depth+1)
	}
	a.add("}")
}

func appendReprFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "nan"...)
	case math.IsInf(f, 1):
		return append(dst, "inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-inf"...)
	}
	return AppendFloat(dst, f)
}

// AppendFloat appends f, which is finite, as Python's repr() has it: the shortest text
// that reads back as f, with an exponent below 1e-4 and from 1e16, else with a point.
func AppendFloat(dst []byte, f float64) []byte {
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if slices.Contains(dst[start:], '.') {
		return dst
	}
	return append(dst, ".0"...)
}

// quoteFor returns the quote that Python chooses for a text that has single quotes, or
// double ones.
func quoteFor(single, double bool) byte {
	if single && !double {
		return '"'
	}
	return '\''
}

const searchSpeed = 16 // bytes that are searched in the time that one byte of text takes

const hex = "0123456789abcdef"

func appendReprText(dst []byte, s string, quote byte) []byte {
	dst = append(dst, quote)
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			dst = appendReprByte(dst, c, quote)
			i++
			continue
		}
		r, size := DecodeRune(s[i:])
		if unicode.IsPrint(r) {
			dst = utf8.AppendRune(dst, r)
		} else {
			dst = appendEscape(dst, r)
		}
		i += size
	}
	return append(dst, quote)
}

func appendReprBytes(dst []byte, b []byte, quote byte) []byte {
	dst = append(dst, 'b', quote)
	for _, c := range b {
		if c < utf8.RuneSelf {
			dst = appendReprByte(dst, c, quote)
		} else {
			dst = append(dst, '\\', 'x', hex[c>>4], hex[c&15])
		}
	}
	return append(dst, quote)
}

func appendReprByte(dst []byte, c, quote byte) []byte {
	switch {
	case c == quote || c == '\\':
		return append(dst, '\\', c)
	case c == '\n':
		return append(dst, `\n`...)
	case c == '\r':
		return append(dst, `\r`...)
	case c == '\t':
		return append(dst, `\t`...)
	case c < ' ' || c == 0x7f:
		return append(dst, '\\', 'x', hex[c>>4], hex[c&15])
	}
	return append(dst, c)
}

// appendEscape appends r as \xNN, \uNNNN or \UNNNNNNNN, whichever is the shortest.
func appendEscape(dst []byte, r rune) []byte {
	switch {
	case r < 0x100:
		return append(dst, '\\', 'x', hex[r>>4&15], hex[r&15])
	case r < 0x10000:
		return append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
	}
	return append(dst, '\\', 'U', '0', '0', hex[r>>20&15], hex[r>>16&15], hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}

// AppendASCII appends the text repr with everything above ASCII escaped, as
// Python's ascii() does.
func AppendASCII(dst []byte, repr string) []byte {
	for i := 0; i < len(repr); {
		if repr[i] < utf8.RuneSelf {
			dst = append(dst, repr[i])
			i++
			continue
		}
		r, size := DecodeRune(repr[i:])
		dst = appendEscape(dst, r)
		i += size
	}
	return dst
}
