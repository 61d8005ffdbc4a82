package testwait

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// Log is a [slog.Handler] that keeps what is logged, at every level, as lines of
// the form "message key=value key=value". Its methods may be called from any
// goroutine.
type Log struct {
	grown chan struct{} // holds a token when lines has grown

	mu    sync.Mutex
	lines []string
	next  int // the first line that Wait has not passed
}

// NewLog returns an empty Log. If the test fails, its last lines are printed.
func NewLog(t testing.TB) *Log {
	l := &Log{grown: make(chan struct{}, 1)}
	t.Cleanup(func() {
		if t.Failed() {
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Logf("the end of the log:\n%s", strings.Join(l.lines[max(0, len(l.lines)-100):], "\n"))
		}
	})
	return l
}

// Enabled returns true.
func (l *Log) Enabled(context.Context, slog.Level) bool { return true }

// WithGroup returns l: keys do not show their groups.
func (l *Log) WithGroup(string) slog.Handler { return l }

// WithAttrs returns a handler that adds attrs to each line of l.
func (l *Log) WithAttrs(attrs []slog.Attr) slog.Handler { return &logWith{l, attrs} }

// Handle keeps r.
func (l *Log) Handle(_ context.Context, r slog.Record) error { return l.add(r, nil) }

func (l *Log) add(r slog.Record, attrs []slog.Attr) error {
	var line strings.Builder
	line.WriteString(r.Message)
	for _, a := range attrs {
		fmt.Fprintf(&line, " %s=%v", a.Key, a.Value)
	}
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&line, " %s=%v", a.Key, a.Value)
		return true
	})
	l.mu.Lock()
	l.lines = append(l.lines, line.String())
	l.mu.Unlock()
	select {
	case l.grown <- struct{}{}:
	default:
	}
	return nil
}

// logWith is a Log whose lines have attributes.
type logWith struct {
	*Log
	attrs []slog.Attr
}

func (l *logWith) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logWith{l.Log, append(l.attrs[:len(l.attrs):len(l.attrs)], attrs...)}
}

func (l *logWith) Handle(_ context.Context, r slog.Record) error { return l.add(r, l.attrs) }

// Wait returns the next line that contains all the words. A later call looks at
// the lines after it only. If no such line comes in a minute, the test fails.
func (l *Log) Wait(t testing.TB, words ...string) string {
	t.Helper()
	late := time.After(limit)
	for {
		if line, ok := l.take(words); ok {
			return line
		}
		select {
		case <-l.grown:
		case <-late:
			t.Fatalf("waited in vain for a log line with %q", words)
		}
	}
}

// take returns the next line that contains all the words, and passes it.
func (l *Log) take(words []string) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, line := range l.lines[l.next:] {
		if containsAll(line, words) {
			l.next += i + 1
			return line, true
		}
	}
	return "", false
}

// Count returns how many lines so far contain all the words.
func (l *Log) Count(words ...string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if containsAll(line, words) {
			n++
		}
	}
	return n
}

func containsAll(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}
