package logport

import (
	"context"
	"encoding/binary"
	"iter"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flogtool/flogtool/event"
)

// cursor reads the events of all rings in the order of their numbers. It is how
// the recorder, the pump and every catch-up see events, and serves one goroutine.
//
// It copies a segment at a time under its ring's lock. What a ring overwrites
// before the cursor comes is missing from the numbers it returns: nothing else
// is, since a number is taken under the lock of the ring that the event goes to.
type cursor struct {
	a     *rings
	heads []head // one for each ring, in the order of rings.all
	until event.Num
}

// head is the place of a cursor in one ring.
type head struct {
	r       *ring
	next    event.Num // numbers below have been returned
	serial  uint64    // of the segment read last; 0: none yet
	off     int       // bytes read of that segment
	buf     []byte    // records copied, from the next one on
	store   []byte    // what buf is a part of
	checked event.Num // nothing below it is unread in the ring
	num     event.Num // of the first record in buf
}

// newCursor returns a cursor at the event numbered from, or the first one after
// it that the rings still hold.
func newCursor(a *rings, from event.Num) *cursor {
	c := &cursor{a: a}
	c.addHeads(from)
	return c
}

func (c *cursor) addHeads(from event.Num) {
	all := *c.a.all.Load()
	for _, r := range all[len(c.heads):] {
		c.heads = append(c.heads, head{r: r, next: from})
	}
}

// cut fixes the events that read returns from now on: those numbered below the
// result, which is the number of the next event to be logged.
func (c *cursor) cut() event.Num {
	c.until = event.Num(c.a.next.Load())
	// A ring that is made after this holds nothing below until.
	c.addHeads(0)
	return c.until
}

// read returns the next event below the cut; ok is false if there is none. The
// record is valid until the next call.
func (c *cursor) read() (num event.Num, rec event.Record, ok bool) {
	var first *head
	for i := range c.heads {
		h := &c.heads[i]
		if len(h.buf) == 0 {
			if h.checked >= c.until {
				continue
			}
			if !h.refill(c.a) {
				h.checked = c.until
				continue
			}
		}
		if first == nil || h.num < first.num {
			first = h
		}
	}
	if first == nil || first.num >= c.until {
		return event.NoNum, nil, false
	}
	num = first.num
	return num, first.pop(), true
}

// pop returns the payload of the first record in buf.
func (h *head) pop() event.Record {
	n := int(binary.LittleEndian.Uint32(h.buf))
	payload := h.buf[recordHeader : recordHeader+n : recordHeader+n]
	h.next = max(h.next, h.num+1)
	h.buf = h.buf[recordHeader+n:]
	h.peek()
	return event.Record(payload)
}

func (h *head) peek() {
	if len(h.buf) > 0 {
		h.num = event.Num(binary.LittleEndian.Uint64(h.buf[8:]))
	}
}

// refill copies what follows in the ring and reports whether there was anything.
func (h *head) refill(a *rings) bool {
	for h.copyNext(a) {
		h.buf = h.store
		h.peek()
		for len(h.buf) > 0 && h.num < h.next {
			h.pop()
		}
		if len(h.buf) > 0 {
			return true
		}
	}
	return false
}

// copyNext copies what is unread of the first segment that has any.
func (h *head) copyNext(a *rings) bool {
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	live := h.r.t.live()
	if h.serial == 0 {
		h.next = max(h.next, h.r.t.firstWithinLimit(a))
	}
	i := sort.Search(len(live), func(i int) bool { return live[i].serial >= h.serial })
	for ; i < len(live); i++ {
		s := &live[i]
		off := 0
		if s.serial == h.serial {
			off = h.off
		}
		if off == s.used || s.last < h.next {
			continue
		}
		h.store = a.t.appendSegment(h.store[:0], s, off)
		h.serial, h.off = s.serial, s.used
		return true
	}
	return false
}

// firstWithinLimit returns the number of the oldest event that a ring limited in
// events still keeps; the segments may hold older ones, for want of a finer cut.
func (t *ringTable) firstWithinLimit(a *rings) event.Num {
	skip := t.count - t.limit
	if t.limit == 0 || skip <= 0 {
		return 0
	}
	for i := range t.live() {
		s := &t.live()[i]
		if skip >= s.count {
			skip -= s.count
			continue
		}
		records := a.t.appendSegment(nil, s, 0)
		for ; skip > 0; skip-- {
			records = records[recordHeader+binary.LittleEndian.Uint32(records):]
		}
		return event.Num(binary.LittleEndian.Uint64(records[8:]))
	}
	return 0
}

// appendSegment appends the bytes of s from off on; off is 0 where s has several
// blocks, which hold one record.
func (t *arena) appendSegment(dst []byte, s *segment, off int) []byte {
	if s.n == 1 {
		return append(dst, t.area(s.blocks[0])[off:s.used]...)
	}
	left := s.used
	for _, b := range s.blocks[:s.n] {
		part := t.area(b)
		part = part[:min(len(part), left)]
		left -= len(part)
		dst = append(dst, part...)
	}
	return dst
}

// Buffered yields what the rings hold now, in the order of numbers. Logging goes
// on meanwhile; what a ring overwrites before it is read is left out.
func (lp *Logport) Buffered() iter.Seq[*event.Event] {
	return func(yield func(*event.Event) bool) {
		c := newCursor(lp.rings, 0)
		c.cut()
		for {
			num, rec, ok := c.read()
			if !ok {
				return
			}
			e, err := rec.Event(num, lp.incarnation)
			if err == nil && !yield(e) {
				return
			}
		}
	}
}

// news wakes goroutines that wait for events. Logging pays one atomic load while
// nobody does.
type news struct {
	waited atomic.Bool
	mu     sync.Mutex
	ch     chan struct{} // guarded by mu; closed at the next event
}

// tell wakes all who wait.
func (n *news) tell() {
	if n.waited.Load() {
		n.wake()
	}
}

func (n *news) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waited.Swap(false) {
		close(n.ch)
	}
}

// wait returns when an event numbered num or above exists, or with ctx's error.
func (a *rings) wait(ctx context.Context, num event.Num) error {
	for {
		a.news.mu.Lock()
		if !a.news.waited.Load() {
			a.news.ch = make(chan struct{})
			a.news.waited.Store(true)
		}
		ch := a.news.ch
		a.news.mu.Unlock()
		if event.Num(a.next.Load()) > num {
			return nil
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pumpPause lets events gather between two passes of a reader, so that a busy
// logger does not wake it for each.
const pumpPause = time.Millisecond
