package pyrepr

import "github.com/flogtool/flogtool/rpc/banana"

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
	return "[CopiedFailure instance: " + FailureTraceback(f) + "]"
}

// FailureRepr returns what Python's repr() returns for f, an exception that a
// peer sent.
func FailureRepr(f *banana.Copyable) string {
	kind := failureAttr(f, "type")
	dotted := false
	for i := range len(kind) {
		dotted = dotted || kind[i] == '.'
	}
	if !dotted {
		kind = "." + kind // the original splits the name at its last dot
	}
	return "<foolscap.call.CopiedFailure " + kind + ": " + failureAttr(f, "value") + ">"
}

// failureAttr returns an attribute of f as text, "" if f does not have it.
func failureAttr(f *banana.Copyable, name string) string {
	v, _ := f.Attrs.Get(name)
	s, _ := banana.Text(v)
	return s
}
