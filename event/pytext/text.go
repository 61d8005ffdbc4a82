package pytext

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/internal/pyrepr"
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
	NumFields() int
}

const failed = " [formatting failed]"

// Format returns the event's text for people, as [AppendText] appends it.
func Format(e *event.Event) string { return string(AppendText(nil, e)) }

// AppendText appends the event's text for people. It is the event's format filled
// with its own fields; without a format its message filled with its args; without
// args its message. It appends at most [MaxText] bytes and a note. It never fails.
func AppendText(dst []byte, e event.View) []byte { return AppendTextMax(dst, e, MaxText) }

// AppendTextMax is [AppendText] for a caller that wants at most size bytes of the text.
// The note comes on top of these. Neither memory nor time depends on what the rest of
// the text would be.
func AppendTextMax(dst []byte, e event.View, size int) []byte {
	start, end := len(dst), len(dst)+min(size, MaxText)
	dst, whole := appendText(dst, end, e)
	if !whole && len(dst) <= end {
		return append(dst, cutNote...)
	}
	return cut(dst, start, end)
}

// appendText appends the text up to end, or little more. whole is false if it stopped
// before, since the rest costs too much.
func appendText(dst []byte, end int, e event.View) (out []byte, whole bool) {
	if raw, ok := e.(rawView); ok && raw.Plain() {
		if format, ok := raw.RawField("format"); ok && format[0] == '"' {
			return appendFormatted(dst, end, raw.Intern(format[1:len(format)-1]), mapping{e})
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
			return append(appendPart(dst, end, text), failed...), true
		}
		return appendFormatted(dst, end, pattern, mapping{e})
	}
	message, has := e.Get("message")
	args, hasArgs := e.Get("args")
	if !hasArgs {
		if !has {
			return dst, true
		}
		return appendMessage(dst, end, message), true
	}
	pattern, ok := textOf(message)
	if !ok {
		// The original raises an exception here.
		a := pyrepr.Appender{Dst: dst, End: end}
		if has {
			a.Str(message)
			a.Dst = append(a.Dst, ' ')
		}
		a.Repr(args)
		return append(a.Dst, failed...), true
	}
	if list, ok := args.([]any); ok {
		// It was a tuple when it was logged, unless it does not fit as one: then
		// it was a list, one value.
		if out, err := appendPercent(dst, end, pattern, event.Tuple(list)); err != errFormat {
			return out, err == nil
		}
	}
	return appendFormatted(dst, end, pattern, args)
}

func appendFormatted(dst []byte, end int, pattern string, values any) (out []byte, whole bool) {
	out, err := appendPercent(dst, end, pattern, values)
	if err == errFormat {
		return append(appendPart(dst, end, pattern), failed...), true
	}
	return out, err == nil
}

func appendMessage(dst []byte, end int, message any) []byte {
	if s, ok := textOf(message); ok {
		return appendPart(dst, end, s)
	}
	a := pyrepr.Appender{Dst: dst, End: end}
	a.Str(message)
	return a.Dst
}

// appendPart appends text, or the start of it that exceeds end.
func appendPart[T string | []byte](dst []byte, end int, text T) []byte {
	if room := end - len(dst); len(text) > room {
		text = text[:min(len(text), max(0, room+1))]
	}
	return append(dst, text...)
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
