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

// summary makes FormSummary. Its memory is bounded, however many events are added.
type summary struct {
	p            *printer
	events       int
	first, last  float64
	hasTime      bool                               // first and last are set
	facilities   map[string]*[len(event.Levels)]int // events by facility and band of levels
	levels       [len(event.Levels)]int             // events by band of levels
	buckets      map[int64]int                      // events by time, in buckets of width seconds
	width        int64
	runs         map[string]*run // by from and incarnation
	triggers     []string        // their lines, the first maxTriggers
	moreTriggers int             // how many are not in triggers
}

// run is what is counted of one incarnation.
type run struct {
	first event.Num
	last  event.Num
	seen  int // distinct numbers, provided that they ascend or descend
}

const (
	maxBuckets    = 4096 // if there are more, their width is doubled
	maxSummarized = 1000 // facilities with counts of their own, and runs
	sparkWidth    = 60   // bars of the rate, about
	maxTriggers   = 20   // triggers that are listed
)

// others is where the facilities after the first maxSummarized are counted.
const others = "(others)"

func newSummary(p *printer) *summary {
	return &summary{p: p, facilities: make(map[string]*[len(event.Levels)]int),
		buckets: make(map[int64]int), width: 1, runs: make(map[string]*run)}
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
		if !s.hasTime {
			s.hasTime, s.first, s.last = true, t, t
		}
		s.first, s.last = min(s.first, t), max(s.last, t)
		s.buckets[int64(math.Floor(t))/s.width]++
		if len(s.buckets) > maxBuckets {
			s.widen()
		}
	}
	s.run(r)
	if m := string(s.p.marks(nil, r)); m != "" {
		if len(s.triggers) == maxTriggers {
			s.moreTriggers++
		} else {
			num, _ := appendNum(nil, r)
			s.triggers = append(s.triggers, fmt.Sprintf("%s %s#%s L%d %s%s", s.p.time(nil, r), r.From()[:shortLen(r.From())], num, level, escape(r.AppendText(nil), true), m))
		}
	}
}

// widen doubles the width of the buckets.
func (s *summary) widen() {
	old := s.buckets
	s.width *= 2
	s.buckets = make(map[int64]int, len(old))
	for at, n := range old {
		s.buckets[int64(math.Floor(float64(at)/2))] += n
	}
}

// run counts an event in its run.
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
		x = &run{first: num, last: num, seen: 1}
		s.runs[key] = x
		return
	}
	if num > x.last || num < x.first {
		x.seen++
	}
	x.first, x.last = min(x.first, num), max(x.last, num)
}

// sparks are the bars of the rate, by height.
var sparks = []rune("▁▂▃▄▅▆▇█")

// rate returns the number of events over time as a line of bars, and the seconds of a
// bar.
func (s *summary) rate() (line string, perBar float64) {
	if !s.hasTime {
		return "", 0
	}
	start := math.Floor(s.first)
	perBar = max(float64(s.width), (s.last-start)/sparkWidth)
	counts := make([]int, int((s.last-start)/perBar)+1)
	for at, n := range s.buckets {
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

// append appends the summary.
func (s *summary) append(dst []byte) []byte {
	dst = fmt.Appendf(dst, "%d events", s.events)
	if s.hasTime {
		dst = fmt.Appendf(dst, " from %s to %s, %s", s.p.clock.append(nil, s.first), s.p.clock.append(nil, s.last), duration(s.last-s.first))
	}
	dst = append(dst, '\n')
	if line, per := s.rate(); line != "" && s.events > 1 {
		dst = fmt.Appendf(dst, "rate  %s  (%s per bar)\n", line, duration(per))
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
			shown := string(escape([]byte(name), true))
			if name == "" {
				shown = "(none)"
			}
			row(shown, s.facilities[name])
		}
		if len(names) > 1 {
			row("all", &s.levels)
		}
		dst = append(dst, Table(header, rows)...)
	}
	for _, key := range slices.Sorted(maps.Keys(s.runs)) {
		x := s.runs[key]
		from, incarnation, _ := strings.Cut(key, " ")
		dst = fmt.Appendf(dst, "from %s, incarnation %s: #%d to #%d", from[:shortLen(from)], cmp.Or(incarnation, "?"), x.first, x.last)
		if span := uint64(x.last - x.first + 1); span > uint64(x.seen) {
			dst = fmt.Appendf(dst, ", %d of them missing", span-uint64(x.seen))
		}
		dst = append(dst, '\n')
	}
	for _, trigger := range s.triggers {
		dst = append(append(dst, trigger...), '\n')
	}
	if s.moreTriggers > 0 {
		dst = fmt.Appendf(dst, "and %d more triggers\n", s.moreTriggers)
	}
	return dst
}

func total(counts *[len(event.Levels)]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// count returns n in decimal, and "" for 0, so that a table shows what is there.
func count(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// duration returns seconds in a unit that suits their number.
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
