package gatherer

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// maxLogText bounds a text in a log line, in bytes: many are what a peer wrote.
const maxLogText = 1 << 10

// textLimit is a slog.Handler that cuts the texts of attributes to maxLogText.
type textLimit struct{ slog.Handler }

func (h textLimit) Handle(ctx context.Context, r slog.Record) error {
	long := false
	r.Attrs(func(a slog.Attr) bool {
		_, long = cutAttr(a)
		return !long
	})
	if long {
		short := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
		r.Attrs(func(a slog.Attr) bool {
			a, _ = cutAttr(a)
			short.AddAttrs(a)
			return true
		})
		r = short
	}
	return h.Handler.Handle(ctx, r)
}

func (h textLimit) WithAttrs(attrs []slog.Attr) slog.Handler {
	short := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		short[i], _ = cutAttr(a)
	}
	return textLimit{h.Handler.WithAttrs(short)}
}

func (h textLimit) WithGroup(name string) slog.Handler { return textLimit{h.Handler.WithGroup(name)} }

// cutAttr returns a with its text cut, and whether that was too long. It looks at texts
// and errors, and into groups.
func cutAttr(a slog.Attr) (slog.Attr, bool) {
	v := a.Value.Resolve()
	text := ""
	switch v.Kind() {
	case slog.KindString:
		text = v.String()
	case slog.KindGroup:
		long := false
		group := make([]slog.Attr, len(v.Group()))
		for i, member := range v.Group() {
			var l bool
			group[i], l = cutAttr(member)
			long = long || l
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(group...)}, long
	case slog.KindAny:
		if err, ok := v.Any().(error); ok && err != nil {
			text = err.Error()
		}
	}
	if len(text) <= maxLogText {
		return a, false
	}
	return slog.String(a.Key, cutText(text)), true
}

// cutText returns the beginning of a text, and how long it was.
func cutText(text string) string {
	return fmt.Sprintf("%s…(%d bytes)", strings.ToValidUTF8(text[:maxLogText], ""), len(text))
}
