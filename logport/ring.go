package logport

import (
	"encoding/binary"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/cpu"

	"github.com/flogtool/flogtool/event"
)

// rings keep encoded events in one block of memory of fixed size: one ring for
// each facility and level band, each a list of segments, oldest first.
//
//	mem      │ block │ block │ block │ …          16 KiB each, free or in a segment
//	block    = ring, part, parts, serial, record*  parts of a long record, else 0 of 1
//	record   = length, checksum, number, payload   payload: event.Record
//	segment  = one block, or all that one long record takes
//
// A block's header names its ring, and a record's checksum covers the segment's
// serial number, so that what the rings hold can be found in the bytes alone:
// mem may be a file that outlives the process. Where it does not, nobody reads
// the checksums and none are made: they are a tenth of what an event costs.
//
// Logging takes the lock of one ring. Only when a ring's segment is full does it
// take the lock of all, mu, and then ring locks, never the other way round.
//
// Who gives way when the memory is used up: the facility with the most blocks,
// there the ring with the most, there the oldest segment. So a noisy facility
// takes what nobody needs, and never another's fair share.
//
// A trigger pins: segments that began before it are not given away until the
// recorder has read them, and a reserve serves the writers meanwhile.
type rings struct {
	// The one word that every event writes stands alone: what is beside it would
	// be fetched anew from the other processor each time (BenchmarkLogTwo).
	_    aloof
	next atomic.Uint64 // number of the next event
	_    aloof

	pin  atomic.Uint64 // segments whose first number is below it are pinned; 0: none
	news news          // wakes who waits for events

	facilities atomic.Pointer[map[string]*facility] // replaced, never changed
	all        atomic.Pointer[[]*ring]              // replaced, never changed; in order of creation

	maxRecord int  // bytes of one payload, at most
	summed    bool // records have checksums: mem outlives the process

	mu sync.Mutex
	t  arena // guarded by mu
}

// aloof keeps what stands on its two sides out of each other's cache lines, and
// out of the pairs of lines that processors fetch.
type aloof [2]cpu.CacheLinePad

// arena is the memory of the rings and who has which part.
type arena struct {
	mem       []byte
	free      []uint32 // blocks
	total     int      // blocks in all
	reserve   int      // blocks kept for the time of a pin
	batch     int      // blocks given back at a time: finding out who gives way takes all locks
	maxRings  int
	serial    uint64 // of the next segment
	pinLost   uint64 // events in pinned segments that were given up, ever
	settings  settings
	explained map[string]string // facilities, by ExplainFacility
}

const (
	blockSize    = 16 << 10 // a segment's size; a ring holds at least one
	blockHeader  = 16       // ring, part, parts, serial
	blockData    = blockSize - blockHeader
	recordHeader = 16       // length, checksum, number
	maxBlocks    = 4        // of one segment: a record of maxPayload and its headers
	maxPayload   = 60 << 10 // bytes of one encoded event

	minRingBytes = 16 * blockSize // two facilities, two bands each, and room to move
)

const maxFacilities = 64

// otherFacility names the facility whose rings serve all beyond maxFacilities.
const otherFacility = "(other)"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// facility is one facility's settings and rings.
type facility struct {
	name      string
	threshold atomic.Int32 // events below are not made
	rings     [len(event.Levels)]atomic.Pointer[ring]
	blocks    int // guarded by rings.mu
}

// ring holds the events of one facility and level band.
type ring struct {
	mu sync.Mutex
	t  ringTable // guarded by mu; what every event writes stands first

	fac  *facility
	band int
	id   uint32

	crowded atomic.Bool // several goroutines write: see beginDraft

	_ aloof // what follows may be a ring that another processor writes
}

type ringTable struct {
	cur      []byte    // the area of the last segment
	used     int       // of cur
	serial   uint64    // of the last segment
	count    int       // events in all segments
	aside    int       // events that came while the ring was crowded
	segments []segment // oldest first, from index gone; the last one is being written
	gone     int       // segments at the front that were dropped
	gaveUp   event.Num // of events below it none is left, from it on all are
	limit    int       // events kept at most; 0: as many as fit
	maxBytes int       // bytes kept at most; 0: as many as there is room for
}

// live returns the segments, oldest first.
func (t *ringTable) live() []segment { return t.segments[t.gone:] }

// segment is a run of records in one block, or one record in several.
type segment struct {
	serial      uint64
	first, last event.Num // meaningless while count is 0
	count       int
	used        int // bytes of records
	blocks      [maxBlocks]uint32
	n           int // blocks used of them
}

// newRings returns rings in mem; outlives says that mem may be read when the
// process is gone.
func newRings(mem []byte, outlives bool, s settings) *rings {
	total := len(mem) / blockSize
	a := &rings{summed: outlives}
	a.t = arena{
		mem:      mem,
		total:    total,
		reserve:  total / 8,
		batch:    1 + min(7, total/128), // beyond the one needed less than 1% of the history
		maxRings: total / 2,
		serial:   1,
		settings: s,
	}
	a.maxRecord = min(maxPayload, (total-a.t.reserve)*blockSize/4)
	for i := total - 1; i >= 0; i-- {
		a.t.free = append(a.t.free, uint32(i))
	}
	a.facilities.Store(&map[string]*facility{})
	a.all.Store(&[]*ring{})
	return a
}

// facility returns the facility of this name, made at its first use.
func (a *rings) facility(name string) *facility {
	if f := (*a.facilities.Load())[name]; f != nil {
		return f
	}
	return a.newFacility(name)
}

func (a *rings) newFacility(name string) *facility {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := *a.facilities.Load()
	if f := known[name]; f != nil {
		return f
	}
	// A total too small for many rings lowers the number of facilities: each may
	// want all its bands.
	if name != otherFacility && len(known) >= max(1, min(maxFacilities, a.t.maxRings/2)) {
		if f := known[otherFacility]; f != nil {
			return f
		}
		name = otherFacility
	}
	f := &facility{name: strings.Clone(name)}
	f.threshold.Store(int32(a.t.settings.threshold(name)))
	more := make(map[string]*facility, len(known)+1)
	maps.Copy(more, known)
	more[f.name] = f
	a.facilities.Store(&more)
	return f
}

// ring returns the facility's ring for this band, made at its first use; nil if
// there is no room for one more and the facility has none that can serve.
func (a *rings) ring(f *facility, band int) *ring {
	if r := f.rings[band].Load(); r != nil {
		return r
	}
	return a.newRing(f, band)
}

func (a *rings) newRing(f *facility, band int) *ring {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := f.rings[band].Load(); r != nil {
		return r
	}
	all := *a.all.Load()
	if len(all) >= a.t.maxRings {
		// No floor left for another ring: the nearest band of the facility
		// serves, or any ring at all.
		serves := all[len(all)-1]
		for d := 1; d < len(f.rings); d++ {
			if b := band - d; b >= 0 && f.rings[b].Load() != nil {
				serves = f.rings[b].Load()
				break
			}
			if b := band + d; b < len(f.rings) && f.rings[b].Load() != nil {
				serves = f.rings[b].Load()
				break
			}
		}
		f.rings[band].Store(serves)
		return serves
	}
	r := &ring{fac: f, band: band, id: uint32(len(all) + 1)}
	r.t.maxBytes, r.t.limit = a.t.settings.ring(f.name, event.Levels[band])
	f.rings[band].Store(r)
	more := append(all[:len(all):len(all)], r)
	a.all.Store(&more)
	return r
}

// append stores a payload of at most maxRecord bytes and returns its number.
//
// Hot path: BenchmarkLog, TestLogDoesNotAllocate.
func (a *rings) append(r *ring, payload []byte) event.Num {
	r.mu.Lock()
	for r.t.used+recordHeader+len(payload) > len(r.t.cur) {
		r.mu.Unlock()
		if recordHeader+len(payload) > blockData {
			return a.appendLong(r, payload)
		}
		a.grow(r, recordHeader+len(payload))
		r.mu.Lock()
	}
	if r.crowded.Load() {
		if r.t.aside++; r.t.aside >= crowdedFor {
			r.t.aside = 0
			r.crowded.Store(false)
		}
	}
	copy(r.t.cur[r.t.used+recordHeader:], payload)
	num := a.put(r, len(payload))
	r.mu.Unlock()
	a.news.tell()
	return num
}

// put makes a record of the payload of n bytes that has been written where the
// ring's next one begins, and returns its number. Its caller holds r.mu.
func (a *rings) put(r *ring, n int) event.Num {
	num := a.next.Add(1) - 1
	b := r.t.cur[r.t.used : r.t.used+recordHeader+n]
	r.t.used += len(b)
	var sum uint32
	if a.summed { // of the copy: crc32 would have the caller's buffer escape
		sum = crc32.Update(0, castagnoli, b[recordHeader:])
		if end := r.t.cur[r.t.used:]; len(end) >= recordHeader {
			binary.LittleEndian.PutUint32(end, 0) // what an earlier use of the block left is no record
		}
	}
	putRecordHeader(b, n, sum, num, r.t.serial)
	r.t.note(event.Num(num))
	return event.Num(num)
}

// note counts a record just written to the last segment.
func (t *ringTable) note(num event.Num) {
	s := &t.segments[len(t.segments)-1]
	if s.count == 0 {
		s.first = num
	}
	s.last = num
	s.count++
	s.used = t.used
	t.count++
}

// putRecordHeader writes a record's header in front of its payload, the length
// last: a process that dies here leaves the record unmade.
func putRecordHeader(b []byte, length int, sum uint32, num, serial uint64) {
	binary.LittleEndian.PutUint64(b[8:], num)
	binary.LittleEndian.PutUint32(b[4:], checksum(sum, num, serial))
	binary.LittleEndian.PutUint32(b, uint32(length))
}

// checksum binds a payload's sum to the record's number and to the segment it
// stands in: what an earlier use of the block left is not taken for a record.
func checksum(sum uint32, num, serial uint64) uint32 {
	x := (num ^ serial*0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd
	return sum ^ uint32(x>>32)
}

// grow gives r an empty last segment of one block, unless another goroutine
// just did.
func (a *rings) grow(r *ring, need int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r.mu.Lock()
	full := r.t.used+need > len(r.t.cur)
	r.mu.Unlock()
	if full {
		a.addSegment(r, 1)
	}
}

// appendLong stores a payload that takes a segment of its own, of several
// blocks.
func (a *rings) appendLong(r *ring, payload []byte) event.Num {
	sum := crc32.Checksum(slices.Clone(payload), castagnoli)
	a.mu.Lock()
	defer a.mu.Unlock()
	n := (recordHeader + len(payload) + blockData - 1) / blockData
	s := a.addSegment(r, n)

	r.mu.Lock()
	defer r.mu.Unlock()
	num := a.next.Add(1) - 1
	area := a.t.area(s.blocks[0])
	rest := payload[copy(area[recordHeader:], payload):]
	for _, b := range s.blocks[1:n] {
		rest = rest[copy(a.t.area(b), rest):]
	}
	putRecordHeader(area, len(payload), sum, num, s.serial)
	r.t.used = recordHeader + len(payload)
	r.t.note(event.Num(num))
	r.t.cur = nil // what follows begins a segment
	a.news.tell()
	return event.Num(num)
}

// addSegment appends an empty segment of n blocks to r. Its caller holds a.mu.
func (a *rings) addSegment(r *ring, n int) segment {
	a.makeRoom(r, n)
	s := segment{serial: a.t.serial, n: n}
	a.t.serial++
	for i := range n {
		last := len(a.t.free) - 1
		b := a.t.free[last]
		a.t.free = a.t.free[:last]
		s.blocks[i] = b

		head := a.t.mem[int(b)*blockSize:]
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
	r.t.cur, r.t.used, r.t.serial = a.t.area(s.blocks[0]), 0, s.serial
	return s
}

// area is the part of a block that holds records.
func (t *arena) area(block uint32) []byte {
	return t.mem[int(block)*blockSize+blockHeader : (int(block)+1)*blockSize]
}

// makeRoom sees to it that n blocks are free for r. Its caller holds a.mu.
func (a *rings) makeRoom(r *ring, n int) {
	a.trim(r)
	spare := a.t.reserve
	if a.pin.Load() != 0 {
		spare = 0 // this is what the reserve is for
	}
	// A few times, so that a reserve spent during a pin comes back without one call
	// paying for all of it.
	for tries := 0; len(a.t.free) < n+spare && tries < 4 && a.giveWay(r, a.t.batch, unpinned); tries++ {
	}
	for len(a.t.free) < n {
		if !a.giveWay(r, 1, unpinned) && !a.giveWay(r, 1, oldestPinned) && !a.giveWay(r, 1, anyAtAll) {
			panic("logport: the rings hold no segment and have no room")
		}
	}
}

// trim drops r's oldest segments that its own limits do not allow.
func (a *rings) trim(r *ring) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for t := &r.t; len(t.live()) > 1 && !a.pinned(&t.live()[0]); {
		over := t.limit > 0 && t.count-t.live()[0].count >= t.limit || t.maxBytes > 0 && len(t.live())*blockSize >= t.maxBytes
		if !over {
			return
		}
		a.drop(r)
	}
}

// pinned reports whether the recorder still needs s.
func (a *rings) pinned(s *segment) bool {
	return s.count > 0 && uint64(s.first) < a.pin.Load()
}

// giveUp says what may be given up to make room, ever more.
type giveUp int

const (
	unpinned     giveUp = iota // segments that nobody needs, of the ring that has most
	oldestPinned               // the oldest segment of all
	anyAtAll                   // also a ring's only one: long records may fill all the floor
)

// giveWay drops segments of the ring that is to give way, until they held that many
// blocks or the next one is pinned, and reports whether it dropped any. Of what is
// pinned it drops one.
func (a *rings) giveWay(asks *ring, blocks int, what giveUp) bool {
	var victim *ring
	var best candidate
	for _, r := range *a.all.Load() {
		r.mu.Lock()
		if r.t.mayGive(a, what) {
			c := candidate{blocks: r.fac.blocks, segments: len(r.t.live()), first: r.t.live()[0].first, asks: r == asks}
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
	for before := len(a.t.free); victim.t.mayGive(a, what); {
		if lost, pinned := a.drop(victim); pinned {
			a.t.pinLost += uint64(lost)
		}
		if what != unpinned || len(a.t.free) >= before+blocks {
			break
		}
	}
	return true
}

// mayGive reports whether the ring's oldest segment may be given up.
func (t *ringTable) mayGive(a *rings, what giveUp) bool {
	live := t.live()
	switch what {
	case unpinned:
		return len(live) > 1 && !a.pinned(&live[0])
	case oldestPinned:
		return len(live) > 1
	}
	return len(live) > 0
}

// candidate is what decides who gives way.
type candidate struct {
	blocks   int // of its facility
	segments int
	first    event.Num
	asks     bool
}

// before reports whether c gives way rather than d: the larger facility, the
// larger ring, the one that asks; among pinned segments the oldest.
func (c candidate) before(d candidate, what giveUp) bool {
	switch {
	case what != unpinned:
		return c.first < d.first
	case c.blocks != d.blocks:
		return c.blocks > d.blocks
	case c.segments != d.segments:
		return c.segments > d.segments
	}
	return c.asks
}

// drop gives the blocks of r's oldest segment back and returns the number of
// events in it and whether it was pinned. Its caller holds a.mu and r.mu.
func (a *rings) drop(r *ring) (events int, pinned bool) {
	t := &r.t
	s := t.live()[0]
	t.gone++
	if t.gone == len(t.segments) {
		t.cur, t.used = nil, 0
	}
	if t.gone > len(t.segments)/2 {
		t.segments = append(t.segments[:0], t.live()...)
		t.gone = 0
	}
	t.count -= s.count
	if s.count > 0 {
		t.gaveUp = s.last + 1
	}
	for _, b := range s.blocks[:s.n] {
		// Marked free, so that a reader of a dead process's memory passes it by.
		binary.LittleEndian.PutUint32(a.t.mem[int(b)*blockSize:], 0)
		a.t.free = append(a.t.free, b)
	}
	r.fac.blocks -= s.n
	return s.count, a.pinned(&s)
}

// unpin ends the pin of a recorder that has read all up to num, unless a later
// trigger has raised it.
func (a *rings) unpin(num event.Num) {
	if p := a.pin.Load(); p <= uint64(num)+1 {
		a.pin.CompareAndSwap(p, 0)
	}
}

// pinBefore pins all events numbered num or below.
func (a *rings) pinBefore(num event.Num) {
	for {
		p := a.pin.Load()
		if p > uint64(num) || a.pin.CompareAndSwap(p, uint64(num)+1) {
			return
		}
	}
}
