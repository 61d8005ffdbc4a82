package logport

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

// controlFile holds the FURL of the control object: who has it may change what
// is recorded, which a logport's FURL does not allow.
const controlFile = "control.furl"

// maxFor bounds how long a threshold that was changed from afar holds.
const maxFor = 24 * time.Hour

// temporary keeps what thresholds were before they were changed for a while.
type temporary struct {
	mu sync.Mutex
	t  map[string]*earlier // by facility; guarded by mu
}

// earlier is a facility's own setting before the change.
type earlier struct {
	level event.Level
	had   bool // it had one of its own
	timer *time.Timer
}

// SetThresholdFor is SetThreshold for a while: then the facility's setting from
// before comes back. Both are told by events. A further change in that time only
// moves its end.
func (lp *Logport) SetThresholdFor(facility string, level event.Level, d time.Duration) {
	m := &lp.temporary
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.t == nil {
		m.t = map[string]*earlier{}
	}
	e := m.t[facility]
	if e == nil {
		e = &earlier{}
		e.level, e.had = lp.ownThreshold(facility)
		m.t[facility] = e
	} else {
		e.timer.Stop()
	}
	lp.SetThreshold(facility, level)
	e.timer = time.AfterFunc(d, func() { lp.fallBack(facility, e) })
	lp.reportNow(event.Operational, "a threshold was changed", slog.String("of", facility),
		slog.String("threshold", level.String()), slog.Duration("for", d))
}

// fallBack ends the change e, unless it was ended or followed by another.
func (lp *Logport) fallBack(facility string, e *earlier) {
	m := &lp.temporary
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.t[facility] != e {
		return
	}
	delete(m.t, facility)
	if e.had {
		lp.SetThreshold(facility, e.level)
	} else {
		lp.unsetThreshold(facility)
	}
	lp.reportNow(event.Operational, "a threshold has fallen back", slog.String("of", facility),
		slog.String("threshold", lp.Threshold(facility).String()))
}

// endAll ends all changes without putting anything back.
func (m *temporary) endAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.t {
		e.timer.Stop()
	}
	clear(m.t)
}

// newControl makes the object behind control.furl; its methods work until ctx
// ends.
func newControl(ctx context.Context, lp *Logport) *rpc.Methods {
	return guarded(ctx, "", map[string]func(*rpc.Call) (any, error){
		"get_thresholds": func(*rpc.Call) (any, error) {
			d := event.Dict{{Key: "", Value: int64(lp.Threshold(""))}}
			for facility, level := range lp.ownThresholds() {
				if facility != "" {
					d = append(d, event.Item{Key: facility, Value: int64(level)})
				}
			}
			return d, nil
		},
		"set_threshold": func(c *rpc.Call) (any, error) {
			args, err := c.Require("facility", "level", "seconds")
			if err != nil {
				return nil, err
			}
			facility, ok := banana.Text(args[0])
			level, ok1 := banana.Int(args[1])
			seconds, ok2 := banana.Int(args[2])
			d := time.Duration(seconds) * time.Second
			switch {
			case !ok || len(facility) > 200:
				return nil, rpc.Errorf("builtins.ValueError", "the facility is no text of at most 200 bytes")
			case !ok1 || level < 0 || level > 1000:
				return nil, rpc.Errorf("builtins.ValueError", "the level is no whole number from 0 to 1000")
			case !ok2 || seconds <= 0 || seconds > int64(maxFor/time.Second):
				return nil, rpc.Errorf("builtins.ValueError", "the seconds are no whole number from 1 to %d", maxFor/time.Second)
			case !lp.temporary.room(facility):
				return nil, rpc.Errorf("builtins.ValueError", "too many thresholds are changed at a time")
			}
			lp.SetThresholdFor(facility, event.Level(level), d)
			return nil, nil
		},
		"declare_incident": func(c *rpc.Call) (any, error) {
			args, err := c.Require("reason")
			if err != nil {
				return nil, err
			}
			reason, ok := banana.Text(args[0])
			if !ok {
				return nil, rpc.Errorf("builtins.ValueError", "the reason is no text")
			}
			num := lp.DeclareIncident(c.Context(), reason, slog.String("by", string(c.Peer().TubID())))
			return event.NumValue(num), nil
		},
	})
}

// room bounds the changes under way: whoever holds the FURL may send any names.
func (m *temporary) room(facility string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.t[facility] != nil || len(m.t) < 100
}

// errWithdrawn is what a peer gets that still uses a FURL that was rotated away.
var errWithdrawn = rpc.Errorf("builtins.PermissionError", "this FURL has been withdrawn")

// guarded returns an object whose methods answer with errWithdrawn once ctx has
// ended.
func guarded(ctx context.Context, name string, methods map[string]func(*rpc.Call) (any, error)) *rpc.Methods {
	m := &rpc.Methods{Name: name, Map: make(map[string]func(*rpc.Call) (any, error), len(methods))}
	for method, f := range methods {
		m.Map[method] = func(c *rpc.Call) (any, error) {
			if ctx.Err() != nil {
				return nil, errWithdrawn
			}
			return f(c)
		}
	}
	return m
}
