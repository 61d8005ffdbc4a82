package rpc

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
)

// An Object is what a peer that holds a reference to it can call. Its dynamic
// type must be comparable, a pointer as a rule: equal Objects are one object.
// The ordinary way to make one is [Methods].
type Object interface {
	// Interface is the remote interface name, which Foolscap peers check where
	// an argument is declared with it; "" if there is none.
	Interface() string

	// Invoke runs the call and returns its result, which may be any value that
	// can be sent. The calls of one connection are invoked one after the other
	// in the order they were sent, on one goroutine, until Invoke returns or
	// says [Call.Go]. A panic is answered as an error.
	Invoke(c *Call) (any, error)
}

// A Borrower is an Object that can do without byte strings of its own: if
// Borrows returns true, the memory of the []byte values in a call's arguments is
// used again for other calls once Invoke has returned and its result is sent. A
// method that keeps one must copy it. For large blocks that saves more time than
// anything else, because new memory is the most expensive part of a call.
type Borrower interface {
	Object
	Borrows() bool
}

// Methods is an Object made of functions: only what stands in Map can be
// called. It must not be changed while it is in use.
type Methods struct {
	Name   string // remote interface name, or ""
	Map    map[string]func(*Call) (any, error)
	Borrow bool // no function keeps a []byte of its arguments: see [Borrower]
}

// Borrows returns m.Borrow.
func (m *Methods) Borrows() bool { return m.Borrow }

// Interface returns m.Name.
func (m *Methods) Interface() string { return m.Name }

// Invoke runs the function of the call's method. One that is not in the map is
// an AttributeError, as in the original.
func (m *Methods) Invoke(c *Call) (any, error) {
	f, ok := m.Map[c.Method]
	if !ok {
		return nil, Errorf(typeAttribute, "no method %q", c.Method)
	}
	return f(c)
}

// Args are the arguments of a call. The elements are values as in package
// banana, and Objects, Remotes, and what [Config].Copyables names.
type Args struct {
	Pos []any
	Kw  map[string]any
}

// Pos returns positional arguments.
func Pos(v ...any) Args { return Args{Pos: v} }

// Kw returns keyword arguments.
func Kw(m map[string]any) Args { return Args{Kw: m} }

// A Call is one call of a method, in the hands of [Object.Invoke]. It is valid
// until Invoke returns; what it holds in Args may be kept.
type Call struct {
	Method string
	Args   Args

	in *inbound
}

// Context returns a context that ends with the connection the call came over.
func (c *Call) Context() context.Context { return c.in.context() }

// Peer returns who calls.
func (c *Call) Peer() Peer { return c.in.peer() }

// Go lets the connection's next call start: the rest of this method runs beside
// it. Only the first Go of a call does anything.
func (c *Call) Go() { c.in.detach() }

// Then has f run when the call's answer has been queued: what f sends to the
// peer arrives after the answer. f must not block.
func (c *Call) Then(f func()) { c.in.then = f }

// Missing is what [Call.Bind] gives for an argument that was left out.
var Missing any = missing{}

type missing struct{}

func (missing) String() string { return "(missing)" }

// Bind returns the positional and keyword arguments in the order of names, with
// [Missing] for each that was left out. An argument too many, given twice or of
// an unknown name is an error to return to the caller, a TypeError there.
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

// Require is Bind for methods all of whose arguments must be given.
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
		return nil, Errorf(typeTypeError, "%s() misses %s", c.Method, strings.Join(absent, ", "))
	}
	return bound, nil
}

// A Peer is the Tub at the other end of a connection. The zero Peer is nobody.
type Peer struct{ c *conn }

// TubID is the peer's identity, proved by its key.
func (p Peer) TubID() TubID {
	if p.c == nil {
		return ""
	}
	return p.c.peerID
}

// Features is the value of the key flog in the peer's hello, "" for a peer that
// is not one of ours. It is the peer's claim, at most a few hundred bytes.
func (p Peer) Features() string {
	if p.c == nil {
		return ""
	}
	return p.c.features
}

// RemoteAddr is where the connection comes from or goes to.
func (p Peer) RemoteAddr() net.Addr {
	if p.c == nil {
		return nil
	}
	return p.c.nc.RemoteAddr()
}

// Disconnect ends the connection with the peer at once. All references that go
// over it die, on both sides; either may connect again.
func (p Peer) Disconnect() {
	if p.c != nil {
		p.c.shutdown(errDisconnected)
	}
}

func (p Peer) String() string {
	if p.c == nil {
		return "nobody"
	}
	return fmt.Sprintf("%s at %v", p.c.peerID, p.RemoteAddr())
}
