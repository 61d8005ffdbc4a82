package logport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

// This file is the publisher's side of what two of our own programs say to each
// other beyond the original's methods; subscribe.go is the other side.
//
// Spec: docs/wire-additions.md.

const (
	creditBytes = 1 << 20 // bytes of batches that may be unanswered
	ourQueue    = 4 << 20 // bytes of events waiting for one subscription
	quietAfter  = time.Second
)

// subscription says which events one wants.
type subscription struct {
	wire.SubscribeOptions
	filter *filter.Filter // of Filter, or nil
}

func newSubscription(o wire.SubscribeOptions) (s subscription, err error) {
	s.SubscribeOptions = o
	if o.Filter != "" {
		s.filter, err = filter.Compile(o.Filter)
	}
	return s, err
}

// flogSubscribe(observer, options) answers with the subscription and a dict of
// incarnation and pid; see sendBatches.
func (p *publisher) flogSubscribe(c *rpc.Call) (any, error) {
	args, err := c.Bind("observer", "options")
	if err != nil {
		return nil, err
	}
	observer, err := observerArg(args[0])
	if err != nil {
		return nil, err
	}
	options, err := wire.ParseSubscribeOptions(args[1])
	if err != nil {
		return nil, err
	}
	o, err := newSubscription(options)
	if err != nil {
		return nil, rpc.Errorf("builtins.ValueError", "%v", err)
	}
	return p.start(c, observer, func(ctx context.Context) {
		p.sendBatches(ctx, observer, o)
		observer.Send(wire.MethodDone, rpc.Args{}) // nothing more will come
	})
}

// sendBatches sends the events that match, in order, in batches. At most
// creditBytes are sent and not yet answered: the answer gives the bytes back.
func (p *publisher) sendBatches(ctx context.Context, observer *rpc.Remote, o subscription) {
	out := batches{observer: observer}
	p.lp.gather(ctx, o, func(b *wire.Batch) bool { return out.send(ctx, b) })
	out.drain(ctx)
}

// gather gives send all events that match, in order, in batches; what did not
// match and what was lost is counted in them. send empties the batch, or returns
// false to end it.
func (lp *Logport) gather(ctx context.Context, o subscription, send func(*wire.Batch) bool) {
	var f *follower
	if o.After.Incarnation == lp.incarnation {
		f = followFrom(lp.rings, lp.pump, o.After.Next, 0, ourQueue)
	} else {
		f = follow(lp.rings, lp.pump, o.CatchUp, 0, ourQueue)
	}
	defer f.stop()
	b := wire.Batch{Incarnation: lp.incarnation}
	var quiet <-chan time.Time
	for {
		if b.Filtered > 0 && b.Count == 0 && quiet == nil {
			quiet = time.After(quietAfter) // counts are told even if nothing matches
		}
		num, rec, ok := f.next(ctx, b.Count > 0, quiet)
		if l := f.takeLost(); l.count > 0 {
			lp.subs.dropped.Add(l.count)
			// The loss stands before the next event: what is gathered goes first.
			if b.Count > 0 && !send(&b) {
				return
			}
			b.AddDropped(l.count, l.from, l.until)
		}
		switch {
		case !ok:
			if !b.Empty() {
				send(&b)
			}
			return
		case rec == nil:
			quiet = nil
			if b.CaughtUp = f.takeCaughtUp(); b.CaughtUp {
				b.Until = max(b.Until, f.pos)
			}
			if !b.Empty() && !send(&b) {
				return
			}
		case !lp.matches(num, rec, &o):
			b.Filtered++
			b.Until = num + 1
		default:
			if b.Count > 0 && b.Size()+len(rec) > wire.MaxBatch && !send(&b) {
				return
			}
			b.Append(num, rec)
		}
	}
}

// matches reports whether a subscription wants the event. A filter that fails on
// an event does not match it.
func (lp *Logport) matches(num event.Num, rec event.Record, o *subscription) bool {
	if o.Level != 0 && rec.Level() < o.Level {
		return false
	}
	if o.filter == nil {
		return true
	}
	e, err := rec.Event(num, lp.incarnation)
	if err != nil {
		return false
	}
	ok, err := o.filter.Match(e)
	return ok && err == nil
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

func (s *batches) drain(ctx context.Context) {
	for len(s.sent) > 0 && s.wait(ctx) {
	}
}

// flogIncidents(observer, options) is subscribe_to_incidents that also tells of a
// trigger at once: the observer's `incident_began(trigger)`.
func (p *publisher) flogIncidents(c *rpc.Call) (any, error) {
	args, err := c.Bind("observer", "options")
	if err != nil {
		return nil, err
	}
	observer, err := observerArg(args[0])
	if err != nil {
		return nil, err
	}
	o := wire.ParseIncidentOptions(args[1])
	return p.start(c, observer, func(ctx context.Context) { p.sendIncidents(ctx, observer, o.CatchUp, o.Since, true) })
}

// flogParts(name) answers with a list of (part, bytes) of an incident.
func (p *publisher) flogParts(c *rpc.Call) (any, error) {
	args, err := c.Require("name")
	if err != nil {
		return nil, err
	}
	name, _ := banana.Text(args[0])
	c.Go() // reads files
	parts, err := p.lp.incidents.store.Parts(name)
	if err != nil {
		return nil, noIncident(err)
	}
	list := []any{}
	for _, part := range parts {
		list = append(list, event.Tuple{part.Name, part.Size})
	}
	return list, nil
}

const maxRead = 1 << 20 // bytes of one answer of flog_read

// flogRead(name, part, offset, size) answers with the bytes of a part from
// offset on: at most size of them and at most 1 MiB, none at its end. So a
// broken transfer is resumed where it broke.
func (p *publisher) flogRead(c *rpc.Call) (any, error) {
	args, err := c.Require("name", "part", "offset", "size")
	if err != nil {
		return nil, err
	}
	name, _ := banana.Text(args[0])
	part, _ := banana.Text(args[1])
	offset, ok1 := banana.Int(args[2])
	size, ok2 := banana.Int(args[3])
	if !ok1 || !ok2 || offset < 0 || size <= 0 {
		return nil, rpc.Errorf("builtins.ValueError", "offset and size must be whole numbers, size above 0")
	}
	c.Go() // reads a file
	r, err := p.lp.incidents.store.OpenPart(name, part)
	if err != nil {
		return nil, noIncident(err)
	}
	defer r.Close()
	buf := make([]byte, min(size, maxRead))
	n, err := r.ReadAt(buf, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, rpc.Errorf("builtins.OSError", "the incident cannot be read")
	}
	return buf[:n], nil
}

func noIncident(err error) error {
	if errors.Is(err, incident.ErrNoIncident) {
		return rpc.Errorf("builtins.KeyError", "%v", err)
	}
	return rpc.Errorf("builtins.OSError", "%v", fmt.Errorf("the incident cannot be read"))
}
