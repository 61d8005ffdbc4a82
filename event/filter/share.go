package filter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flogtool/flogtool/event"
)

// Share is the processor time that the filters of a process may use together: a bucket
// that drains at the share's rate, and into which each filter pours what it takes.
//
//	filters ──► bucket of 250 ms ──► drains at 50 ms a second
//
// A filter waits while the bucket is full, before an event or in the middle of one. One
// that uses more than an equal part waits already while the bucket is half full, so that
// the others seldom wait; a new filter counts as one for two seconds, so that leaving and
// coming again gains nothing. A filter that needs too long for one event, or that has
// used more than its part for too long, is ended: [SharedFilter.Match] returns the reason.
//
// Measuring takes time, too. A quick filter is measured at random, every 32nd time on
// average, which counts 32 times.
//
// Several goroutines may use a Share at once.
type Share struct {
	rate float64 // processors

	busy atomic.Bool // the bucket is half full: each evaluation is measured

	mu sync.Mutex
	t  shareTable // guarded by mu
}

type shareTable struct {
	level   time.Duration // in the bucket at the time at
	at      time.Time
	filters int // in use
	ended   int
	used    time.Duration
}

// DefaultShare is the processor time that the filters of a process use unless it says
// otherwise: 5 % of one processor.
const DefaultShare = 0.05

// These limits are a matter of taste. Half a second's share for one event is far more than
// a useful filter needs: most take a microsecond.
const (
	shareBurst    = 250 * time.Millisecond // capacity of the bucket
	shareOne      = 25 * time.Millisecond  // that one event may take
	sharePatience = 30 * time.Second       // for which a filter may use more than its part
	shareMemory   = 10 * time.Second       // over which a filter's use is averaged
	shareNew      = 2 * time.Second        // for which a new filter counts as one that uses more than its part

	measureEvery = 32                    // of quick evaluations
	quick        = 50 * time.Microsecond // time of a quick evaluation; after a longer one closely are measured
	closely      = 16
)

// What takes longer than it can is another process, which the filter does not pay for.
const (
	maxQuick  = 2 * time.Millisecond  // before the meter looks at the clock
	maxSlice  = 10 * time.Millisecond // between two looks
	minSlices = 4                     // looks before a filter can be late
)

// ErrShare is wrapped by the error of a filter that is ended.
var ErrShare = errors.New("filter: filters exceed their share of the processor")

// NewShare returns a Share of so much of a processor: 0.05 is 50 ms a second. 0 stands for
// [DefaultShare].
func NewShare(processors float64) *Share {
	if processors <= 0 {
		processors = DefaultShare
	}
	return &Share{rate: processors, t: shareTable{at: time.Now()}}
}

// ShareStats is what a Share has seen.
type ShareStats struct {
	Filters int           // in use
	Ended   int           // so far, since they used too much
	Used    time.Duration // by all filters so far, an estimate
}

// Stats returns what the Share has seen.
func (s *Share) Stats() ShareStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ShareStats{Filters: s.t.filters, Ended: s.t.ended, Used: s.t.used}
}

// Compile compiles a filter that uses the Share. It may wait until ctx ends, since
// compiling takes time as well. The error is an [*Error] that says what is wrong with the
// expression, or the cause of ctx. The caller closes the filter.
func (s *Share) Compile(ctx context.Context, expression string) (*SharedFilter, error) {
	now := time.Now()
	f := &SharedFilter{share: s, since: now, ownAt: now, reserve: shareOne / 5, scope: newScope()}
	f.scope.meter.shared = f
	if err := f.pass(ctx); err != nil {
		return nil, err
	}
	start := time.Now()
	filter, err := Compile(expression)
	f.charge(min(time.Since(start), maxSlice))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.filters++
	f.filter = filter
	return f, nil
}

// part returns how many seconds in shareMemory each filter may use.
func (t *shareTable) part(rate float64) float64 {
	return rate * shareMemory.Seconds() / float64(max(1, t.filters))
}

// drain removes what has drained until now.
func (t *shareTable) drain(now time.Time, rate float64) {
	t.level -= time.Duration(rate * float64(now.Sub(t.at)))
	t.level, t.at = max(0, t.level), now
}

// SharedFilter is a [Filter] that uses a [Share]. It serves one goroutine.
type SharedFilter struct {
	share  *Share
	filter *Filter
	scope  *scope
	closed bool
	err    error // why it is ended

	next    int           // evaluations before the one that is measured at random
	close   int           // evaluations that are measured in any case
	weight  time.Duration // how many times this evaluation counts
	odd     time.Time     // when one was not quick
	mark    time.Time     // since when nothing is charged, zero if the evaluation is not measured
	used    time.Duration // by this evaluation before mark
	reserve time.Duration // what the next evaluation takes from the bucket before it begins
	taken   time.Duration // what this one has taken so

	since time.Time // when it was compiled
	own   float64   // seconds used, averaged over shareMemory, at the time ownAt
	ownAt time.Time
	over  time.Time // since when it uses more than its part, or zero
}

// String returns the expression.
func (f *SharedFilter) String() string { return f.filter.String() }

// Uses is [Filter.Uses].
func (f *SharedFilter) Uses(name string) bool { return f.filter.Uses(name) }

// Close ends the use of the Share. Further calls do nothing.
func (f *SharedFilter) Close() {
	if f.closed {
		return
	}
	f.closed = true
	f.share.mu.Lock()
	defer f.share.mu.Unlock()
	f.share.t.filters--
}

// Match is [Filter.MatchContext] that may wait for the share. If the error wraps
// [ErrShare], the filter is ended, and further calls return the same error.
func (f *SharedFilter) Match(ctx context.Context, e event.View, origin Origin) (bool, error) {
	if err := f.begin(ctx); err != nil {
		return false, err
	}
	ok, err := f.evaluate(ctx, e, origin)
	f.end()
	return ok, err
}

// MatchRecord is [SharedFilter.Match] for an event that is not decoded: decoding it is
// part of what the filter takes. If rec is damaged the error wraps [event.ErrRecord].
func (f *SharedFilter) MatchRecord(ctx context.Context, num event.Num, rec event.Record, incarnation string, origin Origin) (bool, error) {
	if err := f.begin(ctx); err != nil {
		return false, err
	}
	ok := false
	e, err := rec.Event(num, incarnation)
	if err == nil {
		ok, err = f.evaluate(ctx, e, origin)
	}
	f.end()
	return ok, err
}

// begin begins an evaluation, which may be measured.
func (f *SharedFilter) begin(ctx context.Context) error {
	if f.err != nil {
		return f.err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f.mark, f.used, f.weight = time.Time{}, 0, 1
	switch {
	case f.close > 0:
		f.close--
	case f.next <= 0:
		f.weight = measureEvery
		f.next = int(rand.ExpFloat64() * measureEvery)
	default:
		if f.next--; !f.share.busy.Load() {
			return nil
		}
	}
	if err := f.pass(ctx); err != nil {
		return err
	}
	f.mark = time.Now()
	return nil
}

func (f *SharedFilter) evaluate(ctx context.Context, e event.View, origin Origin) (bool, error) {
	f.scope.setEvent(f.filter.use, e, origin)
	v, err := f.scope.run(ctx, f.filter.program, maxTime)
	if f.err != nil {
		return false, f.err
	}
	if err != nil {
		return false, err
	}
	return v.(bool), nil
}

// slice charges what the evaluation took since it was last charged, and waits until it
// may go on. The meter calls it about every millisecond. An error ends the evaluation.
func (f *SharedFilter) slice(ctx context.Context, number int) error {
	took := time.Millisecond // before the first slice, if it was not measured
	if !f.mark.IsZero() {
		took = min(time.Since(f.mark), maxSlice)
	}
	f.weight = 1
	f.used += took
	f.charge(took)
	if f.used > shareOne && number >= minSlices {
		return f.stop("the filter takes longer than %v for one event", shareOne)
	}
	if err := f.pass(ctx); err != nil {
		return err
	}
	f.mark = time.Now()
	return nil
}

// end charges the rest of an evaluation.
func (f *SharedFilter) end() {
	if f.mark.IsZero() {
		return
	}
	now := time.Now()
	took := min(now.Sub(f.mark), maxSlice)
	if f.used > 0 || took > quick {
		// A quick evaluation may take long because another process runs: once in a while
		// such a one does not count for all those that are not measured, and it never
		// counts much.
		if now.Sub(f.odd) > shareMemory {
			f.weight = 1
		}
		f.odd, f.close = now, closely
	}
	if f.weight > 1 {
		took = min(took, maxQuick)
	}
	f.charge(took * f.weight)
}

// stop ends the filter and returns the reason.
func (f *SharedFilter) stop(format string, args ...any) error {
	f.err = &Error{
		Msg: fmt.Sprintf("%s: all filters together may use %.4g %% of one processor", fmt.Sprintf(format, args...), 100*f.share.rate),
		err: ErrShare,
	}
	f.share.mu.Lock()
	defer f.share.mu.Unlock()
	f.share.t.ended++
	return f.err
}

// pass waits until the filter may use the processor.
func (f *SharedFilter) pass(ctx context.Context) error {
	for {
		wait, over := f.try()
		if wait == 0 {
			return nil
		}
		if over > sharePatience {
			return f.stop("the filter has used more than its part for %v", sharePatience)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// try takes the filter's reserve from the bucket, or returns how long to wait first, and
// for how long the filter has used more than its part.
func (f *SharedFilter) try() (wait, over time.Duration) {
	s := f.share
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.t.drain(now, s.rate)
	f.own *= math.Exp(-float64(now.Sub(f.ownAt)) / float64(shareMemory))
	f.ownAt = now
	limit, heavy := shareBurst, f.own > s.t.part(s.rate) || now.Sub(f.since) < shareNew
	switch {
	case f.filter == nil:
		limit = limit * 3 / 4 // so that one can still come when others use all that they may
	case heavy:
		limit /= 2
	}
	missing := s.t.level + f.reserve - limit
	if missing <= 0 {
		s.t.level += f.reserve
		f.taken = f.reserve
		if !heavy {
			f.over = time.Time{}
		}
		return 0, 0
	}
	if heavy {
		if f.over.IsZero() {
			f.over = now
		}
		over = now.Sub(f.over)
	}
	return max(time.Millisecond, time.Duration(float64(missing)/s.rate)), over
}

// charge pours into the bucket what the filter took, in place of its reserve.
func (f *SharedFilter) charge(took time.Duration) {
	s := f.share
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.level += took - f.taken
	s.t.used += took
	s.busy.Store(s.t.level > shareBurst/2)
	f.own += took.Seconds()
	f.taken, f.reserve = 0, min(took, shareOne)
}
