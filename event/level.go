package event

import (
	"log/slog"
	"math"
	"strconv"
)

// Level is an event's severity: the original's integers. Any number is a
// level; these eight have names.
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

// Levels are the named levels, least severe first.
var Levels = [...]Level{Noisy, Operational, Unusual, Infrequent, Curious, Weird, Scary, Bad}

var levelNames = [...]string{"NOISY", "OPERATIONAL", "UNUSUAL", "INFREQUENT", "CURIOUS", "WEIRD", "SCARY", "BAD"}

// FromSlog returns round(20 + 2.5*l), halves away from zero: Debug 10, Info 20,
// Warn 30, Error 40. It is the inverse of [Level.Slog] at these four.
func FromSlog(l slog.Level) Level {
	// Integers only: this is on the path of every event. Twice the value is
	// 40 + 5*l, and halving it rounds; 5*l overflows no level a program uses.
	twice := 40 + 5*int(l)
	if twice >= 0 {
		return Level((twice + 1) / 2)
	}
	return Level((twice - 1) / 2)
}

// Slog returns the slog level whose FromSlog is nearest to l.
func (l Level) Slog() slog.Level {
	return slog.Level(math.Round((float64(l) - 20) / 2.5))
}

// String returns the level's name, or its number if it has none.
func (l Level) String() string {
	for i, named := range Levels {
		if l == named {
			return levelNames[i]
		}
	}
	return strconv.Itoa(int(l))
}

// Band returns the index in [Levels] of the named level at or below l; levels
// below NOISY join NOISY's band.
func (l Level) Band() int {
	b := 0
	for b+1 < len(Levels) && Levels[b+1] <= l {
		b++
	}
	return b
}

// ParseLevel reads a level's name in any case, or its number.
func ParseLevel(s string) (Level, bool) {
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
