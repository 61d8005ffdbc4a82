package pytext_test

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/pytext"
	"github.com/flogtool/flogtool/internal/costtest"
	"github.com/flogtool/flogtool/rpc/banana"
)

const cutNote = "…(cut)"

// hostileEvents are events whose text would cost far more than the event itself.
func hostileEvents() map[string]*event.Event {
	long := strings.Repeat("é", 1<<20)
	var deep any = "x"
	for range 900 {
		deep = []any{deep, deep} // 2^900 values in 900 lists
	}
	huge := new(big.Int).Lsh(big.NewInt(1), 300_000) // 90,000 digits
	manyFields := event.Event{Fields: []event.Field{{Key: "format", Value: strings.Repeat("%(z).0s", 50_000)}}}
	for i := range 50_000 {
		manyFields.Fields = append(manyFields.Fields, event.Field{Key: fmt.Sprint("field", i), Value: int64(i)})
	}
	manyFields.Set("z", "")
	args := make(event.Tuple, 0, 40_000)
	for range 20_000 {
		args = append(args, int64(65535), int64(1))
	}
	var copyable any = int64(1)
	for range 500 {
		copyable = &banana.Copyable{Class: "c", Attrs: event.Dict{{Key: "a", Value: copyable}, {Key: "b", Value: copyable}}}
	}
	failure := &banana.Copyable{Class: banana.FailureClass, Attrs: event.Dict{
		{Key: "value", Value: []byte(long)}, {Key: "type", Value: []byte(long)}, {Key: "traceback", Value: []byte(long)},
	}}
	event1 := func(format string, fields ...event.Field) *event.Event {
		return &event.Event{Fields: append([]event.Field{{Key: "format", Value: format}}, fields...)}
	}
	value := func(v any) event.Field { return event.Field{Key: "v", Value: v} }
	return map[string]*event.Event{
		"a wide directive again and again":        event1(strings.Repeat("%(v)65535d", 20_000), value(int64(1))),
		"widths from the arguments":               {Fields: []event.Field{{Key: "message", Value: strings.Repeat("%*d", 20_000)}, {Key: "args", Value: args}}},
		"widths in a list that may be one value":  {Fields: []event.Field{{Key: "message", Value: strings.Repeat("%*d", 20_000)}, {Key: "args", Value: []any(args)}}},
		"a precision again and again":             event1(strings.Repeat("%(v).65535d", 20_000), value(int64(1))),
		"width and precision of a fraction":       event1(strings.Repeat("%(v)65535.65535f", 20_000), value(1e308)),
		"digits that are removed again":           event1(strings.Repeat("%(v).65535g", 20_000), value(0.5)),
		"a long text again and again":             event1(strings.Repeat("%(v)s", 20_000), value(long)),
		"a long text that a precision removes":    event1(strings.Repeat("%(v).0s", 200_000), value(long)),
		"the source form of a long text, removed": event1(strings.Repeat("%(v).0r", 200_000), value(long)),
		"the ASCII form of a long text":           event1(strings.Repeat("%(v)65535a", 20_000), value(long)),
		"bytes":                                   event1(strings.Repeat("%(v)r", 20_000), value([]byte(long))),
		"nested lists that are shared":            event1(strings.Repeat("%(v)r", 20_000), value(deep)),
		"nested lists, removed":                   event1(strings.Repeat("%(v).1r", 200_000), value(deep)),
		"nested objects":                          event1(strings.Repeat("%(v)s", 20_000), value(copyable)),
		"a huge whole number":                     event1(strings.Repeat("%(v)d", 20_000), value(huge)),
		"a huge whole number, removed":            event1(strings.Repeat("%(v).0r", 200_000), value([]any{huge, huge})),
		"a huge whole number as a fraction":       event1(strings.Repeat("%(v)e", 200_000), value(huge)),
		"an exception":                            event1(strings.Repeat("%(v)s%(v)r", 20_000), value(failure)),
		"fields times directives":                 &manyFields,
		"a long message":                          {Fields: []event.Field{{Key: "message", Value: long}}},
		"a long message in bytes":                 {Fields: []event.Field{{Key: "message", Value: []byte(long)}}},
		"a message of nested lists":               {Fields: []event.Field{{Key: "message", Value: deep}}},
		"arguments of nested lists":               {Fields: []event.Field{{Key: "message", Value: "%s"}, {Key: "args", Value: deep}}},
		"arguments without a message":             {Fields: []event.Field{{Key: "args", Value: deep}}},
		"a long format that does not fit":         event1(strings.Repeat("%%", 1<<20) + "%(nobody)s"),
		"a long format without directives":        event1(long, value(int64(1))),
	}
}

// cheap are the hostile events whose whole text costs little: nothing of it is cut.
var cheap = map[string]bool{
	"a long text that a precision removes": true, "nested lists, removed": true, "a huge whole number, removed": true,
	"a huge whole number as a fraction": true,
}

// The text of an event costs what its budget allows, whatever the event asks for.
func TestHostileText(t *testing.T) {
	for name, e := range hostileEvents() {
		t.Run(name, func(t *testing.T) {
			var text string
			costtest.Measure(func() { text = pytext.Format(e) }).Check(t, 500*time.Millisecond, 24<<20)
			if len(text) > pytext.MaxText+len(cutNote) {
				t.Errorf("%d bytes", len(text))
			}
			body, isCut := strings.CutSuffix(text, cutNote)
			if isCut == cheap[name] {
				t.Errorf("%d bytes, cut is %v: …%q", len(text), isCut, text[max(0, len(text)-40):])
			}
			if !utf8.ValidString(body) {
				t.Error("cut within a character")
			}
			// A caller that wants less gets the start of the same text, in less time.
			costtest.Measure(func() { pytext.AppendTextMax(nil, e, 64<<10) }).Check(t, 20*time.Millisecond, 8<<20)
			few := strings.TrimSuffix(string(pytext.AppendTextMax([]byte("before "), e, 999)), cutNote)
			if few, ok := strings.CutPrefix(few, "before "); !ok || len(few) > 999 || !strings.HasPrefix(body, few) {
				t.Errorf("the first 999 bytes are %d: %q", len(few), few)
			} else if dear := name == "digits that are removed again"; len(few) < min(996, len(body)) && !dear {
				t.Errorf("only %d of the first 999 bytes", len(few))
			}
		})
	}
}

// Values by themselves are cut too, which dump prints beside the text.
func TestHostileValues(t *testing.T) {
	for name, e := range hostileEvents() {
		v, ok := e.Get("v")
		if !ok {
			continue
		}
		t.Run(name, func(t *testing.T) {
			var str, repr []byte
			costtest.Measure(func() { str, repr = pytext.AppendStr(nil, v), pytext.AppendRepr(nil, v) }).Check(t, 500*time.Millisecond, 24<<20)
			if limit := pytext.MaxText + len(cutNote); len(str) > limit || len(repr) > limit {
				t.Errorf("%d and %d bytes", len(str), len(repr))
			}
		})
	}
}

// A line of a file, which decodes a field each time that it is used, costs no more.
func TestHostileLine(t *testing.T) {
	var fields, keys, nested strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&fields, `"f%d": 0, `, i)
		fmt.Fprintf(&keys, `"\u0066%d": 0, `, i)
	}
	nested.WriteString(strings.Repeat("[", 900) + strings.Repeat("[0], ", 500_000) + "0" + strings.Repeat("]", 900))
	for name, d := range map[string]string{
		"a wide directive again and again":  `{"format": "` + strings.Repeat("%(num)65535d", 20_000) + `", "num": 1}`,
		"fields times directives":           `{` + fields.String() + `"z": "", "format": "` + strings.Repeat("%(z)s", 50_000) + `"}`,
		"keys with escapes":                 `{` + keys.String() + `"z": "", "format": "` + strings.Repeat("%(z)s", 50_000) + `"}`,
		"a value that is decoded each time": `{"v": ` + nested.String() + `, "format": "` + strings.Repeat("%(v).0s", 50_000) + `"}`,
		"a text that is decoded each time":  `{"v": "` + strings.Repeat(`\u0041`, 300_000) + `", "format": "` + strings.Repeat("%(v).0s", 50_000) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			line := flogfile.ParseLine([]byte(`{"d": ` + d + `}`))
			if line == nil {
				t.Fatal("not a line")
			}
			var text []byte
			costtest.Measure(func() { text = line.AppendText(nil) }).Check(t, 500*time.Millisecond, 64<<20)
			if len(text) > pytext.MaxText+len(cutNote) || !strings.HasSuffix(string(text), cutNote) {
				t.Errorf("%d bytes, …%q", len(text), text[max(0, len(text)-40):])
			}
		})
	}
}
