package logport

import (
	"strings"

	"github.com/flogtool/flogtool/event"
)

// maskRecord returns the record with the FURLs in its texts masked.
func maskRecord(rec event.Record) event.Record {
	e, _ := rec.Event(0, "")
	b := event.AppendRecordHead(nil, rec.UnixNano(), rec.Level())
	for _, f := range loggedFields(e) {
		b = event.AppendValue(event.AppendKey(b, maskFURLs(f.Key)), maskAll(f.Value))
	}
	return b
}

// maskFURLs returns s with the hints and names of the FURLs in it masked: a FURL
// is a permission, and its TubID is all that a log needs.
func maskFURLs(s string) string {
	if !strings.Contains(s, "pb://") {
		return s
	}
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, "pb://")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		out.WriteString("pb://")
		end := strings.IndexAny(after, " \t\r\n\"'<>()[]{}")
		if end < 0 {
			end = len(after)
		}
		if tub, _, ok := strings.Cut(after[:end], "@"); ok {
			out.WriteString(tub)
			out.WriteString("@…")
		} else {
			out.WriteString(after[:end])
		}
		s = after[end:]
	}
}

// maskAll returns a value that was not a slog attribute with texts under names
// of secrets and FURLs masked, at any depth. It copies what it changes.
func maskAll(v any) any {
	switch v := v.(type) {
	case string:
		return maskFURLs(v)
	case []byte:
		return []byte(maskFURLs(string(v)))
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = maskAll(v[i])
		}
		return out
	case event.Tuple:
		return event.Tuple(maskAll([]any(v)).([]any))
	case event.Dict:
		out := make(event.Dict, len(v))
		for i, item := range v {
			key, _ := item.Key.(string)
			out[i] = event.Item{Key: maskFURLs(key), Value: maskAll(item.Value)}
			if _, isText := item.Value.(string); isText && isSecret(key) {
				out[i].Value = masked
			}
		}
		return out
	}
	return v
}
