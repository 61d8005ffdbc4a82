package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/flogtool/flogtool/gatherer/archive"
)

// Bounds of a stage. They are a matter of taste.
const (
	maxQueue  = 1000    // incidents whose names wait in memory
	maxFailed = 1000    // incidents whose failures are remembered
	maxReason = 1 << 10 // bytes of the reason that is remembered

	maxTries  = 3           // after so many, an incident is set aside
	minRetry  = time.Second // doubled after each try
	longRetry = time.Hour   // between the tries of an incident that is set aside

	maxOutage    = time.Minute      // between two tries while the target is away
	reportOutage = 10 * time.Minute // between two log lines about that
)

// step is one thing to do with each incident that is stored.
type step interface {
	// Do does it, unless it is done. The error says why it could not. If the error
	// has a method Unavailable that returns true, no incident can be done now.
	Do(ctx context.Context, s archive.Stored) error
}

// unavailable reports whether err is about the target of a step, not about the one
// incident.
func unavailable(err error) bool {
	u, ok := errors.AsType[interface {
		error
		Unavailable() bool
	}](err)
	return ok && u.Unavailable()
}

// stage runs a step. Its goroutine, run, takes one name after the other: those of
// failed incidents when they are due, then from the queue. When the queue is empty
// and more names are in the archive, a walk through the archive fills it again.
type stage struct {
	name     string
	step     step
	archive  *archive.Archive
	undone   func(archive.State) bool
	next     func(archive.Stored) // is called with each incident that is done; may be nil
	caughtUp func(done int)       // is called once, when an earlier run's work is done; may be nil
	idle     func()               // is called when there is nothing to do; may be nil
	log      *slog.Logger

	wake chan struct{} // holds a token when t has changed

	mu sync.Mutex
	t  backlog // guarded by mu
}

// backlog is what a stage has to do.
type backlog struct {
	queue  []archive.Stored // at most maxQueue
	queued map[archive.ID]bool
	doing  bool // one was taken, and is not done yet

	walking bool       // the archive may have more
	after   archive.ID // the walk has passed those up to here
	again   bool       // another walk is needed after this one
	walkAt  time.Time  // when to walk for the failures that are not remembered; zero: never

	failed   map[archive.ID]*failure // at most maxFailed
	suspects map[archive.ID]int      // see blame; at most maxFailed
	done     int                     // incidents
}

// failure is an incident that could not be done.
type failure struct {
	archive.Stored
	reason string
	since  time.Time // the first try
	tries  int
	due    time.Time // the next one
}

func newStage(name string, step step, a *archive.Archive, undone func(archive.State) bool, log *slog.Logger) *stage {
	return &stage{
		name: name, step: step, archive: a, undone: undone, log: log.With("step", name),
		wake: make(chan struct{}, 1),
		t: backlog{
			queued: map[archive.ID]bool{}, failed: map[archive.ID]*failure{}, suspects: map[archive.ID]int{},
			walking: true, // for what an earlier run left
		},
	}
}

// add queues an incident. It does not block: if the queue is full, the incident is
// found again in the archive.
func (st *stage) add(s archive.Stored) {
	st.mu.Lock()
	st.t.push(s)
	st.mu.Unlock()
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

func (t *backlog) push(s archive.Stored) {
	switch {
	case t.queued[s.ID]:
	case len(t.queue) < maxQueue:
		t.queue = append(t.queue, s)
		t.queued[s.ID] = true
	default:
		t.walk()
	}
}

// walk has the archive looked through from its beginning.
func (t *backlog) walk() {
	t.again = t.walking
	t.walking = true
}

// busy reports whether there is something to do now.
func (st *stage) busy() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.t.doing || st.t.walking || len(st.t.queue) > 0
}

// take returns the next incident to do, or how long until one is due; 0 if that
// is not known.
func (st *stage) take(now time.Time) (s archive.Stored, wait time.Duration, ok bool) {
	for {
		st.mu.Lock()
		s, wait, ok := st.t.take(now)
		walking := st.t.walking
		st.mu.Unlock()
		if ok || !walking {
			return s, wait, ok
		}
		st.walk()
	}
}

func (t *backlog) take(now time.Time) (s archive.Stored, wait time.Duration, ok bool) {
	due := t.walkAt
	if !due.IsZero() && !due.After(now) {
		t.walkAt, due = time.Time{}, time.Time{}
		t.walk()
	}
	for _, f := range t.failed {
		if !f.due.After(now) {
			t.doing = true
			return f.Stored, 0, true
		}
		if due.IsZero() || f.due.Before(due) {
			due = f.due
		}
	}
	if len(t.queue) > 0 {
		s = t.queue[0]
		t.queue = t.queue[1:]
		delete(t.queued, s.ID)
		t.doing = true
		return s, 0, true
	}
	if !due.IsZero() {
		wait = due.Sub(now)
	}
	return s, wait, false
}

// walk fills the queue with the next incidents in the archive that are not done.
func (st *stage) walk() {
	st.mu.Lock()
	after := st.t.after
	st.mu.Unlock()
	list := st.archive.Next(after, maxQueue/2, st.undone)

	st.mu.Lock()
	defer st.mu.Unlock()
	if len(list) == 0 {
		st.t.walking, st.t.again, st.t.after = st.t.again, false, archive.ID{}
		return
	}
	st.t.after = list[len(list)-1].ID
	for _, s := range list {
		if st.t.failed[s.ID] == nil {
			st.t.push(s)
		}
	}
}

// run does the step until ctx is done.
func (st *stage) run(ctx context.Context) {
	var out outage
	for ctx.Err() == nil {
		s, wait, ok := st.take(time.Now())
		if !ok {
			st.rest()
			var alarm <-chan time.Time
			if wait > 0 {
				alarm = time.After(wait)
			}
			select {
			case <-ctx.Done():
			case <-st.wake:
			case <-alarm:
			}
			continue
		}
		err := st.step.Do(ctx, s)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			out.end(st.log)
			st.finish(s)
		case unavailable(err) && !st.blame(s):
			select {
			case <-ctx.Done():
			case <-time.After(out.extend(st, s, err)):
			}
			st.putBack(s)
		default:
			st.fail(s, err)
		}
	}
}

// rest is called when there is nothing to do.
func (st *stage) rest() {
	if st.caughtUp != nil {
		st.mu.Lock()
		done := st.t.done
		st.mu.Unlock()
		st.caughtUp(done)
		st.caughtUp = nil
	}
	if st.idle != nil {
		st.idle()
	}
}

// finish hands on an incident that is done.
func (st *stage) finish(s archive.Stored) {
	if st.next != nil {
		st.next(s)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.t.doing = false
	st.t.done++
	delete(st.t.failed, s.ID)
	delete(st.t.suspects, s.ID)
}

// blame reports whether s itself may be why the target seems to be away: it is set
// aside, or since its last try, which failed for the same reason, another incident
// could be done.
func (st *stage) blame(s archive.Stored) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if f := st.t.failed[s.ID]; f != nil && f.tries >= maxTries {
		return true
	}
	done, ok := st.t.suspects[s.ID]
	if ok || len(st.t.suspects) < maxFailed {
		st.t.suspects[s.ID] = st.t.done
	}
	return ok && done != st.t.done
}

// putBack gives back an incident that could not be done because the target was away.
// All others that are queued come before it.
func (st *stage) putBack(s archive.Stored) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.t.doing = false
	if f := st.t.failed[s.ID]; f != nil {
		f.due = time.Now().Add(minRetry)
		return
	}
	st.t.push(s)
}

// fail remembers that an incident could not be done, and sets it aside after a few
// tries.
func (st *stage) fail(s archive.Stored, err error) {
	now := time.Now()
	st.mu.Lock()
	defer st.mu.Unlock()
	st.t.doing = false
	f := st.t.failed[s.ID]
	if f == nil {
		f = &failure{Stored: s, since: now}
		if len(st.t.failed) < maxFailed {
			st.t.failed[s.ID] = f
		} else {
			f.tries = maxTries - 1
			if st.t.walkAt.IsZero() {
				st.t.walkAt = now.Add(jitter(longRetry))
			}
		}
	}
	if _, deadly := errors.AsType[*archive.DeadlyError](err); deadly {
		f.tries = max(f.tries, maxTries-1) // set aside now
	}
	f.tries++
	f.reason = err.Error()
	if len(f.reason) > maxReason {
		f.reason = strings.ToValidUTF8(f.reason[:maxReason], "") + "…"
	}
	wait := longRetry
	if f.tries < maxTries {
		wait = minRetry << (f.tries - 1)
	}
	wait = jitter(wait)
	f.due = now.Add(wait)
	level, msg := slog.LevelDebug, st.name+" incident; it is tried again"
	if f.tries == maxTries {
		level, msg = slog.LevelWarn, "incident set aside; it is tried again later"
	}
	st.log.Log(context.Background(), level, msg, "incident", s.Name, "tub", s.Tub, "err", err, "tries", f.tries, "next_try", wait)
}

func (st *stage) setAside() (list []SetAside) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, f := range st.t.failed {
		if f.tries >= maxTries {
			list = append(list, SetAside{f.Stored, st.name, f.reason, f.since, f.tries})
		}
	}
	return list
}

// jitter returns d and up to a quarter more.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/4) }

// outage is a time in which the target of a step is away.
type outage struct {
	since  time.Time // zero: it is not
	logged time.Time
	wait   time.Duration
}

// extend notes a try that failed and returns how long to wait for the next.
func (o *outage) extend(st *stage, s archive.Stored, err error) time.Duration {
	now := time.Now()
	if o.since.IsZero() {
		o.since, o.wait = now, minRetry
	} else {
		o.wait = min(2*o.wait, maxOutage)
	}
	if now.Sub(o.logged) >= reportOutage {
		o.logged = now
		st.log.Error(st.name+" incident; it is tried again", "incident", s.Name, "tub", s.Tub, "err", err, "since", o.since)
	}
	return jitter(o.wait)
}

// end notes that an incident could be done.
func (o *outage) end(log *slog.Logger) {
	if !o.since.IsZero() {
		log.Info("step goes on after an outage", "since", o.since)
	}
	*o = outage{logged: o.logged}
}
