// Package testwait waits in tests for what happens elsewhere: on another
// goroutine, in another process, in a log. Only tests import it.
//
//	testwait.Eventually(t, "the third file", func() bool { return count() == 3 })
//
//	log := testwait.NewLog(t)
//	… slog.New(log) …
//	log.Wait(t, "incident stored", "incident-1")
package testwait

import (
	"net"
	"testing"
	"time"
)

// limit is how long a test waits. A program with a Python interpreter needs
// seconds to start when the tests of all packages run at once.
const limit = time.Minute

// Eventually returns when done returns true. If that takes a minute, the test
// fails with what.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// FreePort returns a TCP port of the loopback interface that is free now.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
