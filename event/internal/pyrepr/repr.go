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
	"math"
	"math/big"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/flogtool/flogtool/rpc/banana"
)

// Append appends v, a value of one of the types of package banana, in Python's
// source form: what repr() returns.
func Append(dst []byte, v any) []byte { return appendRepr(dst, v, 0) }

// AppendStr appends what Python's str() returns for v: text unchanged, an exception
// with its traceback, any other value in its source form.
func AppendStr(dst []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return append(dst, v...)
	case banana.Decimal:
		return append(dst, v...)
	case *banana.Copyable:
		if v.Class == banana.FailureClass {
			return append(dst, FailureStr(v)...)
		}
	}
	return appendRepr(dst, v, 0)
}

func appendRepr(dst []byte, v any, depth int) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "None"...)
	case bool:
		if v {
			return append(dst, "True"...)
		}
		return append(dst, "False"...)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case int:
		return strconv.AppendInt(dst, int64(v), 10)
	case uint64:
		return strconv.AppendUint(dst, v, 10)
	case *big.Int:
		return v.Append(dst, 10)
	case float64:
		return appendReprFloat(dst, v)
	case string:
		return appendReprText(dst, v)
	case []byte:
		return appendReprBytes(dst, v)
	case []any:
		return append(appendReprItems(append(dst, '['), v, depth), ']')
	case banana.Tuple:
		dst = appendReprItems(append(dst, '('), v, depth)
		if len(v) == 1 {
			dst = append(dst, ',')
		}
		return append(dst, ')')
	case banana.Dict:
		return appendReprDict(dst, v, depth)
	case banana.Set:
		if len(v) == 0 {
			return append(dst, "set()"...)
		}
		return append(appendReprItems(append(dst, '{'), v, depth), '}')
	case banana.FrozenSet:
		if len(v) == 0 {
			return append(dst, "frozenset()"...)
		}
		return append(appendReprItems(append(dst, "frozenset({"...), v, depth), "})"...)
	case banana.Decimal:
		return append(appendReprText(append(dst, "Decimal("...), string(v)), ')')
	case *banana.Copyable:
		if v.Class == banana.FailureClass {
			return append(dst, FailureRepr(v)...)
		}
		dst = append(append(append(dst, '<'), v.Class...), ' ')
		return append(appendReprDict(dst, v.Attrs, depth), '>')
	}
	return append(dst, "<object>"...)
}

const maxNesting = 1000 // nesting of containers; deeper ones are "..."; about where Python gives up

func appendReprItems(dst []byte, items []any, depth int) []byte {
	if depth >= maxNesting {
		return append(dst, "..."...)
	}
	for i, item := range items {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = appendRepr(dst, item, depth+1)
	}
	return dst
}

func appendReprDict(dst []byte, d banana.Dict, depth int) []byte {
	if depth >= maxNesting {
		return append(dst, "{...}"...)
	}
	dst = append(dst, '{')
	for i := range d {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = appendRepr(dst, d[i].Key, depth+1)
		dst = append(dst, ": "...)
		dst = appendRepr(dst, d[i].Value, depth+1)
	}
	return append(dst, '}')
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

// quoteFor returns the quote that Python chooses for s: a double one if s has single
// ones and no double one, else a single one.
func quoteFor[T string | []byte](s T) byte {
	single, double := false, false
	for i := range len(s) {
		single = single || s[i] == '\''
		double = double || s[i] == '"'
	}
	if single && !double {
		return '"'
	}
	return '\''
}

const hex = "0123456789abcdef"

func appendReprText(dst []byte, s string) []byte {
	quote := quoteFor(s)
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

func appendReprBytes(dst []byte, b []byte) []byte {
	quote := quoteFor(b)
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
