package logport

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/flogtool/flogtool/event"
)

// follower reads all events for one subscription: first, if it catches up, what
// the rings hold, read from the rings themselves as fast as the subscriber
// takes it; then, by a bounded queue, what is logged. It serves one goroutine.
//
//	rings ── cursor ──► catch-up, up to the cut ──► the few until the queue begins
//	pump  ── queue  ──────────────────────────────────────────────────────────────► live
type follower struct {
	p *pump
	q *queue

	c      *cursor   // while catching up, else nil
	sure   event.Num // every number from it on is an event to be returned, or is lost
	old    uint64    // events numbered below it that c has not yet returned
	joined bool      // the queue has begun
	passed bool      // the catch-up has ended, and the caller has not taken that yet

	entries, rest []byte // taken from the queue

	pos  event.Num // all events below have been returned, or are lost
	lost loss      // until the caller takes it
}

// loss is events that should have come and did not: how many, and numbers
// between which they all are. While catching up those numbers may also be of
// events that were gone before.
type loss struct {
	count       uint64
	from, until event.Num
}

func (l *loss) add(count uint64, from, until event.Num) {
	if count == 0 {
		return
	}
	if l.count == 0 {
		l.from = from
	}
	l.count += count
	l.from, l.until = min(l.from, from), max(l.until, until)
}

// takeLost returns what was lost since the last call.
func (f *follower) takeLost() loss {
	l := f.lost
	f.lost = loss{}
	return l
}

// takeCaughtUp reports, once, that the catch-up has ended.
func (f *follower) takeCaughtUp() bool {
	passed := f.passed
	f.passed = false
	return passed
}

func follow(a *rings, p *pump, catchUp bool, maxCount, maxBytes int) *follower {
	f := &follower{p: p, q: newQueue(maxCount, maxBytes)}
	if !catchUp {
		f.joined = true
		f.pos = p.add(f.q)
		return f
	}
	f.c = newCursor(a, 0)
	f.sure, f.old = f.c.held()
	return f
}

// followFrom is follow for a subscription that goes on where an earlier one
// ended: every event from that number on is returned or lost.
func followFrom(a *rings, p *pump, from event.Num, maxCount, maxBytes int) *follower {
	f := &follower{p: p, q: newQueue(maxCount, maxBytes), pos: from, sure: from}
	f.c = newCursor(a, from)
	f.c.cut()
	return f
}

// stop ends the subscription's part in the pump.
func (f *follower) stop() { f.p.remove(f.q) }

// next returns the next event, waiting for it until ctx ends; ok is false then,
// or when the Logport was closed and all is returned. The record is valid until
// the next call. It is nil when the catch-up has ended, when all is read and events
// were lost, and instead of waiting if the caller has other things to do first
// (busy) or quiet has a value.
func (f *follower) next(ctx context.Context, busy bool, quiet <-chan time.Time) (num event.Num, rec event.Record, ok bool) {
	for f.c != nil {
		if num, rec, ok := f.c.read(); ok {
			f.loseTo(num)
			if num < f.sure {
				f.old--
			}
			f.pos = num + 1
			return num, rec, true
		}
		f.loseTo(f.c.until)
		if f.joined {
			f.c, f.passed = nil, true
			return event.NoNum, nil, true
		}
		// Caught up: the queue begins here, or a little later, where the pump is.
		f.joined = true
		f.c.extend(f.p.add(f.q))
	}
	for {
		for len(f.rest) > 0 {
			var g gap
			num, rec, g, f.rest = nextEntry(f.rest)
			if rec != nil {
				f.q.done(1, entryHeader+len(rec))
				f.pos = num + 1
				return num, rec, true
			}
			f.lost.add(uint64(g.until-g.from), g.from, g.until)
			f.pos = g.until
		}
		if (f.lost.count > 0 || busy) && f.q.empty() {
			return event.NoNum, nil, true
		}
		select {
		case <-f.q.ready:
		case <-quiet:
			return event.NoNum, nil, true
		case <-ctx.Done():
			return event.NoNum, nil, false
		}
		f.q.giveBack(f.entries)
		var more bool
		f.entries, more = f.q.take()
		f.rest = f.entries
		if !more {
			return event.NoNum, nil, false
		}
	}
}

// loseTo moves pos to num and counts what did not come on the way: the rings have
// given it up since. It is counted where it is missing, so that whoever goes on
// from there later, over another connection, need not.
func (f *follower) loseTo(num event.Num) {
	if num <= f.pos {
		return
	}
	if f.pos < f.sure && num >= f.sure {
		f.lost.add(f.old, f.pos, f.sure)
		f.old, f.pos = 0, f.sure
	}
	if f.pos >= f.sure {
		f.lost.add(uint64(num-f.pos), f.pos, num)
	}
	f.pos = num
}

// teller bounds how often a loss is told by an event of our own.
type teller struct {
	untold uint64
	told   time.Time
}

const tellEvery = time.Second

// add takes more losses and returns the number to tell now, 0 if it is too soon
// or there is none.
func (t *teller) add(n uint64) uint64 {
	t.untold += n
	if t.untold == 0 || time.Since(t.told) < tellEvery {
		return 0
	}
	n, t.untold, t.told = t.untold, 0, time.Now()
	return n
}

// quiet returns a channel that has a value when what is untold may be told.
func (t *teller) quiet() <-chan time.Time {
	if t.untold == 0 {
		return nil
	}
	return time.After(time.Until(t.told.Add(tellEvery)))
}

// held cuts and returns a number from which on the rings hold every event, and how
// many older ones they hold. What a ring gives up before the cursor comes is
// missing from that.
func (c *cursor) held() (sure event.Num, old uint64) {
	until := c.cut()
	for i := range c.heads {
		r := c.heads[i].r
		r.mu.Lock()
		sure = max(sure, r.t.gaveUp, r.t.firstWithinLimit(c.a))
		r.mu.Unlock()
	}
	sure = min(sure, until)
	for i := range c.heads {
		r := c.heads[i].r
		r.mu.Lock()
		n := r.t.count
		if r.t.limit > 0 {
			n = min(n, r.t.limit)
		}
		n -= r.t.countFrom(c.a, sure)
		r.mu.Unlock()
		old += uint64(max(0, n))
	}
	return sure, old
}

// countFrom returns how many events in the ring are numbered num or above.
func (t *ringTable) countFrom(a *rings, num event.Num) int {
	n := 0
	live := t.live()
	for i := len(live) - 1; i >= 0 && live[i].count > 0 && live[i].last >= num; i-- {
		if live[i].first >= num {
			n += live[i].count
			continue
		}
		for records := a.t.appendSegment(nil, &live[i], 0); len(records) > 0; {
			if event.Num(binary.LittleEndian.Uint64(records[8:])) >= num {
				n++
			}
			records = records[recordHeader+binary.LittleEndian.Uint32(records):]
		}
	}
	return n
}

// extend moves the cut forward to until, if it is not there.
func (c *cursor) extend(until event.Num) {
	if until > c.until {
		c.addHeads(0)
		c.until = until
	}
}
