package publish

import (
	"context"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/logport/internal/ring"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

const (
	creditBytes = 1 << 20 // bytes of batches that may be unanswered
	queueBytes  = 4 << 20 // bytes of events waiting for one subscription
	quietAfter  = time.Second
)

// Subscription gives one reader the events it wants, in batches. It serves one
// goroutine.
type Subscription struct {
	p      *Publisher
	o      wire.SubscribeOptions
	filter *filter.Filter // of o.Filter, or nil
	f      *ring.Follower
}

// Subscribe begins a subscription: from now on every event is delivered, filtered out
// or counted as dropped. The caller must call Stop. The error is that of a bad
// filter, with line, column and caret.
func (p *Publisher) Subscribe(o wire.SubscribeOptions) (*Subscription, error) {
	s := &Subscription{p: p, o: o}
	if o.Filter != "" {
		var err error
		if s.filter, err = filter.Compile(o.Filter); err != nil {
			return nil, err
		}
	}
	s.f = ring.Follow(p.cfg.Pump, ring.FollowOptions{
		CatchUp: o.CatchUp, Resume: o.After.Incarnation == p.cfg.Incarnation, From: o.After.Next, MaxBytes: queueBytes,
	})
	return s, nil
}

// Stop ends the subscription.
func (s *Subscription) Stop() { s.f.Stop() }

// Run gives send all events that match, in order, in batches, until ctx ends, send
// returns false, or the log is closed and all is sent. What did not match and what
// was lost is counted in the batches. send empties the batch by [wire.Batch.Next].
func (s *Subscription) Run(ctx context.Context, send func(*wire.Batch) bool) {
	b := wire.Batch{Incarnation: s.p.cfg.Incarnation}
	var quiet <-chan time.Time
	for {
		if b.Filtered > 0 && b.Count == 0 && quiet == nil {
			quiet = time.After(quietAfter) // counts are sent even if nothing matches
		}
		it, ok := s.f.Next(ctx, b.Count > 0 || b.Dropped > 0, quiet)
		if !ok {
			if !b.Empty() {
				send(&b)
			}
			return
		}
		switch it.Kind {
		case ring.Event:
			if !s.matches(ctx, it.Num, it.Record) {
				b.Filtered++
				b.Until = it.Num + 1
				continue
			}
			if b.Count > 0 && b.Size()+len(it.Record) > wire.MaxBatch && !send(&b) {
				return
			}
			b.Append(it.Num, it.Record)
		case ring.Lost:
			s.p.dropped.Add(it.Loss.Count)
			// The loss stands before the next event: what was read before goes first.
			if b.Count > 0 && !send(&b) {
				return
			}
			b.AddDropped(it.Loss.Count, it.Loss.From, it.Loss.Until)
		case ring.CaughtUp:
			b.CaughtUp = true
			b.Until = max(b.Until, it.Num)
			if !send(&b) {
				return
			}
		case ring.Idle:
			quiet = nil
			if !b.Empty() && !send(&b) {
				return
			}
		}
	}
}

// matches reports whether the subscription wants the event. A filter that fails on
// an event does not match it, and one that is at work when ctx ends stops.
func (s *Subscription) matches(ctx context.Context, num event.Num, rec event.Record) bool {
	if s.o.Level != 0 && rec.Level() < s.o.Level {
		return false
	}
	if s.filter == nil {
		return true
	}
	e, err := rec.Event(num, s.p.cfg.Incarnation)
	if err != nil {
		return false
	}
	ok, err := s.filter.MatchContext(ctx, e, s.p.cfg.Origin())
	return ok && err == nil
}

// sendBatches sends a subscription's batches to an observer of ours. At most
// creditBytes are sent and not yet answered: the answer gives the bytes back.
func sendBatches(ctx context.Context, observer *rpc.Remote, s *Subscription) {
	out := batches{observer: observer}
	s.Run(ctx, func(b *wire.Batch) bool { return out.send(ctx, b) })
	for len(out.sent) > 0 && out.wait(ctx) {
	}
	observer.Send(wire.MethodDone, rpc.Args{}) // nothing more will come
}

// batches keeps the batches sent within the credit.
type batches struct {
	observer *rpc.Remote
	sent     []sentBatch // unanswered, oldest first
	bytes    int
	spare    [][]byte
}

type sentBatch struct {
	call *rpc.Pending
	data []byte
}

// send sends b and empties it; false ends the subscription.
func (s *batches) send(ctx context.Context, b *wire.Batch) bool {
	for s.bytes > 0 && s.bytes+b.Size() > creditBytes {
		if !s.wait(ctx) {
			return false
		}
	}
	call := s.observer.Start(wire.MethodBatch, b.Args())
	s.bytes += b.Size()
	var buf []byte
	if n := len(s.spare); n > 0 {
		buf, s.spare = s.spare[n-1], s.spare[:n-1]
	}
	s.sent = append(s.sent, sentBatch{call, b.Next(buf)})
	return true
}

// wait waits for the oldest answer.
func (s *batches) wait(ctx context.Context) bool {
	oldest := s.sent[0]
	select {
	case <-oldest.call.Done():
	case <-ctx.Done():
		return false
	}
	if oldest.call.Result(nil) != nil {
		return false
	}
	s.sent = append(s.sent[:0], s.sent[1:]...)
	s.bytes -= len(oldest.data)
	s.spare = append(s.spare, oldest.data[:0])
	return true
}
