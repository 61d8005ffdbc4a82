// Package collect takes what publishers offer: their events, and their incidents.
//
//	publisher ── logport(…) ──► Collector: admission
//	                              │ one Session per TubID
//	          ── msg ──────────►  ├─ WriteEvent, then PublishEvent
//	          ── new_incident ─►  ├─ an offer, fetched when its turn comes
//	          ◄─ get_incident ──  └─ Archive, then Sink
//
// An offered incident is fetched and stored once, whatever goes wrong: a fetch that
// fails is retried, across connections too, and does not hold up other offers. What
// a restart may have missed is offered again, because a publisher is asked for all
// incidents since the last one below which none is missing.
//
// It does not classify, publish or keep files: it calls what [Config] gives it.
//
// Spec: foolscap-wire.md sections 6.4 and 6.6, logging-semantics.md sections 10 and
// 11, docs/wire-additions.md.
package collect

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/gatherer/archive"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// Config says what is collected and where it goes. Its functions are called from
// several goroutines.
type Config struct {
	// WriteEvent appends a line to the log file. The publisher has its answer when
	// WriteEvent has returned nil; after an error the event is retried. nil: events
	// are not collected.
	WriteEvent func(line []byte) error

	// PublishEvent, if not nil, is called after WriteEvent. It must not keep line,
	// and must not block.
	PublishEvent func(tub string, ev *event.Event, line []byte)

	Archive *archive.Archive // where incidents are stored; nil: they are not collected
	Sink    Sink             // takes over each stored incident; required with Archive

	MaxPublishers int   // sessions at the same time; required
	MaxEvent      int   // bytes of an event as JSON; a longer one is shortened; required
	MaxIncident   int64 // bytes of an incident as JSON; a larger one is refused; required

	MaxOffers     int           // offers of one publisher that wait; default 50,000
	UnfinishedFor time.Duration // see unfinishedFor; default 10 s

	Log *slog.Logger // our own diagnostics; required
}

const (
	// maxOffers bounds the offers of one publisher that wait to be fetched. If more
	// come, the publisher is asked again later.
	maxOffers = 50_000

	// unfinishedFor is how long an incident that is offered in a catch-up may still
	// grow: the original offers what it is still recording, for 5 s. The newest one
	// is fetched again after this time.
	unfinishedFor = 10 * time.Second
)

// Sink takes over incidents that are stored.
type Sink interface {
	// Stored is called when an incident has been stored, or has been replaced by a
	// longer file. It must not block.
	Stored(s archive.Stored)
}

// Collector admits publishers and serves each in a [Session].
type Collector struct {
	cfg      Config
	log      *slog.Logger
	failures failures
	running  sync.WaitGroup // sessions

	mu sync.Mutex
	t  sessions // guarded by mu
}

// sessions are those that are admitted, by TubID: two of one publisher would fetch
// the same incidents.
type sessions struct {
	active map[string]*Session
	closed bool
}

// New returns a Collector.
func New(cfg Config) *Collector {
	cfg.MaxOffers = cmp.Or(cfg.MaxOffers, maxOffers)
	cfg.UnfinishedFor = cmp.Or(cfg.UnfinishedFor, unfinishedFor)
	return &Collector{cfg: cfg, log: cfg.Log, t: sessions{active: map[string]*Session{}}}
}

// Object returns the remote object by which publishers offer their logports.
func (c *Collector) Object() *rpc.Methods {
	return &rpc.Methods{Name: wire.RILogGatherer, Map: map[string]func(*rpc.Call) (any, error){
		wire.MethodLogport: c.logport,
	}}
}

// Stop refuses publishers from now on.
func (c *Collector) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t.closed = true
}

// Wait returns when all sessions have ended. They end with their connections.
func (c *Collector) Wait() { c.running.Wait() }

// logport is the method logport(nodeid, logport). The nodeid is a claim and is
// ignored: the connection has proved the TubID.
func (c *Collector) logport(call *rpc.Call) (any, error) {
	args, err := call.Require("nodeid", "logport")
	if err != nil {
		return nil, err
	}
	remote, ok := args[1].(*rpc.Remote)
	if !ok || remote.Interface() != wire.RILogPublisher {
		c.log.Warn("refused an object that is not a logport", "peer", call.Peer().String())
		return nil, rpc.Errorf("builtins.TypeError", "logport must be a reference to a %s", wire.RILogPublisher)
	}
	tub := string(call.Peer().TubID())
	if !archive.ValidTub(tub) {
		return nil, rpc.Errorf("builtins.ValueError", "the connection has no TubID")
	}
	ctx, cancel := context.WithCancel(call.Context()) // ends with the connection
	s := newSession(c, tub, remote, cancel)
	earlier, err := c.admit(s)
	if err != nil {
		cancel()
		return nil, err
	}
	c.running.Go(func() {
		defer cancel()
		defer c.dismiss(s)
		if earlier != nil {
			<-earlier.ended
		}
		s.run(ctx)
	})
	return nil, nil
}

// admit makes s the session of its publisher. An earlier session, of this
// connection or of one that it replaces, is canceled and returned: s may run when it
// has ended.
func (c *Collector) admit(s *Session) (earlier *Session, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	earlier = c.t.active[s.tub]
	switch {
	case c.t.closed:
		return nil, rpc.Errorf("builtins.RuntimeError", "the gatherer stops")
	case earlier != nil:
		earlier.cancel()
	case len(c.t.active) >= c.cfg.MaxPublishers:
		s.log.Warn("turned a publisher away: max_publishers are served", "max_publishers", c.cfg.MaxPublishers)
		return nil, rpc.Errorf("builtins.RuntimeError", "the gatherer serves %d publishers and takes no more", c.cfg.MaxPublishers)
	}
	c.t.active[s.tub] = s
	return earlier, nil
}

// dismiss notes that s has ended.
func (c *Collector) dismiss(s *Session) {
	close(s.ended)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.active[s.tub] == s {
		delete(c.t.active, s.tub)
	}
}
