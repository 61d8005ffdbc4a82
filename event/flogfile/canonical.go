package flogfile

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strconv"

	"github.com/flogtool/flogtool/event"
)

// canonical reports whether data, a valid JSON value, is what [event.AppendJSON] writes
// for that value, so that it can be copied. It may report false for data that is: then
// decoding and encoding give the same bytes, only slower. FuzzCanonical compares the
// two.
func canonical(data []byte) bool { return canonValue(data, 0) == len(data) }

// canonValue returns the index after the value at i, or -1 unless that is canonical.
func canonValue(data []byte, i int) int {
	if i >= len(data) {
		return -1
	}
	switch data[i] {
	case '"':
		return canonString(data, i)
	case '{':
		return canonObject(data, i+1)
	case '[':
		return canonArray(data, i+1)
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return canonNumber(data, i)
	}
	word := scanner{data: data, left: 1}
	return word.value(i, 0)
}

func canonArray(data []byte, i int) int {
	if i < len(data) && data[i] == ']' {
		return i + 1
	}
	for {
		if i = canonValue(data, i); i < 0 || i >= len(data) {
			return -1
		}
		if data[i] == ']' {
			return i + 1
		}
		if i = canonComma(data, i); i < 0 {
			return -1
		}
	}
}

func canonComma(data []byte, i int) int {
	if i+1 >= len(data) || data[i] != ',' || data[i+1] != ' ' {
		return -1
	}
	return i + 2
}

func canonObject(data []byte, i int) int {
	if i < len(data) && data[i] == '}' {
		return i + 1
	}
	var keys [32]span // to find equal ones, of which only the last is written
	for n := range len(keys) {
		start := i
		if i = canonString(data, i); i < 0 {
			return -1
		}
		keys[n] = span{int32(start), int32(i)}
		for _, k := range keys[:n] {
			if int(k.end-k.start) == i-start && bytes.Equal(data[k.start:k.end], data[start:i]) {
				return -1
			}
		}
		if i+1 >= len(data) || data[i] != ':' || data[i+1] != ' ' {
			return -1
		}
		if i = canonValue(data, i+2); i < 0 || i >= len(data) {
			return -1
		}
		if data[i] == '}' {
			return i + 1
		}
		if i = canonComma(data, i); i < 0 {
			return -1
		}
	}
	return -1
}

const each7f = each1 * 0x7f

func canonString(data []byte, i int) int {
	if i >= len(data) || data[i] != '"' {
		return -1
	}
	i++
	for {
		// As in scanner.text; DEL is special too, since we escape it.
		for i+8 <= len(data) {
			w := binary.LittleEndian.Uint64(data[i:])
			special := ((w - each20) | ((w ^ each22) - each1) | ((w ^ each5c) - each1) | ((w ^ each7f) - each1) | w) & each80
			if special != 0 {
				i += bits.TrailingZeros64(special) >> 3
				break
			}
			i += 8
		}
		for i < len(data) && data[i] >= ' ' && data[i] < 0x7f && data[i] != '"' && data[i] != '\\' {
			i++
		}
		switch {
		case i+1 < len(data) && data[i] == '\\':
			if i = canonEscape(data, i); i < 0 {
				return -1
			}
		case i < len(data) && data[i] == '"':
			return i + 1
		default:
			return -1
		}
	}
}

func canonEscape(data []byte, i int) int {
	switch data[i+1] {
	case '"', '\\', 'n', 'r', 't', 'b', 'f':
		return i + 2
	case 'u':
		if i+6 > len(data) {
			return -1
		}
		r := 0
		for _, c := range data[i+2 : i+6] {
			switch {
			case c-'0' <= 9:
				r = r<<4 | int(c-'0')
			case c-'a' <= 5:
				r = r<<4 | int(c-'a'+10)
			default:
				return -1 // upper case
			}
		}
		if r >= 0x7f || r < ' ' && r != '\n' && r != '\r' && r != '\t' && r != '\b' && r != '\f' {
			return i + 6
		}
	}
	return -1
}

// canonNumber counts digits where that suffices: a decimal is the shortest text of its
// double if no other decimal of as many digits is as near to it.
func canonNumber(data []byte, start int) int {
	i := start
	if data[i] == '-' {
		i++
	}
	whole := i
	for i < len(data) && data[i]-'0' <= 9 {
		i++
	}
	n := i - whole
	if i >= len(data) || data[i] != '.' && data[i]|0x20 != 'e' {
		if n == 0 || data[start] == '-' && data[whole] == '0' || n > maxIntDigits {
			return -1
		}
		return i
	}
	if data[i] == '.' {
		fraction := i + 1
		for i = fraction; i < len(data) && data[i]-'0' <= 9; i++ {
		}
		f := i - fraction
		plain := i >= len(data) || data[i]|0x20 != 'e'
		ending := f > 0 && (data[i-1] != '0' || f == 1)
		// Two decimals of up to 15 digits never give one double. Times have ten
		// digits before the point: below 2^33 the distance of doubles is at most
		// 2^-20, less than that of decimals of six places.
		if plain && ending && data[whole] != '0' && (n+f <= 15 || f <= 6 && (n < 10 || n == 10 && data[whole] < '8')) {
			return i
		}
	}
	end := scanNumber(data, start)
	if end < 0 {
		return -1
	}
	text := data[start:end]
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return -1 // beyond the range of a double: Infinity is written
	}
	var buf [32]byte
	if !bytes.Equal(event.AppendJSONFloat(buf[:0], v), text) {
		return -1
	}
	return end
}
