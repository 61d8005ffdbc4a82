package incident

import (
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
)

// Qualifier decides which events are triggers. It is asked in the logging call
// itself, by any goroutine: it must be quick.
type Qualifier interface {
	// IsTrigger reports whether e makes an incident. e is valid during the call.
	IsTrigger(e *event.Event) bool
}

// Expression returns the qualifier of an expression over one event, such as
//
//	level > UNUSUAL && facility startsWith "lifesupport"
//
// An event on which the expression fails is not a trigger. The error of a bad expression has
// its line, column and caret.
func Expression(source string) (Qualifier, error) {
	f, err := filter.Compile(source)
	if err != nil {
		return nil, err
	}
	return expression{f}, nil
}

type expression struct{ f *filter.Filter }

func (q expression) IsTrigger(e *event.Event) bool {
	ok, err := q.f.Match(e)
	return ok && err == nil
}

// MoreThan returns a qualifier whose trigger is the event that makes more than n
// events matching the expression within a time; then it starts to count again.
func MoreThan(n int, source string, within time.Duration) (Qualifier, error) {
	each, err := Expression(source)
	if err != nil {
		return nil, err
	}
	return &counter{each: each, times: make([]time.Time, max(1, n)), within: within}, nil
}

// counter keeps the times of the last n matching events in a circle.
type counter struct {
	each   Qualifier
	within time.Duration

	mu    sync.Mutex
	times []time.Time // guarded by mu
	seen  int         // guarded by mu; since the last trigger
}

func (q *counter) IsTrigger(e *event.Event) bool {
	if !q.each.IsTrigger(e) {
		return false
	}
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	place := q.seen % len(q.times)
	earlier := q.times[place] // len(times) matching events ago
	full := q.seen >= len(q.times)
	q.times[place] = now
	q.seen++
	if full && now.Sub(earlier) <= q.within {
		q.seen = 0
		return true
	}
	return false
}
