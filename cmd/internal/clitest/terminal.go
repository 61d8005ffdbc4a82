//go:build linux

package clitest

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal returns a pseudo-terminal of 100 columns and 30 rows, and a function that waits
// until the text done was written to it and returns everything written since its last call.
// The test is skipped if there are no pseudo-terminals.
func Terminal(t *testing.T) (tty *os.File, until func(done string) string) {
	t.Helper()
	_, tty, until = Keyboard(t)
	return tty, until
}

// Keyboard is Terminal with a writer for what a user types.
func Keyboard(t *testing.T) (keys io.Writer, tty *os.File, until func(done string) string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 30, Col: 100}); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { tty.Close() })
	pieces := make(chan string, 10_000)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if n > 0 {
				pieces <- string(buf[:n])
			}
			if err != nil {
				close(pieces)
				return
			}
		}
	}()
	seen := ""
	return master, tty, func(done string) string {
		t.Helper()
		for !strings.Contains(seen, done) {
			select {
			case piece, ok := <-pieces:
				if !ok {
					t.Fatalf("the terminal closed after %q", seen)
				}
				seen += piece
			case <-time.After(60 * time.Second):
				t.Fatalf("%q did not appear in %q", done, seen)
			}
		}
		text := strings.ReplaceAll(seen, "\r\n", "\n")
		seen = ""
		return text
	}
}
