package rpc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// KeepConnected connects to f and, whenever the connection is lost, again,
// with growing delays: at once, then after about 2.7 s and e times longer each
// time, up to an hour, each with jitter; about a second ([Config].RetryDelay)
// after a connection was lost, between half and one and a half of it, so that a
// thousand Tubs that lost one peer do not come back at once. A name that the peer does not know is a failure like others.
//
// For each connection serve runs in a goroutine of its own; its context ends
// with the connection. The next attempt waits for serve to return.
func (t *Tub) KeepConnected(f FURL, serve func(ctx context.Context, r *Remote)) *Reconnector {
	rc := &Reconnector{tub: t, furl: f, serve: serve, wake: make(chan struct{}, 1), done: make(chan struct{})}
	rc.ctx, rc.cancel = context.WithCancel(t.ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		rc.status.LastError = fmt.Errorf("rpc: %w", ErrClosed)
		close(rc.done)
		return rc
	}
	t.reconnects[rc] = struct{}{}
	t.goroutines.Go(rc.run)
	return rc
}

// A Reconnector keeps one connection up: see [Tub.KeepConnected].
type Reconnector struct {
	tub    *Tub
	furl   FURL
	serve  func(ctx context.Context, r *Remote)
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // holds a token after Reset
	done   chan struct{} // closed when run has returned

	mu     sync.Mutex
	status Status
}

// Status is a Reconnector's state.
type Status struct {
	Connected   bool
	Since       time.Time // of the connection, or of the loss of the last one
	Hint        string    // hints being tried, or where the connection goes
	LastError   error     // of the last attempt that failed, or of the last connection
	NextAttempt time.Time // zero while connected or trying
	Attempts    int       // since the last connection
}

// Delays of the original: foolscap-wire.md section 2.8. The first is
// Config.RetryDelay.
const (
	maxDelay    = time.Hour
	delayFactor = 2.7182818284590451
	delayJitter = 0.11962656472 // standard deviation, as a part of the delay
)

// run ends when the reconnector is stopped or the Tub closed.
func (rc *Reconnector) run() {
	defer close(rc.done)
	defer rc.leave()
	first := rc.tub.cfg.RetryDelay
	delay := first
	for rc.ctx.Err() == nil {
		rc.note(func(s *Status) { s.NextAttempt = time.Time{}; s.Attempts++ })
		r, err := rc.tub.Connect(rc.ctx, rc.furl)
		if err == nil {
			rc.connected(r)
			delay = first/2 + rand.N(first)
		} else {
			rc.note(func(s *Status) { s.LastError = err })
			delay = min(time.Duration(float64(delay)*delayFactor), maxDelay)
			jittered := float64(delay) * (1 + delayJitter*rand.NormFloat64())
			delay = min(max(time.Duration(jittered), first/10), maxDelay)
			rc.tub.log.Debug("connection attempt failed", "to", rc.furl, "err", err, "retry", delay)
		}
		if !rc.sleep(delay) {
			delay = first
		}
	}
}

// connected runs serve until the connection is lost and serve has returned.
func (rc *Reconnector) connected(r *Remote) {
	rc.note(func(s *Status) {
		*s = Status{Connected: true, Since: time.Now(), Hint: r.Peer().RemoteAddr().String()}
	})
	ctx, cancel := context.WithCancel(rc.ctx)
	defer cancel()
	stop := context.AfterFunc(r.c.ctx, cancel)
	defer stop()
	rc.serve(ctx, r)
	select {
	case <-r.Done():
	case <-rc.ctx.Done():
		return
	}
	rc.note(func(s *Status) { *s = Status{Since: time.Now(), LastError: r.Err()} })
}

// sleep waits before the next attempt; false means that Reset cut it short.
func (rc *Reconnector) sleep(d time.Duration) bool {
	if rc.ctx.Err() != nil {
		return true
	}
	rc.note(func(s *Status) { s.NextAttempt = time.Now().Add(d) })
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-rc.wake:
		return false
	case <-rc.ctx.Done():
		return true
	}
}

func (rc *Reconnector) note(f func(s *Status)) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	f(&rc.status)
}

func (rc *Reconnector) leave() {
	rc.tub.mu.Lock()
	defer rc.tub.mu.Unlock()
	delete(rc.tub.reconnects, rc)
}

// stopAttempts ends the reconnector without waiting for serve.
func (rc *Reconnector) stopAttempts() { rc.cancel() }

// Stop ends it: there is no new attempt, the context of a running serve ends,
// and Stop waits for it to return. The connection itself stays. It may be
// repeated, and must not be called by serve.
func (rc *Reconnector) Stop() {
	rc.cancel()
	<-rc.done
}

// Reset makes the next attempt now and starts the delays anew. While connected
// it does nothing.
func (rc *Reconnector) Reset() {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	if rc.status.NextAttempt.IsZero() {
		return
	}
	select {
	case rc.wake <- struct{}{}:
	default:
	}
}

// Status says what the reconnector is doing, for display.
func (rc *Reconnector) Status() Status {
	rc.tub.mu.Lock()
	a := rc.tub.attempts[rc.furl.Tub]
	rc.tub.mu.Unlock()
	rc.mu.Lock()
	s := rc.status
	rc.mu.Unlock()
	if a != nil && !s.Connected {
		a.mu.Lock()
		defer a.mu.Unlock()
		s.Hint = strings.Join(a.trying, ", ")
	}
	return s
}
