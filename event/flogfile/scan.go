package flogfile

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// This file finds the fields of a line without decoding them. Dump and filter read a
// few fields of millions of lines; the original is slow because it decodes them all.
// BenchmarkScan measures the speed.
//
// The scanner accepts what [event.ParseJSON] accepts; FuzzScan compares the two.

const (
	maxNesting   = 1000    // as event.ParseJSON
	maxIntDigits = 100_000 // as event.ParseJSON
)

// span is a piece of a line.
type span struct{ start, end int32 }

// field is one entry of an object: the key without its quotes, and the value's JSON.
type field struct{ key, value span }

// scanner scans one line.
type scanner struct {
	data    []byte
	left    int  // values that it may still find; below 0 when there are too many
	escaped bool // an escape was seen
}

// blank reports whether c is a blank of JSON.
func blank(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// scanBlanks returns the index of the first byte from i that is not a blank.
func scanBlanks(data []byte, i int) int {
	for i < len(data) && blank(data[i]) {
		i++
	}
	return i
}

// object appends to fields those of the object at data[i], and returns the index after
// it, or -1 if there is no valid object. Containers in it nest up to maxNesting-depth
// deep. If inner is not nil, it takes the fields of the object under the key "d".
func (s *scanner) object(fields []field, i, depth int, inner *[]field) ([]field, int) {
	data := s.data
	if i >= len(data) || data[i] != '{' || depth >= maxNesting {
		return fields, -1
	}
	i = scanBlanks(data, i+1)
	if i < len(data) && data[i] == '}' {
		return fields, i + 1
	}
	for {
		key := i + 1
		if i = s.text(i); i < 0 {
			return fields, -1
		}
		if s.left--; s.left < 0 {
			return fields, -1
		}
		f := field{key: span{int32(key), int32(i - 1)}}
		// Writers put one blank after a separator; any others are valid too.
		if i+1 < len(data) && data[i] == ':' && data[i+1] == ' ' {
			i += 2
		} else {
			if i = scanBlanks(data, i); i >= len(data) || data[i] != ':' {
				return fields, -1
			}
			i++
		}
		if i < len(data) && data[i] <= ' ' {
			i = scanBlanks(data, i)
		}
		f.value.start = int32(i)
		if inner != nil && f.key.end == f.key.start+1 && data[f.key.start] == 'd' {
			*inner = (*inner)[:0]
			if i < len(data) && data[i] == '{' {
				*inner, i = s.object(*inner, i, depth+1, nil)
			} else {
				i = s.value(i, depth+1)
			}
		} else {
			i = s.value(i, depth+1)
		}
		if i < 0 {
			return fields, -1
		}
		f.value.end = int32(i)
		fields = append(fields, f)
		if i+1 < len(data) && data[i] == ',' && data[i+1] == ' ' {
			i += 2
		} else {
			i = scanBlanks(data, i)
			if i >= len(data) {
				return fields, -1
			}
			switch data[i] {
			case '}':
				return fields, i + 1
			case ',':
				i++
			default:
				return fields, -1
			}
		}
		if i < len(data) && data[i] <= ' ' {
			i = scanBlanks(data, i)
		}
	}
}

// value returns the index after the value at data[i], or -1.
func (s *scanner) value(i, depth int) int {
	data := s.data
	if i >= len(data) {
		return -1
	}
	if s.left--; s.left < 0 {
		return -1
	}
	switch c := data[i]; c {
	case '"':
		return s.text(i)
	case '{':
		var few [8]field
		_, i = s.object(few[:0], i, depth, nil)
		return i
	case '[':
		return s.array(i, depth)
	case 'n':
		return scanWord(data, i, "null")
	case 't':
		return scanWord(data, i, "true")
	case 'f':
		return scanWord(data, i, "false")
	case 'N':
		return scanWord(data, i, "NaN")
	case 'I':
		return scanWord(data, i, "Infinity")
	case '-':
		if i+1 < len(data) && data[i+1] == 'I' {
			return scanWord(data, i, "-Infinity")
		}
	}
	end := scanNumber(data, i)
	if n := end - i; n > longNumber && bytes.IndexByte(data[i:end], '.') < 0 {
		s.left -= n * n >> 20 // decoding a whole number takes quadratic time
	}
	return end
}

const longNumber = 4300 // digits; Python reads no longer ones

func scanWord(data []byte, i int, word string) int {
	if len(data)-i < len(word) || string(data[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

func (s *scanner) array(i, depth int) int {
	data := s.data
	if depth >= maxNesting {
		return -1
	}
	i = scanBlanks(data, i+1)
	if i < len(data) && data[i] == ']' {
		return i + 1
	}
	for {
		i = s.value(scanBlanks(data, i), depth+1)
		if i < 0 {
			return -1
		}
		i = scanBlanks(data, i)
		if i >= len(data) {
			return -1
		}
		switch data[i] {
		case ']':
			return i + 1
		case ',':
			i++
		default:
			return -1
		}
	}
}

func scanNumber(data []byte, i int) int {
	if data[i] == '-' {
		i++
	}
	if i >= len(data) {
		return -1
	}
	switch c := data[i]; {
	case c == '0':
		i++
	case c-'1' < 9:
		start := i
		for i++; i < len(data) && data[i]-'0' <= 9; i++ {
		}
		if i-start > maxIntDigits {
			return -1
		}
	default:
		return -1
	}
	if i+1 < len(data) && data[i] == '.' && data[i+1]-'0' <= 9 {
		for i += 2; i < len(data) && data[i]-'0' <= 9; i++ {
		}
	}
	if i < len(data) && data[i]|0x20 == 'e' {
		j := i + 1
		if j < len(data) && (data[j] == '+' || data[j] == '-') {
			j++
		}
		digits := j
		for ; j < len(data) && data[j]-'0' <= 9; j++ {
		}
		if j > digits {
			i = j
		}
	}
	return i
}

// Eight bytes at a time: a byte of a word is special if it is below the blank,
// a quote, a backslash or not ASCII.
const (
	each1  = 0x0101010101010101
	each20 = each1 * ' '
	each22 = each1 * '"'
	each5c = each1 * '\\'
	each80 = each1 * 0x80
)

// text returns the index after the string whose opening quote stands at
// data[i], or -1.
func (s *scanner) text(i int) int {
	data := s.data
	if i >= len(data) || data[i] != '"' {
		return -1
	}
	i++
	for {
		for i+8 <= len(data) {
			w := binary.LittleEndian.Uint64(data[i:])
			// The high bit of a special byte is set here. A borrow from it may set
			// those of bytes above it, never below, and the lowest one counts.
			special := ((w - each20) | ((w ^ each22) - each1) | ((w ^ each5c) - each1) | w) & each80
			if special != 0 {
				i += bits.TrailingZeros64(special) >> 3
				goto found
			}
			i += 8
		}
		for i < len(data) && data[i] >= ' ' && data[i] != '"' && data[i] != '\\' && data[i] < utf8.RuneSelf {
			i++
		}
		if i >= len(data) {
			return -1
		}
	found:
		switch c := data[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			s.escaped = true
			if i = scanEscape(data, i); i < 0 {
				return -1
			}
		case c < ' ':
			return -1
		default:
			r, size := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && size == 1 {
				return -1
			}
			i += size
		}
	}
}

func scanEscape(data []byte, i int) int {
	if i+1 >= len(data) {
		return -1
	}
	switch data[i+1] {
	case '"', '\\', '/', 'n', 'r', 't', 'b', 'f':
		return i + 2
	case 'u':
		if i+6 > len(data) {
			return -1
		}
		for _, c := range data[i+2 : i+6] {
			if c-'0' > 9 && c|0x20-'a' > 5 {
				return -1
			}
		}
		return i + 6
	}
	return -1
}
