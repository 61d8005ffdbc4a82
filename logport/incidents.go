package logport

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/logport/internal/ring"
)

// incidents turns triggers into incidents, one at a time, on one goroutine.
//
// The logging call only notes the trigger and pins the rings. A trigger that
// falls into the trailing window of the one before is part of that incident;
// the first beyond it begins the next.
type incidents struct {
	rings    *ring.Rings
	store    *incident.Store
	reporter *reporter
	limiter  incident.Limiter       // of run
	settings func(*incident.Config) // what is the same for every incident
	finished chan struct{}          // closed when run has returned

	triggers   atomic.Uint64
	suppressed atomic.Uint64 // of them, by the limits
	recorded   atomic.Uint64 // incidents

	mu sync.Mutex
	t  incidentTable // guarded by mu
}

type incidentTable struct {
	pending   []pendingTrigger   // not yet looked at
	busy      bool               // pending is not empty, or a recording is under way
	change    chan struct{}      // closed and replaced at every change of busy or done
	cut       context.CancelFunc // ends the trailing window of the recording under way, or nil
	begun     int                // recordings begun
	lastBegun []incident.Trigger // of the last ones
}

// pendingTrigger is a trigger that was noted; a person's declaration is not held
// back by the limit of its kind.
type pendingTrigger struct {
	incident.Trigger
	declared bool
}

// maxPending bounds the triggers noted while the recorder is busy; more than
// that in one trailing window are folded all the same, and counted.
const maxPending = 4096

func newIncidents(rings *ring.Rings, store *incident.Store, r *reporter, limiter incident.Limiter, settings func(*incident.Config)) *incidents {
	return &incidents{
		rings: rings, store: store, reporter: r, limiter: limiter, settings: settings,
		finished: make(chan struct{}), t: incidentTable{change: make(chan struct{})},
	}
}

// triggered notes that the event num is a trigger, declared by a person or not.
// It keeps rec.
func (in *incidents) triggered(num event.Num, rec event.Record, declared bool) {
	in.rings.Pin(num)
	in.triggers.Add(1)
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.t.pending) >= maxPending {
		return
	}
	in.t.pending = append(in.t.pending, pendingTrigger{incident.Trigger{Num: num, Record: rec, At: time.Now()}, declared})
	in.t.busy = true
	in.t.signal()
}

// signal wakes run and all who wait for it.
func (t *incidentTable) signal() {
	close(t.change)
	t.change = make(chan struct{})
}

// run records until ctx ends, and then what is pending.
func (in *incidents) run(ctx context.Context) {
	defer close(in.finished)
	for {
		tr, ok := in.next(ctx)
		if !ok {
			return
		}
		if !in.limiter.Allow(&tr.Trigger, time.Now(), tr.declared) {
			in.suppressed.Store(in.limiter.Total())
			in.rings.Unpin(tr.Num)
			in.reporter.report(event.Unusual, "incidents are suppressed: too many triggers", slog.Uint64("suppressed", in.limiter.Total()))
			continue
		}
		in.record(ctx, tr.Trigger)
	}
}

// folded returns a function that gives the noted triggers between first and
// until.
func (in *incidents) folded(first event.Num) func(until event.Num) []incident.Trigger {
	return func(until event.Num) (list []incident.Trigger) {
		in.mu.Lock()
		defer in.mu.Unlock()
		for _, p := range in.t.pending {
			if p.Num > first && p.Num < until {
				list = append(list, p.Trigger)
			}
		}
		slices.SortFunc(list, func(a, b incident.Trigger) int { return cmp.Compare(a.Num, b.Num) })
		return list
	}
}

// next waits for a trigger and takes it.
func (in *incidents) next(ctx context.Context) (pendingTrigger, bool) {
	for {
		in.mu.Lock()
		if len(in.t.pending) > 0 {
			// Logging calls note their triggers beside each other.
			slices.SortFunc(in.t.pending, func(a, b pendingTrigger) int { return cmp.Compare(a.Num, b.Num) })
			tr := in.t.pending[0]
			in.t.pending = in.t.pending[1:]
			in.mu.Unlock()
			return tr, true
		}
		if in.t.busy {
			in.t.busy = false
			in.t.signal()
		}
		change := in.t.change
		in.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
			in.mu.Lock()
			last := len(in.t.pending) == 0
			in.mu.Unlock()
			if last {
				return pendingTrigger{}, false
			}
		}
	}
}

func (in *incidents) record(ctx context.Context, tr incident.Trigger) {
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	in.mu.Lock()
	in.t.cut = cut
	in.t.begun++
	in.t.lastBegun = append(in.t.lastBegun, tr)
	if len(in.t.lastBegun) > maxLastBegun {
		in.t.lastBegun = slices.Delete(in.t.lastBegun, 0, 1)
	}
	in.t.signal() // a Flush may be waiting for something to cut
	in.mu.Unlock()

	cfg := incident.Config{Folded: in.folded(tr.Num), Header: in.limiter.TakeSuppressed()}
	in.settings(&cfg)
	src := &ringSource{rings: in.rings, c: ring.NewCursor(in.rings, 0), trigger: tr.Num}
	rec, err := in.store.Record(ctx, tr, src, cfg)
	in.rings.Unpin(tr.Num)

	in.mu.Lock()
	in.t.cut = nil
	in.t.pending = slices.DeleteFunc(in.t.pending, func(p pendingTrigger) bool { return p.Num < rec.Until })
	in.t.signal()
	in.mu.Unlock()
	for _, err := range rec.NotAttached {
		in.reporter.problem("an attachment could not be taken", err, slog.String("incident", rec.Name))
	}
	if err != nil {
		in.reporter.problem("an incident could not be recorded", err, slog.String("incident", rec.Name))
		return
	}
	in.recorded.Add(1)
}

// flush ends the trailing window of the recording under way and waits until all
// triggers noted so far are on disk.
func (in *incidents) flush(ctx context.Context) error {
	for {
		in.mu.Lock()
		busy, change := in.t.busy, in.t.change
		if in.t.cut != nil {
			in.t.cut()
		}
		in.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Store implements [publish.Incidents].
func (in *incidents) Store() *incident.Store { return in.store }

// Begun implements [publish.Incidents].
func (in *incidents) Begun() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.t.cut != nil {
		return in.t.begun - 1
	}
	return in.t.begun
}

// State implements [publish.Incidents]. A watcher that is slow is not told of more than
// maxLastBegun triggers.
func (in *incidents) State(begun int) (change <-chan struct{}, triggers []incident.Trigger, now int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := min(in.t.begun-begun, len(in.t.lastBegun))
	return in.t.change, slices.Clone(in.t.lastBegun[len(in.t.lastBegun)-n:]), in.t.begun
}

// Finished implements [publish.Incidents].
func (in *incidents) Finished() <-chan struct{} { return in.finished }

const maxLastBegun = 16 // triggers that are kept for watchers

// ringSource gives a recorder the events of the rings.
type ringSource struct {
	rings   *ring.Rings
	c       *ring.Cursor
	trigger event.Num
}

// Next implements [incident.Source].
func (s *ringSource) Next(ctx context.Context) (event.Num, event.Record, error) {
	for {
		num, rec, ok := s.c.Read()
		if !ok {
			s.c.Cut()
			num, rec, ok = s.c.Read()
		}
		if ok {
			if num > s.trigger {
				s.rings.Unpin(s.trigger)
			}
			return num, rec, nil
		}
		// All up to the trigger is read: it is in the rings or lost.
		s.rings.Unpin(s.trigger)
		if err := s.rings.Wait(ctx, s.c.Until()); err != nil {
			return event.NoNum, nil, err
		}
	}
}

// Logged implements [incident.Source].
func (s *ringSource) Logged() event.Num { return s.rings.Next() }
