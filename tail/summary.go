package tail

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/flogtool/flogtool/event"
)

// summary counts events.
type summary struct {
	p           *printer
	events      int
	first, last float64
	any         bool
	facilities  map[string]*[len(event.Levels)]int
	levels      [len(event.Levels)]int
	others      map[event.Level]int // of levels without a name
	seconds     map[int64]int       // events by second of their time, while they are few
	width       int64               // seconds of one of seconds
	runs        map[string]*run
	triggers    []string
	more        int // triggers that are not in triggers
}

// run is one incarnation of one sender.
type run struct {
	from   string
	events int
	first  event.Num
	last   event.Num
	seen   int // distinct numbers, as far as they ascend
}

const (
	maxBuckets    = 4096 // of seconds; then their width doubles
	maxSummarized = 1000 // facilities and runs counted apart; the rest together
	sparkWidth    = 60
	maxTriggers   = 20
)

const others = "(others)"

func newSummary(p *printer) *summary {
	return &summary{p: p, facilities: make(map[string]*[len(event.Levels)]int), others: make(map[event.Level]int),
		seconds: make(map[int64]int), width: 1, runs: make(map[string]*run)}
}

func (s *summary) add(r record) {
	s.events++
	level := r.Level()
	band := level.Band()
	s.levels[band]++
	facility := r.Facility()
	counts := s.facilities[facility]
	if counts == nil {
		if len(s.facilities) >= maxSummarized {
			facility = others
		}
		if counts = s.facilities[facility]; counts == nil {
			counts = new([len(event.Levels)]int)
			s.facilities[facility] = counts
		}
	}
	counts[band]++
	if t, ok := r.Seconds(); ok && !math.IsNaN(t) && math.Abs(t) < 1e12 {
		if !s.any {
			s.any, s.first, s.last = true, t, t
		}
		s.first, s.last = min(s.first, t), max(s.last, t)
		s.seconds[int64(math.Floor(t))/s.width]++
		if len(s.seconds) > maxBuckets {
			s.widen()
		}
	}
	s.run(r)
	if m := string(s.p.marks(nil, r)); m != "" {
		if len(s.triggers) == maxTriggers {
			s.more++
		} else {
			num, _ := appendNum(nil, r)
			s.triggers = append(s.triggers, fmt.Sprintf("%s %s#%s L%d %s%s", s.p.time(nil, r), r.From()[:shortLen(r.From())], num, level, visible(r.AppendText(nil), true), m))
		}
	}
}

func (s *summary) widen() {
	old := s.seconds
	s.width *= 2
	s.seconds = make(map[int64]int, len(old))
	for at, n := range old {
		s.seconds[int64(math.Floor(float64(at)/2))] += n
	}
}

func (s *summary) run(r record) {
	num, ok := r.Num()
	if !ok {
		return
	}
	key := r.From() + " " + r.Incarnation()
	x := s.runs[key]
	if x == nil {
		if len(s.runs) >= maxSummarized {
			return
		}
		x = &run{from: r.From(), first: num, last: num, seen: 1, events: 1}
		s.runs[key] = x
		return
	}
	x.events++
	if num > x.last || num < x.first {
		x.seen++
	}
	x.first, x.last = min(x.first, num), max(x.last, num)
}

// sparks are the heights of the rate.
var sparks = []rune("▁▂▃▄▅▆▇█")

// rate returns the events over time as a line of bars.
func (s *summary) rate() (line string, perBar float64) {
	if !s.any {
		return "", 0
	}
	start := math.Floor(s.first)
	perBar = max(float64(s.width), (s.last-start)/sparkWidth)
	counts := make([]int, int((s.last-start)/perBar)+1)
	for at, n := range s.seconds {
		i := int((float64(at*s.width) - start) / perBar)
		counts[min(max(i, 0), len(counts)-1)] += n
	}
	top := slices.Max(counts)
	var b strings.Builder
	for _, n := range counts {
		switch {
		case n == 0:
			b.WriteRune(' ')
		default:
			b.WriteRune(sparks[(n*len(sparks)-1)/top])
		}
	}
	return b.String(), perBar
}

// append appends the summary; table makes a table of rows.
func (s *summary) append(dst []byte, table func(header []string, rows [][]string) string) []byte {
	dst = fmt.Appendf(dst, "%d events", s.events)
	if s.any {
		dst = fmt.Appendf(dst, " from %s to %s, %s", s.p.clock.Append(nil, s.first), s.p.clock.Append(nil, s.last), duration(s.last-s.first))
	}
	dst = append(dst, '\n')
	if line, per := s.rate(); line != "" && s.events > 1 {
		dst = fmt.Appendf(dst, "rate  %s  (%s a bar)\n", line, duration(per))
	}
	if s.events > 0 {
		header := []string{"facility"}
		var used []int
		for i := range event.Levels {
			if s.levels[i] > 0 {
				used = append(used, i)
				header = append(header, event.Levels[i].String())
			}
		}
		header = append(header, "events")
		names := slices.SortedFunc(maps.Keys(s.facilities), func(a, b string) int {
			return cmp.Or(cmp.Compare(total(s.facilities[b]), total(s.facilities[a])), strings.Compare(a, b))
		})
		var rows [][]string
		row := func(name string, counts *[len(event.Levels)]int) {
			cells := []string{name}
			for _, i := range used {
				cells = append(cells, count(counts[i]))
			}
			rows = append(rows, append(cells, count(total(counts))))
		}
		for _, name := range names {
			shown := string(visible([]byte(name), true))
			if name == "" {
				shown = "(none)"
			}
			row(shown, s.facilities[name])
		}
		if len(names) > 1 {
			row("all", &s.levels)
		}
		dst = append(dst, table(header, rows)...)
	}
	for _, key := range slices.Sorted(maps.Keys(s.runs)) {
		x := s.runs[key]
		from, incarnation, _ := strings.Cut(key, " ")
		dst = fmt.Appendf(dst, "from %s, incarnation %s: #%d to #%d", from[:shortLen(from)], cmp.Or(incarnation, "?"), x.first, x.last)
		if span := uint64(x.last - x.first + 1); span > uint64(x.seen) {
			dst = fmt.Appendf(dst, ", of which %d are not here", span-uint64(x.seen))
		}
		dst = append(dst, '\n')
	}
	for _, trigger := range s.triggers {
		dst = append(append(dst, trigger...), '\n')
	}
	if s.more > 0 {
		dst = fmt.Appendf(dst, "and %d triggers more\n", s.more)
	}
	return dst
}

func total(counts *[len(event.Levels)]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// count returns n, nothing for 0: tables of counts are mostly empty.
func count(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// duration returns seconds in the unit a person would use.
func duration(seconds float64) string {
	switch {
	case seconds < 1:
		return fmt.Sprintf("%.0f ms", seconds*1000)
	case seconds < 120:
		return fmt.Sprintf("%.1f s", seconds)
	case seconds < 2*3600:
		return fmt.Sprintf("%.1f min", seconds/60)
	case seconds < 48*3600:
		return fmt.Sprintf("%.1f h", seconds/3600)
	}
	return fmt.Sprintf("%.1f days", seconds/86400)
}
