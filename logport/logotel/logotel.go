// Package logotel records the OpenTelemetry trace and span an event belongs to.
//
//	slog.SetDefault(slog.New(logotel.Handler(lp.Handler())))
//
// It needs the trace API alone, whose context key is private to it; no SDK and
// no exporter.
package logotel

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// The attributes' names, as OpenTelemetry writes them in logs that are not OTLP.
const (
	TraceID = "trace_id"
	SpanID  = "span_id"
)

// Handler returns a handler that gives each record whose context has a span the
// attributes trace_id and span_id, in hex, and hands it to next. They are at the top
// level of the record, also where WithGroup has opened a group.
func Handler(next slog.Handler) slog.Handler { return &handler{next: next, build: keep} }

// Attrs returns the attributes of ctx's span, for events logged by
// [github.com/flogtool/flogtool/logport.Logport.Log]; nil if ctx has no span.
func Attrs(ctx context.Context) []slog.Attr {
	s := trace.SpanContextFromContext(ctx)
	if !s.IsValid() {
		return nil
	}
	return []slog.Attr{slog.String(TraceID, s.TraceID().String()), slog.String(SpanID, s.SpanID().String())}
}

// handler adds the ids below its groups: it keeps what With gave as a function, and
// once a group is open builds a new handler for each record with a span.
type handler struct {
	root  slog.Handler // without With; nil while no group is open
	next  slog.Handler
	build func(slog.Handler) slog.Handler // from root to next
}

func keep(h slog.Handler) slog.Handler { return h }

// Enabled implements [slog.Handler].
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// Handle implements [slog.Handler].
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	attrs := Attrs(ctx)
	switch {
	case attrs == nil:
		return h.next.Handle(ctx, r)
	case h.root == nil:
		r = r.Clone()
		r.AddAttrs(attrs...)
		return h.next.Handle(ctx, r)
	}
	return h.build(h.root.WithAttrs(attrs)).Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(h.root, func(n slog.Handler) slog.Handler { return n.WithAttrs(attrs) })
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	root := h.root
	if root == nil {
		root = h.next
	}
	return h.with(root, func(n slog.Handler) slog.Handler { return n.WithGroup(name) })
}

func (h *handler) with(root slog.Handler, step func(slog.Handler) slog.Handler) slog.Handler {
	c := &handler{root: root, next: step(h.next), build: keep}
	if root != nil {
		before := h.build
		c.build = func(n slog.Handler) slog.Handler { return step(before(n)) }
	}
	return c
}
