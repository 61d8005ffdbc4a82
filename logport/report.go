package logport

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
)

const unusual = event.Unusual

// ownFacility is that of events about the recorder itself.
const ownFacility = "flogtool.logport"

// reports bounds the events about the recorder: one a second of each message, so
// that a report can never make the trouble it reports.
type reports struct {
	mu   sync.Mutex
	last map[string]time.Time // guarded by mu
	held map[string]int       // guarded by mu; how many were held back
}

// report logs an event about the recorder, below any trigger level. Messages are
// constants.
func (lp *Logport) report(level event.Level, message string, attrs ...slog.Attr) {
	r := &lp.reports
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
	lp.reportNow(level, message, attrs...)
}

// reportNow is report for callers with a bound of their own.
func (lp *Logport) reportNow(level event.Level, message string, attrs ...slog.Attr) {
	attrs = append([]slog.Attr{slog.String(facilityKey, ownFacility)}, attrs...)
	p := noPlacing
	b := event.AppendRecord(nil, lp.clock.now(), level, message)
	for _, a := range attrs {
		b = lp.appendTop(b, &p, &a)
	}
	lp.finish(context.Background(), b, level, &p)
}

// early is reportNow before there are rings.
func (lp *Logport) early(level event.Level, message string, attrs ...slog.Attr) {
	lp.earlyReports = append(lp.earlyReports, func() { lp.reportNow(level, message, attrs...) })
}
