package wire

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

// Position is a place in the events of one run of a process.
type Position struct {
	Incarnation string    // "" is no position
	Next        event.Num // all events below have been accounted for
}

// SubscribeOptions say which events a subscriber wants.
type SubscribeOptions struct {
	CatchUp bool        // what the rings hold first
	Level   event.Level // this level and above; 0: all
	Filter  string      // an expression of package event/filter; "": all

	// After goes on where an earlier subscription ended, at its last batch's
	// Position. If the process is still the same run, every event since is
	// delivered, filtered out or reported dropped; if not, After is ignored.
	After Position
}

// Keys of the options of flog_subscribe and flog_incidents.
const (
	keyCatchUp = "catch_up"
	keyLevel   = "level"
	keyFilter  = "filter"
	keyFrom    = "from"
	keySince   = "since"
)

func (o *SubscribeOptions) dict() event.Dict {
	d := event.Dict{{Key: keyCatchUp, Value: o.CatchUp}, {Key: keyFilter, Value: o.Filter}}
	if o.After.Incarnation != "" {
		d = append(d, event.Item{Key: keyIncarnation, Value: o.After.Incarnation},
			event.Item{Key: keyFrom, Value: event.NumValue(o.After.Next)})
	}
	if o.Level != 0 {
		d = append(d, event.Item{Key: keyLevel, Value: int64(o.Level)})
	}
	return d
}

// ParseSubscribeOptions reads the options of flog_subscribe as a peer sent them;
// none is the zero value. The error is for the peer.
func ParseSubscribeOptions(v any) (o SubscribeOptions, err error) {
	d, ok := v.(event.Dict)
	if !ok && v != rpc.Missing && v != nil {
		return o, rpc.Errorf("builtins.TypeError", "the options are not a dict")
	}
	for _, item := range d {
		key, _ := banana.Text(item.Key)
		switch key {
		case keyCatchUp:
			o.CatchUp = Flag(item.Value)
		case keyLevel:
			n, ok := banana.Int(item.Value)
			if !ok {
				return o, rpc.Errorf("builtins.TypeError", "the level is not a whole number")
			}
			o.Level = event.Level(max(-1<<31, min(n, 1<<31-1)))
		case keyIncarnation:
			o.After.Incarnation, _ = banana.Text(item.Value)
		case keyFrom:
			o.After.Next = event.Num(wholeNumber(item.Value))
		case keyFilter:
			o.Filter, _ = banana.Text(item.Value)
		}
	}
	return o, nil
}

// Flag reads an optional boolean argument of a peer.
func Flag(v any) bool {
	b, ok := v.(bool)
	return ok && b
}

// ErrEnded is the error of a subscription that the publisher ended: its log was
// closed, or the FURL was withdrawn.
var ErrEnded = errors.New("wire: the publisher has ended the subscription")

// Subscribe has a publisher that [SupportsExtensions] send its events to handle
// until ctx ends, handle returns an error, or the connection is lost; it returns
// the reason: ctx's cause, handle's error, [ErrEnded], [ErrBatch],
// [rpc.ErrDeadReference], or why the publisher refused.
//
// handle is called for one batch after the other. While it works, the publisher
// sends no more than its window; it queues, and in the end drops and counts, what
// is logged meanwhile.
func Subscribe(ctx context.Context, publisher *rpc.Remote, o SubscribeOptions, handle func(*Batch) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var calls sync.WaitGroup
	defer calls.Wait()
	observer := newObserver(map[string]func(*rpc.Call) (any, error){
		MethodBatch: func(c *rpc.Call) (any, error) {
			calls.Add(1)
			defer calls.Done()
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			args, err := c.Require("data", "info")
			if err != nil {
				return nil, err
			}
			b, err := parseBatch(args[0], args[1])
			if err == nil {
				err = handle(b)
			}
			if err != nil {
				cancel(err)
				return nil, err
			}
			return b.Size(), nil
		},
		MethodDone: func(*rpc.Call) (any, error) {
			cancel(ErrEnded)
			return nil, nil
		},
	})
	var subscription *rpc.Remote
	if err := publisher.Call(ctx, MethodFlogSubscribe, rpc.Pos(observer, o.dict()), &subscription); err != nil {
		return fmt.Errorf("wire: subscribe: %w", err)
	}
	select {
	case <-ctx.Done():
		// The peer may be gone, or be the reason.
		subscription.Send(MethodUnsubscribe, rpc.Args{})
		return context.Cause(ctx)
	case <-publisher.Done():
		return rpc.ErrDeadReference
	}
}

// maxEventSize bounds one event that a publisher sends, in bytes: an original's may be
// large, and a refused one would end the subscription.
const maxEventSize = 16 << 20

// newObserver returns an observer with these methods. done, which a publisher may
// send at its end, is ignored unless it is among them.
func newObserver(methods map[string]func(*rpc.Call) (any, error)) *rpc.Methods {
	if methods[MethodDone] == nil {
		methods[MethodDone] = func(*rpc.Call) (any, error) { return nil, nil }
	}
	return &rpc.Methods{Name: RILogObserver, Map: methods, Limits: map[string]rpc.MethodLimits{
		MethodMsg:           {Size: maxEventSize},
		MethodNewIncident:   {Size: maxEventSize},
		MethodIncidentBegan: {Size: maxEventSize},
	}}
}

// EventObserver returns the observer for subscribe_to_all, the original's way to
// subscribe: msg is called for one event after the other, and the publisher has
// its answer when msg returns. ctx ends with the connection. An event that is not
// a dict is refused before msg is called.
func EventObserver(msg func(ctx context.Context, ev *event.Event) error) *rpc.Methods {
	return newObserver(map[string]func(*rpc.Call) (any, error){
		MethodMsg: func(c *rpc.Call) (any, error) {
			args, err := c.Require("logmsg")
			if err != nil {
				return nil, err
			}
			d, ok := args[0].(event.Dict)
			if !ok {
				return nil, rpc.Errorf("builtins.TypeError", "logmsg must be a dict")
			}
			return nil, msg(c.Context(), event.FromDict(d))
		},
	})
}

// ErrNoExtensions is the error of [Follow] for a publisher that knows Foolscap's
// methods only.
var ErrNoExtensions = errors.New("wire: the publisher does not support the extensions")

// Follow is [Subscribe] over a connection that is made again whenever it is lost,
// and goes on where the one before ended. A process that was restarted in the
// meantime is followed from the first event that its rings hold; a batch's
// Incarnation tells. state, if not nil, is called when a connection has been made
// and, with the reason, when it was lost or could not be made.
//
// Follow returns when ctx ends, when handle returns an error, when the publisher
// refuses the subscription, or with [ErrNoExtensions].
func Follow(ctx context.Context, tub *rpc.Tub, furl rpc.FURL, o SubscribeOptions, handle func(*Batch) error, state func(connected bool, reason error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if state == nil {
		state = func(bool, error) {}
	}
	reconnector := tub.KeepConnected(furl, func(connected context.Context, publisher *rpc.Remote) {
		if !SupportsExtensions(publisher.Peer()) {
			cancel(ErrNoExtensions)
			return
		}
		state(true, nil)
		err := Subscribe(ctx, publisher, o, func(b *Batch) error {
			if o.After.Incarnation != "" && o.After.Incarnation != b.Incarnation {
				o.After = Position{}
			}
			if err := handle(b); err != nil {
				return err
			}
			o.After, o.CatchUp = b.Position(), true
			return nil
		})
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, rpc.ErrDeadReference):
			state(false, err)
		case errors.Is(err, ErrEnded):
			state(false, err)
			<-connected.Done() // a new connection may find it again
		default:
			cancel(err)
		}
	})
	defer reconnector.Stop()
	<-ctx.Done()
	return context.Cause(ctx)
}
