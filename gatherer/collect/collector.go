// Package collect fetches what publishers offer: their events and incidents.
package collect

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/gatherer/archive"
	"github.com/flogtool/flogtool/rpc"
)

// Config says what is collected and where it goes.
type Config struct {
	WriteEvent   func(line []byte) error                        // nil: events are not collected
	PublishEvent func(tub string, ev *event.Event, line []byte) // after WriteEvent; it does not keep line; may be nil
	Archive      *archive.Archive                               // nil: incidents are not collected
	Sink         Sink                                           // what follows when an incident is stored

	MaxPublishers int
	MaxEvent      int           // bytes
	MaxIncident   int64         // bytes
	MaxOffers     int           // see maxAnnounced
	UnfinishedFor time.Duration // see unfinishedFor

	Log *slog.Logger
}

// Sink takes over the incidents that are stored.
type Sink interface {
	Stored(s archive.Stored)
}

// Collector serves the publishers that offer themselves.
type Collector struct {
	cfg      Config
	log      *slog.Logger
	failures failures
	sessions sync.WaitGroup

	mu sync.Mutex
	t  connections // guarded by mu
}

// connections are the publishers being served, one for each Tub: two of one Tub
// would fetch and list the same incidents.
type connections struct {
	active map[string]*Session
	closed bool
}

// New returns a Collector.
func New(cfg Config) *Collector {
	cfg.MaxOffers = cmp.Or(cfg.MaxOffers, maxAnnounced)
	cfg.UnfinishedFor = cmp.Or(cfg.UnfinishedFor, unfinishedFor)
	return &Collector{cfg: cfg, log: cfg.Log}
}

// Object returns what is registered as the gatherer.
func (c *Collector) Object() *rpc.Methods {
	return &rpc.Methods{Name: gathererInterface, Map: map[string]func(*rpc.Call) (any, error){
		"logport": c.offered,
	}}
}

// offered is logport(nodeid, publisher): a process offers its logport. The
// nodeid is its claim; what counts is the identity it has proved.
func (c *Collector) offered(call *rpc.Call) (any, error) {
	args, err := call.Require("nodeid", "logport")
	if err != nil {
		return nil, err
	}
	remote, ok := args[1].(*rpc.Remote)
	if !ok || remote.Interface() != publisherInterface {
		c.log.Warn("refused what is no logport", "peer", call.Peer().String())
		return nil, rpc.Errorf("builtins.TypeError", "logport must be a reference to a %s", publisherInterface)
	}
	tub := string(call.Peer().TubID())
	if !archive.ValidTub(tub) {
		return nil, rpc.Errorf("builtins.ValueError", "this TubID is none")
	}
	ctx, cancel := context.WithCancel(call.Context())
	p := &Session{
		c: c, tub: tub, remote: remote, log: c.log.With("tub", tub),
		stop: cancel, ended: make(chan struct{}), news: make(chan struct{}, 1),
	}
	earlier, err := c.admit(p)
	if err != nil {
		cancel()
		return nil, err
	}
	c.sessions.Go(func() {
		defer cancel()
		defer c.dismiss(p)
		if earlier != nil {
			<-earlier.ended
		}
		p.run(ctx)
	})
	return nil, nil
}

// admit makes p the publisher of its Tub. One that was offered earlier, on this
// connection or on one that is being replaced, is told to end, and returned: p
// runs when it has.
func (c *Collector) admit(p *Session) (earlier *Session, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	earlier = c.t.active[p.tub]
	switch {
	case c.t.closed:
		return nil, rpc.Errorf("builtins.RuntimeError", "the gatherer stops")
	case earlier != nil:
		earlier.stop()
	case len(c.t.active) >= c.cfg.MaxPublishers:
		p.log.Warn("turned a publisher away: max_publishers are served", "max_publishers", c.cfg.MaxPublishers)
		return nil, rpc.Errorf("builtins.RuntimeError", "the gatherer serves %d publishers and takes no more", c.cfg.MaxPublishers)
	}
	if c.t.active == nil {
		c.t.active = map[string]*Session{}
	}
	c.t.active[p.tub] = p
	return earlier, nil
}

// dismiss notes that p has ended, and forgets it unless another has taken its
// place.
func (c *Collector) dismiss(p *Session) {
	close(p.ended)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.active[p.tub] == p {
		delete(c.t.active, p.tub)
	}
}

// Stop refuses what is offered from now on.
func (c *Collector) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t.closed = true
}

// Wait returns when all sessions have ended, which they do with their
// connections, and what they brought is stored.
func (c *Collector) Wait() { c.sessions.Wait() }
