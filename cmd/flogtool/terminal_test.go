//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/cmd/internal/clitest"
)

const terminalLog = `# foolscap flogfile v1
{"from": "local", "rx_time": 1.0, "d": {"num": 0, "level": 10, "message": "quiet", "time": 0.25, "incarnation": ["x", null]}}
{"from": "local", "rx_time": 1.0, "d": {"num": 1, "level": 20, "message": "bell \u0007 and \u001b[2J clear", "time": 0.25, "incarnation": ["x", null]}}
{"from": "local", "rx_time": 1.0, "d": {"num": 2, "level": 40, "message": "two\nlines", "time": 0.25, "incarnation": ["x", null]}}
`

// On a terminal events have the colour of their level, set anew on each line because pagers
// reset it there, and the control characters of a message are escaped.
func TestTerminalColours(t *testing.T) {
	t.Setenv("TZ", "UTC")
	t.Setenv("PAGER", "")
	t.Setenv("TERM", "xterm")
	log := filepath.Join(t.TempDir(), "log.flog")
	if err := os.WriteFile(log, []byte(terminalLog), 0o600); err != nil {
		t.Fatal(err)
	}
	tty, until := clitest.Terminal(t)
	if code := run(t.Context(), []string{"dump", log}, strings.NewReader(""), tty, io.Discard); code != 0 {
		t.Errorf("exit code %d", code)
	}
	want := "\x1b[90mlocal#0 00:00:00.250: quiet\x1b[0m\n" +
		"local#1 00:00:00.250: bell \\x07 and \\x1b[2J clear\n" +
		"\x1b[1;31mlocal#2 00:00:00.250: two\x1b[0m\n" +
		"\x1b[1;31mlines\x1b[0m\n"
	if got := until("lines\x1b[0m"); strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("on the terminal\n%q\nwant\n%q", got, want)
	}
	t.Setenv("NO_COLOR", "1")
	run(t.Context(), []string{"dump", log}, strings.NewReader(""), tty, io.Discard)
	if got := until("lines\n"[:5]); strings.Contains(got, "\x1b[") || !strings.Contains(got, `\x07`) {
		t.Errorf("with NO_COLOR %q", got)
	}
	run(t.Context(), []string{"dump", "--color=always", log}, strings.NewReader(""), tty, io.Discard)
	if got := until("lines\x1b[0m"); !strings.Contains(got, "\x1b[1;31m") {
		t.Errorf("with --color=always %q", got)
	}
}

// On a terminal the output goes through the pager that PAGER names.
func TestTerminalPager(t *testing.T) {
	t.Setenv("TZ", "UTC")
	dir := t.TempDir()
	log := filepath.Join(dir, "log.flog")
	if err := os.WriteFile(log, []byte(terminalLog), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PAGER", "sed 's/^/paged: /'")
	tty, until := clitest.Terminal(t)
	run(t.Context(), []string{"dump", "--color=never", "-n", log}, strings.NewReader(""), tty, io.Discard)
	if got := until("00:00:00.250 2"); !strings.Contains(got, "paged: 00:00:00.250 1") {
		t.Errorf("on the terminal %q", got)
	}
	run(t.Context(), []string{"dump", "--no-pager", "--color=never", "-n", log}, strings.NewReader(""), tty, io.Discard)
	if got := until("00:00:00.250 2"); strings.Contains(got, "paged") {
		t.Errorf("with --no-pager %q", got)
	}
	// It is not an error if the pager ends early.
	t.Setenv("PAGER", "head -c 1 >/dev/null")
	var errw strings.Builder
	if run(t.Context(), []string{"dump", log}, strings.NewReader(""), tty, &errw); errw.Len() > 0 {
		t.Errorf("a pager that ended: stderr %q", errw.String())
	}
}

// Work that takes more than a second shows a progress bar on stderr, and removes it at the
// end.
func TestTerminalProgress(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "log.flog")
	var log strings.Builder
	log.WriteString("# foolscap flogfile v1\n")
	for i := range 50_000 {
		fmt.Fprintf(&log, `{"from": "local", "rx_time": 1.0, "d": {"num": %d, "level": 10, "message": "quiet", "time": 0.25, "incarnation": ["x", null]}}`+"\n", i)
	}
	if err := os.WriteFile(fifo, []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	tty, until := clitest.Terminal(t)
	// The output is not read until the bar appears.
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(t.Context(), []string{"dump", fifo}, strings.NewReader(""), w, tty)
		w.Close()
	}()
	bar := until("MB")
	if !strings.Contains(bar, "[") || !strings.Contains(bar, "%") {
		t.Errorf("the bar is %q", bar)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Error(err)
	}
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
	until("\r\x1b[K")
}
