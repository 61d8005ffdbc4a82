package rpc

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"

	"github.com/flogtool/flogtool/rpc/banana"
)

// A Remote is a reference to an object in another Tub. Its methods may be called from
// any goroutine. As long as the program holds a Remote and its connection lasts, the
// same object arrives as the same Remote.
//
// The reference is returned to the peer when the Remote is garbage collected or
// released. A Remote becomes unusable with its connection: see [ErrDeadReference].
type Remote struct {
	c     *conn
	clid  int64
	iface string
	furl  FURL
}

// Call calls a method and waits for its answer or for ctx. reply is a pointer to a Go
// value to which [Convert] converts the answer, a *any for the answer itself, or nil
// to ignore it.
//
// The error is a [*RemoteError] for an exception in the peer (a [*HiddenError] if the
// Config says so), a [*Violation] for a value that may not be sent or accepted,
// [ErrDeadReference] for a lost connection, or the cause of ctx. The end of ctx is
// not reported to the peer, which may still run the call.
func (r *Remote) Call(ctx context.Context, method string, args Args, reply any) error {
	p, err := r.start(ctx, method, args, nil)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	default:
		select {
		case <-p.done:
		case <-ctx.Done():
			r.c.take(p.id)
			return context.Cause(ctx)
		}
	}
	return p.Result(reply)
}

// Start sends a call and returns without waiting for the answer. Calls are sent in
// the order in which they were started. Start blocks only while more than
// [Limits].Queue bytes wait to be written to this peer. Errors of sending are those
// of [Pending.Result].
func (r *Remote) Start(method string, args Args) *Pending { return r.StartInto(method, args, nil) }

// StartInto is Start with memory for the answer. If the answer is a byte string of 4
// to 256 KiB that fits, Result returns a part of into. The caller must not use into
// until Done is closed.
func (r *Remote) StartInto(method string, args Args, into []byte) *Pending {
	p, err := r.start(context.Background(), method, args, into)
	if err != nil {
		p = &Pending{method: method, done: make(chan struct{})}
		p.complete(nil, err)
	}
	return p
}

// Send sends a call without an answer, after the calls sent before. It blocks as
// Start does. A nil error means that the call was queued; otherwise the error is a
// [*Violation] or [ErrDeadReference].
func (r *Remote) Send(method string, args Args) error {
	m, err := r.encode(0, method, args)
	if err != nil {
		return err
	}
	defer m.done()
	err = r.c.send(context.Background(), m, nil)
	runtime.KeepAlive(r) // it must not be returned to the peer before the call is queued
	return err
}

func (r *Remote) start(ctx context.Context, method string, args Args, into []byte) (*Pending, error) {
	p := &Pending{c: r.c, remote: r, id: r.c.reqs.Add(1), method: method, into: into, expect: cmp.Or(args.Expect, defaultSize), done: make(chan struct{})}
	m, err := r.encode(p.id, method, args)
	if err != nil {
		return nil, err
	}
	defer m.done()
	if err := r.c.send(ctx, m, p); err != nil {
		return nil, err
	}
	return p, nil
}

func (r *Remote) encode(id uint64, method string, args Args) (*message, error) {
	if r.c.isDead() {
		return nil, r.c.deadErr() // whatever the values are
	}
	if err := r.c.tub.checkCall(r, method, args); err != nil {
		return nil, err
	}
	m := r.c.newMessage()
	m.begin(id, r.clid, method)
	if err := m.arguments(args); err != nil {
		m.done()
		return nil, locate(err, "in arguments of "+method)
	}
	m.Close(m.call)
	return m, nil
}

func (m *message) arguments(args Args) error {
	open := m.Open(banana.KindArguments)
	m.Count(uint64(len(args.Pos)))
	for _, v := range args.Pos {
		if err := m.Value(v); err != nil {
			return err
		}
	}
	if len(args.Kw) > 0 {
		var few [8]string // most calls allocate nothing for the names
		names := few[:0]
		for name := range args.Kw {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			m.Word(name)
			if err := m.Value(args.Kw[name]); err != nil {
				return err
			}
		}
	}
	m.Close(open)
	return nil
}

// Interface returns the remote interface name that the peer has sent, or "".
func (r *Remote) Interface() string { return r.iface }

// IsConnected reports whether the connection still exists.
func (r *Remote) IsConnected() bool { return !r.c.isDead() }

// Done returns a channel that is closed when the connection is lost.
func (r *Remote) Done() <-chan struct{} { return r.c.ctx.Done() }

// Err returns nil while the connection exists, and then the error with which calls
// fail.
func (r *Remote) Err() error {
	if !r.c.isDead() {
		return nil
	}
	return r.c.deadErr()
}

// Peer returns the Tub of the object.
func (r *Remote) Peer() Peer { return Peer{r.c} }

// RemoteTubID returns the identity of the object's Tub, which the Tub has proved with
// its key.
func (r *Remote) RemoteTubID() TubID { return r.c.peerID }

// SturdyFURL returns the object's FURL; ok is false if its Tub has no location. The
// TubID is proved; hints and name are the peer's claim.
func (r *Remote) SturdyFURL() (furl FURL, ok bool) { return r.furl, !r.furl.IsZero() }

// LocationHints returns the hints of SturdyFURL, which are the peer's claim.
func (r *Remote) LocationHints() []string { return slices.Clone(r.furl.Hints) }

// Release tells the peer that this Tub no longer uses the object. No part of the
// program may use the Remote afterwards: its calls may fail with a Violation.
func (r *Remote) Release() { r.c.release(r) }

// String returns the number of the object on its connection and its TubID.
func (r *Remote) String() string {
	return fmt.Sprintf("object %d of %s", r.clid, r.c.peerID)
}

// A Pending is a call that was started. Its methods may be called from any
// goroutine.
type Pending struct {
	c      *conn
	remote *Remote // not returned to the peer before the answer
	id     uint64
	method string
	imp    *imported // of a decref, whose answer concerns the connection only
	into   []byte    // memory for the answer, or nil; the reader's
	expect int64     // bytes of the answer at most

	done  chan struct{}
	value any // these two are set before done is closed
	err   error
}

// complete is called once, by the goroutine that removed p from the table of pending
// calls.
func (p *Pending) complete(v any, err error) {
	p.value, p.err = v, err
	close(p.done)
	if p.imp != nil && p.c != nil {
		p.c.decrefAnswered(p.imp)
	}
}

// alloc is the Alloc of the banana.Reader while the answer is read.
func (p *Pending) alloc(n int) []byte {
	b := p.into
	p.into = nil
	if len(b) < n {
		return make([]byte, n)
	}
	return b[:n:n]
}

// Done returns a channel that is closed when the answer or an error is there.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Result waits for the answer and converts it to reply. Errors are those of
// [Remote.Call].
func (p *Pending) Result(reply any) error {
	<-p.done
	if p.err != nil {
		return p.err
	}
	if p.remote != nil {
		if err := p.c.tub.checkResult(p.remote, p.method, p.value); err != nil {
			return err
		}
	}
	if reply == nil {
		return nil
	}
	if to, ok := reply.(*any); ok {
		*to = p.value
		return nil
	}
	if err := Convert(p.value, reply); err != nil {
		return locate(err, "in the answer of "+p.method)
	}
	return nil
}
