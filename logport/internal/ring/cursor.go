package ring

import (
	"encoding/binary"
	"sort"

	"github.com/flogtool/flogtool/event"
)

// Cursor reads the events of all rings in the order of their numbers. The recorder,
// the pump and every catch-up read by one. It serves one goroutine.
//
// It copies a segment at a time under its ring's lock, and only one cursor does so at a
// time: a logging call waits for one copy at most, however many readers there are. What a ring evicts before
// the cursor comes is missing from the numbers it returns: nothing else is, since a
// number is taken under the lock of the ring that the event goes to.
type Cursor struct {
	a     *Rings
	heads []head // one for each ring, in the order of Rings.all
	until event.Num
}

// head is the place of a cursor in one ring.
type head struct {
	r       *Ring
	next    event.Num // numbers below have been returned
	serial  uint64    // of the segment read last; 0: none yet
	off     int       // bytes read of that segment
	buf     []byte    // records copied, from the next one on
	store   []byte    // what buf is a part of
	checked event.Num // nothing below it is unread in the ring
	num     event.Num // of the first record in buf
}

// NewCursor returns a cursor at the event numbered from, or the first one after it
// that the rings still hold. It reads nothing before Cut.
func NewCursor(a *Rings, from event.Num) *Cursor {
	c := &Cursor{a: a}
	c.addHeads(from)
	return c
}

func (c *Cursor) addHeads(from event.Num) {
	all := *c.a.all.Load()
	for _, r := range all[len(c.heads):] {
		c.heads = append(c.heads, head{r: r, next: from})
	}
}

// Cut fixes the events that Read returns from now on: those numbered below the
// result, which is the number of the next event to be logged.
func (c *Cursor) Cut() event.Num {
	c.until = c.a.Next()
	// A ring that is made after this holds nothing below until.
	c.addHeads(0)
	return c.until
}

// Until returns the last cut.
func (c *Cursor) Until() event.Num { return c.until }

// extend moves the cut forward to until, if it is not there.
func (c *Cursor) extend(until event.Num) {
	if until > c.until {
		c.addHeads(0)
		c.until = until
	}
}

// Read returns the next event below the cut; ok is false if there is none. The
// record is valid until the next call.
func (c *Cursor) Read() (num event.Num, rec event.Record, ok bool) {
	var first *head
	for i := range c.heads {
		h := &c.heads[i]
		if len(h.buf) == 0 {
			if h.checked >= c.until {
				continue
			}
			if !h.refill(&c.a.t) {
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

// held cuts and returns a number from which on the rings hold every event, and how
// many older ones they hold. What a ring evicts before the cursor comes is missing
// from that.
func (c *Cursor) held() (completeFrom event.Num, older uint64) {
	until := c.Cut()
	for i := range c.heads {
		r := c.heads[i].r
		c.a.read(r)
		completeFrom = max(completeFrom, r.t.evicted, r.t.firstWithinLimit(&c.a.t))
		c.a.readDone(r)
	}
	completeFrom = min(completeFrom, until)
	for i := range c.heads {
		r := c.heads[i].r
		c.a.read(r)
		n := r.t.count
		if r.t.limit > 0 {
			n = min(n, r.t.limit)
		}
		n -= r.t.countFrom(&c.a.t, completeFrom)
		c.a.readDone(r)
		older += uint64(max(0, n))
	}
	return completeFrom, older
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
func (h *head) refill(a *arena) bool {
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
func (h *head) copyNext(a *arena) bool {
	a.rings.read(h.r)
	defer a.rings.readDone(h.r)
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
		h.store = a.appendSegment(h.store[:0], s, off)
		h.serial, h.off = s.serial, s.used
		return true
	}
	return false
}
