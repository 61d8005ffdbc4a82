package logport

import (
	"log/slog"

	"github.com/flogtool/flogtool/event"
)

// A draft is an event that is being encoded where it will stay: in the free
// memory of its ring, whose lock is held. A buffer need not be cleared, filled
// and copied then, which takes a quarter off what recording costs an event
// (BenchmarkSlog). Until it is committed nobody sees what has been written.
//
// Nothing of the application may run under a ring's lock. So a draft takes values
// of basic kinds only, and what else turns up, or finds no room, or meets another
// writer, ends it: the event is then encoded aside and goes the way of
// [Logport.finish].
//
//	ring, b := lp.beginDraft(facility, level, need)
//	b = event.AppendRecord(b, …)
//	b, ok = appendDraft(b, &attr, &facility)   false: ring.mu.Unlock(), and if that moved facility begin again
//	num, ok = lp.commitDraft(ring, b, source, parent)

// mayDraft reports whether an event that p places can be a draft: nothing of the
// application is to look at it, and nobody keeps it.
func (lp *Logport) mayDraft(level event.Level, p *placing) bool {
	return lp.drafts && level < event.Weird && p.format == ""
}

// beginDraft takes the lock of the ring that an event belongs to and returns the
// room there is for it, at least need bytes. The ring is nil if there is less, if
// somebody else writes to it, or if the facility has no such events.
//
// Hot path: BenchmarkSlog, BenchmarkLog.
func (lp *Logport) beginDraft(facility string, level event.Level, need int) (*ring, []byte) {
	f := lp.noFacility
	if facility != "" {
		f = lp.rings.facility(facility)
	}
	if int32(level) < f.threshold.Load() {
		return nil, nil
	}
	r := lp.rings.ring(f, level.Band())
	// Two writers of one ring would wait for each other's encoding: for a while
	// they encode aside.
	if r.crowded.Load() {
		return nil, nil
	}
	if !r.mu.TryLock() {
		r.crowded.Store(true)
		return nil, nil
	}
	from := r.t.used + recordHeader
	if from+need > len(r.t.cur) {
		r.mu.Unlock()
		return nil, nil
	}
	return r, r.t.cur[from:from:len(r.t.cur)]
}

// crowdedFor is how many events of a ring are encoded aside after one found the
// ring locked.
const crowdedFor = 128

// basicSize is more than what an attribute of a basic kind takes beside its key
// and its text.
const basicSize = 64

// appendDraft appends an attribute that stands in no group; ok is false if the
// draft cannot take it. If that is because it belongs to another facility, that
// stands in facility.
func appendDraft(b []byte, a *slog.Attr, facility *string) (_ []byte, ok bool) {
	kind := a.Value.Kind()
	room := cap(b) - len(b) - len(a.Key) - basicSize
	if kind == slog.KindString {
		room -= len(a.Value.String())
	}
	if room < 0 {
		return b, false
	}
	if mayBeReserved(a.Key) {
		switch {
		case a.Key == facilityKey && kind == slog.KindString:
			same := *facility == a.Value.String()
			*facility = a.Value.String()
			return event.AppendFacility(b, *facility), same
		case a.Key == umidKey && kind == slog.KindString:
			return event.AppendUmid(b, a.Value.String()), true
		case isReserved(a.Key):
			return b, false
		}
	}
	return appendBasic(b, a, kind)
}

// holds reports whether b stands where the ring's next payload does.
func (t *ringTable) holds(b []byte) bool {
	room := t.cur[t.used+recordHeader:]
	return len(b) <= len(room) && &b[0] == &room[0]
}

// commitDraft appends what stands behind the attributes, unless it is empty or
// NoNum, makes the event one of the ring and gives the ring free. ok is false if
// the event does not fit or may not stay as it is: then nothing of it is left.
func (lp *Logport) commitDraft(r *ring, b []byte, source string, parent event.Num) (num event.Num, ok bool) {
	if cap(b)-len(b) < len(source)+basicSize {
		r.mu.Unlock()
		return event.NoNum, false
	}
	if source != "" {
		b = event.AppendSource(b, source)
	}
	if parent != event.NoNum {
		b = event.AppendParent(b, parent)
	}
	if !r.t.holds(b) || mayHoldFURL(b) {
		r.mu.Unlock()
		return event.NoNum, false
	}
	num = lp.rings.put(r, len(b))
	r.mu.Unlock()
	lp.rings.news.tell()
	return num, true
}
