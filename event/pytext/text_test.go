package pytext_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/pytext"
	"github.com/flogtool/flogtool/rpc/banana"
)

// The cases were made by Python itself: testdata/percent.py.
func TestPercentAsPython(t *testing.T) {
	data, err := os.ReadFile("testdata/percent.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	cases, bad := 0, 0
	for line := range bytes.Lines(data) {
		v, err := event.ParseJSON(line)
		if err != nil {
			t.Fatal(err)
		}
		c := v.([]any)
		pattern, values := c[0].(string), c[1].(event.Dict)
		e := &event.Event{}
		if list, ok := values.Get("tuple"); ok {
			e.Set("message", pattern)
			e.Set("args", event.Tuple(list.([]any)))
		} else if one, ok := values.Get("one"); ok {
			e.Set("message", pattern)
			e.Set("args", one)
			if _, ok := one.([]any); ok {
				continue // which files use for what was a tuple
			}
		} else {
			e.Set("message", pattern)
			e.Set("args", values)
		}
		want, ok := c[2].(string)
		if !ok {
			want = pattern + " [formatting failed]"
		}
		cases++
		if got := pytext.Format(e); got != want {
			t.Errorf("%q %% %s\n got %q\nwant %q", pattern, pytext.AppendRepr(nil, c[1]), got, want)
			if bad++; bad > 30 {
				t.FailNow()
			}
		}
	}
	if cases < 5000 {
		t.Errorf("only %d cases", cases)
	}
}

func TestFormat(t *testing.T) {
	failure := &banana.Copyable{Class: banana.FailureClass, Attrs: event.Dict{
		{Key: "value", Value: []byte("'x'")}, {Key: "type", Value: []byte("builtins.KeyError")}, {Key: "traceback", Value: []byte("tb\n")},
	}}
	for _, c := range []struct {
		name  string
		event event.Event
		want  string
	}{
		{"nothing", event.Event{}, ""},
		{"message", event.Event{Fields: []event.Field{{Key: "message", Value: "100% %s"}}}, "100% %s"},
		{"bytes from a Python 2 peer", event.Event{Fields: []event.Field{{Key: "message", Value: []byte("hello")}}}, "hello"},
		{"bytes that went through a file", event.Event{Fields: []event.Field{{Key: "message", Value: event.Dict{
			{Key: "@", Value: "UnJSONable"}, {Key: "message", Value: "…"}, {Key: "repr", Value: `b'\\ it\'s \xc3\xa9\n'`},
		}}}}, "\\ it's é\n"},
		{"null message", event.Event{Fields: []event.Field{{Key: "message", Value: nil}}}, "None"},
		{"number as message", event.Event{Fields: []event.Field{{Key: "message", Value: int64(17)}}}, "17"},
		{"format over message", event.Event{Fields: []event.Field{{Key: "message", Value: "lost"}, {Key: "format", Value: "%(a)s"}, {Key: "a", Value: int64(1)}}}, "1"},
		{"whole event", event.Event{Fields: []event.Field{{Key: "format", Value: "%s"}, {Key: "a", Value: int64(1)}}}, "{'format': '%s', 'a': 1}"},
		{"missing name", event.Event{Fields: []event.Field{{Key: "format", Value: "%(nobody)s left"}}}, "%(nobody)s left [formatting failed]"},
		{"infinity as int", event.Event{Fields: []event.Field{{Key: "format", Value: "%(a)d"}, {Key: "a", Value: "x"}}}, "%(a)d [formatting failed]"},
		{"format no text", event.Event{Fields: []event.Field{{Key: "format", Value: nil}}}, "[no message] [formatting failed]"},
		{"args of a file", event.Event{Fields: []event.Field{{Key: "message", Value: "%s and %d"}, {Key: "args", Value: []any{"x", int64(4)}}}}, "x and 4"},
		{"args that was a list", event.Event{Fields: []event.Field{{Key: "message", Value: "hello %r"}, {Key: "args", Value: []any{int64(1), "x"}}}}, "hello [1, 'x']"},
		{"args too many", event.Event{Fields: []event.Field{{Key: "message", Value: "hello"}, {Key: "args", Value: event.Tuple{"w"}}}}, "hello [formatting failed]"},
		{"args without message", event.Event{Fields: []event.Field{{Key: "args", Value: event.Tuple{"w"}}}}, "('w',) [formatting failed]"},
		{"exception", event.Event{Fields: []event.Field{{Key: "format", Value: "%(f)s|%(f)r"}, {Key: "f", Value: failure}}},
			"[CopiedFailure instance: Traceback from remote host -- tb\n]|<foolscap.call.CopiedFailure builtins.KeyError: 'x'>"},
		{"absurd width", event.Event{Fields: []event.Field{{Key: "format", Value: "%(a)999999999d"}, {Key: "a", Value: int64(1)}}}, "%(a)999999999d [formatting failed]"},
	} {
		if got := pytext.Format(&c.event); got != c.want {
			t.Errorf("%s: Format = %q, want %q", c.name, got, c.want)
		}
	}
}

func TestAppendRepr(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{
		{"it's", `"it's"`},
		{`it's "`, `'it\'s "'`},
		{"tab\tnl\ndel\x7f\xc2\xa0\u2028\U0001f600\xed\xa0\xbd", `'tab\tnl\ndel\x7f\xa0\u2028😀\ud83d'`},
		{[]byte("\x00\xff'"), `b"\x00\xff'"`},
		{event.Tuple{int64(1)}, "(1,)"},
		{event.Tuple{}, "()"},
		{banana.Set{}, "set()"},
		{banana.Set{int64(1)}, "{1}"},
		{banana.FrozenSet{int64(1)}, "frozenset({1})"},
		{banana.Decimal("1.50"), "Decimal('1.50')"},
		{event.Dict{{Key: event.Tuple{"a", nil}, Value: true}}, "{('a', None): True}"},
	} {
		if got := string(pytext.AppendRepr(nil, c.v)); got != c.want {
			t.Errorf("AppendRepr(%#v) = %s, want %s", c.v, got, c.want)
		}
	}
}

// Formatting ends within its budget, and what is cut is the start of the whole text.
func FuzzFormat(f *testing.F) {
	data, err := os.ReadFile("testdata/percent.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		v, err := event.ParseJSON(line)
		if err != nil {
			f.Fatal(err)
		}
		c := v.([]any)
		f.Add(c[0].(string), event.AppendJSON(nil, c[1]), uint16(len(line)))
	}
	f.Add("%(v)65535d%(v).65535f%(v)s%(v).0r%(v)a", []byte(`{"v": [1, "x'é", {"a": 1e300}]}`), uint16(100))
	f.Fuzz(func(t *testing.T, pattern string, values []byte, size uint16) {
		for _, e := range fuzzEvents(pattern, values) {
			start := time.Now()
			whole := pytext.Format(e)
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("a pattern of %d bytes and values of %d took %v", len(pattern), len(values), took)
			}
			if len(whole) > pytext.MaxText+len(cutNote) {
				t.Errorf("%d bytes from a pattern of %d and values of %d", len(whole), len(pattern), len(values))
			}
			part := string(pytext.AppendTextMax(nil, e, int(size)))
			body, isCut := strings.CutSuffix(part, cutNote)
			switch {
			case part == whole: // which may end as a text that is cut
			case !isCut:
				t.Errorf("%d bytes are %q, all are %.2000q", size, part, whole)
			case len(body) > int(size):
				t.Errorf("%d bytes, more than %d", len(body), size)
			case strings.HasSuffix(whole, cutNote) || strings.HasSuffix(whole, " [formatting failed]"):
				// A part may cost more than it may before the end of the whole.
			case !strings.HasPrefix(whole, body):
				t.Errorf("%d bytes are %q, which is not the start of %.2000q", size, part, whole)
			}
		}
	})
}

// fuzzEvents returns events with this pattern and the values in JSON, which may not be
// valid.
func fuzzEvents(pattern string, values []byte) []*event.Event {
	v, err := event.ParseJSON(values)
	if err != nil {
		v = string(values)
	}
	events := []*event.Event{
		{Fields: []event.Field{{Key: "message", Value: pattern}, {Key: "args", Value: v}}},
		{Fields: []event.Field{{Key: "format", Value: pattern}, {Key: "v", Value: v}, {Key: "message", Value: "m"}}},
	}
	if d, ok := v.(event.Dict); ok {
		e := event.FromDict(d)
		e.Set("format", pattern)
		events = append(events, e)
	}
	return events
}
