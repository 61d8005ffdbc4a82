package logport

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

// publisher is the object behind the logport's FURL: exactly the original's
// methods, and those of wire.go, which only our own programs know of.
//
// A subscription lives on a goroutine of its own until it is ended, its observer
// fails or the connection is lost; the peer's references to it do not matter,
// since the original gives them back at once.
//
// Spec: foolscap-wire.md sections 6.3 to 6.7.
type publisher struct {
	lp      *Logport
	ctx     context.Context // ends its subscriptions, and its methods
	methods *rpc.Methods
}

// subscriptions are those of all a Logport's publishers.
type subscriptions struct {
	dropped atomic.Uint64 // events that they missed
	active  atomic.Int64
	wg      sync.WaitGroup
}

// newPublisher makes a publisher that works until ctx ends.
func (lp *Logport) newPublisher(ctx context.Context) *publisher {
	p := &publisher{lp: lp, ctx: ctx}
	p.methods = guarded(ctx, wire.RILogPublisher, map[string]func(*rpc.Call) (any, error){
		"get_versions":           p.getVersions,
		"get_pid":                func(*rpc.Call) (any, error) { return os.Getpid(), nil },
		"subscribe_to_all":       p.subscribeToAll,
		"subscribe_to_incidents": p.subscribeToIncidents,
		"unsubscribe":            p.unsubscribe,
		"list_incidents":         p.listIncidents,
		"get_incident":           p.getIncident,

		"flog_subscribe": p.flogSubscribe,
		"flog_incidents": p.flogIncidents,
		"flog_parts":     p.flogParts,
		"flog_read":      p.flogRead,
	})
	return p
}

// getVersions answers with names and versions in bytes, as the original does.
func (p *publisher) getVersions(*rpc.Call) (any, error) {
	var d event.Dict
	for _, item := range p.lp.versions.all() {
		name, _ := banana.Text(item.Key)
		version, _ := banana.Text(item.Value)
		d = append(d, event.Item{Key: []byte(name), Value: []byte(version)})
	}
	return d, nil
}

// start runs serve for an observer until it returns, and gives it a context that
// ends with the connection, with the subscription, or when Close waits no more.
func (p *publisher) start(c *rpc.Call, observer *rpc.Remote, serve func(ctx context.Context)) (any, error) {
	ctx, stop := context.WithCancel(p.ctx)
	s := &rpc.Methods{Name: wire.RISubscription, Map: map[string]func(*rpc.Call) (any, error){
		"unsubscribe": func(*rpc.Call) (any, error) { stop(); return nil, nil },
	}}
	p.lp.subs.active.Add(1)
	p.lp.subs.wg.Go(func() {
		select {
		case <-observer.Done():
			stop()
		case <-ctx.Done():
		}
	})
	answered := make(chan struct{})
	c.Then(func() { close(answered) })
	p.lp.subs.wg.Go(func() {
		defer p.lp.subs.active.Add(-1)
		defer stop()
		select {
		case <-answered: // the peer knows the subscription before its first event
			serve(ctx)
		case <-ctx.Done():
		}
	})
	return s, nil
}

func (p *publisher) unsubscribe(c *rpc.Call) (any, error) {
	args, err := c.Require("subscription")
	if err != nil {
		return nil, err
	}
	m, ok := args[0].(*rpc.Methods)
	if !ok || m.Name != wire.RISubscription {
		return nil, rpc.Errorf("builtins.TypeError", "not a subscription of this logport")
	}
	return m.Map["unsubscribe"](c)
}

// observerArg returns the observer among a call's arguments.
func observerArg(v any) (*rpc.Remote, error) {
	r, ok := v.(*rpc.Remote)
	if !ok {
		return nil, rpc.Errorf("foolscap.tokens.Violation", "the observer is no reference")
	}
	return r, nil
}

func (p *publisher) subscribeToAll(c *rpc.Call) (any, error) {
	args, err := c.Bind("observer", "catch_up")
	if err != nil {
		return nil, err
	}
	observer, err := observerArg(args[0])
	if err != nil {
		return nil, err
	}
	catchUp := wire.Flag(args[1])
	return p.start(c, observer, func(ctx context.Context) { p.sendEvents(ctx, observer, catchUp) })
}

// Bounds of a subscription by an original peer; logging-semantics.md section 9.
const (
	originalQueue    = 2000
	originalBytes    = 16 << 20 // an event may be large; the original has no such bound
	originalInFlight = 10
)

// sendEvents sends the original's `msg` for every event: first, if asked to
// catch up, what the rings hold, in order; then what is logged, by a queue of
// 2000. At most 10 are unanswered at any time. What could not be sent is counted
// and told by an event when the queue has drained.
func (p *publisher) sendEvents(ctx context.Context, observer *rpc.Remote, catchUp bool) {
	out := newSender(observer)
	f := follow(p.lp.rings, p.lp.pump, catchUp, originalQueue, originalBytes)
	defer f.stop()
	var t teller
	for {
		num, rec, ok := f.next(ctx, false, t.quiet())
		if !ok {
			out.drain(ctx)
			return
		}
		if rec == nil {
			lost := f.takeLost().count
			p.lp.subs.dropped.Add(lost)
			if n := t.add(lost); n > 0 {
				p.lp.reportNow(event.Unusual, "a subscriber was too slow: events dropped",
					slog.Uint64("dropped", n), slog.String("tub", string(observer.Peer().TubID())))
			}
			continue
		}
		e, err := rec.Event(num, p.lp.incarnation)
		if err == nil && !out.call(ctx, "msg", rpc.Pos(e.Dict())) {
			return
		}
	}
}

// sender keeps at most 10 calls to one observer under way.
type sender struct {
	observer *rpc.Remote
	calls    chan *rpc.Pending // not known to be answered, oldest first
}

func newSender(observer *rpc.Remote) *sender {
	return &sender{observer: observer, calls: make(chan *rpc.Pending, originalInFlight)}
}

// call calls a method when fewer than 10 calls are unanswered; false ends the
// subscription.
func (s *sender) call(ctx context.Context, method string, args rpc.Args) bool {
	if len(s.calls) == cap(s.calls) && !s.wait(ctx) {
		return false
	}
	s.calls <- s.observer.Start(method, args)
	return true
}

// wait waits for the oldest call's answer.
func (s *sender) wait(ctx context.Context) bool {
	oldest := <-s.calls
	select {
	case <-oldest.Done():
		return oldest.Result(nil) == nil
	case <-ctx.Done():
		return false
	}
}

// drain waits for all answers.
func (s *sender) drain(ctx context.Context) bool {
	for len(s.calls) > 0 {
		if !s.wait(ctx) {
			return false
		}
	}
	return true
}

func (p *publisher) subscribeToIncidents(c *rpc.Call) (any, error) {
	args, err := c.Bind("observer", "catch_up", "since")
	if err != nil {
		return nil, err
	}
	observer, err := observerArg(args[0])
	if err != nil {
		return nil, err
	}
	catchUp := wire.Flag(args[1])
	since, _ := banana.Text(args[2])
	return p.start(c, observer, func(ctx context.Context) { p.sendIncidents(ctx, observer, catchUp, since, false) })
}

// sendIncidents tells an observer the names of incidents as they complete, in
// the order of names, and before that, if asked to catch up, of those there are.
// One of ours is also told of the trigger when an incident begins.
func (p *publisher) sendIncidents(ctx context.Context, observer *rpc.Remote, catchUp bool, since string, ours bool) {
	store := p.lp.incidents.store
	out := newSender(observer)
	if !catchUp {
		if names := store.Names(since); len(names) > 0 {
			since = names[len(names)-1]
		}
	}
	begun := p.lp.incidents.begunBefore()
	for first := true; ; first = false {
		change, triggers, now := p.lp.incidents.state(begun)
		begun = now
		for _, tr := range triggers {
			e, err := tr.Record.Event(tr.Num, p.lp.incarnation)
			if ours && err == nil && !out.call(ctx, "incident_began", rpc.Pos(e.Dict())) {
				return
			}
		}
		for _, name := range store.Names(since) {
			since = name
			trigger, err := store.Trigger(name)
			if err != nil {
				continue // named by the store, and no reason to keep the others back
			}
			if !out.call(ctx, "new_incident", rpc.Pos([]byte(name), trigger)) {
				return
			}
		}
		if !out.drain(ctx) {
			return
		}
		if first && catchUp && !out.call(ctx, "done_with_incident_catchup", rpc.Args{}) {
			return
		}
		select {
		case <-change:
		case <-ctx.Done():
			return
		case <-p.lp.incidents.finished:
			if len(store.Names(since)) == 0 {
				return
			}
		}
	}
}

func (p *publisher) listIncidents(c *rpc.Call) (any, error) {
	args, err := c.Bind("since")
	if err != nil {
		return nil, err
	}
	since, _ := banana.Text(args[0])
	c.Go() // reads files
	var d event.Dict
	for _, name := range p.lp.incidents.store.Names(since) {
		if trigger, err := p.lp.incidents.store.Trigger(name); err == nil {
			d = append(d, event.Item{Key: name, Value: trigger})
		}
	}
	return d, nil
}

func (p *publisher) getIncident(c *rpc.Call) (any, error) {
	args, err := c.Require("incident_name")
	if err != nil {
		return nil, err
	}
	name, ok := banana.Text(args[0])
	if !ok {
		return nil, rpc.Errorf("builtins.TypeError", "the incident's name is neither bytes nor text")
	}
	c.Go() // reads a file
	if !incident.ValidName(name) {
		return nil, rpc.Errorf("builtins.KeyError", "bad incident name %s", cutText(fmt.Sprintf("%q", name), 100))
	}
	header, events, err := p.lp.incidents.store.Read(name)
	if err != nil {
		return nil, rpc.Errorf("builtins.KeyError", "no incident named %s", name)
	}
	return event.Tuple{header, events}, nil
}
