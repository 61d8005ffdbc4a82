package logport

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport/internal/ring"
)

// temporaryThresholds keeps what thresholds were before they were changed for a
// while.
type temporaryThresholds struct {
	rings *ring.Rings
	r     *reporter

	mu sync.Mutex
	t  map[string]*earlierThreshold // by facility; guarded by mu
}

// earlierThreshold is a facility's own setting before the change.
type earlierThreshold struct {
	level event.Level
	had   bool // it had one of its own
	timer *time.Timer
}

// maxTemporary bounds the changes under way that peers may ask for.
const maxTemporary = 100

// set is [Logport.SetThresholdFor].
func (m *temporaryThresholds) set(facility string, level event.Level, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.t == nil {
		m.t = map[string]*earlierThreshold{}
	}
	e := m.t[facility]
	if e == nil {
		e = &earlierThreshold{}
		e.level, e.had = m.rings.Thresholds()[facility]
		m.t[facility] = e
	} else {
		e.timer.Stop()
	}
	m.rings.SetThreshold(facility, level)
	e.timer = time.AfterFunc(d, func() { m.restore(facility, e) })
	m.r.reportNow(event.Operational, "a threshold was changed", slog.String("of", facility),
		slog.String("threshold", level.String()), slog.Duration("for", d))
}

// restore ends the change e, unless it was ended or followed by another.
func (m *temporaryThresholds) restore(facility string, e *earlierThreshold) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.t[facility] != e {
		return
	}
	delete(m.t, facility)
	if e.had {
		m.rings.SetThreshold(facility, e.level)
	} else {
		m.rings.UnsetThreshold(facility)
	}
	m.r.reportNow(event.Operational, "a threshold has fallen back", slog.String("of", facility),
		slog.String("threshold", m.rings.Threshold(facility).String()))
}

// room reports whether one more facility may be changed.
func (m *temporaryThresholds) room(facility string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.t[facility] != nil || len(m.t) < maxTemporary
}

// stop ends all changes and restores nothing.
func (m *temporaryThresholds) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.t {
		e.timer.Stop()
	}
	clear(m.t)
}

// control is what holders of the control object's FURL may do; see
// [publish.Control].
type control struct{ lp *Logport }

func (c control) Threshold(facility string) event.Level { return c.lp.Threshold(facility) }

func (c control) Thresholds() map[string]event.Level { return c.lp.recorder.rings.Thresholds() }

func (c control) SetThresholdFor(facility string, level event.Level, d time.Duration) bool {
	if !c.lp.temporary.room(facility) {
		return false
	}
	c.lp.temporary.set(facility, level, d)
	return true
}

func (c control) DeclareIncident(ctx context.Context, reason string, attrs ...slog.Attr) event.Num {
	return c.lp.DeclareIncident(ctx, reason, attrs...)
}
