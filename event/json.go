package event

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/flogtool/flogtool/event/internal/pyrepr"
	"github.com/flogtool/flogtool/rpc/banana"
)

// This file reads and writes JSON exactly as the original does: writing what was
// read gives the same bytes. Keys keep their order, integers have any size, floats
// always have a point or an exponent, NaN and the infinities are bare words, text
// outside printable ASCII is escaped, and lone surrogates are kept.
//
// Spec: flogfile.md section 1.

const (
	maxNesting   = 1000    // nesting of containers, read or written; about where Python gives up
	maxIntDigits = 100_000 // digits of an integer; reading more would cost quadratic time
)

// unJSONable is the text by which the original replaces a value that JSON cannot
// hold.
const unJSONable = "log.msg() was given an object that could not be encoded into JSON. " +
	"I've replaced it with this UnJSONable object. The object's repr is in .repr"

// AppendJSON appends v, a value of one of the types of package banana, in the form
// of the original's log files. It never fails. An exception becomes a Failure
// object; bytes, sets and other types that JSON lacks become an UnJSONable object. A
// dict's key that is a tuple or bytes is written in its Python source form, where
// the original loses the whole event.
func AppendJSON(dst []byte, v any) []byte { return appendJSON(dst, v, 0) }

// AppendJSON appends the event as one JSON object, as the function [AppendJSON] does.
func (e *Event) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	for i := range e.Fields {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = AppendJSONString(dst, e.Fields[i].Key)
		dst = append(dst, ": "...)
		dst = appendJSON(dst, e.Fields[i].Value, 1)
	}
	return append(dst, '}')
}

func appendJSON(dst []byte, v any, depth int) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case int:
		return strconv.AppendInt(dst, int64(v), 10)
	case uint64:
		return strconv.AppendUint(dst, v, 10)
	case *big.Int:
		return v.Append(dst, 10)
	case float64:
		return AppendJSONFloat(dst, v)
	case string:
		return AppendJSONString(dst, v)
	case []any:
		return appendJSONList(dst, v, depth)
	case Tuple:
		return appendJSONList(dst, v, depth)
	case Dict:
		return appendJSONDict(dst, v, depth)
	case *banana.Copyable:
		if v.Class == banana.FailureClass {
			return appendJSONFailure(dst, v)
		}
	}
	dst = append(dst, `{"@": "UnJSONable", "message": `...)
	dst = AppendJSONString(dst, unJSONable)
	dst = append(dst, `, "repr": `...)
	dst = AppendJSONString(dst, string(pyrepr.Append(nil, v)))
	return append(dst, '}')
}

func appendJSONList(dst []byte, list []any, depth int) []byte {
	if depth >= maxNesting {
		return append(dst, `"..."`...)
	}
	dst = append(dst, '[')
	for i, item := range list {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = appendJSON(dst, item, depth+1)
	}
	return append(dst, ']')
}

func appendJSONDict(dst []byte, d Dict, depth int) []byte {
	if depth >= maxNesting {
		return append(dst, `"..."`...)
	}
	dst = append(dst, '{')
	for i := range d {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = AppendJSONString(dst, jsonKey(d[i].Key))
		dst = append(dst, ": "...)
		dst = appendJSON(dst, d[i].Value, depth+1)
	}
	return append(dst, '}')
}

// jsonKey returns the text that stands for a dict's key.
func jsonKey(key any) string {
	switch key := key.(type) {
	case string:
		return key
	case nil, bool, int64, int, uint64, *big.Int, float64:
		return string(appendJSON(nil, key, 0))
	}
	return string(pyrepr.Append(nil, key))
}

func appendJSONFailure(dst []byte, f *banana.Copyable) []byte {
	dst = append(dst, `{"@": "Failure", "str": `...)
	dst = AppendJSONString(dst, pyrepr.FailureStr(f))
	dst = append(dst, `, "repr": `...)
	dst = AppendJSONString(dst, pyrepr.FailureRepr(f))
	dst = append(dst, `, "traceback": `...)
	dst = AppendJSONString(dst, pyrepr.FailureTraceback(f))
	return append(dst, '}')
}

// AppendJSONFloat appends f in the form of the log files: always with a point or an
// exponent, and NaN and the infinities as bare words.
func AppendJSONFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	return pyrepr.AppendFloat(dst, f)
}

const hex = "0123456789abcdef"

// jsonPlain says which bytes need no escape in the JSON that we write.
var jsonPlain = func() (t [256]bool) {
	for c := ' '; c <= '~'; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// AppendJSONString appends s as a JSON string in printable ASCII. A byte that is not
// UTF-8 becomes \udcNN, as with Python's surrogateescape, so that no information is
// lost.
func AppendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		if jsonPlain[s[i]] {
			i++
			continue
		}
		dst = append(dst, s[from:i]...)
		c := s[i]
		if c < utf8.RuneSelf {
			dst = appendJSONControl(dst, c)
			i++
		} else {
			r, size := pyrepr.DecodeRune(s[i:])
			if r >= 0x10000 {
				hi, lo := utf16.EncodeRune(r)
				dst = appendJSONUnit(appendJSONUnit(dst, hi), lo)
			} else {
				dst = appendJSONUnit(dst, r)
			}
			i += size
		}
		from = i
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

func appendJSONControl(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	case '\b':
		return append(dst, `\b`...)
	case '\f':
		return append(dst, `\f`...)
	}
	return appendJSONUnit(dst, rune(c))
}

func appendJSONUnit(dst []byte, r rune) []byte {
	return append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}

// SyntaxError says where and why text is not JSON as Python reads it.
type SyntaxError struct {
	Offset int    // in bytes, of the first byte that is not expected
	Msg    string // what is wrong, such as "extra data"
}

// Error returns the message and the offset.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.Msg, e.Offset) }

// errNotObject says why a JSON value is not an event.
var errNotObject = errors.New("event: not a JSON object")

// ParseEvent returns the event in data, a JSON object. The error is a [*SyntaxError],
// or says that data holds JSON that is not an object. The event shares no memory
// with data.
func ParseEvent(data []byte) (*Event, error) {
	v, err := ParseJSON(data)
	if err != nil {
		return nil, err
	}
	d, ok := v.(Dict)
	if !ok {
		return nil, errNotObject
	}
	e := &Event{Fields: make([]Field, len(d))}
	for i := range d {
		e.Fields[i] = Field{Key: d[i].Key.(string), Value: d[i].Value}
	}
	return e, nil
}

// ParseJSON returns the JSON value in data, with or without blanks around it, as
// Python reads it. An object becomes a [Dict], an array []any, a whole number an
// int64 or *big.Int, any other number a float64. If keys are equal, the last value
// takes the place of the first. NaN, Infinity and -Infinity are numbers. Containers
// nest up to 1000 deep and integers have up to 100,000 digits.
//
// The error is a [*SyntaxError]; invalid UTF-8 is one too. The value shares no memory
// with data.
func ParseJSON(data []byte) (any, error) {
	p := parser{data: data}
	v, ok := p.value(0)
	if ok {
		p.blanks()
		if p.pos < len(data) {
			p.fail(p.pos, "extra data")
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	return v, nil
}

type parser struct {
	data []byte
	pos  int
	err  *SyntaxError
}

func (p *parser) fail(at int, msg string) (any, bool) {
	if p.err == nil {
		p.err = &SyntaxError{Offset: at, Msg: msg}
	}
	return nil, false
}

func (p *parser) blanks() {
	for p.pos < len(p.data) {
		switch p.data[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// next returns the next byte that is not a blank, without consuming it; 0 at the end.
func (p *parser) next() byte {
	p.blanks()
	if p.pos == len(p.data) {
		return 0
	}
	return p.data[p.pos]
}

func (p *parser) word(word string, v any) (any, bool) {
	if len(p.data)-p.pos < len(word) || string(p.data[p.pos:p.pos+len(word)]) != word {
		return p.fail(p.pos, "expecting a value")
	}
	p.pos += len(word)
	return v, true
}

func (p *parser) value(depth int) (any, bool) {
	switch c := p.next(); c {
	case '"':
		s, ok := p.text()
		return s, ok
	case '{', '[':
		if depth >= maxNesting {
			return p.fail(p.pos, "nested deeper than 1000")
		}
		if c == '[' {
			return p.array(depth)
		}
		return p.object(depth)
	case 'n':
		return p.word("null", nil)
	case 't':
		return p.word("true", true)
	case 'f':
		return p.word("false", false)
	case 'N':
		return p.word("NaN", math.NaN())
	case 'I':
		return p.word("Infinity", math.Inf(1))
	case '-':
		if p.pos+1 < len(p.data) && p.data[p.pos+1] == 'I' {
			return p.word("-Infinity", math.Inf(-1))
		}
		return p.number()
	case '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return p.number()
	}
	return p.fail(p.pos, "expecting a value")
}

func (p *parser) array(depth int) (any, bool) {
	p.pos++
	list := []any{}
	if p.next() == ']' {
		p.pos++
		return list, true
	}
	for {
		v, ok := p.value(depth + 1)
		if !ok {
			return nil, false
		}
		list = append(list, v)
		switch p.next() {
		case ',':
			p.pos++
		case ']':
			p.pos++
			return list, true
		default:
			return p.fail(p.pos, "expecting ',' or ']'")
		}
	}
}

func (p *parser) object(depth int) (any, bool) {
	p.pos++
	d := Dict{}
	var index map[string]int // of d, once it is too long to search
	if p.next() == '}' {
		p.pos++
		return d, true
	}
	for {
		if p.next() != '"' {
			return p.fail(p.pos, "expecting a property name in double quotes")
		}
		key, ok := p.text()
		if !ok {
			return nil, false
		}
		if p.next() != ':' {
			return p.fail(p.pos, "expecting ':'")
		}
		p.pos++
		v, ok := p.value(depth + 1)
		if !ok {
			return nil, false
		}
		d, index = addUnique(d, index, key, v)
		switch p.next() {
		case ',':
			p.pos++
		case '}':
			p.pos++
			return d, true
		default:
			return p.fail(p.pos, "expecting ',' or '}'")
		}
	}
}

// addUnique sets key in d to v. Most dicts are short, and searching them is faster
// than a map. A long one, which may be hostile, gets a map.
func addUnique(d Dict, index map[string]int, key string, v any) (Dict, map[string]int) {
	const searchable = 24
	at := -1
	switch {
	case index != nil:
		if i, ok := index[key]; ok {
			at = i
		} else {
			index[key] = len(d)
		}
	case len(d) < searchable:
		for i := range d {
			if d[i].Key.(string) == key {
				at = i
			}
		}
	default:
		index = make(map[string]int, 2*searchable)
		for i := range d {
			index[d[i].Key.(string)] = i
		}
		return addUnique(d, index, key, v)
	}
	if at >= 0 {
		d[at].Value = v
		return d, index
	}
	return append(d, Item{Key: key, Value: v}), index
}

// number reads a number: whole ones as int64 or *big.Int, others as float64.
func (p *parser) number() (any, bool) {
	start := p.pos
	i := start
	data := p.data
	if data[i] == '-' {
		i++
	}
	digits := func() int {
		from := i
		for i < len(data) && data[i]-'0' <= 9 {
			i++
		}
		return i - from
	}
	switch {
	case i == len(data) || data[i]-'0' > 9:
		return p.fail(start, "expecting a value")
	case data[i] == '0':
		i++
	default:
		if digits() > maxIntDigits {
			return p.fail(start, "integer of more than 100000 digits")
		}
	}
	whole := true
	if i+1 < len(data) && data[i] == '.' && data[i+1]-'0' <= 9 {
		whole = false
		i++
		digits()
	}
	if i < len(data) && (data[i] == 'e' || data[i] == 'E') {
		mark := i
		i++
		if i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		if digits() == 0 {
			i = mark // as in Python the number ends here, and extra data follows
		} else {
			whole = false
		}
	}
	p.pos = i
	text := string(data[start:i])
	if !whole {
		f, _ := strconv.ParseFloat(text, 64) // beyond the range: an infinity, as in Python
		return f, true
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	n, _ := new(big.Int).SetString(text, 10)
	return n, true
}

// text reads a string; the next byte is its opening quote.
func (p *parser) text() (string, bool) {
	start := p.pos + 1
	for i := start; i < len(p.data); i++ {
		switch c := p.data[i]; {
		case jsonPlain[c] || c == 0x7f:
		case c == '"':
			p.pos = i + 1
			return string(p.data[start:i]), true
		default:
			return p.hardText(start, i)
		}
	}
	p.fail(start-1, "string without an end")
	return "", false
}

// hardText reads the rest, from i, of a string that starts at start and is not plain
// ASCII.
func (p *parser) hardText(start, i int) (string, bool) {
	data := p.data
	buf := append(make([]byte, 0, i-start+64), data[start:i]...)
	for i < len(data) {
		c := data[i]
		switch {
		case c == '"':
			p.pos = i + 1
			return string(buf), true
		case c == '\\':
			var ok bool
			if buf, i, ok = p.escape(buf, i); !ok {
				return "", false
			}
		case c < ' ':
			p.fail(i, "control character in a string")
			return "", false
		case c < utf8.RuneSelf:
			buf = append(buf, c)
			i++
		default:
			r, size := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && size == 1 {
				p.fail(i, "invalid UTF-8")
				return "", false
			}
			buf = append(buf, data[i:i+size]...)
			i += size
		}
	}
	p.fail(start-1, "string without an end")
	return "", false
}

// escape appends the text of the escape at i, and returns the index after it.
func (p *parser) escape(buf []byte, i int) ([]byte, int, bool) {
	data := p.data
	if i+1 >= len(data) {
		p.fail(i, "string without an end")
		return nil, 0, false
	}
	switch c := data[i+1]; c {
	case '"', '\\', '/':
		return append(buf, c), i + 2, true
	case 'n':
		return append(buf, '\n'), i + 2, true
	case 'r':
		return append(buf, '\r'), i + 2, true
	case 't':
		return append(buf, '\t'), i + 2, true
	case 'b':
		return append(buf, '\b'), i + 2, true
	case 'f':
		return append(buf, '\f'), i + 2, true
	case 'u':
		r, ok := unit(data, i)
		if !ok {
			p.fail(i, "bad \\u escape")
			return nil, 0, false
		}
		i += 6
		if utf16.IsSurrogate(r) {
			if low, ok := unit(data, i); ok {
				if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
					return utf8.AppendRune(buf, pair), i + 6, true
				}
			}
		}
		return pyrepr.AppendRune(buf, r), i, true
	}
	p.fail(i, "bad escape")
	return nil, 0, false
}

// unit reads the escape \uXXXX at i.
func unit(data []byte, i int) (r rune, ok bool) {
	if i+6 > len(data) || data[i] != '\\' || data[i+1] != 'u' {
		return 0, false
	}
	for _, c := range data[i+2 : i+6] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20-'a' < 6:
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
