package logport

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
)

// ownFacility is that of events about the recorder itself.
const ownFacility = "flogtool.logport"

// reporter logs events about the recorder, below any trigger level. It bounds them to
// one a second of each message, so that a report can never make the trouble it
// reports.
type reporter struct {
	r *recorder

	mu   sync.Mutex
	last map[string]time.Time // by message; guarded by mu
	held map[string]int       // reports held back; guarded by mu

	early []func() // reports made before there are rings
}

// report logs an event, at most once a second for each message. Messages are
// constants.
func (r *reporter) report(level event.Level, message string, attrs ...slog.Attr) {
	r.mu.Lock()
	if r.last == nil {
		r.last, r.held = map[string]time.Time{}, map[string]int{}
	}
	if time.Since(r.last[message]) < time.Second {
		r.held[message]++
		r.mu.Unlock()
		return
	}
	r.last[message] = time.Now()
	held := r.held[message]
	r.held[message] = 0
	r.mu.Unlock()

	if held > 0 {
		attrs = append(attrs, slog.Int("held_back", held))
	}
	r.reportNow(level, message, attrs...)
}

// problem is report at the level of what is wrong and does not stop the recorder.
func (r *reporter) problem(message string, err error, attrs ...slog.Attr) {
	r.report(event.Unusual, message, append(attrs, slog.String("err", err.Error()))...)
}

// reportNow is report for callers with a bound of their own.
func (r *reporter) reportNow(level event.Level, message string, attrs ...slog.Attr) {
	attrs = append([]slog.Attr{slog.String(facilityKey, ownFacility)}, attrs...)
	r.r.logBuffered(context.Background(), r.r.clock.now(), level, message, attrs, noMeta)
}

// reportEarly is reportNow before there are rings: see begin.
func (r *reporter) reportEarly(level event.Level, message string, attrs ...slog.Attr) {
	r.early = append(r.early, func() { r.reportNow(level, message, attrs...) })
}

// begin logs the early reports.
func (r *reporter) begin() {
	for _, report := range r.early {
		report()
	}
	r.early = nil
}
