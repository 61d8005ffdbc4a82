package pyrepr

import (
	"bytes"
	"math"
	"strings"

	"github.com/flogtool/flogtool/rpc/banana"
)

// copiedPrefix is what the original puts before a traceback that a peer sent.
const copiedPrefix = "Traceback from remote host -- "

// FailureTraceback returns the traceback of f, an exception that a peer sent, as
// the original stores it.
func FailureTraceback(f *banana.Copyable) string {
	return copiedPrefix + failureAttr(f, "traceback")
}

// FailureStr returns what Python's str() returns for f, an exception that a peer
// sent.
func FailureStr(f *banana.Copyable) string {
	a := Appender{End: math.MaxInt}
	a.failureStr(f)
	return string(a.Dst)
}

func (a *Appender) failureStr(f *banana.Copyable) {
	a.add("[CopiedFailure instance: ")
	a.add(copiedPrefix)
	a.failureAttr(f, "traceback")
	a.add("]")
}

// FailureRepr returns what Python's repr() returns for f, an exception that a
// peer sent.
func FailureRepr(f *banana.Copyable) string {
	a := Appender{End: math.MaxInt}
	a.failureRepr(f)
	return string(a.Dst)
}

func (a *Appender) failureRepr(f *banana.Copyable) {
	kind, _ := f.Attrs.Get("type")
	dotted := false
	switch kind := kind.(type) {
	case string:
		dotted = strings.IndexByte(kind, '.') >= 0
		a.Work += len(kind) / searchSpeed
	case []byte:
		dotted = bytes.IndexByte(kind, '.') >= 0
		a.Work += len(kind) / searchSpeed
	}
	a.add("<foolscap.call.CopiedFailure ")
	if !dotted {
		a.add(".") // the original splits the name at its last dot
	}
	a.failureAttr(f, "type")
	a.add(": ")
	a.failureAttr(f, "value")
	a.add(">")
}

// failureAttr appends an attribute of f that is text or bytes, without copying all of
// a long one.
func (a *Appender) failureAttr(f *banana.Copyable, name string) {
	switch v, _ := f.Attrs.Get(name); v := v.(type) {
	case string:
		a.add(v)
	case []byte:
		a.Dst = append(a.Dst, head(v, a.End-len(a.Dst))...)
	}
}

// failureAttr returns an attribute of f as text, "" if f does not have it.
func failureAttr(f *banana.Copyable, name string) string {
	v, _ := f.Attrs.Get(name)
	s, _ := banana.Text(v)
	return s
}
