package event

import (
	"log/slog"
	"math"
	"strconv"
)

// Level is an event's severity, an integer as in the original. Any number is a
// level; eight numbers have names.
//
// Spec: logging-semantics.md section 1.
type Level int

// The named levels, least severe first.
const (
	Noisy       Level = 10
	Operational Level = 20
	Unusual     Level = 23
	Infrequent  Level = 25
	Curious     Level = 28
	Weird       Level = 30
	Scary       Level = 35
	Bad         Level = 40
)

// Levels holds the named levels, least severe first. [Level.Band] is its index.
var Levels = [...]Level{Noisy, Operational, Unusual, Infrequent, Curious, Weird, Scary, Bad}

var levelNames = [...]string{"NOISY", "OPERATIONAL", "UNUSUAL", "INFREQUENT", "CURIOUS", "WEIRD", "SCARY", "BAD"}

// FromSlog returns the level of a slog level: round(20 + 2.5*l), halves away from
// zero. Debug is 10, Info 20, Warn 30, Error 40; at these four it is the inverse of
// [Level.Slog].
func FromSlog(l slog.Level) Level {
	// Every event takes this path, so it computes with integers: twice the value is
	// 40 + 5*l, and halving that rounds. 5*l overflows for no level in use.
	twice := 40 + 5*int(l)
	if twice >= 0 {
		return Level((twice + 1) / 2)
	}
	return Level((twice - 1) / 2)
}

// Slog returns the slog level for which [FromSlog] is nearest to l.
func (l Level) Slog() slog.Level {
	return slog.Level(math.Round((float64(l) - 20) / 2.5))
}

// String returns the level's name, or its number if it does not have a name.
func (l Level) String() string {
	for i, named := range Levels {
		if l == named {
			return levelNames[i]
		}
	}
	return strconv.Itoa(int(l))
}

// Band returns the index in [Levels] of the highest named level that is at most l.
// It returns 0, the band of [Noisy], for lower levels too.
func (l Level) Band() int {
	b := 0
	for b+1 < len(Levels) && Levels[b+1] <= l {
		b++
	}
	return b
}

// ParseLevel returns the level that s names, in upper or lower case, or whose number
// it holds. ok is false if s is neither.
func ParseLevel(s string) (l Level, ok bool) {
	for i, name := range levelNames {
		if equalFold(s, name) {
			return Levels[i], true
		}
	}
	n, err := strconv.Atoi(s)
	return Level(n), err == nil
}

func equalFold(s, upper string) bool {
	if len(s) != len(upper) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}
