package rpc

import (
	"errors"
	"strings"
	"syscall"

	"github.com/flogtool/flogtool/rpc/banana"
)

// failureOf returns err as an exception for the peer.
func failureOf(err error) *RemoteError {
	if e, ok := errors.AsType[*RemoteError](err); ok && e.Type != "" {
		f := *e // passed on as it came
		if f.Traceback == "" {
			f.Traceback = noTraceback
		}
		return &f
	}
	f := &RemoteError{Type: ownType(err), Text: err.Error(), Traceback: noTraceback}
	if t, ok := errors.AsType[remoteTyper](err); ok {
		f.Type = t.RemoteType()
		if v, ok := t.(*Violation); ok {
			// The original prints the arguments of its exception like this.
			f.Text = "Violation (" + v.Where + "): ('" + strings.ReplaceAll(v.Reason, "'", `\'`) + "',)"
		}
	}
	if !strings.Contains(f.Type, ".") {
		f.Type = "builtins." + f.Type // the original splits there
	}
	f.Parents = ancestors(f.Type)
	return f
}

// ownType names the exceptions that the original has for errors of this package
// and of the network.
func ownType(err error) string {
	switch {
	case errors.Is(err, ErrDeadReference):
		return "foolscap.ipb.DeadReferenceError"
	case errors.Is(err, ErrNoHints):
		return "foolscap.tokens.NoLocationHintsError"
	case errors.Is(err, ErrBadFURL):
		return "foolscap.furl.BadFURLError"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "twisted.internet.error.ConnectionRefusedError"
	}
	if _, ok := errors.AsType[*NegotiationError](err); ok {
		return "foolscap.tokens.NegotiationError"
	}
	return typeException
}

// ancestors returns an exception type and its base classes. Those of classes
// that are not known are those of a plain exception.
func ancestors(name string) []string {
	chain := []string{name}
	switch name {
	case typeKeyError:
		chain = append(chain, "builtins.LookupError")
	case "builtins.IndexError":
		chain = append(chain, "builtins.LookupError")
	case "builtins.NotImplementedError":
		chain = append(chain, typeRuntime)
	case "builtins.FileNotFoundError", "builtins.FileExistsError", "builtins.PermissionError":
		chain = append(chain, "builtins.OSError")
	}
	if name != typeException {
		chain = append(chain, typeException)
	}
	return append(chain, "builtins.BaseException", "builtins.object")
}

// Failure returns err as a value that can stand in arguments and results, as
// exceptions in log events do. A [*RemoteError] stays what it is.
func Failure(err error) *banana.Copyable {
	f := failureOf(err)
	parents := make([]any, len(f.Parents))
	for i, p := range f.Parents {
		parents[i] = []byte(cut(p, maxFailureType))
	}
	return &banana.Copyable{Class: banana.FailureClass, Attrs: banana.Dict{
		{Key: "value", Value: []byte(cut(f.Text, maxFailureValue))},
		{Key: "type", Value: []byte(cut(f.Type, maxFailureType))},
		{Key: "traceback", Value: []byte(cut(f.Traceback, maxFailureTraceback))},
		{Key: "parents", Value: parents},
	}}
}
