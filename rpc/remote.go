package rpc

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"github.com/flogtool/flogtool/rpc/banana"
)

// A Remote is a reference to an object in another Tub. It is safe for use by
// several goroutines. While a Remote is held and the connection lives, the same
// object is the same Remote.
//
// A Remote that nobody holds any more, or that was released, is given back to
// the peer. It dies with its connection: see [ErrDeadReference].
type Remote struct {
	c     *conn
	clid  int64
	iface string
	furl  FURL
}

// Call calls a method and waits for its answer or for ctx. reply is a pointer
// to a Go value the answer is converted to, a *any for the answer as it came,
// or nil to ignore it.
//
// The error is a [*RemoteError] for an exception in the peer, a [*Violation]
// for a value that may not be sent or accepted, [ErrDeadReference] if the
// connection is or gets lost, or ctx's; the peer is not told when ctx ends.
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

// Start sends a call, after those started before, and leaves waiting for the
// answer to the Pending. It waits itself only while more than Limits.Queue
// bytes wait to be written to this peer.
func (r *Remote) Start(method string, args Args) *Pending { return r.StartInto(method, args, nil) }

// StartInto is Start with memory for the answer: if that is a byte string of
// between 4 and 256 KiB that fits, Result gives a part of into. Until Done is
// closed into is the connection's, also when nobody waits for the answer any more.
func (r *Remote) StartInto(method string, args Args, into []byte) *Pending {
	p, err := r.start(context.Background(), method, args, into)
	if err != nil {
		p = &Pending{method: method, done: make(chan struct{})}
		p.complete(nil, err)
	}
	return p
}

// Send sends a call whose answer nobody wants, after those sent before. A nil
// error means it was queued. It waits as Start does.
func (r *Remote) Send(method string, args Args) error {
	m, err := r.encode(0, method, args)
	if err != nil {
		return err
	}
	defer m.done()
	err = r.c.send(context.Background(), m, nil)
	runtime.KeepAlive(r) // or it might be given back before the call is queued
	return err
}

func (r *Remote) start(ctx context.Context, method string, args Args, into []byte) (*Pending, error) {
	p := &Pending{c: r.c, remote: r, id: r.c.reqs.Add(1), method: method, into: into, done: make(chan struct{})}
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
		return nil, r.c.deadErr() // nothing is asked of the values then
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
		var few [8]string // so that the names of most calls cost no memory
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

// Interface returns the remote interface name the peer gave; "" is none.
func (r *Remote) Interface() string { return r.iface }

// IsConnected reports whether the connection is still there.
func (r *Remote) IsConnected() bool { return !r.c.isDead() }

// Done is closed when the connection is lost.
func (r *Remote) Done() <-chan struct{} { return r.c.ctx.Done() }

// Err returns nil while the connection is there, and then the error that calls
// fail with.
func (r *Remote) Err() error {
	if !r.c.isDead() {
		return nil
	}
	return r.c.deadErr()
}

// Peer returns the Tub the object lives in.
func (r *Remote) Peer() Peer { return Peer{r.c} }

// RemoteTubID is the identity of the Tub the object lives in, proved by its
// key.
func (r *Remote) RemoteTubID() TubID { return r.c.peerID }

// SturdyFURL returns the object's FURL if its Tub has a location. The TubID in
// it is proved; hints and name are the peer's claim.
func (r *Remote) SturdyFURL() (FURL, bool) { return r.furl, !r.furl.IsZero() }

// LocationHints returns the hints of SturdyFURL, which are the peer's claim.
func (r *Remote) LocationHints() []string { return slices.Clone(r.furl.Hints) }

// Release tells the peer that this Tub no longer uses the object. Whoever else
// here holds the same Remote should not use it any more either: calls may be
// answered by a Violation.
func (r *Remote) Release() { r.c.release(r) }

func (r *Remote) String() string {
	return fmt.Sprintf("object %d of %s", r.clid, r.c.peerID)
}

// A Pending is a call that was started.
type Pending struct {
	c      *conn
	remote *Remote // kept until the answer, so that it is not given back before
	id     uint64
	method string
	imp    *imported // of a decref, whose answer only the connection wants
	into   []byte    // memory for the answer, or nil; the reader's

	done  chan struct{}
	value any // these two are set before done is closed
	err   error
}

// complete is called once, by whoever took p out of the table of pending calls.
func (p *Pending) complete(v any, err error) {
	p.value, p.err = v, err
	close(p.done)
	if p.imp != nil && p.c != nil {
		p.c.gaveBack(p.imp)
	}
}

// alloc is the reader's Alloc while it reads the answer.
func (p *Pending) alloc(n int) []byte {
	b := p.into
	p.into = nil
	if len(b) < n {
		return make([]byte, n)
	}
	return b[:n:n]
}

// Done is closed when Result would not wait.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Result waits for the answer and converts it to reply as [Remote.Call] does.
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
