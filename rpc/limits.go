package rpc

import "cmp"

// Limits bound what a peer can make a Tub do and keep. A zero field means its
// default. The defaults are wide: an answer of 64 MiB passes.
type Limits struct {
	Token    int64 // bytes of one string or number; default 128 MiB; a longer one is a Violation
	Message  int64 // bytes of one call or answer; default 256 MiB; a longer one ends the connection
	Values   int   // values in one call or answer; default 4 Mi; more is a Violation
	Depth    int   // nesting of sequences; default 1000; deeper is a Violation
	Exports  int   // objects of this Tub to which one peer may hold references; default 64 Ki; more is a Violation
	Imports  int   // references that one peer may send; default 64 Ki; more is a Violation
	Calls    int   // methods of one connection that run at once after Call.Go; default 1024; the next call waits
	Pause    int64 // bytes of calls waiting to run; default 4 MiB; beyond it reading stops
	Backlog  int64 // bytes of calls waiting to run; default 80 MiB; more ends the connection
	Queue    int64 // bytes waiting to be written; default 80 MiB; beyond it sending blocks
	PerAddr  int   // inbound connections from one address; default 4096; more are closed at once
	Conns    int   // connections in all; default 16384; more are closed at once
	Incoming int   // inbound connections being negotiated; default 1024; more are closed at once
}

func (l Limits) withDefaults() Limits {
	l.Token = cmp.Or(l.Token, 128<<20)
	l.Message = cmp.Or(l.Message, 256<<20)
	l.Values = cmp.Or(l.Values, 4<<20)
	l.Depth = cmp.Or(l.Depth, 1000)
	l.Exports = cmp.Or(l.Exports, 64<<10)
	l.Imports = cmp.Or(l.Imports, 64<<10)
	l.Calls = cmp.Or(l.Calls, 1024)
	l.Pause = cmp.Or(l.Pause, 4<<20)
	l.Backlog = cmp.Or(l.Backlog, 80<<20)
	l.Queue = cmp.Or(l.Queue, 80<<20)
	l.PerAddr = cmp.Or(l.PerAddr, 4096)
	l.Conns = cmp.Or(l.Conns, 16384)
	l.Incoming = cmp.Or(l.Incoming, 1024)
	return l
}
