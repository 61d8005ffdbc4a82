// Package rpc calls objects in other processes over authenticated, encrypted
// connections, in the wire protocol of Foolscap 21.7.0: the other end may be a
// Go program with this package or a Python program with the original.
//
// # The idea
//
// A [Tub] is one end of connections. It has a key, and its [TubID] is a hash of
// that key, so nobody can pose as it. An [Object] in a Tub can be registered
// under a name that nobody can guess; the two together, with hints where the
// Tub may be found, are a [FURL]:
//
//	pb://erwdcujit2qy4lfpzzo4xzovhvcwsurk@tcp:192.0.2.1:3117/gyqg5ehfkzkwzjqprvqjpnwmyyzbkmn4
//	     the Tub's key                    where it may be    which object
//
// The FURL is the permission: whoever has it can call the object, and nothing
// else. There are no accounts. [Tub.Connect] turns a FURL into a [Remote], whose
// methods are called with [Remote.Call]. References to objects can themselves be
// arguments and results: that is how a server calls back, and how one peer
// introduces another to a third.
//
//	one process                              another process
//	Tub ── Object ◄── Register ── FURL ────► Connect ── Remote ── Call
//	 └────────────────── one TLS connection ──────────────┘
//
// # A client in three calls
//
//	tub, err := rpc.NewTub(rpc.Config{})
//	r, err := tub.Connect(ctx, furl)
//	err = r.Call(ctx, "add", rpc.Pos(1, 2), &sum)
//
// The examples below are complete: Example for both ends in one program,
// ExampleRemote_Call for errors, ExampleCall_Go for methods that take long,
// ExampleTub_KeepConnected for a connection that must last.
//
// # Values
//
// Arguments and results are None, booleans, integers of any size, floats, bytes,
// text, lists, tuples, dicts, sets, decimals, references, exceptions, and structs
// that both sides have agreed on ([Copyable]). Package banana lists them; Go's
// own slices, maps and structs are sent as the nearest of these, and [Convert]
// (which Call uses for its reply) reads the same back. Text (string) and bytes
// ([]byte) are different types for a Python peer. A list that stands twice in one
// message, or in itself, arrives so.
//
// # Order and concurrency
//
// The calls of one connection start in the order they were sent, one after the
// other on one goroutine, until they return or say [Call.Go]. Answers are handled
// apart from that, so a method may call back to its caller and wait. A call whose
// arguments hold a reference to a third Tub (a gift) starts, with those after it,
// when that reference is there.
//
// # Errors
//
// What the peer reports is a [*RemoteError] and never one of ours. What may not
// be sent or accepted is a [*Violation], which costs one call and not the
// connection. A connection that is lost fails every call that waits, and every
// later one on its references, with [ErrDeadReference]: connect again for new
// ones. Nobody knows then whether the peer has run the call.
//
// # Hostile peers
//
// Who holds one of our FURLs may still be hostile. Sizes, nesting, references,
// calls and connections are bounded by [Limits], methods that are not in
// [Methods].Map cannot be called, gifts (which make us dial an address of the
// peer's choice) are refused unless [Config].AcceptGifts is set, and FURLs are
// masked in logs and errors.
//
// # For users of the original
//
//	Foolscap                                  here
//	Tub(certFile=f)                           NewTub(Config{KeyFile: f})
//	tub.tubID                                 Tub.ID
//	tub.listenOn(endpoint)                    Tub.Listen, Tub.Serve
//	tub.setLocation(hints)                    Tub.SetLocation
//	tub.registerReference(obj, name)          Tub.Register
//	tub.registerReference(obj, furlFile=f)    Tub.RegisterFile, RegisterFileName
//	tub.unregisterReference                   Tub.Unregister
//	tub.registerNameLookupHandler             Config.Lookup
//	tub.getReference(furl)                    Tub.Connect
//	tub.connectTo(furl, cb)                   Tub.KeepConnected
//	reconnector.reset, stopConnecting         Reconnector.Reset, Stop
//	getConnectionInfo, getReconnectionInfo    Reconnector.Status, Tub.Connected
//	tub.stopService                           Tub.Close, Tub.Shutdown
//	addConnectionHintHandler                  Config.Dialers
//	removeAllConnectionHintHandlers           Config.Dialers with a nil "tcp"
//	Referenceable, remote_foo                 Object, Methods{Map: {"foo": …}}
//	RemoteInterface, @implementer             Interface in Config.Interfaces, Methods.Name
//	ref.callRemote                            Remote.Call; Remote.Start
//	ref.callRemoteOnly                        Remote.Send
//	ref.notifyOnDisconnect                    Remote.Done
//	ref.getSturdyRef, getRemoteTubID          Remote.SturdyFURL, RemoteTubID
//	ref.getLocationHints, getPeer             Remote.LocationHints, Peer
//	ref.isConnected                           Remote.IsConnected
//	Copyable, RemoteCopy, registerCopier      Copyable in Config.Copyables
//	a bound method as an argument             Function
//	DeadReferenceError                        ErrDeadReference
//	Violation                                 *Violation
//	f.check("builtins.KeyError")              errors.Is(err, RemoteType("builtins.KeyError"))
//	keepaliveTimeout, disconnectTimeout       Config.KeepaliveTimeout, DisconnectTimeout
//	accept-gifts (default true)               Config.AcceptGifts (default false)
//	expose-remote-exception-types             Config.ExposeRemoteExceptionTypes
//	handle-old-duplicate-connections          Config.HandleOldDuplicates
//	logLocalFailures, logRemoteFailures       Config.Log at level Debug
//	connect_timeout (120 s)                   Config.DialTimeout
//	server timeout (120 s)                    Config.NegotiationTimeout
//	logport-furlfile, log-gatherer-furl       package logport
//
// Where we differ on purpose: what costs the original the connection though the
// stream is still understood (text that is not UTF-8, a bad decimal, a key given
// twice, a reference to an object we never sent) is a Violation here. An answer
// that cannot be sent is an error for the caller, not an aborted message. The
// failure strings of peers may be longer than the original admits. getReference
// and decref are not held back by a call that runs. Gifts are refused by default.
//
// Without a counterpart: setLocationAutomatically and UnauthenticatedTub, which
// the original gave up itself; debugBanana; the Tor and I2P handlers, for which
// Config.Dialers is the place.
//
// Spec: foolscap-wire.md, and the transcripts in testdata/captures.
package rpc
