package pytext

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/rpc/banana"
)

// rawView is an event.View that holds the JSON of its fields. If it is plain, that
// is without escapes, most values need no decoding: see BenchmarkText in package
// event/flogfile.
type rawView interface {
	event.View
	RawField(key string) (value []byte, ok bool)
	Plain() bool
	Intern(text []byte) string
}

const failed = " [formatting failed]"

// Format returns the event's text for people, as [AppendText] appends it.
func Format(e *event.Event) string { return string(AppendText(nil, e)) }

// AppendText appends the event's text for people. It is the event's format filled
// with its own fields; without a format its message filled with its args; without
// args its message. It never fails.
func AppendText(dst []byte, e event.View) []byte {
	if raw, ok := e.(rawView); ok && raw.Plain() {
		if format, ok := raw.RawField("format"); ok && format[0] == '"' {
			return appendFormatted(dst, raw.Intern(format[1:len(format)-1]), mapping{e})
		}
	}
	if format, ok := e.Get("format"); ok {
		pattern, ok := textOf(format)
		if !ok {
			// There is no pattern to show. This is what the original shows.
			message, _ := e.Get("message")
			text, ok := textOf(message)
			if !ok {
				text = "[no message]"
			}
			return append(append(dst, text...), failed...)
		}
		return appendFormatted(dst, pattern, mapping{e})
	}
	message, has := e.Get("message")
	args, hasArgs := e.Get("args")
	if !hasArgs {
		if !has {
			return dst
		}
		return appendMessage(dst, message)
	}
	pattern, ok := textOf(message)
	if !ok {
		// The original raises an exception here.
		if has {
			dst = append(AppendStr(dst, message), ' ')
		}
		return append(AppendRepr(dst, args), failed...)
	}
	if list, ok := args.([]any); ok {
		// It was a tuple when it was logged, unless it does not fit as one: then
		// it was a list, one value.
		if out, err := appendPercent(dst, pattern, event.Tuple(list)); err == nil {
			return out
		}
	}
	return appendFormatted(dst, pattern, args)
}

func appendFormatted(dst []byte, pattern string, values any) []byte {
	out, err := appendPercent(dst, pattern, values)
	if err != nil {
		return append(append(dst, pattern...), failed...)
	}
	return out
}

func appendMessage(dst []byte, message any) []byte {
	if s, ok := textOf(message); ok {
		return append(dst, s...)
	}
	return AppendStr(dst, message)
}

// textOf returns v as text if it is text or bytes, which a Python 2 peer sends for
// text. A file holds bytes as an UnJSONable object with their source form.
func textOf(v any) (string, bool) {
	d, ok := v.(event.Dict)
	if !ok {
		return banana.Text(v)
	}
	if kind, _ := d.Get("@"); kind != "UnJSONable" {
		return "", false
	}
	repr, _ := d.Get("repr")
	s, _ := repr.(string)
	if len(s) < 3 || s[0] != 'b' || s[1] != s[len(s)-1] || s[1] != '\'' && s[1] != '"' {
		return "", false
	}
	text, err := unquoteBytes(s[2 : len(s)-1])
	return text, err == nil
}

// unquoteBytes returns the bytes whose source form, without its quotes, is s.
func unquoteBytes(s string) (string, error) {
	var b []byte
	for s != "" {
		// Python's other escapes are escapes of Go too.
		if strings.HasPrefix(s, `\'`) || strings.HasPrefix(s, `\"`) {
			b = append(b, s[1])
			s = s[2:]
			continue
		}
		c, multibyte, rest, err := strconv.UnquoteChar(s, 0)
		if err != nil {
			return "", err
		}
		if multibyte {
			b = utf8.AppendRune(b, c)
		} else {
			b = append(b, byte(c))
		}
		s = rest
	}
	return string(b), nil
}
