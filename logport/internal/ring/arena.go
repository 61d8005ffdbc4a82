package ring

import (
	"encoding/binary"

	"github.com/flogtool/flogtool/event"
)

// arena is the memory of the rings and its division among them. Only what happens
// once a segment is here; Rings.mu guards it.
type arena struct {
	rings        *Rings
	mem          []byte
	free         []uint32 // blocks
	total        int      // blocks in all
	reserve      int      // blocks kept for the time of a pin
	batch        int      // blocks evicted at a time: choosing the ring takes all locks
	maxRings     int
	serial       uint64 // of the next segment
	pinLost      uint64 // events in pinned segments that were evicted, ever
	settings     settings
	descriptions map[string]string // of facilities
}

// addSegment appends an empty segment of n blocks to r. Its caller holds Rings.mu.
func (t *arena) addSegment(r *Ring, n int) segment {
	t.makeRoom(r, n)
	s := segment{serial: t.serial, n: n}
	t.serial++
	for i := range n {
		last := len(t.free) - 1
		b := t.free[last]
		t.free = t.free[:last]
		s.blocks[i] = b

		head := t.mem[int(b)*BlockSize:]
		binary.LittleEndian.PutUint32(head[0:], 0)
		binary.LittleEndian.PutUint32(head[blockHeader:], 0)
		binary.LittleEndian.PutUint64(head[8:], s.serial)
		binary.LittleEndian.PutUint16(head[6:], uint16(n))
		binary.LittleEndian.PutUint16(head[4:], uint16(i))
		binary.LittleEndian.PutUint32(head[0:], r.id)
	}
	r.fac.blocks += n

	r.mu.Lock()
	defer r.mu.Unlock()
	r.t.segments = append(r.t.segments, s)
	r.t.cur, r.t.used, r.t.serial = t.area(s.blocks[0]), 0, s.serial
	return s
}

// area is the part of a block that holds records.
func (t *arena) area(block uint32) []byte {
	return t.mem[int(block)*BlockSize+blockHeader : (int(block)+1)*BlockSize]
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

// makeRoom makes sure that n blocks are free for r. Its caller holds Rings.mu.
func (t *arena) makeRoom(r *Ring, n int) {
	t.trim(r)
	spare := t.reserve
	if t.rings.pin.Load() != 0 {
		spare = 0 // this is what the reserve is for
	}
	// A few times, so that a reserve spent during a pin comes back without one call
	// paying for all of it.
	for tries := 0; len(t.free) < n+spare && tries < 4 && t.evict(r, t.batch, unpinned); tries++ {
	}
	for len(t.free) < n {
		if !t.evict(r, 1, unpinned) && !t.evict(r, 1, oldestPinned) && !t.evict(r, 1, anySegment) {
			panic("ring: the rings hold no segment and have no room")
		}
	}
}

// trim drops r's oldest segments that its own limits do not allow.
func (t *arena) trim(r *Ring) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for rt := &r.t; len(rt.live()) > 1 && !t.pinned(&rt.live()[0]); {
		over := rt.limit > 0 && rt.count-rt.live()[0].count >= rt.limit || rt.maxBytes > 0 && len(rt.live())*BlockSize >= rt.maxBytes
		if !over {
			return
		}
		t.drop(r)
	}
}

// pinned reports whether the recorder still needs s.
func (t *arena) pinned(s *segment) bool {
	return s.count > 0 && uint64(s.first) < t.rings.pin.Load()
}

// eviction says which segments may be evicted; each value allows more than the one
// before.
type eviction int

const (
	unpinned     eviction = iota // of the ring that has most, what nobody needs
	oldestPinned                 // the oldest segment of all
	anySegment                   // also a ring's only one: long records may fill all the floor
)

// evict drops segments of one ring until they held that many blocks or the next one
// is pinned, and reports whether it dropped any. Of pinned segments it drops one.
func (t *arena) evict(requester *Ring, blocks int, what eviction) bool {
	var victim *Ring
	var best candidate
	for _, r := range *t.rings.all.Load() {
		r.mu.Lock()
		if t.evictable(&r.t, what) {
			c := candidate{blocks: r.fac.blocks, segments: len(r.t.live()), first: r.t.live()[0].first, requester: r == requester}
			if victim == nil || c.before(best, what) {
				victim, best = r, c
			}
		}
		r.mu.Unlock()
	}
	if victim == nil {
		return false
	}
	victim.mu.Lock()
	defer victim.mu.Unlock()
	for before := len(t.free); t.evictable(&victim.t, what); {
		if lost, pinned := t.drop(victim); pinned {
			t.pinLost += uint64(lost)
		}
		if what != unpinned || len(t.free) >= before+blocks {
			break
		}
	}
	return true
}

// evictable reports whether a ring's oldest segment may be evicted.
func (t *arena) evictable(r *ringTable, what eviction) bool {
	live := r.live()
	switch what {
	case unpinned:
		return len(live) > 1 && !t.pinned(&live[0])
	case oldestPinned:
		return len(live) > 1
	}
	return len(live) > 0
}

// candidate is what decides which ring loses a segment.
type candidate struct {
	blocks    int // of its facility
	segments  int
	first     event.Num
	requester bool
}

// before reports whether c loses a segment rather than d: the larger facility, the
// larger ring, the one that needs room; among pinned segments the oldest.
func (c candidate) before(d candidate, what eviction) bool {
	switch {
	case what != unpinned:
		return c.first < d.first
	case c.blocks != d.blocks:
		return c.blocks > d.blocks
	case c.segments != d.segments:
		return c.segments > d.segments
	}
	return c.requester
}

// drop frees the blocks of r's oldest segment and returns the number of events in
// it and whether it was pinned. Its caller holds Rings.mu and r.mu.
func (t *arena) drop(r *Ring) (events int, pinned bool) {
	s := r.t.removeOldest()
	for _, b := range s.blocks[:s.n] {
		// Marked free, so that a reader of a dead process's memory skips it.
		binary.LittleEndian.PutUint32(t.mem[int(b)*BlockSize:], 0)
		t.free = append(t.free, b)
	}
	r.fac.blocks -= s.n
	return s.count, t.pinned(&s)
}
