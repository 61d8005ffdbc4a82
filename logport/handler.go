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
)

// handler is the slog.Handler that records. Attributes given by With are encoded
// once.
type handler struct {
	lp      *Logport
	pre     []byte   // encoded attributes and group beginnings
	groups  []string // all open groups
	open    int      // of them, those begun in pre
	placing placing
	next    slog.Handler // Config.Next with the same attributes, or nil
}

// Handler returns the slog.Handler that records into lp. It never blocks and
// never fails; what cannot be encoded becomes a readable stand-in.
func (lp *Logport) Handler() slog.Handler {
	return &handler{lp: lp, placing: noPlacing, next: lp.next}
}

var noPlacing = placing{parent: event.NoNum}

// Enabled implements [slog.Handler].
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool {
	if event.FromSlog(l) >= h.lp.minThreshold() {
		return true
	}
	return h.next != nil && h.next.Enabled(ctx, l)
}

// Handle implements [slog.Handler].
//
// Hot path: BenchmarkSlog, TestLogDoesNotAllocate.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if h.next != nil {
		if h.lp.cameBack(ctx) {
			return nil
		}
		h.lp.feedNext(ctx, h, r)
	}
	level := event.FromSlog(r.Level)
	if level < h.lp.minThreshold() {
		return nil
	}
	var nano int64
	if !r.Time.IsZero() {
		nano = r.Time.UnixNano()
	}
	if len(h.groups) == 0 && h.draft(ctx, &r, nano, level) {
		return nil
	}
	var stack [stackBuffer]byte
	lp, p := h.lp, h.placing
	b := event.AppendRecord(stack[:0], nano, level, r.Message)
	b = append(b, h.pre...)
	switch {
	case h.open < len(h.groups):
		b = h.appendGrouped(b, r)
	case h.open == 0:
		r.Attrs(func(a slog.Attr) bool {
			b = lp.appendTop(b, &p, &a)
			return true
		})
	default:
		r.Attrs(func(a slog.Attr) bool {
			b = lp.appendAttr(b, h.groups, &a)
			return true
		})
		b = closeGroups(b, h.open)
	}
	if r.PC != 0 {
		b = event.AppendSource(b, lp.sources.at(r.PC))
	}
	lp.finish(ctx, b, level, &p)
	return nil
}

// draft records r, if that can be done in a draft.
func (h *handler) draft(ctx context.Context, r *slog.Record, nano int64, level event.Level) bool {
	lp := h.lp
	if !lp.mayDraft(level, &h.placing) {
		return false
	}
	parent := event.NoNum
	if h.placing.parent == event.NoNum {
		parent = contextParent(ctx)
	}
	var source string
	if r.PC != 0 {
		source = lp.sources.at(r.PC)
	}
	need := len(r.Message) + len(h.pre) + len(source) + basicSize
	facility := h.placing.facility
	for range 2 {
		before := facility
		ring, b := lp.beginDraft(facility, level, need)
		if ring == nil {
			return false
		}
		b = event.AppendRecord(b, nano, level, r.Message)
		b = append(b, h.pre...)
		fits := true
		r.Attrs(func(a slog.Attr) bool {
			b, fits = appendDraft(b, &a, &facility)
			return fits
		})
		if fits {
			_, ok := lp.commitDraft(ring, b, source, parent)
			return ok
		}
		ring.mu.Unlock()
		if facility == before {
			return false
		}
	}
	return false
}

// appendGrouped appends the record's attributes in groups that With opened and
// that hold nothing yet: they appear only if an attribute does.
func (h *handler) appendGrouped(b []byte, r slog.Record) []byte {
	before := len(b)
	for _, g := range h.groups[h.open:] {
		b = event.AppendDictBegin(event.AppendKey(b, g))
	}
	begin := len(b)
	r.Attrs(func(a slog.Attr) bool {
		b = h.lp.appendAttr(b, h.groups, &a)
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
			b = h.lp.appendTop(b, &c.placing, &a)
		} else {
			b = h.lp.appendAttr(b, h.groups, &a)
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
// few: a table with open addressing whose entries are never taken out. What finds
// no place is looked up each time.
type sources [maxSources]atomic.Pointer[source]

// source is where a statement stands, as "dir/file.go:12".
type source struct {
	pc   uintptr
	text string
}

const (
	maxSources   = 1 << 13
	sourceProbes = 16 // places that one program counter may have
)

// at returns where the statement at pc stands.
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

// Log records one event and returns its number, or [event.NoNum] if its level is
// below the facility's threshold. It never blocks and never fails.
//
// Hot path: BenchmarkLog, TestLogDoesNotAllocate.
func (lp *Logport) Log(ctx context.Context, level slog.Level, msg string, attrs ...slog.Attr) event.Num {
	l := event.FromSlog(level)
	if l < lp.minThreshold() {
		return event.NoNum
	}
	nano := lp.clock.now()
	num, ok := lp.logDraft(ctx, nano, l, msg, attrs)
	if !ok {
		num = lp.logAside(ctx, nano, l, msg, attrs)
	}
	if lp.next != nil && num != event.NoNum && !lp.cameBack(ctx) {
		lp.logToNext(ctx, level, msg, attrs)
	}
	return num
}

func (lp *Logport) logAside(ctx context.Context, nano int64, level event.Level, msg string, attrs []slog.Attr) event.Num {
	var stack [stackBuffer]byte
	p := noPlacing
	b := event.AppendRecord(stack[:0], nano, level, msg)
	for i := range attrs {
		b = lp.appendTop(b, &p, &attrs[i])
	}
	return lp.finish(ctx, b, level, &p)
}

// logDraft is logAside in a draft; ok is false where that cannot be.
func (lp *Logport) logDraft(ctx context.Context, nano int64, level event.Level, msg string, attrs []slog.Attr) (num event.Num, ok bool) {
	if !lp.mayDraft(level, &noPlacing) {
		return event.NoNum, false
	}
	var facility string
	for i := range attrs { // most name it: no need to begin twice
		if a := &attrs[i]; a.Key == facilityKey && a.Value.Kind() == slog.KindString {
			facility = a.Value.String()
		}
	}
	parent := contextParent(ctx)
	ring, b := lp.beginDraft(facility, level, len(msg)+basicSize)
	if ring == nil {
		return event.NoNum, false
	}
	b = event.AppendRecord(b, nano, level, msg)
	for i := range attrs {
		if b, ok = appendDraft(b, &attrs[i], &facility); !ok {
			ring.mu.Unlock()
			return event.NoNum, false
		}
	}
	return lp.commitDraft(ring, b, "", parent)
}

// clock tells the time of an event from the monotonic clock, which is half as
// dear as both; it is set by the wall clock once a second.
type clock struct {
	base atomic.Pointer[time.Time]
}

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
