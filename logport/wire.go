package logport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

// This file is the publisher's side of what two of our own programs say to each
// other beyond the original's methods; subscribe.go is the other side.
//
// Spec: docs/wire-additions.md.

// Features is what our Tubs send as the hello's key flog: the versions of the
// additions they know.
const Features = "1"

// Ours reports whether a peer knows the additions of this version.
func Ours(p rpc.Peer) bool {
	versions, _, _ := strings.Cut(p.Features(), " ")
	return slices.Contains(strings.Split(versions, ","), Features)
}

const (
	maxBatch    = 64 << 10 // bytes of records in one batch, but for a longer single one
	creditBytes = 1 << 20  // bytes of batches that may be unanswered
	ourQueue    = 4 << 20  // bytes of events waiting for one subscription
	quietAfter  = time.Second
)

// subscribeOptions are the options of flog_subscribe.
type subscribeOptions struct {
	catchUp bool
	level   event.Level
	filter  *filter.Filter // or nil

	// Where an earlier subscription ended; resumed if the incarnation is ours.
	incarnation string
	from        event.Num
}

func readSubscribeOptions(v any) (o subscribeOptions, err error) {
	d, ok := v.(event.Dict)
	if !ok && v != rpc.Missing && v != nil {
		return o, rpc.Errorf("builtins.TypeError", "the options are no dict")
	}
	o.level = -1 << 31
	for _, item := range d {
		key, _ := banana.Text(item.Key)
		switch key {
		case "catch_up":
			o.catchUp = flag(item.Value)
		case "level":
			n, ok := banana.Int(item.Value)
			if !ok {
				return o, rpc.Errorf("builtins.TypeError", "the level is no whole number")
			}
			o.level = event.Level(max(-1<<31, min(n, 1<<31-1)))
		case "incarnation":
			o.incarnation, _ = banana.Text(item.Value)
		case "from":
			o.from = event.Num(wholeNumber(item.Value))
		case "filter":
			source, _ := banana.Text(item.Value)
			if source == "" {
				continue
			}
			if o.filter, err = filter.Compile(source); err != nil {
				return o, rpc.Errorf("builtins.ValueError", "%v", err)
			}
		}
	}
	return o, nil
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
	o, err := readSubscribeOptions(args[1])
	if err != nil {
		return nil, err
	}
	return p.start(c, observer, func(ctx context.Context) {
		p.sendBatches(ctx, observer, o)
		observer.Send("done", rpc.Args{}) // nothing more will come
	})
}

// batch is what one call of an observer's `batch` carries.
type batch struct {
	data     []byte    // entries: uvarint of the number's step, uvarint length, record
	count    int       // of them
	last     event.Num // of the last one
	first    event.Num
	filtered uint64 // events that did not match, since the batch before
	lost     loss   // before the first one
	until    event.Num
	caughtUp bool // the catch-up ends with this batch
}

func (b *batch) add(num event.Num, rec event.Record) {
	if b.count == 0 {
		b.first, b.last = num, num
	}
	b.data = binary.AppendUvarint(b.data, uint64(num-b.last))
	b.data = binary.AppendUvarint(b.data, uint64(len(rec)))
	b.data = append(b.data, rec...)
	b.last, b.until = num, num+1
	b.count++
}

func (b *batch) empty() bool {
	return b.count == 0 && b.filtered == 0 && b.lost.count == 0 && !b.caughtUp
}

// args returns the arguments of the call, which hold data until they are sent.
func (b *batch) args(incarnation string) rpc.Args {
	info := event.Dict{
		{Key: "incarnation", Value: incarnation},
		{Key: "count", Value: int64(b.count)},
		{Key: "filtered", Value: event.NumValue(event.Num(b.filtered))},
		{Key: "until", Value: event.NumValue(b.until)},
	}
	if b.count > 0 {
		info = append(info, event.Item{Key: "first", Value: event.NumValue(b.first)}, event.Item{Key: "last", Value: event.NumValue(b.last)})
	}
	if b.caughtUp {
		info = append(info, event.Item{Key: "caught_up", Value: true})
	}
	if b.lost.count > 0 {
		info = append(info, event.Item{Key: "dropped", Value: event.NumValue(event.Num(b.lost.count))},
			event.Item{Key: "dropped_from", Value: event.NumValue(b.lost.from)},
			event.Item{Key: "dropped_until", Value: event.NumValue(b.lost.until)})
	}
	return rpc.Pos(b.data, info)
}

// sendBatches sends the events that match, in order, in batches. At most
// creditBytes are sent and not yet answered: the answer gives the bytes back.
func (p *publisher) sendBatches(ctx context.Context, observer *rpc.Remote, o subscribeOptions) {
	out := batches{observer: observer}
	p.lp.gather(ctx, o, func(b *batch) bool { return out.send(ctx, b, p.lp.incarnation) })
	out.drain(ctx)
}

// gather gives send all events that match, in order, in batches; what did not
// match and what was lost is counted in them. send empties the batch, or returns
// false to end it.
func (lp *Logport) gather(ctx context.Context, o subscribeOptions, send func(*batch) bool) {
	var f *follower
	if o.incarnation == lp.incarnation {
		f = followFrom(lp.rings, lp.pump, o.from, 0, ourQueue)
	} else {
		f = follow(lp.rings, lp.pump, o.catchUp, 0, ourQueue)
	}
	defer f.stop()
	var b batch
	var quiet <-chan time.Time
	for {
		if b.filtered > 0 && b.count == 0 && quiet == nil {
			quiet = time.After(quietAfter) // counts are told even if nothing matches
		}
		num, rec, ok := f.next(ctx, b.count > 0, quiet)
		if l := f.takeLost(); l.count > 0 {
			lp.subs.dropped.Add(l.count)
			// The loss stands before the next event: what is gathered goes first.
			if b.count > 0 && !send(&b) {
				return
			}
			b.lost.add(l.count, l.from, l.until)
			b.until = l.until
		}
		switch {
		case !ok:
			if !b.empty() {
				send(&b)
			}
			return
		case rec == nil:
			quiet = nil
			if b.caughtUp = f.takeCaughtUp(); b.caughtUp {
				b.until = max(b.until, f.pos)
			}
			if !b.empty() && !send(&b) {
				return
			}
		case !lp.matches(num, rec, &o):
			b.filtered++
			b.until = num + 1
		default:
			if b.count > 0 && len(b.data)+len(rec) > maxBatch && !send(&b) {
				return
			}
			b.add(num, rec)
		}
	}
}

// matches reports whether a subscription wants the event. A filter that fails on
// an event does not match it.
func (lp *Logport) matches(num event.Num, rec event.Record, o *subscribeOptions) bool {
	if rec.Level() < o.level {
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
func (s *batches) send(ctx context.Context, b *batch, incarnation string) bool {
	for s.bytes > 0 && s.bytes+len(b.data) > creditBytes {
		if !s.wait(ctx) {
			return false
		}
	}
	s.sent = append(s.sent, sentBatch{s.observer.Start("batch", b.args(incarnation)), b.data})
	s.bytes += len(b.data)
	var buf []byte
	if n := len(s.spare); n > 0 {
		buf, s.spare = s.spare[n-1], s.spare[:n-1]
	}
	*b = batch{data: buf, until: b.until}
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
	catchUp, since := false, ""
	if d, ok := args[1].(event.Dict); ok {
		v, _ := d.Get("catch_up")
		catchUp = flag(v)
		v, _ = d.Get("since")
		since, _ = banana.Text(v)
	}
	return p.start(c, observer, func(ctx context.Context) { p.sendIncidents(ctx, observer, catchUp, since, true) })
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
