package tail

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/flogtool/flogtool/event/flogfile"
)

// TimeMode is the form in which times are shown. All but Relative are the original's.
type TimeMode int

const (
	ShortLocal TimeMode = iota // 22:13:20.250
	LongLocal                  // 2023-11-15_03:43:20.250000+0530
	UTC                        // 2023-11-14_22:13:20.250000Z
	Epoch                      // 1700000000.250
	Relative                   // +12.250: seconds since the first event that is shown
)

// timeModes are the names of the modes.
var timeModes = []string{"short-local", "long-local", "utc", "epoch", "relative"}

// ParseTimeMode returns the mode with this name. The error lists the names.
func ParseTimeMode(name string) (TimeMode, error) {
	for i, s := range timeModes {
		if s == name {
			return TimeMode(i), nil
		}
	}
	return 0, fmt.Errorf("--timestamps= must be one of (short-local, long-local, utc, epoch, relative), not %q", name)
}

// ParseTime parses a point in time and returns it in seconds since 1970. It accepts RFC
// 3339, "2006-01-02 15:04:05", a date, a time of today, the forms of [LongLocal], [UTC]
// and [Epoch], the time in an incident's name, and a time relative to now: "-15m",
// "-2h30m", "-3d". A time without a zone is in the zone of now. The error shows the
// usual forms.
func ParseTime(s string, now time.Time) (float64, error) {
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		days := time.Duration(0)
		if d, after, ok := strings.Cut(rest, "d"); ok {
			n, err := strconv.Atoi(d)
			if err != nil {
				return 0, badTime(s)
			}
			days, rest = time.Duration(n)*24*time.Hour, after
			if rest == "" {
				rest = "0s"
			}
		}
		d, err := time.ParseDuration(rest)
		if err != nil {
			return 0, badTime(s)
		}
		return flogfile.Seconds(now.Add(-d - days)), nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return f, nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02_15:04:05.999999999Z07:00", "2006-01-02_15:04:05.999999999-0700",
		"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02--15-04-05Z", "2006-01-02",
	} {
		loc := now.Location()
		if strings.HasSuffix(layout, "Z") {
			loc = time.UTC
		}
		if t, err := time.ParseInLocation(layout, s, loc); err == nil {
			return flogfile.Seconds(t), nil
		}
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			y, m, d := now.Date()
			return flogfile.Seconds(time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location())), nil
		}
	}
	return 0, badTime(s)
}

func badTime(s string) error {
	return fmt.Errorf("%q is not a time: want RFC 3339 (2026-11-22T16:04:05Z), 2026-11-22 16:04:05, 16:04, seconds since 1970, or -15m", s)
}

// clock formats times in one mode. Successive times are mostly in the same second, so it
// keeps the text of the last second. Only one goroutine may use it.
type clock struct {
	mode   TimeMode
	loc    *time.Location
	second int64  // that text is of
	text   []byte // up to the point
	zone   []byte // what follows the fraction
	start  float64
	begun  bool // start is set
}

// newClock returns a clock that shows local times in loc.
func newClock(mode TimeMode, loc *time.Location) *clock {
	if mode == UTC {
		loc = time.UTC
	}
	return &clock{mode: mode, loc: loc, second: math.MinInt64}
}

// append appends the time t, in seconds since 1970, as the original shows it: the
// fraction is computed in doubles and truncated, not rounded; before 1970 it is
// negative, and the clock part is rounded down. NaN and times outside the years 1 to
// 9999, for which the original fails, are appended as numbers.
func (c *clock) append(dst []byte, t float64) []byte {
	if math.IsNaN(t) || t < -62135596800 || t >= 253402300800 {
		return strconv.AppendFloat(dst, t, 'g', -1, 64)
	}
	switch c.mode {
	case Epoch:
		return strconv.AppendFloat(dst, t, 'f', 3, 64)
	case Relative:
		if !c.begun {
			c.begun, c.start = true, t
		}
		if t >= c.start {
			dst = append(dst, '+')
		}
		return strconv.AppendFloat(dst, t-c.start, 'f', 3, 64)
	}
	if second := int64(math.Floor(t)); second != c.second {
		c.setSecond(second)
	}
	dst = append(append(dst, c.text...), '.')
	fraction := t - math.Trunc(t)
	if c.mode == ShortLocal {
		return appendPadded(dst, int(1000*fraction), 3)
	}
	dst = appendPadded(dst, int(1000*1000*fraction), 6)
	return append(dst, c.zone...)
}

func (c *clock) setSecond(second int64) {
	c.second = second
	at := time.Unix(second, 0).In(c.loc)
	c.zone = c.zone[:0]
	switch c.mode {
	case ShortLocal:
		c.text = at.AppendFormat(c.text[:0], "15:04:05")
	case LongLocal:
		c.text = at.AppendFormat(c.text[:0], "2006-01-02_15:04:05")
		c.zone = at.AppendFormat(c.zone, "-0700")
	case UTC:
		c.text = at.AppendFormat(c.text[:0], "2006-01-02_15:04:05")
		c.zone = append(c.zone, 'Z')
	}
}

// appendPadded appends n as the format %0*d does; width is at most 6.
func appendPadded(dst []byte, n, width int) []byte {
	if n < 0 {
		return fmt.Appendf(dst, "%0*d", width, n)
	}
	var buf [6]byte
	for i := width - 1; i >= 0; i-- {
		buf[i] = byte('0' + n%10)
		n /= 10
	}
	return append(dst, buf[:width]...)
}
