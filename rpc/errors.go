package rpc

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/flogtool/flogtool/rpc/banana"
)

// Errors on which a caller can branch, with errors.Is.
var (
	// ErrDeadReference reports that the connection of a reference is lost, or was
	// lost before the answer came. The peer may or may not have run the call. The
	// error wraps the cause.
	ErrDeadReference = errors.New("the connection to the other Tub is lost")

	// ErrClosed reports that this Tub is closed.
	ErrClosed = errors.New("this Tub is closed")

	// ErrNoLocation reports that [Tub.SetLocation] was not called.
	ErrNoLocation = errors.New("the Tub has no location")

	// ErrNoHints reports that a FURL has no hint that this Tub can dial.
	ErrNoHints = errors.New("no usable connection hint")

	// ErrWrongTub reports that another Tub answered than the FURL names, or that a
	// furl file belongs to another Tub.
	ErrWrongTub = errors.New("wrong TubID")

	// ErrWrongName reports that a furl file holds another name than the given one.
	ErrWrongName = errors.New("wrong name")

	// ErrLimit is wrapped by every error that reports an exceeded limit of [Limits].
	ErrLimit = banana.ErrLimit
)

// Names of the exception types that this package sends.
const (
	typeViolation = "foolscap.tokens.Violation"
	typeKeyError  = "builtins.KeyError"
	typeAttribute = "builtins.AttributeError"
	typeTypeError = "builtins.TypeError"
	typeAssertion = "builtins.AssertionError"
	typeRuntime   = "builtins.RuntimeError"
	typeException = "builtins.Exception"
)

// A Violation reports a value that one of the two sides may not send or accept in
// this place. It costs one call; the connection stays usable. A Violation that the
// peer finds arrives as a [*RemoteError].
type Violation = banana.Violation

func violationf(format string, a ...any) *Violation {
	return &Violation{Reason: fmt.Sprintf(format, a...)}
}

// A RemoteError is an exception or an error that the peer reports. Its content is
// the peer's claim. errors.Is never matches it with an error of this package; to
// branch on its type, compare it with [RemoteType]:
//
//	if errors.Is(err, rpc.RemoteType("builtins.KeyError")) { … }
type RemoteError struct {
	Type      string   // qualified name, "builtins.KeyError"
	Text      string   // str() of the exception
	Traceback string   // lines of text; may be empty
	Parents   []string // Type and its base classes, most derived first
}

// Error returns the type and the text, after the word "remote".
func (e *RemoteError) Error() string {
	if e.Text == "" {
		return "remote " + e.Type
	}
	return "remote " + e.Type + ": " + e.Text
}

// Is reports whether target is a [RemoteType] of e.Type or of one of e.Parents.
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

// RemoteType returns the target with which errors.Is recognizes a [*RemoteError] of
// this type or of a type derived from it.
func RemoteType(name string) error { return remoteType(name) }

// A HiddenError replaces a [*RemoteError] if [Config].ExposeRemoteExceptionTypes is
// false, so that a peer cannot influence the caller by the type of an exception. It
// does not wrap the RemoteError.
type HiddenError struct {
	Remote *RemoteError // for display
}

// Error returns the text of e.Remote.
func (e *HiddenError) Error() string { return "remote exception: " + e.Remote.Error() }

// Errorf returns an error that reaches the caller of a method as an exception of
// type pyType, "builtins.KeyError" for example. format and a are those of
// [fmt.Errorf], including %w.
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

// remoteTyper is an error with a type name for the wire.
type remoteTyper interface {
	error
	RemoteType() string
}

// deadError is ErrDeadReference with its cause.
type deadError struct{ cause error }

func (e *deadError) Error() string {
	if e.cause == nil {
		return "rpc: " + ErrDeadReference.Error()
	}
	return "rpc: " + ErrDeadReference.Error() + ": " + strings.TrimPrefix(e.cause.Error(), "rpc: ")
}

func (e *deadError) Is(target error) bool { return target == ErrDeadReference }
func (e *deadError) Unwrap() error        { return e.cause }
