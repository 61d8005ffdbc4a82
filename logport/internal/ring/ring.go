// Package ring keeps encoded events in bounded memory and gives them to readers.
//
//	Append, Begin … Commit ──► Ring of (facility, level band) ──┬── Cursor ──► recorder, catch-up
//	                                                            └── Pump ── Queue ──► Follower
//
// Logging takes the lock of one ring, pushes to nobody and never waits for a
// reader. Readers copy a segment at a time. What a ring evicts before a reader
// comes is counted where it is missing.
//
// The memory may be a [File], which outlives the process. The package knows events
// only as records with a number: it neither encodes nor decodes their fields.
//
// Spec: design.md decision 1.
package ring

import (
	"cmp"
	"context"
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

// Rings are all the rings of a process, in one block of memory of fixed size: one
// ring for each facility and level band, each a list of segments, oldest first.
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
// When the memory is used up, the facility with the most blocks loses a segment:
// of its rings the one that has the most, and there the oldest. So a noisy
// facility takes what nobody needs, and never another's fair share.
//
// A trigger pins: segments that began before it are not evicted until the
// recorder has read them, and a reserve serves the writers meanwhile.
type Rings struct {
	// The one word that every event writes stands alone: what is beside it would
	// be fetched again from the other processor each time (BenchmarkLogTwo).
	_    padding
	next atomic.Uint64 // number of the next event
	_    padding

	pin     atomic.Uint64 // segments whose first number is below it are pinned; 0: none
	waiters waiters       // readers that wait for events

	facilities atomic.Pointer[map[string]*Facility] // replaced, never changed
	all        atomic.Pointer[[]*Ring]              // replaced, never changed; in order of creation
	minimum    atomic.Int32                         // no facility has a lower threshold

	readers sync.Mutex // held by the one cursor that looks into a ring; taken before the ring's lock

	maxRecord int  // bytes of one payload, at most
	summed    bool // records have checksums: mem outlives the process

	mu sync.Mutex
	t  arena // guarded by mu
}

// padding keeps what stands on its two sides out of each other's cache lines, and
// out of the pairs of lines that processors fetch.
type padding [2]cpu.CacheLinePad

const (
	// BlockSize is the size of a segment in bytes; a ring holds at least one.
	BlockSize = 16 << 10

	// MinBytes is the least memory for rings: two facilities with two bands each,
	// and room to move.
	MinBytes = 16 * BlockSize

	blockHeader  = 16 // ring, part, parts, serial
	blockData    = BlockSize - blockHeader
	recordHeader = 16       // length, checksum, number
	maxBlocks    = 4        // of one segment: a record of maxPayload and its headers
	maxPayload   = 60 << 10 // bytes of one encoded event
)

const maxFacilities = 64

// otherFacility names the facility whose rings serve all beyond maxFacilities.
const otherFacility = "(other)"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Facility is one facility's threshold and rings.
type Facility struct {
	name      string
	threshold atomic.Int32 // events below are not made
	rings     [len(event.Levels)]atomic.Pointer[Ring]
	blocks    int // guarded by Rings.mu
}

// Makes reports whether the facility makes events of this level.
func (f *Facility) Makes(l event.Level) bool { return int32(l) >= f.threshold.Load() }

// Ring holds the events of one facility and level band.
type Ring struct {
	mu sync.Mutex
	t  ringTable // guarded by mu; what every event writes stands first

	fac  *Facility
	band int
	id   uint32

	contended atomic.Bool // several goroutines write: see Rings.Begin

	_ padding // what follows may be a ring that another processor writes
}

type ringTable struct {
	cur       []byte    // the area of the last segment
	used      int       // bytes of cur
	serial    uint64    // of the last segment
	count     int       // events in all segments
	contended int       // events that came while the ring was contended
	segments  []segment // oldest first, from index gone; the last one is being written
	gone      int       // segments at the front that were dropped
	evicted   event.Num // no event below it is left; all from it on are there
	limit     int       // events kept at most; 0: as many as fit
	maxBytes  int       // bytes kept at most; 0: as many as there is room for
}

// segment is a run of records in one block, or one record in several.
type segment struct {
	serial      uint64
	first, last event.Num // meaningless while count is 0
	count       int
	used        int // bytes of records
	blocks      [maxBlocks]uint32
	n           int // blocks used of them
}

// live returns the segments, oldest first.
func (t *ringTable) live() []segment { return t.segments[t.gone:] }

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

// removeOldest takes the oldest segment out of the ring.
func (t *ringTable) removeOldest() segment {
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
		t.evicted = s.last + 1
	}
	return s
}

// firstWithinLimit returns the number of the oldest event that a ring limited in
// events still keeps; the segments may hold older ones, for want of a finer cut.
func (t *ringTable) firstWithinLimit(a *arena) event.Num {
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
		records := a.appendSegment(nil, s, 0)
		for ; skip > 0; skip-- {
			records = records[recordHeader+binary.LittleEndian.Uint32(records):]
		}
		return event.Num(binary.LittleEndian.Uint64(records[8:]))
	}
	return 0
}

// countFrom returns how many events in the ring are numbered num or above.
func (t *ringTable) countFrom(a *arena, num event.Num) int {
	n := 0
	live := t.live()
	for i := len(live) - 1; i >= 0 && live[i].count > 0 && live[i].last >= num; i-- {
		if live[i].first >= num {
			n += live[i].count
			continue
		}
		for records := a.appendSegment(nil, &live[i], 0); len(records) > 0; {
			if event.Num(binary.LittleEndian.Uint64(records[8:])) >= num {
				n++
			}
			records = records[recordHeader+binary.LittleEndian.Uint32(records):]
		}
	}
	return n
}

// New returns rings in mem, which they own from now on. outlives says that mem may
// be read after the process has ended.
func New(mem []byte, outlives bool) *Rings {
	total := len(mem) / BlockSize
	a := &Rings{summed: outlives}
	a.t = arena{
		rings:    a,
		mem:      mem,
		total:    total,
		reserve:  total / 8,
		batch:    1 + min(7, total/128), // beyond the one needed less than 1% of the history
		maxRings: total / 2,
		serial:   1,
	}
	a.maxRecord = min(maxPayload, (total-a.t.reserve)*BlockSize/4)
	for i := total - 1; i >= 0; i-- {
		a.t.free = append(a.t.free, uint32(i))
	}
	a.facilities.Store(&map[string]*Facility{})
	a.all.Store(&[]*Ring{})
	a.minimum.Store(int32(a.t.settings.minimum()))
	return a
}

// MaxRecord returns how many bytes a record may have: at most 60 KiB, and at most a
// quarter of the memory that is not reserved.
func (a *Rings) MaxRecord() int { return a.maxRecord }

// Next returns the number of the next event.
func (a *Rings) Next() event.Num { return event.Num(a.next.Load()) }

// Facility returns the facility of this name, which is made at its first use. Of
// more than 64, or fewer where the memory is small, the later ones share one.
func (a *Rings) Facility(name string) *Facility {
	if f := (*a.facilities.Load())[name]; f != nil {
		return f
	}
	return a.newFacility(name)
}

func (a *Rings) newFacility(name string) *Facility {
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
	f := &Facility{name: strings.Clone(name)}
	f.threshold.Store(int32(a.t.settings.threshold(name)))
	more := make(map[string]*Facility, len(known)+1)
	maps.Copy(more, known)
	more[f.name] = f
	a.facilities.Store(&more)
	return f
}

// newRing makes the facility's ring for this band, unless it is there. If there is no
// room for one more, another ring serves.
func (a *Rings) newRing(f *Facility, band int) *Ring {
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
	r := &Ring{fac: f, band: band, id: uint32(len(all) + 1)}
	r.t.maxBytes, r.t.limit = a.t.settings.ring(f.name, event.Levels[band])
	f.rings[band].Store(r)
	more := append(all[:len(all):len(all)], r)
	a.all.Store(&more)
	return r
}

// Draft is an event that is being encoded where it will stay: in the free memory of
// its ring, whose lock is held until Commit or Abort. A buffer need not be cleared,
// filled and copied then, which takes a quarter off what recording an event costs
// (BenchmarkSlog). Until Commit nobody sees what has been written.
//
// Nothing of the application may run under a ring's lock, and a draft has only the
// room that its segment has left. The caller encodes what does not fit these rules
// in memory of its own and calls [Rings.Append].
//
//	d, b := rings.Begin(facility, level, need)
//	if b == nil { … }                    // somebody else writes, or no room
//	b = append(b, …)                     // up to cap(b)
//	num, ok := d.Commit(b)               // or d.Abort()
type Draft struct {
	a *Rings
	r *Ring
}

// contendedFor is how many events of a ring are not drafted after one found the ring
// locked.
const contendedFor = 128

// Begin locks the ring of f and level and returns the room there is, empty and of at
// least need bytes. The room is nil, and there is nothing to end, if there is less,
// if another goroutine writes to the ring, or if f makes no such events.
//
// Hot path: BenchmarkSlog, BenchmarkLog.
func (a *Rings) Begin(f *Facility, level event.Level, need int) (d Draft, room []byte) {
	if !f.Makes(level) {
		return Draft{}, nil
	}
	band := level.Band()
	r := f.rings[band].Load()
	if r == nil {
		r = a.newRing(f, band)
	}
	// Two writers of one ring would wait for each other's encoding: for a while
	// they encode in memory of their own.
	if r.contended.Load() {
		return Draft{}, nil
	}
	if !r.mu.TryLock() {
		r.contended.Store(true)
		return Draft{}, nil
	}
	from := r.t.used + recordHeader
	if from+need > len(r.t.cur) {
		r.mu.Unlock()
		return Draft{}, nil
	}
	return Draft{a, r}, r.t.cur[from:from:len(r.t.cur)]
}

// Commit makes b, which Begin gave and the caller has appended to, an event of the
// ring and unlocks it. If b has outgrown its room, ok is false and nothing of the
// event is left.
func (d Draft) Commit(b []byte) (num event.Num, ok bool) {
	room := d.r.t.cur[d.r.t.used+recordHeader:]
	if len(b) == 0 || len(b) > len(room) || &b[0] != &room[0] {
		d.r.mu.Unlock()
		return event.NoNum, false
	}
	num = d.a.put(d.r, len(b))
	d.r.mu.Unlock()
	d.a.waiters.wakeAll()
	return num, true
}

// Abort unlocks the ring; nothing of the event is left.
func (d Draft) Abort() { d.r.mu.Unlock() }

// Append stores a record of at most MaxRecord bytes in the ring of its facility and
// level, and returns its number. It copies payload.
//
// Hot path: BenchmarkLog, TestLogDoesNotAllocate.
func (a *Rings) Append(f *Facility, level event.Level, payload []byte) event.Num {
	band := level.Band()
	r := f.rings[band].Load()
	if r == nil {
		r = a.newRing(f, band)
	}
	r.mu.Lock()
	for r.t.used+recordHeader+len(payload) > len(r.t.cur) {
		r.mu.Unlock()
		if recordHeader+len(payload) > blockData {
			return a.appendLong(r, payload)
		}
		a.grow(r, recordHeader+len(payload))
		r.mu.Lock()
	}
	if r.contended.Load() {
		if r.t.contended++; r.t.contended >= contendedFor {
			r.t.contended = 0
			r.contended.Store(false)
		}
	}
	copy(r.t.cur[r.t.used+recordHeader:], payload)
	num := a.put(r, len(payload))
	r.mu.Unlock()
	a.waiters.wakeAll()
	return num
}

// put makes a record of the payload of n bytes that has been written where the
// ring's next one begins, and returns its number. Its caller holds r.mu.
func (a *Rings) put(r *Ring, n int) event.Num {
	num := a.next.Add(1) - 1
	b := r.t.cur[r.t.used : r.t.used+recordHeader+n]
	r.t.used += len(b)
	var sum uint32
	if a.summed { // of the copy: crc32 would have the caller's buffer escape
		sum = crc32.Update(0, castagnoli, b[recordHeader:])
		if end := r.t.cur[r.t.used:]; len(end) >= recordHeader {
			binary.LittleEndian.PutUint32(end, 0) // what an earlier use of the block left is not a record
		}
	}
	putRecordHeader(b, n, sum, num, r.t.serial)
	r.t.note(event.Num(num))
	return event.Num(num)
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
func (a *Rings) grow(r *Ring, need int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r.mu.Lock()
	full := r.t.used+need > len(r.t.cur)
	r.mu.Unlock()
	if full {
		a.t.addSegment(r, 1)
	}
}

// appendLong stores a payload that takes a segment of its own, of several
// blocks.
func (a *Rings) appendLong(r *Ring, payload []byte) event.Num {
	sum := crc32.Checksum(slices.Clone(payload), castagnoli)
	a.mu.Lock()
	defer a.mu.Unlock()
	n := (recordHeader + len(payload) + blockData - 1) / blockData
	s := a.t.addSegment(r, n)

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
	a.waiters.wakeAll()
	return event.Num(num)
}

// Pin keeps all events numbered num or below from being evicted until [Rings.Unpin].
// When the reserve is used up, the oldest pinned segment is evicted and counted in
// [Rings.PinLost].
func (a *Rings) Pin(num event.Num) {
	for {
		p := a.pin.Load()
		if p > uint64(num) || a.pin.CompareAndSwap(p, uint64(num)+1) {
			return
		}
	}
}

// Unpin ends the pin of a recorder that has read all up to num, unless a later
// trigger has raised it.
func (a *Rings) Unpin(num event.Num) {
	if p := a.pin.Load(); p <= uint64(num)+1 {
		a.pin.CompareAndSwap(p, 0)
	}
}

// PinLost returns how many pinned events were evicted, ever.
func (a *Rings) PinLost() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.t.pinLost
}

// Minimum returns the lowest threshold of all facilities: no event below it is made.
func (a *Rings) Minimum() event.Level { return event.Level(a.minimum.Load()) }

// SetThreshold sets the level below which facility makes no events, and its dotted
// children unless they have a setting of their own; "" is the default for all.
func (a *Rings) SetThreshold(facility string, level event.Level) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.settings.setThreshold(facility, level)
	a.applyThresholds()
}

// UnsetThreshold removes a facility's own setting.
func (a *Rings) UnsetThreshold(facility string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.t.settings.thresholds, facility)
	a.applyThresholds()
}

// applyThresholds gives the facilities their thresholds. Its caller holds a.mu.
func (a *Rings) applyThresholds() {
	for name, f := range *a.facilities.Load() {
		f.threshold.Store(int32(a.t.settings.threshold(name)))
	}
	a.minimum.Store(int32(a.t.settings.minimum()))
}

// Threshold returns the level below which facility makes no events.
func (a *Rings) Threshold(facility string) event.Level {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.t.settings.threshold(facility)
}

// Thresholds returns the settings that facilities have of their own.
func (a *Rings) Thresholds() map[string]event.Level {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.t.settings.thresholds)
}

// SetRing bounds the ring of facility, and of its dotted children unless they have a
// setting of their own, for the band of level, in bytes or in events; 0 is no bound.
func (a *Rings) SetRing(facility string, level event.Level, bytes, events int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.settings.setRing(facility, level, ringSize{bytes, events})
	for _, r := range *a.all.Load() {
		r.mu.Lock()
		r.t.maxBytes, r.t.limit = a.t.settings.ring(r.fac.name, event.Levels[r.band])
		r.mu.Unlock()
	}
}

// Describe says in a sentence what a facility's events are about.
func (a *Rings) Describe(facility, sentence string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.t.descriptions == nil {
		a.t.descriptions = map[string]string{}
	}
	a.t.descriptions[facility] = sentence
}

// FacilityInfo is what is known of one facility.
type FacilityInfo struct {
	Name        string
	Description string // by Describe
	Threshold   event.Level
	Bytes       int // of the rings' memory
}

// Facilities returns the facilities that have logged or are described, sorted by
// name.
func (a *Rings) Facilities() []FacilityInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := map[string]FacilityInfo{}
	for name, sentence := range a.t.descriptions {
		all[name] = FacilityInfo{Name: name, Description: sentence, Threshold: a.t.settings.threshold(name)}
	}
	for name, f := range *a.facilities.Load() {
		all[name] = FacilityInfo{Name: name, Description: a.t.descriptions[name],
			Threshold: event.Level(f.threshold.Load()), Bytes: f.blocks * BlockSize}
	}
	return slices.SortedFunc(maps.Values(all), func(x, y FacilityInfo) int { return cmp.Compare(x.Name, y.Name) })
}

// read locks a ring for a reader, after all readers before it. readDone unlocks it.
func (a *Rings) read(r *Ring) {
	a.readers.Lock()
	r.mu.Lock()
}

func (a *Rings) readDone(r *Ring) {
	r.mu.Unlock()
	a.readers.Unlock()
}

// Wait returns nil when an event numbered num or above exists, or ctx's cause.
func (a *Rings) Wait(ctx context.Context, num event.Num) error {
	for {
		ch := a.waiters.channel()
		if a.Next() > num {
			return nil
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// waiters are the readers that wait for events. Logging pays one atomic load while
// there are none.
type waiters struct {
	some atomic.Bool
	mu   sync.Mutex
	ch   chan struct{} // guarded by mu; closed at the next event
}

// wakeAll ends the waiting of all.
func (w *waiters) wakeAll() {
	if w.some.Load() {
		w.close()
	}
}

func (w *waiters) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.some.Swap(false) {
		close(w.ch)
	}
}

// channel returns a channel that is closed at the next event.
func (w *waiters) channel() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.some.Load() {
		w.ch = make(chan struct{})
		w.some.Store(true)
	}
	return w.ch
}
