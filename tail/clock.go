package tail

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/flogtool/flogtool/event/flogfile"
)

// TimeMode says how times are shown.
type TimeMode int

const (
	ShortLocal TimeMode = iota // 22:13:20.250
	LongLocal                  // 2023-11-15_03:43:20.250000+0530
	UTC                        // 2023-11-14_22:13:20.250000Z
	Epoch                      // 1700000000.250
	Relative                   // +12.250: seconds since the first event shown
)

// The names of the time modes; relative is ours.
var timeModes = []string{"short-local", "long-local", "utc", "epoch", "relative"}

// ParseTimeMode returns the mode of that name.
func ParseTimeMode(name string) (TimeMode, error) {
	for i, s := range timeModes {
		if s == name {
			return TimeMode(i), nil
		}
	}
	return 0, fmt.Errorf("--timestamps= must be one of (short-local, long-local, utc, epoch, relative), not %q", name)
}

// ParseTime reads a time: RFC 3339, "2006-01-02 15:04:05", a date, a time of
// today, as dump shows it with -t, seconds since 1970, or relative to now:
// "-15m", "-2h30m", "-3d". Local times are of now's zone.
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
	return fmt.Errorf("%q is no time: write RFC 3339 (2026-11-22T16:04:05Z), 2026-11-22 16:04:05, 16:04, seconds since 1970, or -15m", s)
}

// Clock shows times in one mode. Times come in the order of events, mostly many
// in a second: the text of the second is kept. It serves one goroutine.
type Clock struct {
	mode   TimeMode
	loc    *time.Location
	second int64  // of text
	text   []byte // of the second
	zone   []byte // of the second, in LongLocal
	start  float64
	begun  bool
}

// NewClock returns a clock that shows local times in loc.
func NewClock(mode TimeMode, loc *time.Location) *Clock {
	if mode == UTC {
		loc = time.UTC
	}
	return &Clock{mode: mode, loc: loc, second: math.MinInt64}
}

// Append appends the time t in seconds since 1970, as the original shows it: the
// fraction is cut off, not rounded, as computed in doubles; before 1970 it is
// negative, and the clock part is rounded down. Times that no clock shows are
// appended as numbers.
func (c *Clock) Append(dst []byte, t float64) []byte {
	// The original dies from the year 10000 and on what is no number.
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

func (c *Clock) setSecond(second int64) {
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

// appendPadded appends n as %0*d does.
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
