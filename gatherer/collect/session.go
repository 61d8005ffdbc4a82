package collect

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// Session is the gatherer's service for one connected publisher. Its own goroutine
// subscribes and fetches incidents, one after the other; the connection's goroutine
// delivers events and offers, one after the other.
type Session struct {
	c      *Collector
	tub    string      // the TubID that the publisher has proved
	remote *rpc.Remote // its logport
	log    *slog.Logger
	cancel context.CancelFunc // of run's context
	ended  chan struct{}      // closed when run has returned

	line, json []byte // of event; reused

	wake chan struct{} // holds a token when t has changed

	mu sync.Mutex
	t  offers // guarded by mu
}

func newSession(c *Collector, tub string, remote *rpc.Remote, cancel context.CancelFunc) *Session {
	return &Session{
		c: c, tub: tub, remote: remote, log: c.log.With("tub", tub),
		cancel: cancel, ended: make(chan struct{}), wake: make(chan struct{}, 1),
	}
}

// run serves the publisher until ctx is done, which is when the connection is lost
// at the latest.
func (s *Session) run(ctx context.Context) {
	s.log.Info("publisher connected", "addr", s.remote.Peer().RemoteAddr())
	defer s.log.Info("publisher gone")
	if s.c.cfg.WriteEvent != nil {
		s.subscribeToEvents(ctx)
	}
	if s.c.cfg.Archive != nil {
		s.collectIncidents(ctx)
	}
	<-ctx.Done()
}

// subscribeToEvents has the publisher send its events until the connection is lost.
func (s *Session) subscribeToEvents(ctx context.Context) {
	var subscription any // not needed: it ends with the connection
	err := s.remote.Call(ctx, wire.MethodSubscribeToAll, rpc.Pos(wire.EventObserver(s.event)), &subscription)
	switch {
	case err == nil:
		s.log.Info("gathering events")
	case ctx.Err() == nil:
		s.log.Error("subscribe to events", "err", err)
	}
}

// event takes an event. The publisher has its answer when event returns: while the
// file cannot be written, the publisher waits, and its own queue is bounded.
func (s *Session) event(ctx context.Context, ev *event.Event) error {
	received := time.Now()
	s.json = ev.AppendJSON(s.json[:0])
	if limit := s.c.cfg.MaxEvent; len(s.json) > limit {
		ev = event.Shortened(ev, len(s.json), limit)
		s.json = ev.AppendJSON(s.json[:0])
	}
	s.line = flogfile.AppendEvent(s.line[:0], s.tub, received, s.json)
	for wait := minRetry; ; wait = min(2*wait, 10*time.Second) {
		err := s.c.cfg.WriteEvent(s.line)
		if err == nil {
			break
		}
		s.log.Error("write event; its publisher waits", "err", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
	if s.c.cfg.PublishEvent != nil {
		s.c.cfg.PublishEvent(s.tub, ev, s.line)
	}
	return nil
}
