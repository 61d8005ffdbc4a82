package rpc

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/flogtool/flogtool/rpc/banana"
)

// Errors a caller can branch on.
var (
	// ErrDeadReference: the connection a reference belongs to is gone, or went
	// before the answer came. The peer may or may not have run the call. The
	// error wraps what ended the connection.
	ErrDeadReference = errors.New("the connection to the other Tub is lost")

	// ErrClosed: this Tub was closed.
	ErrClosed = errors.New("this Tub is closed")

	// ErrNoLocation: a FURL was asked for before [Tub.SetLocation].
	ErrNoLocation = errors.New("the Tub has no location")

	// ErrNoHints: a FURL has no hint that this Tub could dial.
	ErrNoHints = errors.New("no usable connection hint")

	// ErrWrongTub: the other end proved to be another Tub than the FURL names,
	// or a furl file belongs to another Tub.
	ErrWrongTub = errors.New("wrong TubID")

	// ErrWrongName: a furl file holds another name than the one asked for.
	ErrWrongName = errors.New("wrong name")

	// ErrLimit is wrapped by errors that say which of [Limits] was exceeded.
	ErrLimit = banana.ErrLimit
)

// Names of exception types that this package gives on the wire.
const (
	typeViolation = "foolscap.tokens.Violation"
	typeKeyError  = "builtins.KeyError"
	typeAttribute = "builtins.AttributeError"
	typeTypeError = "builtins.TypeError"
	typeAssertion = "builtins.AssertionError"
	typeRuntime   = "builtins.RuntimeError"
	typeException = "builtins.Exception"
)

// A Violation is a value that one of the two sides may not send or accept
// here. It concerns one call; the connection stays usable. Violations found by
// the peer arrive as a [*RemoteError].
type Violation = banana.Violation

func violationf(format string, a ...any) *Violation {
	return &Violation{Reason: fmt.Sprintf(format, a...)}
}

// A RemoteError is an exception in the peer, or an error of a method there.
// Everything in it is the peer's claim. It is never errors.Is one of this
// package's own errors, whatever it says; to branch on its type compare it
// with [RemoteType]:
//
//	if errors.Is(err, rpc.RemoteType("builtins.KeyError")) { … }
type RemoteError struct {
	Type      string   // qualified name, "builtins.KeyError"
	Text      string   // str() of the exception
	Traceback string   // lines of text; may be empty
	Parents   []string // Type and its base classes, most derived first
}

func (e *RemoteError) Error() string {
	if e.Text == "" {
		return "remote " + e.Type
	}
	return "remote " + e.Type + ": " + e.Text
}

// Is reports whether target is a [RemoteType] that names e's type or one of
// its parents.
func (e *RemoteError) Is(target error) bool {
	t, ok := target.(remoteType)
	if !ok {
		return false
	}
	if e.Type == string(t) {
		return true
	}
	return slices.Contains(e.Parents, string(t))
}

type remoteType string

func (t remoteType) Error() string { return "remote " + string(t) }

// RemoteType returns an error to compare a [*RemoteError] with.
func RemoteType(name string) error { return remoteType(name) }

// A HiddenError stands for a [*RemoteError] whose type the caller does not
// want to see, because [Config].ExposeRemoteExceptionTypes is false: so a peer
// cannot steer the caller by the choice of an exception type. It wraps nothing.
type HiddenError struct {
	Remote *RemoteError // what arrived, to be shown
}

func (e *HiddenError) Error() string { return "remote exception: " + e.Remote.Error() }

// Errorf returns an error that a method may return to its caller under the
// exception type pyType, "builtins.KeyError" for example. format and a are
// those of [fmt.Errorf], %w included.
func Errorf(pyType, format string, a ...any) error {
	return &typedError{remote: pyType, err: fmt.Errorf(format, a...)}
}

type typedError struct {
	remote string
	err    error
}

func (e *typedError) Error() string      { return e.err.Error() }
func (e *typedError) Unwrap() error      { return e.err }
func (e *typedError) RemoteType() string { return e.remote }

// remoteTyper is an error that knows its type name on the wire.
type remoteTyper interface {
	error
	RemoteType() string
}

// deadError is ErrDeadReference with the reason.
type deadError struct{ cause error }

func (e *deadError) Error() string {
	if e.cause == nil {
		return "rpc: " + ErrDeadReference.Error()
	}
	return "rpc: " + ErrDeadReference.Error() + ": " + strings.TrimPrefix(e.cause.Error(), "rpc: ")
}

func (e *deadError) Is(target error) bool { return target == ErrDeadReference }
func (e *deadError) Unwrap() error        { return e.cause }
