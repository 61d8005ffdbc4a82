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

// Connect returns a reference to the object f names, over the connection to
// its Tub that exists or a new one. It is the original's getReference.
//
// The error says why there is none: [ErrNoHints], [ErrWrongTub], a
// [*NegotiationError], an error of package net, a [*RemoteError] with the type
// builtins.KeyError if there is no object of that name, or ctx's.
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
			err = violationf("the peer gave no reference")
		}
		// A connection may be replaced by a duplicate while both sides dial.
		if err == nil || try == 2 || !errors.Is(err, errReplaced) {
			return r, err
		}
	}
}

// trimRPC takes our prefix from an error that will get one again.
func trimRPC(err error) error {
	if text, ok := strings.CutPrefix(err.Error(), "rpc: "); ok {
		return &retold{text, err}
	}
	return err
}

type retold struct {
	text string
	err  error
}

func (e *retold) Error() string { return e.text }
func (e *retold) Unwrap() error { return e.err }

// connection returns the connection with f's Tub, dialling it if need be.
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
		// Someone else's attempt failed, and it did not have all our hints.
	}
}

// attempt is the effort to get a connection with one Tub. Everyone who wants
// one waits for the same attempt; it ends when nobody does.
type attempt struct {
	tub    *Tub
	target TubID
	hints  []string
	last   string // what is said of the last connection; run's
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

// succeed ends the attempt with c, which may have come from elsewhere.
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

// duplicatePatience is how long we wait for the connection that a peer says it
// has with us already: when both sides dial at once, ours may be refused before
// theirs is through.
const duplicatePatience = 2 * time.Second

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
	a.finish(c, err) // nothing, if a connection has come from the other side
}

// dialAgain tries up to three times as long as the peer says that it has a
// connection with us already.
func (a *attempt) dialAgain(ctx context.Context) (*conn, error) {
	for try := 0; ; try++ {
		a.last = a.tub.lastConnection(a.target)
		select {
		case <-a.done: // from the other side
			return a.c, a.err
		default:
		}
		c, err := a.dialAll(ctx)
		if c != nil || !isDuplicate(err) || try == 2 {
			return c, err
		}
		select {
		case <-time.After(duplicatePatience):
		case <-a.done:
			return a.c, a.err
		case <-ctx.Done():
			return nil, err
		}
	}
}

// stagger is after how long the next hint is tried beside those that have not
// come to anything yet. RFC 8305 recommends 250 ms.
const stagger = 250 * time.Millisecond

// maxParallel is how many hints are tried at a time: a FURL may have any number
// of them, and comes from a peer where gifts are accepted.
const maxParallel = 8

// dialAll tries all hints and returns the first connection that is negotiated.
// When it returns, all other tries have ended.
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
			failure = worse(failure, r.err)
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

// worse returns the failure to report of two: the first, but what a negotiation
// failed for says more than that a port was closed.
func worse(first, second error) error {
	_, a := errors.AsType[*NegotiationError](first)
	_, b := errors.AsType[*NegotiationError](second)
	if first == nil || b && !a {
		return second
	}
	return first
}

// usable reports whether a hint can be dialled at all.
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

// printable keeps what a user's hint says from breaking a header line.
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

// loopback returns our end of the connection of this Tub to itself.
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
		c.features, c.incarnation = t.cfg.Features, t.incarnation
		t.all[c] = struct{}{}
	}
	t.loop = ends[0]
	for _, c := range ends {
		c.start()
	}
	return t.loop, nil
}
