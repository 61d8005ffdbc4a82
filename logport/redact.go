package logport

import (
	"bytes"
	"log/slog"
	"strings"

	"github.com/flogtool/flogtool/event"
)

// masked stands for a value that must not be recorded.
const masked = "(masked)"

// redactor keeps secrets out of events: by default texts under names such as
// password, and the secret part of FURLs everywhere.
type redactor struct {
	custom func(groups []string, a slog.Attr) slog.Attr // Config.Redact
}

// secretWords are what a name must contain, in any case, for its text to be
// masked. Numbers are not: "tokens" is more often a count.
var secretWords = [...]string{
	"password", "passwd", "passphrase", "secret", "token", "authorization", "cookie",
	"api_key", "api-key", "apikey", "credential", "private_key", "private-key", "privatekey",
}

// isSecret reports whether key names a secret.
//
// Hot path: almost every key fails at the first test, a scan for the beginning
// of one of the words.
func isSecret(key string) bool {
	if len(key) < len("token") {
		return false
	}
	for i := 0; i+3 <= len(key); i++ {
		switch uint32(key[i]|0x20)<<16 | uint32(key[i+1]|0x20)<<8 | uint32(key[i+2]|0x20) {
		case 'p'<<16 | 'a'<<8 | 's', 's'<<16 | 'e'<<8 | 'c', 't'<<16 | 'o'<<8 | 'k', 'a'<<16 | 'u'<<8 | 't',
			'c'<<16 | 'o'<<8 | 'o', 'a'<<16 | 'p'<<8 | 'i', 'c'<<16 | 'r'<<8 | 'e', 'p'<<16 | 'r'<<8 | 'i':
			if isSecretWord(key[i:]) {
				return true
			}
		}
	}
	return false
}

func isSecretWord(s string) bool {
	for _, w := range secretWords {
		if len(s) >= len(w) && strings.EqualFold(s[:len(w)], w) {
			return true
		}
	}
	return false
}

// call runs Config.Redact, whose panic must not reach the caller: the value is
// then masked.
func (r *redactor) call(groups []string, a slog.Attr) (out slog.Attr) {
	defer func() {
		if recover() != nil {
			out = slog.String(a.Key, masked)
		}
	}()
	out = r.custom(groups, a)
	out.Value = out.Value.Resolve()
	return out
}

// mayHoldFURL reports whether a text of the record, which may be any, looks like
// a FURL.
//
// Hot path: most records have no @, and one look at all of the record costs less
// than one at each text (BenchmarkSlog).
func mayHoldFURL(rec event.Record) bool {
	return bytes.IndexByte(rec, '@') >= 0 && bytes.Contains(rec, []byte("pb://"))
}

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
