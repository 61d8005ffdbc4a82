package logport

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/logport/internal/ring"
)

// recorder turns logging calls into events of the rings. It has everything that a
// call needs; what happens later is not its business.
//
//	handler.Handle, recorder.log ── basic values ──► ring.Draft: encoded where it stays
//	                             └─ anything else ─► a buffer ── record ──► rings, trigger?
//
// Nothing of the application runs under a lock, and a call never waits for more than
// a copy of a few bytes.
type recorder struct {
	rings       *ring.Rings
	encoder     encoder
	incarnation string
	qualifier   incident.Qualifier // Config's, or nil: WEIRD and above
	next        *nextFeed          // or nil
	drafts      bool               // nothing of the application looks at each event
	clock       clock
	noFacility  *ring.Facility // of events that name none
	sources     sources

	// triggered takes over rec; declared says that a person asked for the incident.
	triggered func(num event.Num, rec event.Record, declared bool)
	// qualifierPanicked reports a panic of the qualifier.
	qualifierPanicked func(v any)
}

// meta is what an event's own attributes say beside its fields.
type meta struct {
	facility string
	format   string
	parent   event.Num
	declared bool // by DeclareIncident
}

var noMeta = meta{parent: event.NoNum}

// stackBuffer is the size of the buffer on the caller's stack in which an event that
// cannot be a draft is encoded; a longer event moves to the heap. A pool of buffers
// costs more than clearing this one (BenchmarkLog).
const stackBuffer = 512

// log is [Logport.Log].
//
// Hot path: BenchmarkLog, TestLogDoesNotAllocate.
func (r *recorder) log(ctx context.Context, level slog.Level, msg string, attrs []slog.Attr) event.Num {
	l := event.FromSlog(level)
	if l < r.rings.Minimum() {
		return event.NoNum
	}
	nano := r.clock.now()
	num, ok := r.logDraft(ctx, nano, l, msg, attrs)
	if !ok {
		num = r.logBuffered(ctx, nano, l, msg, attrs, noMeta)
	}
	if r.next != nil && num != event.NoNum {
		r.next.log(ctx, level, msg, attrs)
	}
	return num
}

// logBuffered encodes an event in a buffer and records it.
func (r *recorder) logBuffered(ctx context.Context, nano int64, level event.Level, msg string, attrs []slog.Attr, m meta) event.Num {
	var stack [stackBuffer]byte
	b := event.AppendRecord(stack[:0], nano, level, msg)
	for i := range attrs {
		b = r.encoder.appendTop(b, &m, &attrs[i])
	}
	return r.record(ctx, b, level, &m)
}

// logDraft is logBuffered in a draft; ok is false where that cannot be.
func (r *recorder) logDraft(ctx context.Context, nano int64, level event.Level, msg string, attrs []slog.Attr) (num event.Num, ok bool) {
	if !r.mayDraft(level, &noMeta) {
		return event.NoNum, false
	}
	var facility string
	for i := range attrs { // most name it: no need to begin twice
		if a := &attrs[i]; a.Key == facilityKey && a.Value.Kind() == slog.KindString {
			facility = a.Value.String()
		}
	}
	parent := contextParent(ctx)
	d, b := r.rings.Begin(r.facility(facility), level, len(msg)+basicSize)
	if b == nil {
		return event.NoNum, false
	}
	b = event.AppendRecord(b, nano, level, msg)
	for i := range attrs {
		if b, ok = appendDraft(b, &attrs[i], &facility); !ok {
			d.Abort()
			return event.NoNum, false
		}
	}
	return r.commit(d, b, "", parent)
}

// mayDraft reports whether an event can be a draft: nothing of the application is to
// look at it, and nobody keeps it.
func (r *recorder) mayDraft(level event.Level, m *meta) bool {
	return r.drafts && level < event.Weird && m.format == ""
}

// commit appends what follows the attributes, unless it is empty or NoNum, and makes
// the draft an event. ok is false if the event does not fit or may not stay as it is:
// then nothing of it is left.
func (r *recorder) commit(d ring.Draft, b []byte, source string, parent event.Num) (num event.Num, ok bool) {
	if cap(b)-len(b) < len(source)+basicSize {
		d.Abort()
		return event.NoNum, false
	}
	if source != "" {
		b = event.AppendSource(b, source)
	}
	if parent != event.NoNum {
		b = event.AppendParent(b, parent)
	}
	if mayHoldSecret(b) {
		d.Abort()
		return event.NoNum, false
	}
	return d.Commit(b)
}

func (r *recorder) facility(name string) *ring.Facility {
	if name == "" {
		return r.noFacility
	}
	return r.rings.Facility(name)
}

// record completes the event b, puts it into its ring, and looks whether it is a
// trigger. b does not escape: what keeps it, or might, gets a copy.
//
// Hot path: BenchmarkLog, TestLogDoesNotAllocate.
func (r *recorder) record(ctx context.Context, b []byte, level event.Level, m *meta) event.Num {
	if m.format != "" {
		b = event.AppendFormat(b, m.format)
	}
	if m.parent == event.NoNum {
		if n := contextParent(ctx); n != event.NoNum {
			b = event.AppendParent(b, n)
		}
	}
	f := r.facility(m.facility)
	if !f.Makes(level) {
		return event.NoNum
	}
	if mayHoldSecret(b) {
		b = maskRecord(slices.Clone(b))
	}
	if most := r.rings.MaxRecord(); len(b) > most {
		b = shrink(slices.Clone(b), most)
	}
	num := r.rings.Append(f, level, b)
	if m.declared || r.isTrigger(level, num, b, m) {
		r.triggered(num, slices.Clone(b), m.declared)
	}
	return num
}

// isTrigger reports whether an event is one. Events about the recorder never
// are: an incident about incidents would go round for ever.
func (r *recorder) isTrigger(level event.Level, num event.Num, rec event.Record, m *meta) bool {
	if r.qualifier == nil {
		return level >= event.Weird
	}
	return m.facility != ownFacility && r.qualifies(num, slices.Clone(rec))
}

// qualifies asks Config's qualifier, whose panic must not reach the caller.
func (r *recorder) qualifies(num event.Num, rec event.Record) (is bool) {
	defer func() {
		if v := recover(); v != nil {
			is = false
			r.qualifierPanicked(v)
		}
	}()
	e, err := rec.Event(num, r.incarnation)
	return err == nil && r.qualifier.IsTrigger(e)
}

// handler is the slog.Handler that records. Attributes given by With are encoded
// once.
type handler struct {
	r      *recorder
	pre    []byte   // encoded attributes and group beginnings
	groups []string // all open groups
	open   int      // of them, those begun in pre
	meta   meta
	next   slog.Handler // Config.Next with the same attributes, or nil
}

// Enabled implements [slog.Handler].
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool {
	if event.FromSlog(l) >= h.r.rings.Minimum() {
		return true
	}
	return h.next != nil && h.next.Enabled(ctx, l)
}

// Handle implements [slog.Handler].
//
// Hot path: BenchmarkSlog, TestLogDoesNotAllocate.
func (h *handler) Handle(ctx context.Context, rec slog.Record) error {
	if h.next != nil && !h.r.next.handle(ctx, h, rec) {
		return nil
	}
	r := h.r
	level := event.FromSlog(rec.Level)
	if level < r.rings.Minimum() {
		return nil
	}
	var nano int64
	if !rec.Time.IsZero() {
		nano = rec.Time.UnixNano()
	}
	if len(h.groups) == 0 && h.draft(ctx, &rec, nano, level) {
		return nil
	}
	var stack [stackBuffer]byte
	m := h.meta
	b := event.AppendRecord(stack[:0], nano, level, rec.Message)
	b = append(b, h.pre...)
	switch {
	case h.open < len(h.groups):
		b = h.appendGrouped(b, rec)
	case h.open == 0:
		rec.Attrs(func(a slog.Attr) bool {
			b = r.encoder.appendTop(b, &m, &a)
			return true
		})
	default:
		rec.Attrs(func(a slog.Attr) bool {
			b = r.encoder.appendAttr(b, h.groups, &a)
			return true
		})
		b = closeGroups(b, h.open)
	}
	if rec.PC != 0 {
		b = event.AppendSource(b, r.sources.at(rec.PC))
	}
	r.record(ctx, b, level, &m)
	return nil
}

// draft records rec, if that can be done in a draft.
func (h *handler) draft(ctx context.Context, rec *slog.Record, nano int64, level event.Level) bool {
	r := h.r
	if !r.mayDraft(level, &h.meta) {
		return false
	}
	parent := event.NoNum
	if h.meta.parent == event.NoNum {
		parent = contextParent(ctx)
	}
	var source string
	if rec.PC != 0 {
		source = r.sources.at(rec.PC)
	}
	need := len(rec.Message) + len(h.pre) + len(source) + basicSize
	facility := h.meta.facility
	for range 2 {
		before := facility
		d, b := r.rings.Begin(r.facility(facility), level, need)
		if b == nil {
			return false
		}
		b = event.AppendRecord(b, nano, level, rec.Message)
		b = append(b, h.pre...)
		fits := true
		rec.Attrs(func(a slog.Attr) bool {
			b, fits = appendDraft(b, &a, &facility)
			return fits
		})
		if fits {
			_, ok := r.commit(d, b, source, parent)
			return ok
		}
		d.Abort()
		if facility == before {
			return false
		}
	}
	return false
}

// appendGrouped appends the record's attributes in groups that With opened and
// that hold nothing yet: they appear only if an attribute does.
func (h *handler) appendGrouped(b []byte, rec slog.Record) []byte {
	before := len(b)
	for _, g := range h.groups[h.open:] {
		b = event.AppendDictBegin(event.AppendKey(b, g))
	}
	begin := len(b)
	rec.Attrs(func(a slog.Attr) bool {
		b = h.r.encoder.appendAttr(b, h.groups, &a)
		return true
	})
	if len(b) == begin {
		return closeGroups(b[:before], h.open)
	}
	return closeGroups(b, len(h.groups))
}

func closeGroups(b []byte, n int) []byte {
	for range n {
		b = event.AppendDictEnd(b)
	}
	return b
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	c := *h
	if h.next != nil {
		c.next = h.next.WithAttrs(attrs)
	}
	b := slices.Clip(h.pre)
	before := len(b)
	for _, g := range h.groups[h.open:] {
		b = event.AppendDictBegin(event.AppendKey(b, g))
	}
	begin := len(b)
	for _, a := range attrs {
		if len(h.groups) == 0 {
			b = h.r.encoder.appendTop(b, &c.meta, &a)
		} else {
			b = h.r.encoder.appendAttr(b, h.groups, &a)
		}
	}
	if len(b) == begin {
		b = b[:before]
	} else {
		c.open = len(h.groups)
	}
	c.pre = b
	return &c
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" || len(h.groups) == maxGroups {
		return h
	}
	c := *h
	if h.next != nil {
		c.next = h.next.WithGroup(name)
	}
	c.groups = append(slices.Clip(h.groups), name)
	return &c
}

// sources caches the text of program counters, of which a program that logs has
// few: a table with open addressing whose entries are never removed. A statement that
// finds no place is looked up each time.
type sources [maxSources]atomic.Pointer[source]

// source is the place of a log statement, as "dir/file.go:12".
type source struct {
	pc   uintptr
	text string
}

const (
	maxSources   = 1 << 13
	sourceProbes = 16 // places that one program counter may have
)

// at returns the place of the statement at pc.
//
// Hot path: BenchmarkSlog. A map costs three times as much.
func (s *sources) at(pc uintptr) string {
	place := uint64(pc) * 0x9e3779b97f4a7c15 >> 32
	for i := range uint64(sourceProbes) {
		entry := &s[(place+i)%maxSources]
		known := entry.Load()
		if known == nil {
			known = newSource(pc)
			if !entry.CompareAndSwap(nil, known) && entry.Load().pc != pc {
				continue
			}
		}
		if known.pc == pc {
			return known.text
		}
	}
	return newSource(pc).text
}

func newSource(pc uintptr) *source {
	frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	file := frame.File
	if i := strings.LastIndexByte(file, '/'); i >= 0 {
		if j := strings.LastIndexByte(file[:i], '/'); j >= 0 {
			file = file[j+1:]
		}
	}
	return &source{pc, file + ":" + strconv.Itoa(frame.Line)}
}

// clock tells the time of an event from the monotonic clock, which costs half of
// reading both; it is set by the wall clock once a second.
type clock struct {
	base atomic.Pointer[time.Time]
}

// now returns nanoseconds since 1970.
func (c *clock) now() int64 {
	base := c.base.Load()
	passed := time.Since(*base)
	if uint64(passed) > uint64(time.Second) {
		return c.set()
	}
	return base.UnixNano() + int64(passed)
}

func (c *clock) set() int64 {
	now := time.Now()
	c.base.Store(&now)
	return now.UnixNano()
}
