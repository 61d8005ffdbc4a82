package logport

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"github.com/flogtool/flogtool/event"
)

// nextFeed feeds Config.Next: the ordinary log that an application had before, and
// still wants to see.
type nextFeed struct {
	handler slog.Handler
	filter  func(l slog.Level, facility string) bool
}

func newNextFeed(h slog.Handler, filter func(l slog.Level, facility string) bool) *nextFeed {
	if h == nil {
		return nil
	}
	if filter == nil {
		filter = defaultNextFilter
	}
	return &nextFeed{withoutLoop(h), filter}
}

// fed marks the context of what a nextFeed feeds, so that a Next which leads back
// here does not go round for ever.
type fed struct{}

// handle feeds a record that h handles. It returns false if the record is one that
// was fed before and came back.
func (n *nextFeed) handle(ctx context.Context, h *handler, r slog.Record) bool {
	if n.cameBack(ctx) {
		return false
	}
	if !h.next.Enabled(ctx, r.Level) {
		return true
	}
	facility := h.meta.facility
	if len(h.groups) == 0 {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == facilityKey {
				facility = text(a.Value)
			}
			return true
		})
	}
	if n.filter(r.Level, facility) {
		h.next.Handle(context.WithValue(ctx, fed{}, n), r.Clone())
	}
	return true
}

// log feeds what was recorded by [Logport.Log].
func (n *nextFeed) log(ctx context.Context, level slog.Level, msg string, attrs []slog.Attr) {
	if n.cameBack(ctx) || !n.handler.Enabled(ctx, level) {
		return
	}
	facility := ""
	for _, a := range attrs {
		if a.Key == facilityKey {
			facility = text(a.Value)
		}
	}
	if !n.filter(level, facility) {
		return
	}
	var pcs [1]uintptr
	runtime.Callers(4, pcs[:]) // of the caller of Logport.Log, which calls recorder.log
	r := slog.NewRecord(time.Now(), level, msg, pcs[0])
	for _, a := range attrs {
		if f, ok := formatOf(a); ok {
			a = slog.String("format", f)
		}
		r.AddAttrs(a)
	}
	n.handler.Handle(context.WithValue(ctx, fed{}, n), r)
}

// cameBack reports whether what is being logged under ctx is what this feed fed.
func (n *nextFeed) cameBack(ctx context.Context) bool {
	return ctx != nil && ctx.Value(fed{}) == n
}

// defaultNextFilter lets through what the original's bridge does: OPERATIONAL or
// above, and nothing of the recorder or of the connections it makes.
func defaultNextFilter(l slog.Level, facility string) bool {
	return event.FromSlog(l) >= event.Operational &&
		!strings.HasPrefix(facility, "foolscap") && !strings.HasPrefix(facility, "flogtool")
}

// formatOf returns the format that an attribute made by Format holds.
func formatOf(a slog.Attr) (string, bool) {
	if a.Value.Kind() != slog.KindAny {
		return "", false
	}
	f, ok := a.Value.Any().(formatAttr)
	return string(f), ok
}

// withoutLoop returns a handler that does what h does and cannot lead back to
// slog's default: slog's own first default handler writes to package log, which
// slog.SetDefault turns back to the default handler.
func withoutLoop(h slog.Handler) slog.Handler {
	if fmt.Sprintf("%T", h) != "*slog.defaultHandler" {
		return h
	}
	return &plainHandler{log: log.New(log.Writer(), log.Prefix(), log.Flags())}
}

// plainHandler writes as slog's first default handler does: the level, the
// message and the attributes as text, by a logger of package log.
type plainHandler struct {
	log  *log.Logger
	with func(slog.Handler) slog.Handler // adds what WithAttrs and WithGroup gave
}

func (p *plainHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (p *plainHandler) Handle(ctx context.Context, r slog.Record) error {
	var attrs bytes.Buffer
	var h slog.Handler = slog.NewTextHandler(&attrs, &slog.HandlerOptions{
		Level: slog.Level(-1 << 20),
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
				return slog.Attr{}
			}
			return a
		},
	})
	if p.with != nil {
		h = p.with(h)
	}
	if err := h.Handle(ctx, r); err != nil {
		return err
	}
	line := r.Level.String() + " " + r.Message
	if attrs.Len() > 1 {
		line += " " + attrs.String()
	}
	return p.log.Output(0, line)
}

func (p *plainHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return p.and(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (p *plainHandler) WithGroup(name string) slog.Handler {
	return p.and(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (p *plainHandler) and(more func(slog.Handler) slog.Handler) slog.Handler {
	before := p.with
	return &plainHandler{log: p.log, with: func(h slog.Handler) slog.Handler {
		if before != nil {
			h = before(h)
		}
		return more(h)
	}}
}
