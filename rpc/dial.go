package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Connect returns a reference to the object that f names. It uses the existing
// connection to its Tub or makes one. It is the original's getReference.
//
// The error wraps [ErrBadFURL], [ErrClosed], [ErrNoHints] or [ErrWrongTub], or is a
// [*NegotiationError], an error of package net, a [*RemoteError] of type
// builtins.KeyError if the Tub has no object of that name, or the cause of ctx.
func (t *Tub) Connect(ctx context.Context, f FURL) (*Remote, error) {
	if f.Tub == "" || f.Name == "" {
		return nil, fmt.Errorf("rpc: %w: TubID or name is empty", ErrBadFURL)
	}
	for try := 0; ; try++ {
		c, err := t.connection(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("rpc: connect to %s: %w", f.Masked(), trimRPC(err))
		}
		var r *Remote
		broker := &Remote{c: c}
		err = broker.Call(ctx, "getReferenceByName", Kw(map[string]any{"name": []byte(f.Name)}), &r)
		if err == nil && r == nil {
			err = violationf("the peer answered without a reference")
		}
		// A connection may be replaced by a duplicate while both sides dial.
		if err == nil || try == 2 || !errors.Is(err, errReplaced) {
			return r, err
		}
	}
}

// trimRPC removes this package's prefix from an error that gets a new one.
func trimRPC(err error) error {
	if text, ok := strings.CutPrefix(err.Error(), "rpc: "); ok {
		return &trimmedError{text, err}
	}
	return err
}

type trimmedError struct {
	text string
	err  error
}

func (e *trimmedError) Error() string { return e.text }
func (e *trimmedError) Unwrap() error { return e.err }

// connection returns the connection with f's Tub. It dials if there is none.
func (t *Tub) connection(ctx context.Context, f FURL) (*conn, error) {
	if f.Tub == t.id {
		return t.loopback()
	}
	for {
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			return nil, ErrClosed
		}
		if c := t.conns[f.Tub]; c != nil && !c.isDead() {
			t.mu.Unlock()
			return c, nil
		}
		a := t.attempts[f.Tub]
		own := a == nil
		if own {
			a = t.newAttempt(f)
			t.attempts[f.Tub] = a
			t.goroutines.Go(a.run)
		}
		a.waiters++
		t.mu.Unlock()

		c, err := a.wait(ctx)
		if err == nil || own || ctx.Err() != nil || a.tried(f.Hints) {
			return c, err
		}
		// The attempt of another caller failed, and it did not have all hints of f.
	}
}

// attempt is the attempt to connect to one Tub. All callers that want a connection to
// this Tub wait for the same attempt. It ends when no caller waits.
type attempt struct {
	tub    *Tub
	target TubID
	hints  []string
	last   string // the value of last-connection; used by run
	ctx    context.Context
	cancel context.CancelCauseFunc

	waiters int // guarded by tub.mu

	once sync.Once
	done chan struct{} // closed when one of these is set
	c    *conn
	err  error

	mu     sync.Mutex
	trying []string // hints being tried, for display
}

func (t *Tub) newAttempt(f FURL) *attempt {
	a := &attempt{tub: t, target: f.Tub, hints: f.Hints, done: make(chan struct{})}
	a.ctx, a.cancel = context.WithCancelCause(t.ctx)
	return a
}

// succeed ends the attempt with c, which may be an inbound connection.
func (a *attempt) succeed(c *conn) { a.finish(c, nil) }

func (a *attempt) finish(c *conn, err error) {
	a.once.Do(func() {
		a.c, a.err = c, err
		close(a.done)
	})
}

// wait waits until the attempt ends, or ctx is done.
func (a *attempt) wait(ctx context.Context) (*conn, error) {
	var err error
	select {
	case <-a.done:
		return a.c, a.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	a.tub.mu.Lock()
	defer a.tub.mu.Unlock()
	if a.waiters--; a.waiters == 0 {
		if a.tub.attempts[a.target] == a {
			delete(a.tub.attempts, a.target)
		}
		a.cancel(err)
	}
	return nil, err
}

func (a *attempt) tried(hints []string) bool {
	return !slices.ContainsFunc(hints, func(h string) bool { return !slices.Contains(a.hints, h) })
}

// duplicateWait is how long an attempt waits for the connection that the peer says it
// already has: if both sides dial at once, this side's may be refused before the peer's
// is established.
const duplicateWait = 2 * time.Second

func (a *attempt) run() {
	defer a.cancel(nil)
	ctx, cancel := context.WithTimeoutCause(a.ctx, a.tub.cfg.DialTimeout, context.DeadlineExceeded)
	defer cancel()
	c, err := a.dialAgain(ctx)
	a.tub.mu.Lock()
	if a.tub.attempts[a.target] == a {
		delete(a.tub.attempts, a.target)
	}
	a.tub.mu.Unlock()
	a.finish(c, err) // no effect if an inbound connection was there first
}

// dialAgain dials, up to three times if the peer says that it already has a connection
// with this Tub.
func (a *attempt) dialAgain(ctx context.Context) (*conn, error) {
	for try := 0; ; try++ {
		a.last = a.tub.lastConnection(a.target)
		select {
		case <-a.done: // an inbound connection
			return a.c, a.err
		default:
		}
		c, err := a.dialAll(ctx)
		if c != nil || !isDuplicate(err) || try == 2 {
			return c, err
		}
		select {
		case <-time.After(duplicateWait):
		case <-a.done:
			return a.c, a.err
		case <-ctx.Done():
			return nil, err
		}
	}
}

// stagger is the delay before the next hint is tried while others are being tried. RFC
// 8305 recommends 250 ms.
const stagger = 250 * time.Millisecond

// maxParallel is the maximum number of hints that are tried at a time: a FURL may have
// any number of them, and may come from a peer.
const maxParallel = 8

// dialAll tries all hints and returns the first connection that is negotiated. All
// other tries have ended when it returns.
func (a *attempt) dialAll(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	var tries sync.WaitGroup
	defer tries.Wait()
	defer cancel()

	type result struct {
		c   *conn
		err error
	}
	var usable []string
	for _, h := range a.hints {
		if a.tub.usable(h) && !slices.Contains(usable, h) {
			usable = append(usable, h)
		}
	}
	if len(usable) == 0 {
		return nil, fmt.Errorf("rpc: %w", ErrNoHints)
	}
	results := make(chan result, len(usable))
	next := time.NewTimer(0)
	defer next.Stop()
	var failure error
	for started, ended := 0, 0; ended < len(usable); {
		select {
		case <-next.C:
			if started < len(usable) && started-ended < maxParallel {
				hint := usable[started]
				started++
				tries.Go(func() {
					c, err := a.dial(ctx, hint)
					results <- result{c, err}
				})
				next.Reset(stagger)
			}
		case r := <-results:
			if r.err == nil {
				return r.c, nil
			}
			ended++
			failure = moreTelling(failure, r.err)
			next.Reset(0)
		case <-a.done:
			return a.c, a.err
		case <-ctx.Done():
			if failure == nil {
				failure = context.Cause(ctx)
			}
			return nil, failure
		}
	}
	return nil, failure
}

// moreTelling returns the error to report of two: the first one, unless only the
// second is that of a negotiation, which says more than that a port is closed.
func moreTelling(first, second error) error {
	_, a := errors.AsType[*NegotiationError](first)
	_, b := errors.AsType[*NegotiationError](second)
	if first == nil || b && !a {
		return second
	}
	return first
}

// usable reports whether this Tub can dial a hint.
func (t *Tub) usable(hint string) bool {
	kind, rest := splitHint(hint)
	if dial, ok := t.cfg.Dialers[kind]; ok {
		return dial != nil
	}
	if kind != "tcp" {
		return false
	}
	_, _, err := parseTCP(rest)
	return err == nil
}

// dial opens and negotiates one connection.
func (a *attempt) dial(ctx context.Context, hint string) (*conn, error) {
	a.try(hint, true)
	defer a.try(hint, false)
	kind, rest := splitHint(hint)
	host, address, _ := parseTCP(rest)
	var raw net.Conn
	var err error
	if dial := a.tub.cfg.Dialers[kind]; dial != nil {
		raw, err = dial(ctx, rest)
		if host == "" {
			host = rest
		}
	} else {
		var d net.Dialer
		raw, err = d.DialContext(ctx, "tcp", address)
	}
	if err != nil {
		return nil, err
	}
	return a.tub.initiate(ctx, raw, strings.Map(printable, host), a.target, a.last)
}

// printable replaces control characters, which must not get into a header line.
func printable(r rune) rune {
	if r < ' ' {
		return '?'
	}
	return r
}

func (a *attempt) try(hint string, begins bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if begins {
		a.trying = append(a.trying, hint)
	} else if i := slices.Index(a.trying, hint); i >= 0 {
		a.trying = slices.Delete(a.trying, i, i+1)
	}
}

// loopback returns the calling end of the connection of this Tub to itself.
func (t *Tub) loopback() (*conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	if t.loop != nil && !t.loop.isDead() {
		return t.loop, nil
	}
	near, far := net.Pipe()
	ends := [2]*conn{t.newConn(near, t.id, 1), t.newConn(far, t.id, 1)}
	for _, c := range ends {
		c.features, c.incarnation, c.self = t.cfg.Features, t.incarnation, true
		t.all[c] = struct{}{}
	}
	t.loop = ends[0]
	for _, c := range ends {
		c.start()
	}
	return t.loop, nil
}
