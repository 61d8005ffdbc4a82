package rpc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// KeepConnected connects to f, and connects again whenever the connection is lost.
//
// After a failed attempt it waits about 2.7 s, and e times longer after each further
// failure, up to an hour, with jitter. After a lost connection it waits between half and
// one and a half of [Config].RetryDelay, so that many Tubs that lose the same peer do not
// reconnect at the same moment. A name that the peer does not know is a failed attempt.
//
// For each connection, KeepConnected calls serve on a goroutine of its own, with a
// context that ends with the connection. The next attempt begins after serve has
// returned.
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

// A Reconnector maintains one connection: see [Tub.KeepConnected]. Its methods may be
// called from any goroutine. It ends with Stop or with its Tub.
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
	Hint        string    // the hints being tried, or the address of the connection
	LastError   error     // of the last failed attempt, or of the last connection
	NextAttempt time.Time // zero while connected or trying
	Attempts    int       // since the last connection
}

// Delays of the original: foolscap-wire.md section 2.8. The first one is
// Config.RetryDelay.
const (
	maxDelay    = time.Hour
	delayFactor = 2.7182818284590451
	delayJitter = 0.11962656472 // standard deviation, as a fraction of the delay
)

// run returns when the Reconnector is stopped or the Tub is closed.
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

// sleep waits before the next attempt. It returns false if Reset ended the wait.
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

// stopAttempts ends the Reconnector without waiting for serve.
func (rc *Reconnector) stopAttempts() { rc.cancel() }

// Stop prevents further attempts, cancels the context of a running serve and waits for
// serve to return. It does not close the connection. It may be called again, but not by
// serve.
func (rc *Reconnector) Stop() {
	rc.cancel()
	<-rc.done
}

// Reset starts the next attempt now and resets the delay. It has no effect while there
// is a connection or an attempt.
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

// Status returns the current state, for display.
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
