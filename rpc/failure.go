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
		f := *e // passed on unchanged
		if f.Traceback == "" {
			f.Traceback = noTraceback
		}
		return &f
	}
	f := &RemoteError{Type: ownType(err), Text: err.Error(), Traceback: noTraceback}
	if t, ok := errors.AsType[remoteTyper](err); ok {
		f.Type = t.RemoteType()
		if v, ok := t.(*Violation); ok {
			// The form in which the original prints the arguments of its exception.
			f.Text = "Violation (" + v.Where + "): ('" + strings.ReplaceAll(v.Reason, "'", `\'`) + "',)"
		}
	}
	if !strings.Contains(f.Type, ".") {
		f.Type = "builtins." + f.Type // the original splits there
	}
	f.Parents = ancestors(f.Type)
	return f
}

// ownType returns the name of the original's exception for an error of this package
// or of the network.
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

// ancestors returns an exception type and its base classes. An unknown class is
// taken for one derived from Exception.
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

// Failure returns err as a value for arguments and results, in the form that
// exceptions in log events have. A [*RemoteError] keeps its type, text, traceback and
// parents. The strings are cut to the lengths that the original accepts.
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
