package rpc

import "context"

// A Remote is a reference to an object in another Tub. It is safe for use by
// several goroutines. While a Remote is held and the connection lives, the same
// object is the same Remote.
//
// A Remote that nobody holds any more, or that was released, is given back to
// the peer. It dies with its connection: see [ErrDeadReference].
type Remote struct{}

// Call calls a method and waits for its answer or for ctx. reply is a pointer
// to a Go value the answer is converted to, a *any for the answer as it came,
// or nil to ignore it.
//
// The error is a [*RemoteError] for an exception in the peer, a [*Violation]
// for a value that may not be sent or accepted, [ErrDeadReference] if the
// connection is or gets lost, or ctx's; the peer is not told when ctx ends.
func (r *Remote) Call(ctx context.Context, method string, args Args, reply any) error {
	return errNotYet
}

// Start sends a call, after those started before, and leaves waiting for the
// answer to the Pending.
func (r *Remote) Start(method string, args Args) *Pending { return &Pending{} }

// Send sends a call whose answer nobody wants, after those sent before. A nil
// error means it was queued.
func (r *Remote) Send(method string, args Args) error { return errNotYet }

// Interface returns the remote interface name the peer gave; "" is none.
func (r *Remote) Interface() string { return "" }

// IsConnected reports whether the connection is still there.
func (r *Remote) IsConnected() bool { return false }

// Done is closed when the connection is lost.
func (r *Remote) Done() <-chan struct{} { return nil }

// Peer returns the Tub the object lives in.
func (r *Remote) Peer() Peer { return Peer{} }

// SturdyFURL returns the object's FURL if its Tub has a location. The TubID in
// it is proved; hints and name are the peer's claim.
func (r *Remote) SturdyFURL() (FURL, bool) { return FURL{}, false }

// LocationHints returns the hints of SturdyFURL.
func (r *Remote) LocationHints() []string { return nil }

// Release tells the peer that this Tub no longer uses the object. The Remote
// is dead then, for whoever else here may hold it too.
func (r *Remote) Release() {}

// A Pending is a call that was started.
type Pending struct{}

// Done is closed when Result would not wait.
func (p *Pending) Done() <-chan struct{} { return nil }

// Result waits for the answer and converts it to reply as [Remote.Call] does.
func (p *Pending) Result(reply any) error { return errNotYet }
