package incident

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/flogtool/flogtool/event"
)

// Limiter keeps a storm of triggers from becoming a storm of incidents: it allows one
// incident of a kind in a time, and a number of incidents a minute in all. It serves
// one goroutine.
type Limiter struct {
	PerKind   time.Duration // between two incidents of one kind; 0: no bound
	PerMinute int           // in all, in bursts of that many; 0: no bound

	last   map[kind]time.Time
	tokens float64
	filled time.Time

	suppressed map[kind]uint64
	others     uint64 // suppressed of kinds beyond maxKinds
	total      uint64
}

// kind is what makes two triggers the same: the statement they come from.
type kind struct{ facility, message string }

// maxKinds bounds the kinds that are remembered.
const maxKinds = 1000

func kindOf(tr *Trigger) kind {
	message, facility := tr.Record.Message()
	return kind{facility, message}
}

// Allow reports whether tr, logged now, may become an incident; if not, it is counted.
// The limit of its kind does not apply to a trigger that a person declared.
func (l *Limiter) Allow(tr *Trigger, now time.Time, declared bool) bool {
	k := kindOf(tr)
	if l.last == nil {
		l.last, l.suppressed = map[kind]time.Time{}, map[kind]uint64{}
		l.tokens, l.filled = float64(l.PerMinute), now
	}
	if l.PerMinute > 0 {
		l.tokens = min(float64(l.PerMinute), l.tokens+now.Sub(l.filled).Minutes()*float64(l.PerMinute))
		l.filled = now
	}
	last, seen := l.last[k]
	switch {
	case !declared && l.PerKind > 0 && seen && now.Sub(last) < l.PerKind,
		l.PerMinute > 0 && l.tokens < 1-1e-9:
		l.suppress(k)
		return false
	}
	l.tokens--
	if len(l.last) >= maxKinds {
		maps.DeleteFunc(l.last, func(_ kind, t time.Time) bool { return now.Sub(t) >= l.PerKind })
	}
	if len(l.last) < maxKinds {
		l.last[k] = now
	}
	return true
}

func (l *Limiter) suppress(k kind) {
	l.total++
	if _, ok := l.suppressed[k]; !ok && len(l.suppressed) >= maxKinds {
		l.others++
		return
	}
	l.suppressed[k]++
}

// Total returns how many triggers were suppressed since the Limiter was made.
func (l *Limiter) Total() uint64 { return l.total }

// shownKinds bounds the kinds that a header names.
const shownKinds = 20

// TakeSuppressed returns what was suppressed since the last call as the entry of
// an incident's header, nil if there is nothing:
//
//	{"count": 994, "kinds": [{"count": 990, "message": …, "facility": …}, …]}
func (l *Limiter) TakeSuppressed() event.Dict {
	count := l.others
	for _, n := range l.suppressed {
		count += n
	}
	if count == 0 {
		return nil
	}
	byCount := slices.SortedFunc(maps.Keys(l.suppressed), func(a, b kind) int {
		if d := int64(l.suppressed[b]) - int64(l.suppressed[a]); d != 0 {
			return int(max(-1, min(1, d)))
		}
		return strings.Compare(a.message+a.facility, b.message+b.facility)
	})
	kinds := []any{}
	for _, k := range byCount[:min(len(byCount), shownKinds)] {
		kinds = append(kinds, event.Dict{
			{Key: "count", Value: int64(l.suppressed[k])},
			{Key: "message", Value: k.message},
			{Key: "facility", Value: k.facility},
		})
	}
	clear(l.suppressed)
	l.others = 0
	return event.Dict{{Key: "suppressed", Value: event.Dict{
		{Key: "count", Value: int64(count)}, {Key: "kinds", Value: kinds}}}}
}
