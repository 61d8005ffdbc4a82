// Package publish offers a process's events and incidents to readers on the network.
//
//	furl files ──► Objects ──► the logport  ──► subscriptions: batches to our programs,
//	                 │                                         one event a call to Foolscap's
//	                 │                      ──► incidents: names, files
//	                 └───────► the control object ──► thresholds, declared incidents
//	gatherers  ◄── Offers ──── both, by reference
//
// It records nothing: the rings and the incidents are given to it, and a reader that
// is slow or gone costs its own queue only. The reader's side is package
// logport/wire.
//
// Spec: foolscap-wire.md sections 6.3 to 6.7; docs/wire-additions.md.
package publish

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/logport/internal/ring"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

// Config is what a Publisher publishes.
type Config struct {
	Incarnation string
	Origin      func() filter.Origin // of the process's own events, for filters
	Versions    func() event.Dict    // names and versions, both text
	Rings       *ring.Rings
	Pump        *ring.Pump
	Incidents   Incidents
	Control     Control

	// Report logs an event about the recorder itself.
	Report func(level event.Level, message string, attrs ...slog.Attr)
}

// Publisher makes the objects that readers use, and runs their subscriptions.
//
// A subscription has a goroutine of its own until it is ended, its observer fails or
// the connection is lost; the peer's references to it do not matter, since the
// original gives them back at once.
type Publisher struct {
	cfg Config

	files chan struct{} // held by the calls that read files

	mu      sync.Mutex
	perPeer map[rpc.Peer]int // subscriptions of each connection; guarded by mu
	dropped atomic.Uint64    // events that subscriptions missed
	active  atomic.Int64     // subscriptions
	wg      sync.WaitGroup
}

// New returns a publisher.
func New(cfg Config) *Publisher {
	return &Publisher{cfg: cfg, files: make(chan struct{}, maxReads), perPeer: map[rpc.Peer]int{}}
}

// What readers may have at once.
const (
	maxReads           = 2  // calls that read files
	maxSubscriptions   = 64 // of all readers on the network
	maxOfOneConnection = 8  // of them
)

// readFiles lets the connection's other calls go on and waits until the call may read
// files; done ends that.
func (p *Publisher) readFiles(c *rpc.Call) (done func(), err error) {
	c.Go()
	select {
	case p.files <- struct{}{}:
		return func() { <-p.files }, nil
	case <-c.Context().Done():
		return nil, context.Cause(c.Context())
	}
}

// admit counts a subscription of a peer, or says why there can be no more.
func (p *Publisher) admit(peer rpc.Peer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := 0
	for _, n := range p.perPeer {
		all += n
	}
	switch {
	case p.perPeer[peer] >= maxOfOneConnection:
		return rpc.Errorf("builtins.RuntimeError", "this connection has %d subscriptions and gets no more", maxOfOneConnection)
	case all >= maxSubscriptions:
		return rpc.Errorf("builtins.RuntimeError", "this logport has %d subscriptions and takes no more", maxSubscriptions)
	}
	p.perPeer[peer]++
	return nil
}

func (p *Publisher) dismiss(peer rpc.Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.perPeer[peer]--; p.perPeer[peer] == 0 {
		delete(p.perPeer, peer)
	}
}

// Subscriptions returns how many there are now.
func (p *Publisher) Subscriptions() int { return int(p.active.Load()) }

// Count counts a subscription while f runs.
func (p *Publisher) Count(f func()) {
	p.active.Add(1)
	defer p.active.Add(-1)
	f()
}

// Dropped returns how many events subscriptions were too slow for, ever.
func (p *Publisher) Dropped() uint64 { return p.dropped.Load() }

// Wait returns when all subscriptions of readers on the network have ended.
func (p *Publisher) Wait() { p.wg.Wait() }

// Logport returns a new object that gives reading: exactly the original's methods,
// and ours, which only our programs know. When ctx ends, so do its subscriptions, and
// its methods answer that the FURL has been withdrawn.
func (p *Publisher) Logport(ctx context.Context) *rpc.Methods {
	o := &logport{p: p, ctx: ctx}
	return withdrawable(ctx, wire.RILogPublisher, map[string]func(*rpc.Call) (any, error){
		wire.MethodGetVersions:          o.getVersions,
		wire.MethodGetPID:               func(*rpc.Call) (any, error) { return os.Getpid(), nil },
		wire.MethodSubscribeToAll:       o.subscribeToAll,
		wire.MethodSubscribeToIncidents: o.subscribeToIncidents,
		wire.MethodUnsubscribe:          o.unsubscribe,
		wire.MethodListIncidents:        o.listIncidents,
		wire.MethodGetIncident:          o.getIncident,

		wire.MethodFlogSubscribe: o.flogSubscribe,
		wire.MethodFlogIncidents: o.flogIncidents,
		wire.MethodFlogParts:     o.flogParts,
		wire.MethodFlogRead:      o.flogRead,
	})
}

// logport is the object behind a logport's FURL.
type logport struct {
	p   *Publisher
	ctx context.Context // ends its subscriptions, and its methods
}

// errWithdrawn is the answer to a peer that still uses a FURL that was rotated away.
var errWithdrawn = rpc.Errorf("builtins.PermissionError", "this FURL has been withdrawn")

// withdrawable returns an object whose methods answer with errWithdrawn once ctx has
// ended.
func withdrawable(ctx context.Context, name string, methods map[string]func(*rpc.Call) (any, error)) *rpc.Methods {
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

// getVersions answers with names and versions in bytes, as the original does.
func (o *logport) getVersions(*rpc.Call) (any, error) {
	var d event.Dict
	for _, item := range o.p.cfg.Versions() {
		name, _ := banana.Text(item.Key)
		version, _ := banana.Text(item.Value)
		d = append(d, event.Item{Key: []byte(name), Value: []byte(version)})
	}
	return d, nil
}

// start answers a call with a new subscription and runs serve until it returns, with
// a context that ends with the connection, with the subscription, or with the
// object. stop is called at the end, also if serve is not because the connection was
// lost before the answer.
func (o *logport) start(c *rpc.Call, observer *rpc.Remote, serve func(ctx context.Context), stop func()) (any, error) {
	p := o.p
	if err := p.admit(c.Peer()); err != nil {
		stop()
		return nil, err
	}
	peer := c.Peer()
	ctx, cancel := context.WithCancel(o.ctx)
	s := &rpc.Methods{Name: wire.RISubscription, Map: map[string]func(*rpc.Call) (any, error){
		wire.MethodUnsubscribe: func(*rpc.Call) (any, error) { cancel(); return nil, nil },
	}}
	p.wg.Go(func() {
		select {
		case <-observer.Done():
			cancel()
		case <-ctx.Done():
		}
	})
	answered := make(chan struct{})
	c.Then(func() { close(answered) })
	p.wg.Go(func() {
		defer p.dismiss(peer)
		defer stop()
		defer cancel()
		p.Count(func() {
			select {
			case <-answered: // the peer knows the subscription before its first event
				serve(ctx)
			case <-ctx.Done():
			}
		})
	})
	return s, nil
}

func (o *logport) unsubscribe(c *rpc.Call) (any, error) {
	args, err := c.Require("subscription")
	if err != nil {
		return nil, err
	}
	m, ok := args[0].(*rpc.Methods)
	if !ok || m.Name != wire.RISubscription {
		return nil, rpc.Errorf("builtins.TypeError", "not a subscription of this logport")
	}
	return m.Map[wire.MethodUnsubscribe](c)
}

// observerArg returns the observer among a call's arguments.
func observerArg(v any) (*rpc.Remote, error) {
	r, ok := v.(*rpc.Remote)
	if !ok {
		return nil, rpc.Errorf("foolscap.tokens.Violation", "the observer is not a reference")
	}
	return r, nil
}

func (o *logport) subscribeToAll(c *rpc.Call) (any, error) {
	args, err := c.Bind("observer", "catch_up")
	if err != nil {
		return nil, err
	}
	observer, err := observerArg(args[0])
	if err != nil {
		return nil, err
	}
	f := ring.Follow(o.p.cfg.Pump, ring.FollowOptions{
		CatchUp: wire.Flag(args[1]), MaxCount: originalQueue, MaxBytes: originalBytes,
	})
	return o.start(c, observer, func(ctx context.Context) { o.p.sendEvents(ctx, observer, f) }, f.Stop)
}

// flogSubscribe(observer, options) answers with the subscription.
func (o *logport) flogSubscribe(c *rpc.Call) (any, error) {
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
	s, err := o.p.Subscribe(options)
	if err != nil {
		return nil, rpc.Errorf("builtins.ValueError", "%v", err)
	}
	return o.start(c, observer, func(ctx context.Context) { sendBatches(ctx, observer, s) }, s.Stop)
}

func (o *logport) subscribeToIncidents(c *rpc.Call) (any, error) {
	args, err := c.Bind("observer", "catch_up", "since")
	if err != nil {
		return nil, err
	}
	observer, err := observerArg(args[0])
	if err != nil {
		return nil, err
	}
	options := wire.IncidentOptions{CatchUp: wire.Flag(args[1])}
	options.Since, _ = banana.Text(args[2])
	return o.startIncidents(c, observer, options, false)
}

// flogIncidents(observer, options) is subscribe_to_incidents whose observer is also
// called when an incident begins.
func (o *logport) flogIncidents(c *rpc.Call) (any, error) {
	args, err := c.Bind("observer", "options")
	if err != nil {
		return nil, err
	}
	observer, err := observerArg(args[0])
	if err != nil {
		return nil, err
	}
	return o.startIncidents(c, observer, wire.ParseIncidentOptions(args[1]), true)
}

func (o *logport) startIncidents(c *rpc.Call, observer *rpc.Remote, options wire.IncidentOptions, extended bool) (any, error) {
	w := o.p.WatchIncidents()
	return o.start(c, observer, func(ctx context.Context) { w.send(ctx, observer, options, extended) }, func() {})
}

func (o *logport) listIncidents(c *rpc.Call) (any, error) {
	args, err := c.Bind("since")
	if err != nil {
		return nil, err
	}
	since, _ := banana.Text(args[0])
	done, err := o.p.readFiles(c)
	if err != nil {
		return nil, err
	}
	defer done()
	store := o.p.cfg.Incidents.Store()
	var d event.Dict
	for _, name := range store.Names(since) {
		if trigger, err := store.Trigger(name); err == nil {
			d = append(d, event.Item{Key: name, Value: trigger})
		}
	}
	return d, nil
}

func (o *logport) getIncident(c *rpc.Call) (any, error) {
	args, err := c.Require("incident_name")
	if err != nil {
		return nil, err
	}
	name, ok := banana.Text(args[0])
	if !ok {
		return nil, rpc.Errorf("builtins.TypeError", "the incident's name is neither bytes nor text")
	}
	done, err := o.p.readFiles(c)
	if err != nil {
		return nil, err
	}
	defer done()
	if !incident.ValidName(name) {
		return nil, rpc.Errorf("builtins.KeyError", "bad incident name %.100q", name)
	}
	header, events, err := o.p.cfg.Incidents.Store().Read(name)
	if err != nil {
		return nil, rpc.Errorf("builtins.KeyError", "no incident named %s", name)
	}
	return event.Tuple{header, events}, nil
}

// flogParts(name) answers with a list of (part, bytes) of an incident.
func (o *logport) flogParts(c *rpc.Call) (any, error) {
	args, err := c.Require("name")
	if err != nil {
		return nil, err
	}
	name, _ := banana.Text(args[0])
	done, err := o.p.readFiles(c)
	if err != nil {
		return nil, err
	}
	defer done()
	parts, err := o.p.cfg.Incidents.Store().Parts(name)
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
func (o *logport) flogRead(c *rpc.Call) (any, error) {
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
	done, err := o.p.readFiles(c)
	if err != nil {
		return nil, err
	}
	defer done()
	r, err := o.p.cfg.Incidents.Store().OpenPart(name, part)
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
	return rpc.Errorf("builtins.OSError", "the incident cannot be read")
}
