package logport

import (
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/flogtool/flogtool/event"
)

// Facility names the part of the program that an event belongs to, with dots between
// levels. It counts outside of groups only.
func Facility(name string) slog.Attr { return slog.String(facilityKey, name) }

// Umid names a log statement: a short fixed id, unique in the source code. It counts
// outside of groups only.
func Umid(id string) slog.Attr { return slog.String(umidKey, id) }

// Parent names the event that led to this one; [event.NoNum] adds nothing. It counts
// outside of groups only.
func Parent(n event.Num) slog.Attr { return slog.Uint64(parentKey, uint64(n)) }

// Format gives the event a format kept apart from its arguments, as the
// original's `format=` does: "%(user)s left after %(n)d requests" is filled by
// the attributes user and n whenever the event is shown, and events of one
// statement stay recognisable.
func Format(format string) slog.Attr { return slog.Any("format", formatAttr(format)) }

type formatAttr string

const (
	facilityKey = "facility"
	umidKey     = "umid"
	parentKey   = "parent"
)

type parentInContext struct{}

// contextParent returns the parent that ctx gives, or NoNum.
func contextParent(ctx context.Context) event.Num {
	if ctx != nil {
		if n, ok := ctx.Value(parentInContext{}).(event.Num); ok {
			return n
		}
	}
	return event.NoNum
}

// WithParent returns a context in which every event logged without a parent of
// its own has parent n.
func WithParent(ctx context.Context, n event.Num) context.Context {
	if n == event.NoNum {
		return ctx
	}
	return context.WithValue(ctx, parentInContext{}, n)
}

// encoder encodes attributes as fields of a record.
type encoder struct {
	redact func(groups []string, a slog.Attr) slog.Attr // Config.Redact, or nil
}

// appendTop appends an attribute that stands in no group, or notes it in m if it
// belongs there.
//
// Hot path: BenchmarkLog, TestLogDoesNotAllocate.
func (e *encoder) appendTop(b []byte, m *meta, a *slog.Attr) []byte {
	if !mayBeReserved(a.Key) {
		return e.appendAttr(b, nil, a)
	}
	switch a.Key {
	case facilityKey:
		m.facility = text(a.Value)
		return event.AppendFacility(b, m.facility)
	case umidKey:
		return event.AppendUmid(b, text(a.Value))
	case parentKey:
		if n, ok := parentNum(a.Value); ok {
			m.parent = n
			if n == event.NoNum {
				return b
			}
			return event.AppendParent(b, n)
		}
	case "format":
		if f, ok := formatOf(*a); ok {
			m.format = f
			return b
		}
		return e.appendAttr(b, nil, &slog.Attr{Key: "format_", Value: a.Value})
	case "num", "time", "level", "message", "args", "incarnation", "failure", "isError", "stacktrace", "from", "rx_time":
		return e.appendAttr(b, nil, &slog.Attr{Key: a.Key + "_", Value: a.Value})
	}
	return e.appendAttr(b, nil, a)
}

// reservedLengths has, for the first byte of the keys that appendTop looks for, a
// bit for each of their lengths: one test rejects almost every other key, at
// half the cost of the comparisons (BenchmarkSlog).
var reservedLengths = func() (lengths [256]uint16) {
	for _, key := range reservedKeys {
		lengths[key[0]] |= 1 << len(key)
	}
	return lengths
}()

var reservedKeys = [...]string{
	facilityKey, umidKey, parentKey, "format", "num", "time", "level", "message", "args",
	"incarnation", "failure", "isError", "stacktrace", "from", "rx_time",
}

// isReserved is the exact test for which mayBeReserved is the quick one.
func isReserved(key string) bool { return slices.Contains(reservedKeys[:], key) }

func mayBeReserved(key string) bool {
	return key != "" && len(key) < 16 && reservedLengths[key[0]]>>(len(key)&15)&1 != 0
}

// parentNum returns the number that a parent attribute gives.
func parentNum(v slog.Value) (event.Num, bool) {
	switch v.Kind() {
	case slog.KindUint64:
		return event.Num(v.Uint64()), true
	case slog.KindInt64:
		return event.Num(v.Int64()), v.Int64() >= 0
	case slog.KindAny:
		n, ok := v.Any().(event.Num)
		return n, ok
	}
	return 0, false
}

// text returns a value as text; only strings are common.
func text(v slog.Value) string {
	if v.Kind() == slog.KindString {
		return v.String()
	}
	return v.Resolve().String()
}

// appendAttr appends an attribute as a field; groups names the groups it stands
// in, for Redact. As slog asks, a zero attribute and an empty group are left
// out, and a group without a name is inlined.
//
// b may be on the stack: groups and values that are not basic build bytes of
// their own, because the compiler does not see that b stays there when it is
// handed to a function that calls itself.
func (e *encoder) appendAttr(b []byte, groups []string, attr *slog.Attr) []byte {
	kind := attr.Value.Kind()
	if kind == slog.KindLogValuer || e.redact != nil {
		a := *attr
		a.Value = a.Value.Resolve() // recovers from a panic in LogValue
		if e.redact != nil && a.Value.Kind() != slog.KindGroup {
			a = e.callRedact(groups, a)
		}
		attr, kind = &a, a.Value.Kind()
	}
	if b, ok := appendBasic(b, attr, kind); ok {
		return b
	}
	a := attr
	if kind == slog.KindGroup {
		return append(b, e.groupFields(groups, *a)...)
	}
	if a.Key == "" && a.Value.Any() == nil {
		return b // the zero attribute
	}
	b = event.AppendKey(b, a.Key)
	if isSecret(a.Key) {
		return event.AppendString(b, masked)
	}
	return append(b, anyValue(a.Value.Any())...)
}

// appendBasic appends an attribute whose value is of a basic kind: one that can be
// encoded without a call of what the application wrote. The kind is the value's.
//
// Hot path: BenchmarkLog, TestLogDoesNotAllocate.
func appendBasic(b []byte, a *slog.Attr, kind slog.Kind) (_ []byte, ok bool) {
	switch kind {
	case slog.KindString:
		s := masked
		if !isSecret(a.Key) {
			s = a.Value.String()
		}
		return event.AppendString(event.AppendKey(b, a.Key), s), true
	case slog.KindInt64:
		return event.AppendInt(event.AppendKey(b, a.Key), a.Value.Int64()), true
	case slog.KindUint64:
		return event.AppendUint(event.AppendKey(b, a.Key), a.Value.Uint64()), true
	case slog.KindFloat64:
		return event.AppendFloat(event.AppendKey(b, a.Key), a.Value.Float64()), true
	case slog.KindBool:
		return event.AppendBool(event.AppendKey(b, a.Key), a.Value.Bool()), true
	case slog.KindDuration:
		return event.AppendDuration(event.AppendKey(b, a.Key), a.Value.Duration()), true
	case slog.KindTime:
		return event.AppendTime(event.AppendKey(b, a.Key), a.Value.Time()), true
	case slog.KindAny: // nil is basic: "err", err where all went well
		if a.Value.Any() == nil && a.Key != "" && !isSecret(a.Key) {
			return event.AppendNil(event.AppendKey(b, a.Key)), true
		}
	}
	return b, false
}

// basicSize is more than what an attribute of a basic kind takes beside its key
// and its text.
const basicSize = 64

// appendDraft appends an attribute that stands in no group to a draft; ok is false if
// the draft cannot take it. If it is because the event belongs to another facility,
// the new one is in facility.
//
// Hot path: BenchmarkSlog, BenchmarkLog.
func appendDraft(b []byte, a *slog.Attr, facility *string) (_ []byte, ok bool) {
	kind := a.Value.Kind()
	room := cap(b) - len(b) - len(a.Key) - basicSize
	if kind == slog.KindString {
		room -= len(a.Value.String())
	}
	if room < 0 {
		return b, false
	}
	if mayBeReserved(a.Key) {
		switch {
		case a.Key == facilityKey && kind == slog.KindString:
			same := *facility == a.Value.String()
			*facility = a.Value.String()
			return event.AppendFacility(b, *facility), same
		case a.Key == umidKey && kind == slog.KindString:
			return event.AppendUmid(b, a.Value.String()), true
		case isReserved(a.Key):
			return b, false
		}
	}
	return appendBasic(b, a, kind)
}

// callRedact runs Config.Redact, whose panic must not reach the caller: the value is
// then masked.
func (e *encoder) callRedact(groups []string, a slog.Attr) (out slog.Attr) {
	defer func() {
		if recover() != nil {
			out = slog.String(a.Key, masked)
		}
	}()
	out = e.redact(groups, a)
	out.Value = out.Value.Resolve()
	return out
}

// groupFields returns the encoded fields that a group adds: itself, or its own
// fields if it has no name; nothing if it is empty.
func (e *encoder) groupFields(groups []string, a slog.Attr) []byte {
	var b []byte
	for _, item := range e.groupItems(nil, groups, a) {
		b = event.AppendValue(event.AppendKey(b, item.Key.(string)), item.Value)
	}
	return b
}

// groupItems appends what an attribute of a group adds to the group's dict.
func (e *encoder) groupItems(d event.Dict, groups []string, a slog.Attr) event.Dict {
	a.Value = a.Value.Resolve()
	if a.Value.Kind() == slog.KindGroup {
		inner := d
		if a.Key != "" {
			if len(groups) == maxGroups {
				return append(d, event.Item{Key: a.Key, Value: "…"})
			}
			groups, inner = append(slices.Clip(groups), a.Key), nil
		}
		for _, member := range a.Value.Group() {
			inner = e.groupItems(inner, groups, member)
		}
		switch {
		case a.Key == "":
			return inner
		case len(inner) == 0:
			return d
		case isSecret(a.Key):
			return append(d, event.Item{Key: a.Key, Value: maskTexts(inner)})
		}
		return append(d, event.Item{Key: a.Key, Value: inner})
	}
	if e.redact != nil {
		a = e.callRedact(groups, a)
	}
	if a.Equal(slog.Attr{}) {
		return d
	}
	return append(d, event.Item{Key: a.Key, Value: groupValue(a)})
}

// groupValue returns the value of an attribute that is not a group.
func groupValue(a slog.Attr) any {
	switch a.Value.Kind() {
	case slog.KindString:
		if isSecret(a.Key) {
			return masked
		}
		return a.Value.String()
	case slog.KindDuration:
		return a.Value.Duration().String()
	case slog.KindTime:
		return a.Value.Time().UTC().Format(time.RFC3339Nano)
	case slog.KindAny:
		if isSecret(a.Key) {
			return masked
		}
		v, err := readable(a.Value.Any())
		if err != nil {
			v = panicked(err)
		}
		return maskAll(v)
	}
	return a.Value.Any()
}

// maxGroups bounds the nesting of groups; deeper ones become "…".
const maxGroups = 50

// anyValue encodes a value that slog has no kind for. What it calls of the value
// may panic: that becomes the text.
func anyValue(v any) []byte {
	v, err := readable(v)
	if err != nil {
		v = panicked(err)
	}
	return event.AppendValue(nil, maskAll(v))
}

// panicked stands for a value whose method panicked.
func panicked(err error) string { return fmt.Sprintf("!PANIC: %v", err) }

// readable returns v as a value of the event model: errors, Stringers and
// TextMarshalers as their text, what has a JSON form as that, else its type and
// why it has none.
func readable(v any) (out any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	switch v := v.(type) {
	case nil, bool, int, int64, uint64, float64, string:
		return v, nil
	case complex128:
		return fmt.Sprint(v), nil
	case error:
		return v.Error(), nil
	case event.Num:
		return uint64(v), nil
	case event.Dict, event.Tuple:
		return v, nil
	case []byte:
		if utf8.Valid(v) {
			return string(v), nil
		}
		return fmt.Sprintf("%q", v), nil
	case json.Marshaler:
		// Below: a JSON form says more than a text.
	case fmt.Stringer:
		return v.String(), nil
	case encoding.TextMarshaler:
		t, err := v.MarshalText()
		if err == nil {
			return string(t), nil
		}
	}
	data, err := json.Marshal(v)
	if err == nil {
		out, err = event.ParseJSON(data)
	}
	if err != nil {
		// Not %+v: a map that holds itself would end the process there.
		return fmt.Sprintf("(%T: %v)", v, err), nil
	}
	return out, nil
}

// shrink returns the record b made smaller than max bytes: its longest texts
// are cut and say how long they were, and fields that still find no room are
// left out and counted.
func shrink(b []byte, max int) []byte {
	e, _ := event.Record(b).Event(0, "")
	r := event.Record(b)
	for budget := max / 2; budget > 64; budget /= 2 {
		out := appendCut(nil, r, e, budget, len(e.Fields))
		if len(out) <= max {
			return out
		}
	}
	fields := len(e.Fields)
	for fields > 4 {
		fields /= 2
		if out := appendCut(nil, r, e, 64, fields); len(out) <= max {
			return out
		}
	}
	return event.AppendRecord(nil, r.UnixNano(), r.Level(), "event too large")
}

// appendCut encodes the first fields of e with texts of at most budget bytes.
func appendCut(b []byte, r event.Record, e *event.Event, budget, fields int) []byte {
	b = event.AppendRecordHead(b, r.UnixNano(), r.Level())
	for i, f := range loggedFields(e) {
		if i >= fields {
			b = event.AppendInt(event.AppendKey(b, "fields_left_out"), int64(len(e.Fields)-1-i))
			break
		}
		b = event.AppendValue(event.AppendKey(b, cutText(f.Key, 256)), cut(f.Value, budget, 0))
	}
	return b
}

// loggedFields yields the fields of a decoded record that stand in it as fields,
// by their index in e.Fields.
func loggedFields(e *event.Event) iter.Seq2[int, event.Field] {
	return func(yield func(int, event.Field) bool) {
		for i, f := range e.Fields {
			switch f.Key {
			case "num", "time", "level", "incarnation":
				continue
			}
			if !yield(i, f) {
				return
			}
		}
	}
}

func cut(v any, budget, depth int) any {
	switch v := v.(type) {
	case string:
		return cutText(v, budget)
	case []byte:
		return v[:min(len(v), budget)]
	case []any:
		out := make([]any, 0, min(len(v), budget/8))
		for i, item := range v {
			if i == budget/8 {
				return append(out, fmt.Sprintf("…(%d items)", len(v)))
			}
			out = append(out, cut(item, budget/4, depth+1))
		}
		return out
	case event.Tuple:
		return event.Tuple(cut([]any(v), budget, depth).([]any))
	case event.Dict:
		out := make(event.Dict, 0, min(len(v), budget/8))
		for i, item := range v {
			if i == budget/8 {
				return append(out, event.Item{Key: "…", Value: fmt.Sprintf("(%d items)", len(v))})
			}
			key, _ := item.Key.(string)
			out = append(out, event.Item{Key: cutText(key, 256), Value: cut(item.Value, budget/4, depth+1)})
		}
		return out
	}
	return v
}

// cutText returns s, or as much of it as fits max bytes with the note that says
// how long it was.
func cutText(s string, max int) string {
	if len(s) <= max {
		return s
	}
	note := fmt.Sprintf("…(%d bytes)", len(s))
	end := 0
	if max > len(note) {
		end = max - len(note)
	}
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + note
}

// masked stands for a value that must not be recorded.
const masked = "(masked)"

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
