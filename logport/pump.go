package logport

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
)

// pump hands every new event, in the order of numbers, to the queues of those
// who subscribed. It runs on one goroutine and is awake only while there is a
// queue. Putting into a queue never waits.
type pump struct {
	a *rings

	mu sync.Mutex
	t  pumpTable // guarded by mu
}

type pumpTable struct {
	queues map[*queue]bool
	c      *cursor
	pos    event.Num // numbers below have been handed out
	wake   chan struct{}
	ended  bool
}

func newPump(a *rings) *pump {
	return &pump{a: a, t: pumpTable{queues: map[*queue]bool{}, wake: make(chan struct{}, 1)}}
}

// add gives q all events from the number returned on.
func (p *pump) add(q *queue) event.Num {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.t.ended {
		q.close()
		return event.Num(p.a.next.Load())
	}
	if len(p.t.queues) == 0 {
		p.t.pos = event.Num(p.a.next.Load())
		p.t.c = newCursor(p.a, p.t.pos)
		select {
		case p.t.wake <- struct{}{}:
		default:
		}
	}
	p.t.queues[q] = true
	return p.t.pos
}

func (p *pump) remove(q *queue) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.t.queues, q)
}

// run hands out until ctx ends, and then once more: what was logged before the
// end is in the queues when run returns, and the queues are closed.
func (p *pump) run(ctx context.Context) {
	for ctx.Err() == nil {
		pos, some := p.pass()
		if !some {
			select {
			case <-p.t.wake:
			case <-ctx.Done():
			}
			continue
		}
		if p.a.wait(ctx, pos) == nil {
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
func (p *pump) pass() (pos event.Num, some bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.t.queues) == 0 {
		p.t.c = nil
		return 0, false
	}
	if p.t.allFull() {
		// Nobody can take anything: what is new is counted, not read.
		p.t.c = nil
		if until := event.Num(p.a.next.Load()); until > p.t.pos {
			p.skip(until)
		}
		return p.t.pos, true
	}
	if p.t.c == nil {
		p.t.c = newCursor(p.a, p.t.pos)
	}
	until := p.t.c.cut()
	for {
		num, rec, ok := p.t.c.read()
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

func (p *pump) handOut(num event.Num, rec event.Record) {
	if num > p.t.pos {
		p.skip(num)
	}
	p.t.pos = num + 1
	for q := range p.t.queues {
		q.put(num, rec)
	}
}

// skip tells the queues of events that their ring lost before the pump came.
func (p *pump) skip(until event.Num) {
	for q := range p.t.queues {
		q.lose(p.t.pos, until)
	}
	p.t.pos = until
}

// queue holds the events for one subscription, bounded in number and in bytes;
// when it is full the newest are dropped, and counted as a gap at their place.
//
// Two buffers take turns: the pump fills one while the subscription empties the
// other.
type queue struct {
	maxCount int // 0: no bound
	maxBytes int
	ready    chan struct{} // has a value when there is something to take

	mu sync.Mutex
	t  queueTable // guarded by mu
}

type queueTable struct {
	buf    []byte // entries: number, length, record; a gap has length gapMark and its end
	spare  []byte
	count  int // events in buf and taken, not yet done
	bytes  int // of them
	gap    gap // behind all that buf holds
	closed bool
}

// gap is a run of numbers that are missing: from, below until. Not all of them
// need be events of this subscription.
type gap struct {
	from, until event.Num
}

const (
	entryHeader = 12
	gapMark     = 1<<32 - 1
)

func newQueue(maxCount, maxBytes int) *queue {
	return &queue{maxCount: maxCount, maxBytes: maxBytes, ready: make(chan struct{}, 1)}
}

func (q *queue) put(num event.Num, rec event.Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := entryHeader + len(rec)
	if q.maxCount > 0 && q.t.count >= q.maxCount || q.t.bytes+size > q.maxBytes {
		q.t.lose(num, num+1)
		return
	}
	q.t.endGap()
	q.t.buf = binary.LittleEndian.AppendUint64(q.t.buf, uint64(num))
	q.t.buf = binary.LittleEndian.AppendUint32(q.t.buf, uint32(len(rec)))
	q.t.buf = append(q.t.buf, rec...)
	q.t.count++
	q.t.bytes += size
	q.signal()
}

// lose notes that the events from, below until, are missing.
func (q *queue) lose(from, until event.Num) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.t.lose(from, until)
	q.signal()
}

func (t *queueTable) lose(from, until event.Num) {
	if t.gap.until != from || t.gap.until == t.gap.from {
		t.endGap()
		t.gap.from = from
	}
	t.gap.until = until
}

// endGap writes the gap that is open, so that what follows stands behind it.
// Gaps are few: between two of them stands an event, and those are bounded.
func (t *queueTable) endGap() {
	if t.gap.until == t.gap.from {
		return
	}
	t.buf = binary.LittleEndian.AppendUint64(t.buf, uint64(t.gap.from))
	t.buf = binary.LittleEndian.AppendUint32(t.buf, gapMark)
	t.buf = binary.LittleEndian.AppendUint64(t.buf, uint64(t.gap.until))
	t.gap = gap{}
}

// full reports whether the queue would hardly take another event.
func (q *queue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.maxCount > 0 && q.t.count >= q.maxCount || q.t.bytes+maxPayload > q.maxBytes
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.t.closed = true
	q.signal()
}

// take returns what the queue holds as entries to be read by next, with the gap
// behind them; done gives the buffer back. more is false if the queue is closed
// and empty.
func (q *queue) take() (entries []byte, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.t.endGap()
	entries = q.t.buf
	q.t.buf, q.t.spare = q.t.spare[:0], nil
	return entries, len(entries) > 0 || !q.t.closed
}

// empty reports whether nothing waits to be taken.
func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.t.buf) == 0 && q.t.gap.from == q.t.gap.until
}

// done says that n events of size bytes, as entries, have left the queue.
func (q *queue) done(n, size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.t.count -= n
	q.t.bytes -= size
}

// giveBack returns the buffer of entries that are read to the end.
func (q *queue) giveBack(entries []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.t.spare == nil {
		q.t.spare = entries[:0]
	}
}

// nextEntry splits the first entry off: an event, or a gap if rec is nil.
func nextEntry(entries []byte) (num event.Num, rec event.Record, g gap, rest []byte) {
	num = event.Num(binary.LittleEndian.Uint64(entries))
	size := binary.LittleEndian.Uint32(entries[8:])
	rest = entries[entryHeader:]
	if size == gapMark {
		return num, nil, gap{num, event.Num(binary.LittleEndian.Uint64(rest))}, rest[8:]
	}
	return num, event.Record(rest[:size:size]), gap{}, rest[size:]
}
