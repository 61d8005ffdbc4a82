package rpc

import (
	"cmp"
	"time"
)

// Limits bound what peers can make a Tub do and keep. A zero field means its default.
//
// What a peer may send grows with what it has shown:
//
//	                 message         values      references  silence
//	a stranger       64 KiB          100         8           10 s, and for each step of the negotiation
//	a holder         what the called method declares (MethodLimits), 1 MiB by default
//	an answer        what the caller expects (Args.Expect), 1 MiB by default
//
// A stranger is a peer that holds no reference to an object of this Tub: it has
// reached nothing by a swissnum, and was sent nothing.
type Limits struct {
	Memory    int64 // bytes received and not consumed yet, and waiting to be written, of all peers together; default 256 MiB
	Strangers int   // inbound connections of strangers; default an eighth of the process's files, 16 to 1024; the oldest gives way
	Token     int64 // bytes of one string or number; default 128 MiB; a longer one is a Violation
	Message   int64 // bytes of one call or answer in any case; default 256 MiB; a longer one ends the connection
	Values    int   // values in one call or answer; default 4 Mi; more is a Violation
	Depth     int   // nesting of sequences; default 1000; deeper is a Violation
	Exports   int   // objects of this Tub to which one peer may hold references; default 64 Ki; more is a Violation
	Imports   int   // references that one peer may send; default 64 Ki; more is a Violation
	Calls     int   // methods of one connection that run at once after Call.Go; default 1024; the next call waits
	Pause     int64 // bytes of calls waiting to run; default 4 MiB; beyond it reading stops
	Backlog   int64 // bytes of calls waiting to run; default 80 MiB; more ends the connection
	Queue     int64 // bytes waiting to be written; default 80 MiB; beyond it sending blocks
	PerAddr   int   // inbound connections from one address; default 4096; more are closed at once
	Conns     int   // connections in all; default three quarters of the process's files, at most 16384; more are closed at once
}

func (l Limits) withDefaults() Limits {
	files := openFiles()
	l.Memory = cmp.Or(l.Memory, 256<<20)
	l.Strangers = cmp.Or(l.Strangers, min(max(files/8, 16), 1024))
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
	l.Conns = cmp.Or(l.Conns, min(max(files/4*3, 16), 16384))
	return l
}

// The limits of a stranger, and of the parts of any message that name what it is.
const (
	strangerMessage = 64 << 10 // bytes
	strangerValues  = 100
	strangerImports = 8
	strangerTime    = 10 * time.Second // for the first message, and for each step of the negotiation
)

// defaultSize bounds the arguments of a method that declares nothing, and the answer of
// a caller that says nothing, in bytes.
const defaultSize = 1 << 20

// MethodLimits bound the calls of one method of an [Object].
type MethodLimits struct {
	Size  int64 // bytes of the arguments; default 1 MiB; more is a Violation
	Calls int   // calls that run at once, of all peers; default: no bound of its own; more wait, each after Call.Go
}

// Bounded is an [Object] that declares the limits of its methods.
type Bounded interface {
	Object

	// MethodLimits returns the limits of a method, which need not exist.
	MethodLimits(method string) MethodLimits
}

// sizeOf returns how many bytes the arguments of a call may have.
func sizeOf(obj Object, method string) int64 {
	if b, ok := obj.(Bounded); ok {
		return cmp.Or(b.MethodLimits(method).Size, defaultSize)
	}
	return defaultSize
}
