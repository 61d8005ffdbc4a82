package gatherer

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// listener is a slog.Handler by which a test waits for what the gatherer says
// it has done. It shows all of it when the test fails.
type listener struct {
	mu    sync.Mutex
	lines []string // "message key=value …", not yet waited for
	all   []string
	news  chan struct{}
}

func newListener(t *testing.T) *listener {
	l := &listener{news: make(chan struct{}, 1)}
	t.Cleanup(func() {
		if t.Failed() {
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Logf("the gatherer said, at last:\n%s", strings.Join(l.all[max(0, len(l.all)-100):], "\n"))
		}
	})
	return l
}

func (l *listener) Enabled(context.Context, slog.Level) bool { return true }
func (l *listener) WithGroup(string) slog.Handler            { return l }
func (l *listener) WithAttrs(attrs []slog.Attr) slog.Handler { return &listenerWith{l, attrs} }

func (l *listener) Handle(_ context.Context, r slog.Record) error { return l.add(r, nil) }

func (l *listener) add(r slog.Record, attrs []slog.Attr) error {
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
	l.all = append(l.all, line.String())
	l.mu.Unlock()
	select {
	case l.news <- struct{}{}:
	default:
	}
	return nil
}

type listenerWith struct {
	*listener
	attrs []slog.Attr
}

func (l *listenerWith) Handle(_ context.Context, r slog.Record) error {
	return l.listener.add(r, l.attrs)
}

// wait returns the next line that holds all the words, and forgets it and those
// before it.
func (l *listener) wait(t *testing.T, words ...string) string {
	t.Helper()
	late := time.After(60 * time.Second)
	for {
		if line, ok := l.find(words); ok {
			return line
		}
		select {
		case <-l.news:
		case <-late:
			t.Fatalf("the gatherer did not say %q", words)
		}
	}
}

func (l *listener) find(words []string) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
next:
	for i, line := range l.lines {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		l.lines = l.lines[i+1:]
		return line, true
	}
	return "", false
}

// heard reports whether a line so far held all the words.
func (l *listener) heard(words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
next:
	for _, line := range l.all {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		return true
	}
	return false
}
