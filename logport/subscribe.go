package logport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"sync"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

const riObserver = "RILogObserver.foolscap.lothar.com"

// SubscribeOptions say which events a subscriber wants.
type SubscribeOptions struct {
	CatchUp bool        // what the rings hold first
	Level   event.Level // this level and above; 0: all
	Filter  string      // an expression of package event/filter; "": all

	// After goes on where an earlier subscription ended: its last batch's
	// Position. If the process is still the same one every event since is
	// delivered, filtered out or reported dropped; if not, it counts for nothing.
	After Position
}

// Position is a place in the events of one run of a process.
type Position struct {
	Incarnation string
	Next        event.Num // all events below have been accounted for
}

// Batch is a run of events of one process, as they were sent. Its records are
// valid until the handler returns.
//
// For one subscription that has not failed, all batches together account for
// every event: sent, filtered out, or dropped.
type Batch struct {
	Incarnation string
	Count       int
	First, Last event.Num // of the events; meaningless if Count is 0

	Filtered uint64 // events that did not match, since the batch before
	Dropped  uint64 // events that were lost before the first one

	// All dropped events are numbered DroppedFrom or above and below
	// DroppedUntil; that range may hold others too.
	DroppedFrom, DroppedUntil event.Num

	// CaughtUp says, once, that what the rings held when the subscription began has
	// been accounted for; what follows is new.
	CaughtUp bool

	Until event.Num // all events below are accounted for by this batch and those before

	data []byte
}

// Position returns where a later subscription can go on.
func (b *Batch) Position() Position { return Position{b.Incarnation, b.Until} }

// Records yields the events of the batch. An error ends it.
func (b *Batch) Records() iter.Seq2[event.Num, event.Record] {
	return func(yield func(event.Num, event.Record) bool) {
		num := b.First
		for data := b.data; len(data) > 0; {
			step, n := binary.Uvarint(data)
			data = data[n:]
			size, n := binary.Uvarint(data)
			data = data[n:]
			num += event.Num(step)
			if !yield(num, event.Record(data[:size:size])) {
				return
			}
			data = data[size:]
		}
	}
}

// ErrBatch is what a subscription ends with if the publisher sends what is no
// batch.
var ErrBatch = errors.New("logport: not a batch of events")

// ErrEnded is what a subscription ends with if the publisher ends it: its log was
// closed, or the FURL it came by was withdrawn.
var ErrEnded = errors.New("logport: the publisher has ended the subscription")

// maxBatchSize is the size of a batch that a subscriber takes: one longest
// record beside a full batch.
const maxBatchSize = 4 * maxBatch

// wholeNumber returns a number that a peer sent, 0 if it is none from 0 to 2^64-1.
func wholeNumber(v any) uint64 {
	switch v := v.(type) {
	case int64:
		return uint64(max(0, v))
	case *big.Int:
		if v.IsUint64() {
			return v.Uint64()
		}
	}
	return 0
}

// newBatch checks what a publisher sent.
func newBatch(data, info any) (*Batch, error) {
	raw, ok1 := data.([]byte)
	d, ok2 := info.(event.Dict)
	if !ok1 || !ok2 || len(raw) > maxBatchSize {
		return nil, ErrBatch
	}
	b := &Batch{data: raw}
	number := func(key string) uint64 {
		v, _ := d.Get(key)
		return wholeNumber(v)
	}
	v, _ := d.Get("incarnation")
	b.Incarnation, _ = banana.Text(v)
	b.First, b.Last = event.Num(number("first")), event.Num(number("last"))
	b.Filtered, b.Dropped = number("filtered"), number("dropped")
	b.Until = event.Num(number("until"))
	caughtUp, _ := d.Get("caught_up")
	b.CaughtUp, _ = caughtUp.(bool)
	b.DroppedFrom, b.DroppedUntil = event.Num(number("dropped_from")), event.Num(number("dropped_until"))
	num := b.First
	for rest := raw; len(rest) > 0; b.Count++ {
		step, n := binary.Uvarint(rest)
		if n <= 0 || step == 0 && b.Count > 0 || step > 0 && b.Count == 0 || num+event.Num(step) < num {
			return nil, ErrBatch
		}
		num += event.Num(step)
		rest = rest[n:]
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return nil, ErrBatch
		}
		rest = rest[uint64(n)+size:]
	}
	if b.Count > 0 && num != b.Last {
		return nil, ErrBatch
	}
	return b, nil
}

// Subscribe has a publisher that is [Ours] send its events to handle until ctx
// ends, handle returns an error, or the connection is lost; it returns the
// reason. handle is called for one batch after the other; while it works the
// publisher sends no more than a window, and then keeps, and in the end drops
// and counts, what is logged.
func Subscribe(ctx context.Context, publisher *rpc.Remote, o SubscribeOptions, handle func(*Batch) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var calls sync.WaitGroup
	defer calls.Wait()
	observer := &rpc.Methods{Name: riObserver, Map: map[string]func(*rpc.Call) (any, error){
		"batch": func(c *rpc.Call) (any, error) {
			calls.Add(1)
			defer calls.Done()
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			args, err := c.Require("data", "info")
			if err != nil {
				return nil, err
			}
			b, err := newBatch(args[0], args[1])
			if err == nil {
				err = handle(b)
			}
			if err != nil {
				cancel(err)
				return nil, err
			}
			return len(b.data), nil
		},
		"done": func(*rpc.Call) (any, error) {
			cancel(ErrEnded)
			return nil, nil
		},
	}}
	options := event.Dict{{Key: "catch_up", Value: o.CatchUp}, {Key: "filter", Value: o.Filter}}
	if o.After.Incarnation != "" {
		options = append(options, event.Item{Key: "incarnation", Value: o.After.Incarnation},
			event.Item{Key: "from", Value: event.NumValue(o.After.Next)})
	}
	if o.Level != 0 {
		options = append(options, event.Item{Key: "level", Value: int64(o.Level)})
	}
	var subscription *rpc.Remote
	if err := publisher.Call(ctx, "flog_subscribe", rpc.Pos(observer, options), &subscription); err != nil {
		return fmt.Errorf("logport: subscribe: %w", err)
	}
	select {
	case <-ctx.Done():
		// The peer may be gone, or be the reason.
		subscription.Send("unsubscribe", rpc.Args{})
		return context.Cause(ctx)
	case <-publisher.Done():
		return rpc.ErrDeadReference
	}
}

// ErrNotOurs is the error of Follow for a publisher that knows the original's
// methods only.
var ErrNotOurs = errors.New("logport: the publisher is not one of ours")

// Follow is Subscribe over a connection that is made anew whenever it is lost,
// going on where the one before ended. A process that was started again in the
// meantime is followed from its first event that its rings hold; a batch's
// Incarnation tells. state, if not nil, is called when a connection has been made
// and, with the reason, when it was lost or could not be made. Follow returns
// when ctx ends, when handle returns an error, when the publisher refuses the
// subscription or is not one of ours.
func Follow(ctx context.Context, tub *rpc.Tub, furl rpc.FURL, o SubscribeOptions, handle func(*Batch) error, state func(connected bool, reason error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if state == nil {
		state = func(bool, error) {}
	}
	reconnector := tub.KeepConnected(furl, func(connected context.Context, publisher *rpc.Remote) {
		if !Ours(publisher.Peer()) {
			cancel(ErrNotOurs)
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
