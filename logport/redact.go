package logport

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/flogtool/flogtool/event"
)

// Secrets are masked by what they are, wherever a text stands:
//
//	pb://TUBID@HINTS/NAME          pb://TUBID@…            also with \/ for / and percent-encoded
//	scheme://user:password@host    scheme://(masked)@host
//	access_token=abc               access_token=(masked)   every name that isSecret; not of numbers
//	Bearer abc                     Bearer (masked)
//
// What stands under the name of a secret is masked whole: see isSecret.
var (
	furlText     = regexp.MustCompile("(?i)(pb:\\\\?/\\\\?/)([a-z2-7]*)@[^\\s\"'`<>]*")
	furlPercent  = regexp.MustCompile("(?i)(pb%3a%2f%2f)([a-z2-7]*)(?:%40|@)[^\\s\"'`<>&]*")
	userinfoText = regexp.MustCompile("(?i)\\b([a-z][a-z0-9+.-]*:\\\\?/\\\\?/)[^\\s/@\"'`<>\\\\]+@")
	secretParam  = regexp.MustCompile(`(?i)([a-z0-9_.-]+)(=|%3d)([^\s&"'<>,;)\]}]+)`)
	bearerText   = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{6,}`)
)

// mayHoldSecret reports whether maskText could change a text of the record.
//
// Hot path: most records have none of the three bytes that textMayHoldSecret looks for,
// and a look at all of the record but its time, which may be any bytes, costs less than
// one at each text (BenchmarkSlog).
func mayHoldSecret(rec event.Record) bool { return textMayHoldSecret(rec[min(8, len(rec)):]) }

func textMayHoldSecret(rec []byte) bool {
	if bytes.IndexByte(rec, '@') >= 0 && (bytes.Contains(rec, []byte("://")) || bytes.Contains(rec, []byte(`:\/`))) {
		return true
	}
	if bytes.IndexByte(rec, '%') >= 0 && (bytes.Contains(rec, []byte("b%3")) || bytes.Contains(rec, []byte("B%3")) || bytes.Contains(rec, []byte("%3d")) || bytes.Contains(rec, []byte("%3D"))) {
		return true
	}
	return bytes.IndexByte(rec, '=') >= 0 && holdsParam(rec)
}

// holdsParam reports whether a name of a secret stands before a "=".
func holdsParam(rec []byte) bool {
	for at := 0; ; {
		i := bytes.IndexByte(rec[at:], '=')
		if i < 0 {
			return false
		}
		at += i + 1
		begin := at - 1
		for begin > 0 && at-begin < 64 && isNameByte(rec[begin-1]) {
			begin--
		}
		if isSecret(string(rec[begin : at-1])) {
			return true
		}
	}
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-' || c == '.'
}

// maskRecord returns the record with the secrets in its texts masked.
func maskRecord(rec event.Record) event.Record {
	e, _ := rec.Event(0, "")
	b := event.AppendRecordHead(nil, rec.UnixNano(), rec.Level())
	for _, f := range loggedFields(e) {
		b = event.AppendValue(event.AppendKey(b, maskText(f.Key)), maskAll(f.Value))
	}
	return b
}

// maskText returns s with the secrets in it masked. A FURL is a permission, and its
// TubID is all that a log needs.
func maskText(s string) string {
	if !textMayHoldSecret([]byte(s)) && !strings.Contains(s, "earer ") && !strings.Contains(s, "asic ") {
		return s
	}
	s = furlText.ReplaceAllString(s, "${1}${2}@…")
	s = furlPercent.ReplaceAllString(s, "${1}${2}%40…")
	s = userinfoText.ReplaceAllStringFunc(s, func(m string) string {
		if strings.HasPrefix(strings.ToLower(m), "pb:") {
			return m // its TubID
		}
		return m[:strings.LastIndexByte(m, '/')+1] + masked + "@"
	})
	s = bearerText.ReplaceAllString(s, "${1} "+masked)
	return secretParam.ReplaceAllStringFunc(s, func(m string) string {
		part := secretParam.FindStringSubmatch(m)
		if !isSecret(part[1]) || strings.Trim(part[3], "0123456789") == "" || part[3] == masked {
			return m
		}
		return part[1] + part[2] + masked
	})
}

// maskAll returns a value that was not a slog attribute with texts under names
// of secrets, and secrets in texts, masked, at any depth. It copies what it changes.
func maskAll(v any) any {
	switch v := v.(type) {
	case string:
		return maskText(v)
	case []byte:
		return []byte(maskText(string(v)))
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
			out[i] = event.Item{Key: maskText(key)}
			if isSecret(key) {
				out[i].Value = maskTexts(item.Value)
			} else {
				out[i].Value = maskAll(item.Value)
			}
		}
		return out
	}
	return v
}

// maskTexts returns a value that stands under the name of a secret: every text in it is
// masked, at any depth, as in an http.Header. Numbers are counts and stay.
func maskTexts(v any) any {
	switch v := v.(type) {
	case string, []byte:
		return masked
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = maskTexts(v[i])
		}
		return out
	case event.Tuple:
		return event.Tuple(maskTexts([]any(v)).([]any))
	case event.Dict:
		out := make(event.Dict, len(v))
		for i, item := range v {
			out[i] = event.Item{Key: item.Key, Value: maskTexts(item.Value)}
		}
		return out
	}
	return v
}
