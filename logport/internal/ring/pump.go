package ring

import (
	"context"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
)

// Pump hands every new event, in the order of numbers, to the queues of those
// who subscribed. It runs on one goroutine and is awake only while there is a
// queue. Putting into a queue never waits.
type Pump struct {
	a *Rings

	mu sync.Mutex
	t  pumpTable // guarded by mu
}

type pumpTable struct {
	queues map[*queue]bool
	c      *Cursor
	pos    event.Num // numbers below have been handed out
	wake   chan struct{}
	ended  bool
}

// pumpPause lets events gather between two passes, so that a busy logger does not
// wake the pump for each.
const pumpPause = time.Millisecond

// NewPump returns a pump, which hands out while its Run runs.
func NewPump(a *Rings) *Pump {
	return &Pump{a: a, t: pumpTable{queues: map[*queue]bool{}, wake: make(chan struct{}, 1)}}
}

// add gives q all events from the number returned on.
func (p *Pump) add(q *queue) event.Num {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.t.ended {
		q.close()
		return p.a.Next()
	}
	if len(p.t.queues) == 0 {
		p.t.pos = p.a.Next()
		p.t.c = NewCursor(p.a, p.t.pos)
		select {
		case p.t.wake <- struct{}{}:
		default:
		}
	}
	p.t.queues[q] = true
	return p.t.pos
}

func (p *Pump) remove(q *queue) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.t.queues, q)
}

// Run hands out until ctx ends, and then once more: what was logged before the
// end is in the queues when Run returns, and the queues are closed.
func (p *Pump) Run(ctx context.Context) {
	for ctx.Err() == nil {
		pos, some := p.pass()
		if !some {
			select {
			case <-p.t.wake:
			case <-ctx.Done():
			}
			continue
		}
		if p.a.Wait(ctx, pos) == nil {
			sleep(ctx, pumpPause)
		}
	}
	p.pass()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.t.ended = true
	for q := range p.t.queues {
		q.close()
	}
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// pass hands out what is new and returns how far it came; some is false if
// nobody listens.
func (p *Pump) pass() (pos event.Num, some bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.t.queues) == 0 {
		p.t.c = nil
		return 0, false
	}
	if p.t.allFull() {
		// Nobody can take anything: what is new is counted, not read.
		p.t.c = nil
		if until := p.a.Next(); until > p.t.pos {
			p.skip(until)
		}
		return p.t.pos, true
	}
	if p.t.c == nil {
		p.t.c = NewCursor(p.a, p.t.pos)
	}
	until := p.t.c.Cut()
	for {
		num, rec, ok := p.t.c.Read()
		if !ok {
			break
		}
		p.handOut(num, rec)
	}
	if p.t.pos < until {
		p.skip(until)
	}
	return p.t.pos, true
}

func (t *pumpTable) allFull() bool {
	for q := range t.queues {
		if !q.full() {
			return false
		}
	}
	return true
}

func (p *Pump) handOut(num event.Num, rec event.Record) {
	if num > p.t.pos {
		p.skip(num)
	}
	p.t.pos = num + 1
	for q := range p.t.queues {
		q.put(num, rec)
	}
}

// skip notes in the queues the events that their ring evicted before the pump came.
func (p *Pump) skip(until event.Num) {
	for q := range p.t.queues {
		q.lose(p.t.pos, until)
	}
	p.t.pos = until
}
