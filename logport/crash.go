package logport

import (
	"os"
	"runtime/debug"
	"sync/atomic"
)

// crashOutput is a file to which Go's runtime prints fatal errors too.
type crashOutput struct{ path string }

// crashOwner is the one to whose file the runtime prints now: there is one such
// setting in a process, and the last one that took it gives it back.
var crashOwner atomic.Pointer[crashOutput]

// catchCrash has the runtime print fatal errors to the file at path too, until release.
func catchCrash(path string) (*crashOutput, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the runtime keeps a copy
	if err := debug.SetCrashOutput(f, debug.CrashOptions{}); err != nil {
		os.Remove(path)
		return nil, err
	}
	c := &crashOutput{path}
	crashOwner.Store(c)
	return c, nil
}

// release removes the file and ends what catchCrash began. A nil crashOutput has
// nothing to end.
func (c *crashOutput) release() {
	if c == nil {
		return
	}
	if crashOwner.CompareAndSwap(c, nil) {
		debug.SetCrashOutput(nil, debug.CrashOptions{})
	}
	os.Remove(c.path)
}
