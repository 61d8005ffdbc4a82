package rpc

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// budget is the memory that all peers of a Tub together may make it hold, beside the
// guaranteed part of each: what was received and is not consumed yet, decoded values
// included, and what waits to be written. It is charged before memory is allocated.
//
// When it is used up, every request for more waits: the reader of a connection stops
// reading, and the sender of an answer blocks. Those who wait are served in turn. Each
// connection may hold guaranteed bytes at any time, so that an honest peer is served
// while others hold everything. After shareGrace the largest holder that has given
// nothing back for as long is closed.
type budget struct {
	limit int64
	used  atomic.Int64
	some  atomic.Int32 // waiters

	mu      sync.Mutex
	waiters []*budgetWaiter // guarded by mu; in turn
	checked time.Time       // guarded by mu; when the largest holder was last looked for
}

type budgetWaiter struct {
	c     *conn
	n     int64
	ready chan struct{} // closed when n was charged
}

const (
	// guaranteed is what each connection may hold whatever others hold, in bytes.
	guaranteed = 64 << 10

	// shareGrace is how long somebody waits before the largest holder is closed. An
	// honest peer is served within twice that.
	shareGrace = 500 * time.Millisecond

	// ownGrace is shareGrace where a connection waits for what it holds itself: its
	// methods may still finish.
	ownGrace = 10 * time.Second
)

var errShare = errors.New("the peer holds more than its share of the memory while others wait")

// take charges n bytes to c and waits until they are there, c is dead or ctx is done.
func (b *budget) take(ctx context.Context, c *conn, n int64) error {
	if b.try(c, n) {
		return nil
	}
	return b.wait(ctx, c, n)
}

// try is take without waiting.
func (b *budget) try(c *conn, n int64) bool {
	if c.self {
		b.force(c, n)
		return true
	}
	return b.add(c, n, b.some.Load() == 0)
}

// add charges n bytes to c. If that takes more than is guaranteed, it is refused where
// there is no room, and where it is not c's turn.
func (b *budget) add(c *conn, n int64, inTurn bool) bool {
	for {
		held := c.held.Load()
		more := excess(held+n) - excess(held)
		if more > 0 {
			if !inTurn {
				return false
			}
			if b.used.Add(more) > b.limit {
				b.used.Add(-more)
				return false
			}
		}
		if c.held.CompareAndSwap(held, held+n) {
			return true
		}
		b.used.Add(-more)
	}
}

// excess returns the part of what a connection holds that is not guaranteed. The budget
// counts that part only, so that small messages do not touch what all connections share.
func excess(held int64) int64 { return max(0, held-guaranteed) }

// force charges n bytes without waiting.
func (b *budget) force(c *conn, n int64) {
	held := c.held.Add(n)
	if more := excess(held) - excess(held-n); more > 0 {
		b.used.Add(more)
	}
}

// give returns n bytes of c.
func (b *budget) give(c *conn, n int64) {
	if n == 0 {
		return
	}
	held := c.held.Add(-n)
	less := excess(held+n) - excess(held)
	if less == 0 {
		return
	}
	b.used.Add(-less)
	c.progress.Store(c.tub.now())
	if b.some.Load() > 0 {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.grant()
	}
}

// grant serves those who wait, in turn. mu is held.
func (b *budget) grant() {
	for len(b.waiters) > 0 {
		w := b.waiters[0]
		if !b.add(w.c, w.n, true) {
			return
		}
		close(w.ready)
		b.waiters[0] = nil
		b.waiters = b.waiters[1:]
		b.some.Add(-1)
	}
}

func (b *budget) wait(ctx context.Context, c *conn, n int64) error {
	if n > b.limit {
		return &Violation{Reason: "more than all the memory for messages", Err: ErrLimit}
	}
	w := &budgetWaiter{c: c, n: n, ready: make(chan struct{})}
	b.mu.Lock()
	b.waiters = append(b.waiters, w)
	b.some.Add(1)
	b.grant()
	b.mu.Unlock()
	began := time.Now()
	check := time.NewTicker(shareGrace)
	defer check.Stop()
	for {
		select {
		case <-w.ready:
			return nil
		case <-check.C:
			b.closeLargest(c, time.Since(began))
		case <-c.ctx.Done():
			b.leave(w)
			return c.deadErr()
		case <-ctx.Done():
			b.leave(w)
			return context.Cause(ctx)
		}
	}
}

// leave ends the waiting of w, which may just have been served.
func (b *budget) leave(w *budgetWaiter) {
	b.mu.Lock()
	for i, other := range b.waiters {
		if other == w {
			b.waiters = append(b.waiters[:i], b.waiters[i+1:]...)
			b.some.Add(-1)
			b.grant()
			b.mu.Unlock()
			return
		}
	}
	b.mu.Unlock()
	b.give(w.c, w.n)
}

// closeLargest closes the connection that holds most, unless another one was closed a
// moment ago and has not given back what it holds.
func (b *budget) closeLargest(waits *conn, waited time.Duration) {
	b.mu.Lock()
	if time.Since(b.checked) < shareGrace {
		b.mu.Unlock()
		return
	}
	b.checked = time.Now()
	b.mu.Unlock()
	largest := waits.tub.largestHolder()
	if largest == nil || largest == waits && waited < ownGrace {
		return
	}
	largest.shutdown(errShare)
}

// largestHolder returns the connection that holds most of the budget, of those that have
// given nothing back for shareGrace: a peer that reads its answers, however large, is not
// in the way. It returns nil if there is none, or none holds more than is guaranteed.
func (t *Tub) largestHolder() (largest *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	most := int64(guaranteed)
	for c := range t.all {
		idle := time.Duration(t.now() - c.progress.Load())
		if held := c.held.Load(); held > most && idle > shareGrace && !c.isDead() {
			largest, most = c, held
		}
	}
	return largest
}
