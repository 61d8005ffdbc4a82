package publish

import (
	"context"
	"log/slog"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

// Control changes what a process records.
type Control interface {
	Threshold(facility string) event.Level
	Thresholds() map[string]event.Level // what facilities have of their own

	// SetThresholdFor changes a threshold for a time. It returns false if too many
	// are changed at a time: a peer may send any names.
	SetThresholdFor(facility string, level event.Level, d time.Duration) bool

	DeclareIncident(ctx context.Context, reason string, attrs ...slog.Attr) event.Num
}

// maxFacilityName bounds the name of a facility that a peer may set, in bytes.
const maxFacilityName = 200

// ControlObject returns a new object that gives changing. Its methods answer that
// the FURL has been withdrawn once ctx has ended.
//
// Spec: docs/wire-additions.md, "Control".
func (p *Publisher) ControlObject(ctx context.Context) *rpc.Methods {
	control := p.cfg.Control
	return withdrawable(ctx, "", map[string]func(*rpc.Call) (any, error){
		wire.MethodGetThresholds: func(*rpc.Call) (any, error) {
			d := event.Dict{{Key: "", Value: int64(control.Threshold(""))}}
			for facility, level := range control.Thresholds() {
				if facility != "" {
					d = append(d, event.Item{Key: facility, Value: int64(level)})
				}
			}
			return d, nil
		},
		wire.MethodSetThreshold: func(c *rpc.Call) (any, error) {
			args, err := c.Require("facility", "level", "seconds")
			if err != nil {
				return nil, err
			}
			facility, ok := banana.Text(args[0])
			level, ok1 := banana.Int(args[1])
			seconds, ok2 := banana.Int(args[2])
			const most = int64(wire.MaxThresholdFor / time.Second)
			switch {
			case !ok || len(facility) > maxFacilityName:
				return nil, rpc.Errorf("builtins.ValueError", "the facility is not a text of at most %d bytes", maxFacilityName)
			case !ok1 || level < 0 || level > 1000:
				return nil, rpc.Errorf("builtins.ValueError", "the level is not a whole number from 0 to 1000")
			case !ok2 || seconds <= 0 || seconds > most:
				return nil, rpc.Errorf("builtins.ValueError", "the seconds are not a whole number from 1 to %d", most)
			case !control.SetThresholdFor(facility, event.Level(level), time.Duration(seconds)*time.Second):
				return nil, rpc.Errorf("builtins.ValueError", "too many thresholds are changed at a time")
			}
			return nil, nil
		},
		wire.MethodDeclareIncident: func(c *rpc.Call) (any, error) {
			args, err := c.Require("reason")
			if err != nil {
				return nil, err
			}
			reason, ok := banana.Text(args[0])
			if !ok {
				return nil, rpc.Errorf("builtins.ValueError", "the reason is not text")
			}
			num := control.DeclareIncident(c.Context(), reason, slog.String("by", string(c.Peer().TubID())))
			return event.NumValue(num), nil
		},
	})
}
