package tail_test

import (
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/tail"
)

// A gap that a publisher of ours tells is a line of its own, at its place.
func TestTailStatesGaps(t *testing.T) {
	observers := make(chan *rpc.Remote, 1)
	target := publisher(t, wire.Features, map[string]func(*rpc.Call) (any, error){
		"get_pid":      func(*rpc.Call) (any, error) { return 7, nil },
		"get_versions": func(*rpc.Call) (any, error) { return event.Dict{}, nil },
		"flog_subscribe": func(c *rpc.Call) (any, error) {
			observers <- c.Args.Pos[0].(*rpc.Remote)
			return &rpc.Methods{Name: "RISubscription.foolscap.lothar.com"}, nil
		},
	})
	next, stop := ours(t, tail.Follow{Targets: []tail.Target{target}, Style: tail.Style{Zone: time.UTC}})
	until(t, next, `^Remote Versions:$`)
	observer := <-observers
	for _, gap := range []struct{ dropped, from, until int64 }{{412, 1001, 1413}, {3, 2000, 3000}} {
		info := event.Dict{{Key: "incarnation", Value: "84e8b6d1ce3c35a4"}, {Key: "dropped", Value: gap.dropped},
			{Key: "dropped_from", Value: gap.from}, {Key: "dropped_until", Value: gap.until}, {Key: "until", Value: gap.until}}
		if err := observer.Call(t.Context(), "batch", rpc.Pos([]byte{}, info), nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"412 events dropped here, numbers 1001-1412", "3 events dropped here, among numbers 2000-2999"} {
		if got := next(); got != want {
			t.Errorf("shown as %q, want %q", got, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
