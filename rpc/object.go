package rpc

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
)

// An Object can be called by a peer that holds a reference to it. Its dynamic type
// must be comparable, usually a pointer: equal Objects are the same object.
// [Methods] is the ordinary implementation.
type Object interface {
	// Interface returns the remote interface name, or "" if there is none. A
	// Foolscap peer checks it where an argument is declared with an interface.
	Interface() string

	// Invoke runs the call and returns its result, which may be any value that can
	// be sent. The calls of one connection run on one goroutine, one after the
	// other in the order in which they were sent, until Invoke returns or calls
	// [Call.Go]. A panic becomes an error for the caller.
	Invoke(c *Call) (any, error)
}

// A Borrower is an Object whose methods do not keep the byte strings in their
// arguments. If Borrows returns true, the memory of the []byte values is reused for
// other calls after Invoke has returned and its result was sent. A method that keeps
// such a value must copy it. Allocation is the largest part of the cost of a call
// with large blocks.
type Borrower interface {
	Object

	// Borrows reports whether the memory may be reused.
	Borrows() bool
}

// Methods is an Object made of functions. Only the methods in Map can be called. It
// must not be changed while it is in use.
type Methods struct {
	Name   string                              // remote interface name, or ""
	Map    map[string]func(*Call) (any, error) // by method name
	Borrow bool                                // no function keeps a []byte of its arguments: see [Borrower]

	// Limits are those of methods, by name; "" is the default for all. See
	// [MethodLimits].
	Limits map[string]MethodLimits

	mu      sync.Mutex
	running map[string]chan struct{} // of methods with a bound on calls; guarded by mu
}

// MethodLimits returns the limits of a method.
func (m *Methods) MethodLimits(method string) MethodLimits {
	if l, ok := m.Limits[method]; ok {
		return l
	}
	return m.Limits[""]
}

// enter waits until another call of a bounded method may run. leave ends the call.
func (m *Methods) enter(c *Call, calls int) (leave func(), err error) {
	c.Go()
	m.mu.Lock()
	if m.running == nil {
		m.running = map[string]chan struct{}{}
	}
	running := m.running[c.Method]
	if running == nil {
		running = make(chan struct{}, calls)
		m.running[c.Method] = running
	}
	m.mu.Unlock()
	select {
	case running <- struct{}{}:
		return func() { <-running }, nil
	case <-c.Context().Done():
		return nil, context.Cause(c.Context())
	}
}

// Borrows returns m.Borrow.
func (m *Methods) Borrows() bool { return m.Borrow }

// Interface returns m.Name.
func (m *Methods) Interface() string { return m.Name }

// Invoke runs the function of the call's method. A method that is not in the map is
// an AttributeError, as in the original.
func (m *Methods) Invoke(c *Call) (any, error) {
	f, ok := m.Map[c.Method]
	if !ok {
		return nil, Errorf(typeAttribute, "no method %q", c.Method)
	}
	if n := m.MethodLimits(c.Method).Calls; n > 0 {
		leave, err := m.enter(c, n)
		if err != nil {
			return nil, err
		}
		defer leave()
	}
	return f(c)
}

// Args are the arguments of a call. Arguments that have arrived are values of the
// types at [banana.Tuple], Objects of this Tub, [*Remote], [FURL], and pointers to
// the types in [Config].Copyables. Arguments to be sent may be of other Go types too.
type Args struct {
	Pos []any          // by position
	Kw  map[string]any // by name

	// Expect is how many bytes the answer may have; default 1 MiB. A longer one is a
	// Violation that wraps [ErrLimit]. It is not sent.
	Expect int64
}

// Expecting returns a with Expect set.
func (a Args) Expecting(bytes int64) Args {
	a.Expect = bytes
	return a
}

// Pos returns Args with positional arguments.
func Pos(v ...any) Args { return Args{Pos: v} }

// Kw returns Args with keyword arguments.
func Kw(m map[string]any) Args { return Args{Kw: m} }

// A Call is one call of a method of an [Object]. It is valid until Invoke returns.
// Invoke may keep the values in Args, except as [Borrower] says.
type Call struct {
	Method string // "" for a [Function]
	Args   Args

	in *inbound
}

// Context returns a context that ends with the connection of the call.
func (c *Call) Context() context.Context { return c.in.context() }

// Peer returns the caller.
func (c *Call) Peer() Peer { return c.in.peer() }

// Go lets the connection's next call start while this method continues. Further
// calls of Go have no effect.
func (c *Call) Go() { c.in.detach() }

// Then makes f run after the answer of the call was queued: what f sends to the peer
// arrives after the answer. f must not block.
func (c *Call) Then(f func()) { c.in.then = f }

// Missing is the value that [Call.Bind] returns for an argument that was left out.
var Missing any = missing{}

type missing struct{}

func (missing) String() string { return "(missing)" }

// Bind returns the positional and keyword arguments in the order of names, with
// [Missing] for each that was left out. An excess, duplicate or unknown argument is
// an error, which the method should return: its caller gets a TypeError.
func (c *Call) Bind(names ...string) ([]any, error) {
	return c.Args.bind(c.Method, names)
}

func (a Args) bind(method string, names []string) ([]any, error) {
	if len(a.Pos) > len(names) {
		return nil, Errorf(typeTypeError, "%s() takes at most %d arguments, %d given", method, len(names), len(a.Pos))
	}
	bound := make([]any, len(names))
	for i := copy(bound, a.Pos); i < len(bound); i++ {
		bound[i] = Missing
	}
	for k, v := range a.Kw {
		i := slices.Index(names, k)
		switch {
		case i < 0:
			return nil, Errorf(typeTypeError, "%s() has no argument %q", method, k)
		case i < len(a.Pos):
			return nil, Errorf(typeTypeError, "%s() got two values for argument %q", method, k)
		}
		bound[i] = v
	}
	return bound, nil
}

// Require is Bind for methods without optional arguments: a missing argument is an
// error too.
func (c *Call) Require(names ...string) ([]any, error) {
	bound, err := c.Bind(names...)
	if err != nil {
		return nil, err
	}
	var absent []string
	for i, v := range bound {
		if v == Missing {
			absent = append(absent, names[i])
		}
	}
	if absent != nil {
		return nil, Errorf(typeTypeError, "%s() is missing %s", c.Method, strings.Join(absent, ", "))
	}
	return bound, nil
}

// A Peer is the Tub at the other end of a connection. The zero Peer has no identity
// and no address.
type Peer struct{ c *conn }

// TubID returns the peer's identity, which the peer has proved with its key.
func (p Peer) TubID() TubID {
	if p.c == nil {
		return ""
	}
	return p.c.peerID
}

// Features returns the value of the key flog in the peer's hello, or "" if it has
// none. It is the peer's claim, of less than 4096 bytes.
func (p Peer) Features() string {
	if p.c == nil {
		return ""
	}
	return p.c.features
}

// RemoteAddr returns the network address at the other end of the connection.
func (p Peer) RemoteAddr() net.Addr {
	if p.c == nil {
		return nil
	}
	return p.c.nc.RemoteAddr()
}

// Disconnect ends the connection with the peer at once. All references of both sides
// over it become unusable. Either side may connect again.
func (p Peer) Disconnect() {
	if p.c != nil {
		p.c.shutdown(errDisconnected)
	}
}

// String returns the TubID and the address.
func (p Peer) String() string {
	if p.c == nil {
		return "no peer"
	}
	return fmt.Sprintf("%s at %v", p.c.peerID, p.RemoteAddr())
}
