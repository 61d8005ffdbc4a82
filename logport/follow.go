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

	c        *cursor // while catching up, else nil
	expected uint64  // events below the cut that c has not yet returned
	joined   bool    // the queue has begun

	entries, rest []byte // taken from the queue

	lost uint64    // events that should have come and did not, until the caller takes them
	told time.Time // when the caller was last given a chance to tell
}

// tellEvery is how often a loss is told at most.
const tellEvery = time.Second

func follow(a *rings, p *pump, catchUp bool, maxCount, maxBytes int) *follower {
	f := &follower{p: p, q: newQueue(maxCount, maxBytes)}
	if !catchUp {
		f.joined = true
		p.add(f.q)
		return f
	}
	f.c = newCursor(a, 0)
	f.expected = f.c.held()
	return f
}

// stop ends the subscription's part in the pump.
func (f *follower) stop() { f.p.remove(f.q) }

// next returns the next event, waiting for it until ctx ends; ok is false then,
// or when the Logport was closed and all is returned. The record is valid until
// the next call; it is nil, once a second at most, when all is read and lost
// events were counted in f.lost.
func (f *follower) next(ctx context.Context) (num event.Num, rec event.Record, ok bool) {
	for f.c != nil {
		if num, rec, ok := f.c.read(); ok {
			f.expected--
			return num, rec, true
		}
		f.lost += f.expected
		f.expected = 0
		if f.joined {
			f.c = nil
			break
		}
		// Caught up: the queue begins here, or a little later, where the pump is.
		f.joined = true
		f.expected = f.c.extend(f.p.add(f.q))
	}
	for {
		for len(f.rest) > 0 {
			var g gap
			num, rec, g, f.rest = nextEntry(f.rest)
			if rec != nil {
				f.q.done(1, entryHeader+len(rec))
				return num, rec, true
			}
			f.lost += uint64(g.until - g.from)
		}
		var tell <-chan time.Time
		if f.lost > 0 && f.q.empty() {
			wait := time.Until(f.told.Add(tellEvery))
			if wait <= 0 {
				f.told = time.Now()
				return event.NoNum, nil, true // so that the loss can be told
			}
			tell = time.After(wait)
		}
		select {
		case <-f.q.ready:
		case <-tell:
			continue
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

// held cuts and returns how many events below the cut the rings hold. What a
// ring gives up before the cursor comes is missing from that number.
func (c *cursor) held() uint64 {
	until := c.cut()
	held := uint64(0)
	for i := range c.heads {
		r := c.heads[i].r
		r.mu.Lock()
		n := r.t.count
		if r.t.limit > 0 {
			n = min(n, r.t.limit)
		}
		n -= r.t.countFrom(c.a, until)
		r.mu.Unlock()
		held += uint64(max(0, n))
	}
	return held
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

// extend moves the cut forward to until, if it is not there, and returns how
// many events that adds.
func (c *cursor) extend(until event.Num) uint64 {
	if until <= c.until {
		return 0
	}
	added := uint64(until - c.until)
	c.addHeads(0)
	c.until = until
	return added
}
