// Package rpc calls objects in other processes over authenticated, encrypted
// connections. It speaks the wire protocol of Foolscap 21.7.0: the peer may be a
// Go program with this package or a Python program with Foolscap.
//
// A [Tub] is one endpoint. It has a private key, and its [TubID] is a hash of its
// certificate, so no other Tub can claim it. An [Object] that a Tub registers gets
// a name that cannot be guessed. TubID, name, and hints where the Tub listens form
// a [FURL]:
//
//	pb://erwdcujit2qy4lfpzzo4xzovhvcwsurk@tcp:192.0.2.1:3117/gyqg5ehfkzkwzjqprvqjpnwmyyzbkmn4
//	     TubID                            hints              name
//
// The FURL is the permission: its holder can call that object and nothing else.
// [Tub.Connect] turns a FURL into a [Remote], and [Remote.Call] calls a method.
// References to objects can be arguments and results, for callbacks and to
// introduce one peer to another.
//
//	one process                              another process
//	Tub ── Object ◄── Register ── FURL ────► Connect ── Remote ── Call
//	 └────────────────── one TLS connection ──────────────┘
//
// Values: arguments and results are the types that package banana lists, Go's
// own numbers, slices, maps and structs, references, and types named in
// [Config].Copyables. [Convert] stores them into Go variables. Text (string) and
// bytes ([]byte) are different types for a Python peer.
//
// Order: the calls of one connection start in the order in which they were sent,
// one after the other, until the method returns or calls [Call.Go]. Answers are
// handled separately, so a method may call back to its caller and wait.
//
// Errors: an exception in the peer is a [*RemoteError]. A value that may not be
// sent or accepted is a [*Violation], which costs one call. A lost connection
// fails every pending and later call with [ErrDeadReference]; it is then unknown
// whether the peer has run a pending call.
//
// Hostile peers: [Limits] bound sizes, nesting, references, calls and
// connections. Only methods in [Methods].Map can be called. Gifts, which make
// this Tub dial an address that the peer chooses, need [Config].AcceptGifts.
// Logs and errors show a FURL without its name.
//
// For users of Foolscap docs/porting.md lists the counterpart of each API.
//
// Spec: foolscap-wire.md, and the transcripts in testdata/captures.
package rpc
