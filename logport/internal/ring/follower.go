package ring

import (
	"context"
	"time"

	"github.com/flogtool/flogtool/event"
)

// Follower reads all events for one subscription: first, if it catches up, what the
// rings hold, from the rings themselves and as fast as the subscriber takes it; then
// what is logged, by a bounded queue. It serves one goroutine.
//
//	rings ── Cursor ──► catch-up, up to the cut ──► the few until the queue begins
//	pump  ── queue  ──────────────────────────────────────────────────────────────► live
//
// Every event from the follower's beginning on is returned or counted in a loss.
type Follower struct {
	p *Pump
	q *queue

	c            *Cursor   // while catching up, else nil
	completeFrom event.Num // each number from it on is an event to be returned, or is lost
	older        uint64    // events numbered below it that c has not yet returned
	joined       bool      // the queue has begun

	held bool // an event was read, and a loss before it was returned first
	num  event.Num
	rec  event.Record

	entries, rest []byte // taken from the queue

	pos event.Num // all events below have been returned, or are lost
}

// Kind says what an [Item] is.
type Kind uint8

// The kinds of items.
const (
	Event    Kind = iota // the next event
	Lost                 // events that should be here and are not
	CaughtUp             // once: what the rings held when the follower began has been returned
	Idle                 // nothing to return now, and the caller has other things to do
)

// Item is what a [Follower] returns.
type Item struct {
	Kind   Kind
	Num    event.Num    // of Event: its number; of CaughtUp: all below is accounted for
	Record event.Record // of Event; valid until the next call
	Loss   Loss         // of Lost
}

// Loss is events that should have come and did not: how many, and numbers between
// which they all are. While catching up those numbers may also be of events that
// were gone before.
type Loss struct {
	Count       uint64
	From, Until event.Num
}

// FollowOptions say where a follower begins and what it may hold.
type FollowOptions struct {
	CatchUp  bool      // begin with what the rings hold; else with the next event
	Resume   bool      // begin at From, and CatchUp does not count
	From     event.Num //
	MaxCount int       // events that wait; 0: no bound
	MaxBytes int       // bytes that wait
}

// Follow begins to follow. The caller must call Stop.
func Follow(p *Pump, o FollowOptions) *Follower {
	f := &Follower{p: p, q: newQueue(o.MaxCount, o.MaxBytes)}
	switch {
	case o.Resume:
		f.pos, f.completeFrom = o.From, o.From
		f.c = NewCursor(p.a, o.From)
		f.c.Cut()
	case o.CatchUp:
		f.c = NewCursor(p.a, 0)
		f.completeFrom, f.older = f.c.held()
	default:
		f.joined = true
		f.pos = p.add(f.q)
	}
	return f
}

// Stop ends the follower's part in the pump.
func (f *Follower) Stop() { f.p.remove(f.q) }

// Next returns the next item and waits for it until ctx ends; ok is false then, or
// when the pump has ended and all is returned. A loss stands before the event that
// follows it. Instead of waiting Next returns Idle if the caller is busy, that is,
// has things to do before it waits, or when quiet has a value.
func (f *Follower) Next(ctx context.Context, busy bool, quiet <-chan time.Time) (it Item, ok bool) {
	if f.held {
		return f.returnEvent(f.num, f.rec), true
	}
	for f.c != nil {
		if num, rec, ok := f.c.Read(); ok {
			if l := f.lossTo(num); l.Count > 0 {
				f.held, f.num, f.rec = true, num, rec
				return Item{Kind: Lost, Loss: l}, true
			}
			return f.returnEvent(num, rec), true
		}
		if l := f.lossTo(f.c.Until()); l.Count > 0 {
			return Item{Kind: Lost, Loss: l}, true
		}
		if f.joined {
			f.c = nil
			return Item{Kind: CaughtUp, Num: f.pos}, true
		}
		// Caught up: the queue begins here, or a little later, where the pump is.
		f.joined = true
		f.c.extend(f.p.add(f.q))
	}
	for len(f.rest) == 0 {
		if busy && f.q.empty() {
			return Item{Kind: Idle}, true
		}
		select {
		case <-f.q.ready:
		case <-quiet:
			return Item{Kind: Idle}, true
		case <-ctx.Done():
			return Item{}, false
		}
		f.q.giveBack(f.entries)
		var more bool
		f.entries, more = f.q.take()
		f.rest = f.entries
		if !more {
			return Item{}, false
		}
	}
	num, rec, g, rest := nextEntry(f.rest)
	f.rest = rest
	if rec == nil {
		f.pos = g.until
		return Item{Kind: Lost, Loss: Loss{uint64(g.until - g.from), g.from, g.until}}, true
	}
	f.q.done(1, entryHeader+len(rec))
	f.pos = num + 1
	return Item{Kind: Event, Num: num, Record: rec}, true
}

// returnEvent returns an event of the catch-up.
func (f *Follower) returnEvent(num event.Num, rec event.Record) Item {
	if num < f.completeFrom {
		f.older--
	}
	f.pos, f.held, f.rec = num+1, false, nil
	return Item{Kind: Event, Num: num, Record: rec}
}

// lossTo moves pos to num and returns what did not come on the way: the rings have
// evicted it since. It is counted where it is missing, so that a subscription that
// goes on from there later, over another connection, need not count it.
func (f *Follower) lossTo(num event.Num) (l Loss) {
	if num <= f.pos {
		return l
	}
	if f.pos < f.completeFrom && num >= f.completeFrom {
		if f.older > 0 {
			l = Loss{f.older, f.pos, f.completeFrom}
		}
		f.older, f.pos = 0, f.completeFrom
	}
	if f.pos >= f.completeFrom && num > f.pos {
		if l.Count == 0 {
			l.From = f.pos
		}
		l.Count, l.Until = l.Count+uint64(num-f.pos), num
	}
	f.pos = num
	return l
}
