package ring

import (
	"encoding/binary"
	"sync"

	"github.com/flogtool/flogtool/event"
)

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
	gap    gap // after all that buf holds
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

// endGap writes the gap that is open, so that what follows stands after it.
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

// take returns what the queue holds as entries to be read by nextEntry, with the gap
// after them; giveBack returns the buffer. more is false if the queue is closed and
// empty.
func (q *queue) take() (entries []byte, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.t.endGap()
	entries = q.t.buf
	q.t.buf, q.t.spare = q.t.spare[:0], nil
	if q.t.closed {
		q.signal() // the end is still to be taken
	}
	return entries, len(entries) > 0 || !q.t.closed
}

// empty reports whether nothing waits to be taken.
func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.t.buf) == 0 && q.t.gap.from == q.t.gap.until
}

// done notes that n events of size bytes, as entries, have left the queue.
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
