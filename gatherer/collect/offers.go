package collect

import (
	"slices"
	"time"
)

// offer is an incident that a publisher has told us of.
type offer struct {
	name  string
	live  bool      // offered when it was complete, not in the catch-up
	again bool      // was fetched when it may not have been complete
	due   time.Time // not to be fetched before
}

// offers are those of one publisher that are to be fetched.
type offers struct {
	queue    []*offer          // in order
	queued   map[string]*offer // the same, by name
	delayed  []*offer          // to be fetched again when they are due; few
	resume   *resume
	latest   string // all up to this name were stored when the session began
	newest   string // the greatest name offered
	caughtUp bool   // the publisher has said that offers from now on are live
	overflow bool   // some did not fit: the publisher must be asked again
}

func newOffers(latest string) offers {
	return offers{queued: map[string]*offer{}, resume: newResume(latest), latest: latest}
}

// add queues o, unless it is queued already. If limit offers wait, o is left for the
// next subscription.
func (t *offers) add(o *offer, limit int) {
	o.live = t.caughtUp
	if queued := t.queued[o.name]; queued != nil {
		queued.live = queued.live || o.live
		return
	}
	if len(t.queue)+len(t.delayed) >= limit {
		t.overflow = true
		t.resume.skip(o.name)
		return
	}
	t.resume.add(o.name)
	t.newest = max(t.newest, o.name)
	t.queue = append(t.queue, o)
	t.queued[o.name] = o
}

// next takes the first offer that is due, or returns how long until one is; 0 if
// that is not known. finished is true if nothing is queued and the publisher must be
// asked for more.
func (t *offers) next(now time.Time) (o *offer, wait time.Duration, finished bool) {
	for i, o := range t.delayed {
		until := o.due.Sub(now)
		if until <= 0 {
			t.delayed = slices.Delete(t.delayed, i, i+1)
			return o, 0, false
		}
		if wait == 0 || until < wait {
			wait = until
		}
	}
	if len(t.queue) == 0 {
		return nil, wait, t.overflow
	}
	o = t.queue[0]
	t.queue[0] = nil
	t.queue = t.queue[1:]
	delete(t.queued, o.name)
	return o, 0, false
}

// isNewest reports whether name is the last that was offered, so that its recording
// may not have ended.
func (t *offers) isNewest(name string) bool { return name >= t.newest && name > t.latest }
