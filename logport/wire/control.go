package wire

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

// MaxThresholdFor bounds how long a threshold that was changed over the wire
// holds.
const MaxThresholdFor = 24 * time.Hour

// IsControl reports whether a remote object is a control object: a logport names
// its interface, the control object names none.
func IsControl(r *rpc.Remote) bool { return r.Interface() == "" }

// Threshold is the level below which a facility makes no events; Facility "" is
// the default for all.
type Threshold struct {
	Facility string
	Level    event.Level
}

// Thresholds returns the settings of a process by its control object, sorted by
// facility, the default first.
func Thresholds(ctx context.Context, control *rpc.Remote) ([]Threshold, error) {
	var answer event.Dict
	if err := control.Call(ctx, MethodGetThresholds, rpc.Args{}, &answer); err != nil {
		return nil, err
	}
	list := make([]Threshold, len(answer))
	for i, item := range answer {
		list[i].Facility, _ = banana.Text(item.Key)
		level, _ := banana.Int(item.Value)
		list[i].Level = event.Level(level)
	}
	slices.SortFunc(list, func(a, b Threshold) int { return cmp.Compare(a.Facility, b.Facility) })
	return list, nil
}

// SetThreshold changes a facility's threshold for a time of whole seconds, from 1 s
// to [MaxThresholdFor]; then the setting from before comes back.
func SetThreshold(ctx context.Context, control *rpc.Remote, t Threshold, hold time.Duration) error {
	args := rpc.Pos(t.Facility, int64(t.Level), int64(hold/time.Second))
	if err := control.Call(ctx, MethodSetThreshold, args, nil); err != nil {
		return fmt.Errorf("set the threshold of %q: %w", t.Facility, err)
	}
	return nil
}

// DeclareIncident has the process make an incident and returns the number of its
// trigger.
func DeclareIncident(ctx context.Context, control *rpc.Remote, reason string) (event.Num, error) {
	var answer any
	if err := control.Call(ctx, MethodDeclareIncident, rpc.Pos(reason), &answer); err != nil {
		return event.NoNum, err
	}
	return event.Num(wholeNumber(answer)), nil
}
