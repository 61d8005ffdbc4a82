package filter_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/rpc/banana"
)

// parse returns the event that JSON text holds.
func parse(t testing.TB, text string) *event.Event {
	t.Helper()
	e, err := event.ParseEvent([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const sample = `{"num": 7, "time": 1700000000.5, "level": 30, "facility": "net.http", "umid": "un9CSQ", "parent": 3,
	"format": "%(op)s of %(path)s took %(ms).1f ms", "source": "http/server.go:112", "op": "GET", "path": "/api/x", "ms": 512.25, "tags": ["a", "b"],
	"deep": {"k": {"n": 5}}, "big": 18446744073709551616, "null": null,
	"failure": {"@": "Failure", "str": "[Failure: boom]", "repr": "<F>", "traceback": "Traceback\n x.py"}}`

func TestFilter(t *testing.T) {
	e := parse(t, sample)
	for source, want := range map[string]bool{
		`level >= WEIRD`: true,
		`level > WEIRD`:  false,
		`facility startsWith "net." && level == WEIRD`:       true,
		`num == 7 && time > 1700000000 && parent == 3`:       true,
		`message == "GET of /api/x took 512.2 ms"`:           true,
		`message contains "took" and umid == "un9CSQ"`:       true,
		`attrs.path matches "^/api/" && attrs.ms > 500`:      true,
		`attrs.nothing == nil`:                               true,
		`"path" in attrs && !("nothing" in attrs)`:           true,
		`attrs["path"] endsWith "x"`:                         true,
		`attrs.deep.k.n == 5`:                                true,
		`attrs.big >= 18446744073709551615.0`:                true,
		`"a" in attrs.tags && len(attrs.tags) == 2`:          true,
		`any(attrs.tags, # == "b")`:                          true,
		`failure contains "boom" && failure contains "x.py"`: true,
		`event.level >= WEIRD && event.attrs.op == "GET"`:    true,
		`fmt(event) == message`:                              true,
		`lower(attrs.op) == "get"`:                           true,
		`from == "4yewzbar" && program == "orders"`:          true,
		`program + "/" + facility == "orders/net.http"`:      true,
		`source.file == "http/server.go"`:                    true,
		`source.line == 112 && event.source.line > 100`:      true,
		`attrs.source == "http/server.go:112"`:               true,
		`event.from == from && event.program == program`:     true,
		`let s = source; s.file endsWith ".go"`:              true,
		`source?.line == 112`:                                true,
		`num + 1 == 8 && attrs.ms + 1 > 513`:                 true,
		`string(num) + "!" == "7!"`:                          true,
		`let p = attrs.path; len(p) > 3 ? p != "" : false`:   true,
	} {
		f, err := filter.Compile(source)
		if err != nil {
			t.Errorf("Compile(%s): %v", source, err)
			continue
		}
		got, err := f.MatchFrom(e, filter.Origin{From: "4yewzbar", Program: "orders"})
		if err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", source, got, err, want)
		}
	}
}

// string of a list or a map is as fmt.Sprint prints it, up to 64 KiB.
func TestFilterString(t *testing.T) {
	f, err := filter.Compile(`string(attrs.v) == attrs.want`)
	if err != nil {
		t.Fatal(err)
	}
	for v, want := range map[string]any{
		`{"b": [1, 2.5, null, true, "x", 1e30, NaN], "a": {}}`: map[string]any{"b": []any{1, 2.5, nil, true, "x", 1e30, math.NaN()}, "a": map[string]any{}},
		`[[], [""], [[1], -0.0, 18446744073709551616]]`:        []any{[]any{}, []any{""}, []any{[]any{1}, math.Copysign(0, -1), 18446744073709551616.0}},
	} {
		value, err := event.ParseJSON([]byte(v))
		if err != nil {
			t.Fatal(err)
		}
		e := &event.Event{Fields: []event.Field{{Key: "v", Value: value}, {Key: "want", Value: fmt.Sprint(want)}}}
		if ok, err := f.Match(e); !ok || err != nil {
			t.Errorf("string(%s) is not %v (%v)", v, want, err)
		}
	}
	long := make([]any, 50_000)
	for i := range long {
		long[i] = int64(7)
	}
	e := &event.Event{Fields: []event.Field{{Key: "v", Value: long}, {Key: "want", Value: fmt.Sprint(long)[:64<<10]}}}
	if ok, err := f.Match(e); !ok || err != nil {
		t.Errorf("string of a long list is not its start (%v)", err)
	}
}

// What an event lacks has a value of its type, except for what nil says better.
func TestFilterMissing(t *testing.T) {
	f, err := filter.Compile(`num == -1 && time == 0 && level == OPERATIONAL && message == "" && facility == "" && umid == "" && parent == nil && failure == "" && from == "" && program == "" && source.file == "" && source.line == 0`)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := f.Match(&event.Event{}); !ok || err != nil {
		t.Errorf("an event without fields: %v, %v", ok, err)
	}
	f, err = filter.Compile(`attrs.ms > 5`)
	if err != nil {
		t.Fatal(err)
	}
	ok, err := f.Match(&event.Event{})
	if fe, is := errors.AsType[*filter.Error](err); ok || !is || fe.Line != 1 || fe.Column != 10 {
		t.Errorf("comparing what is missing: %v, %v", ok, err)
	}
}

// The event's own field source is a file and a line, whatever it holds.
func TestFilterSource(t *testing.T) {
	f, err := filter.Compile(`fmt(event) == source.file + "|" + string(source.line)`)
	if err != nil {
		t.Fatal(err)
	}
	for source, want := range map[any]string{
		"dir/file.go:12": "dir/file.go|12", "file.go": "file.go|0", `C:\x.go:7`: `C:\x.go|7`, `C:\x.go`: `C:\x.go|0`, "a:b:3": "a:b|3",
		"x.go:": "x.go:|0", "x.go:-4": "x.go:-4|0", "x.go:99999999999999999999": "x.go:99999999999999999999|0", ":5": "|5", "": "|0",
		int64(5): "|0", nil: "|0",
	} {
		e := &event.Event{Fields: []event.Field{{Key: "source", Value: source}, {Key: "message", Value: want}}}
		if ok, err := f.Match(e); !ok || err != nil {
			t.Errorf("source %q is not %s (%v)", source, want, err)
		}
	}
}

// A source is not a text. What compared it as one is now from or program.
func TestFilterSourceAsText(t *testing.T) {
	for source, column := range map[string]int{
		`source == "orders"`: 1, `"orders" == source`: 13, `source != ""`: 1, `source startsWith "or"`: 1, `source matches "^or"`: 1,
		`source in ["a", "b"]`: 1, `level > 3 && source contains "x"`: 14, `lower(source) == "x"`: 7, `any([source, message], # == "x")`: 6,
		`event.source == "x"`: 7, `string(source) == "x"`: 8, `(source ?? "") == "x"`: 2, `let s = source; s == "x"`: 17,
		`source + facility == "x"`: 1,
	} {
		_, err := filter.Compile(source)
		fe, ok := errors.AsType[*filter.Error](err)
		if !ok || fe.Column != column || !strings.Contains(fe.Msg, "write from for who recorded the event, program for the program's name") {
			t.Errorf("Compile(%s) = %v, want an error at column %d that names from and program", source, err, column)
		}
	}
	for source, column := range map[string]int{
		`source == "x" ? "a" : nil`: 1, `any(events, .source == "x") ? "a" : nil`: 14, `trigger.source == "x" ? "a" : nil`: 9, `[source]`: 2,
		`len(map(events, .source)) > 3 ? "x" : nil`: 18,
	} {
		_, err := filter.CompileRule(source)
		fe, ok := errors.AsType[*filter.Error](err)
		if !ok || fe.Column != column || !strings.Contains(fe.Msg, "write from for") {
			t.Errorf("CompileRule(%s) = %v, want an error at column %d that names from and program", source, err, column)
		}
	}
	if _, err := filter.CompileRule(`source`); err == nil {
		t.Error("a rule that gives its source compiles")
	}
	// Other things may be named source.
	for _, source := range []string{`attrs.source == "x" ? "a" : nil`, `header.source == "x" ? "a" : nil`, `any(attrs.list, .source == "x") ? "a" : nil`} {
		if _, err := filter.CompileRule(source); err != nil {
			t.Errorf("CompileRule(%s) = %v", source, err)
		}
	}
}

// Events from a peer hold what files do not.
func TestFilterWireValues(t *testing.T) {
	e := &event.Event{Fields: []event.Field{
		{Key: "data", Value: []byte("bytes")}, {Key: "pair", Value: event.Tuple{int64(1), "x"}},
		{Key: "set", Value: banana.Set{int64(1)}}, {Key: "dec", Value: banana.Decimal("1.5")},
		{Key: "failure", Value: &banana.Copyable{Class: banana.FailureClass, Attrs: event.Dict{{Key: "type", Value: []byte("builtins.KeyError")}, {Key: "value", Value: []byte("'x'")}, {Key: "traceback", Value: []byte("tb")}}}},
	}}
	f, err := filter.Compile(`attrs.data == "bytes" && attrs.pair[1] == "x" && 1 in attrs.set && attrs.dec == "1.5" && attrs.failure.type == "builtins.KeyError" && failure contains "tb"`)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := f.Match(e); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestCompileErrors(t *testing.T) {
	for _, c := range []struct {
		source       string
		line, column int
		msg          string
	}{
		{``, 1, 1, "empty"},
		{`levle > 3`, 1, 1, "unknown name levle"},
		{"// what\nlevel >\n  WIERD", 3, 3, "unknown name WIERD"},
		{`level > "x"`, 1, 7, "mismatched types"},
		{`level +`, 1, 7, "unexpected"},
		{`level`, 1, 1, "expected bool"},
		{`event.nosuch == 1`, 1, 7, "has no field nosuch"},
		{`event.ev == nil`, 1, 7, "has no field ev"},
		{`message matches facility`, 1, 17, "pattern of matches"},
		{`message matches "("`, 1, 9, "missing closing )"},
	} {
		_, err := filter.Compile(c.source)
		fe, ok := errors.AsType[*filter.Error](err)
		if !ok || fe.Line != c.line || fe.Column != c.column || !strings.Contains(fe.Msg, c.msg) {
			t.Errorf("Compile(%q) = %v, want %q at %d:%d", c.source, err, c.msg, c.line, c.column)
		}
	}
	_, err := filter.Compile("level >\n  WIERD")
	if want := "2:3: unknown name WIERD\n    WIERD\n    ^"; err == nil || err.Error() != want {
		t.Errorf("shown as\n%v\nwant\n%s", err, want)
	}
}

// An expression can neither hang nor crash the process nor fill its memory.
func TestHostile(t *testing.T) {
	var doubling strings.Builder
	doubling.WriteString(`let a0 = "xxxxxxxxxxxxxxxx"; `)
	for i := range 15 {
		doubling.WriteString(fmt.Sprintf("let a%d = a%d + a%d; ", i+1, i, i))
	}
	hostile := []struct {
		name, source string
		compiles     bool
		want         string // in the error; "" if it must evaluate
	}{
		{"brackets a million deep", strings.Repeat("(", 1_000_000), false, "bytes, more than the limit of 16384"},
		{"brackets as deep as fits", strings.Repeat("(", 16000) + "1" + strings.Repeat(")", 300), false, ""},
		{"as many nots as fit", strings.Repeat("!", 16000) + "true", false, "exceeds maximum"},
		{"a long chain", "true" + strings.Repeat(" && true", 1500), false, "parts"},
		{"a huge range", `len(1..1000000000) > 0 ? "x" : nil`, false, "ranges"},
		{"a range in a loop", `any(1..100000, true) ? "x" : nil`, false, "ranges"},
		{"three loops deep", `any(events, any(events, any(events, true))) ? "x" : nil`, false, "nested deeper"},
		{"two loops over all events", `count(events, count(events, .level > 0) > 100000) > 0 ? "x" : nil`, true, "exceeds its limits"},
		{"a pattern made at run time", `message matches message ? "x" : nil`, false, "pattern"},
		{"a pattern that backtracks elsewhere", `message matches "(a+)+$" ? "x" : nil`, true, ""},
		{"a pattern that is huge", `message matches "((a{100}){100}){100}" ? "x" : nil`, false, "invalid repeat"},
		{"patterns over all events twice", `any(events, any(events, .message matches "(a|b)*c(a|b)*d")) ? "x" : nil`, true, "limits"},
		{"doubling a text", doubling.String() + `a15 + a15 == "" ? "x" : nil`, true, "more than the limit of 65536"},
		{"too many variables", doubling.String() + `let b = 1; let c = 2; nil`, false, "variables"},
		{"text in a loop", `len(map(events, .message + .message + .message)) > 0 ? "x" : nil`, true, "bytes of text"},
		{"upper case in a loop", `len(map(events, upper(.message))) > 0 ? "x" : nil`, true, "bytes of text"},
		{"repeat", `repeat("x", 1000000000)`, false, "not in this language"},
		{"replace", `replace(message, "a", "bbbbbbbbbbbbbbbb")`, false, "not in this language"},
		{"join", `join(map(events, .message))`, false, "not in this language"},
		{"split", `split(message, "")`, false, "not in this language"},
		{"reduce", `reduce(events, #acc + .message, "")`, false, "not in this language"},
		{"JSON of everything", `toJSON(events)`, false, "not in this language"},
		{"now", `now() > now()`, false, "not in this language"},
		{"a method", `trigger.Fill()`, false, "methods cannot be called"},
		{"our own functions", `__tick()`, false, "unknown name"},
		{"division by nothing", `10 % (num - num) == 1 ? "x" : nil`, true, "divide by zero"},
		{"an index outside", `events[100000000].message`, true, "out of range"},
		{"nil everywhere", `attrs.a.b.c ? "x" : nil`, true, "cannot fetch"},
		{"sorting", `sortBy(events, .message)`, false, "not in this language"},
		{"lists of lists", `len(map(events, map(events, [1, 2, 3, 4, 5, 6, 7, 8]))) > 0 ? "x" : nil`, true, ""},
		{"a bad duration", `len(before("soon")) > 0 ? "x" : nil`, true, "invalid duration"},
		{"a category that is a path", `"../../etc/passwd"`, true, "cannot be a category"},
		{"a reserved category", `"all"`, true, "reserved"},
		{"a number as category", `5 + num`, false, "a rule gives a category"},
	}
	events := make([]*event.Event, 2000)
	for i := range events {
		events[i] = parse(t, fmt.Sprintf(`{"num": %d, "level": 10, "time": %d, "incarnation": ["x", null], "message": "%s"}`, i, i, strings.Repeat("ab", 2000)))
	}
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			rule, err := filter.CompileRule(c.source)
			if c.compiles != (err == nil) {
				t.Fatalf("compiling: %v", err)
			}
			if err == nil {
				in := &filter.RuleInput{Trigger: events[1999], Events: func() ([]*event.Event, error) { return events, nil }}
				_, err = rule.Run(in)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			switch {
			case c.want == "" && c.compiles && err != nil && !errors.Is(err, filter.ErrOverrun):
				t.Errorf("%v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%.300v, want %q", err, c.want)
			}
		})
	}
}

// A filter may be used by several goroutines.
func TestFilterConcurrent(t *testing.T) {
	f, err := filter.Compile(`attrs.n % 2 == 0 && message contains "m"`)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range 1000 {
				e := &event.Event{Fields: []event.Field{{Key: "n", Value: int64(n)}, {Key: "message", Value: "m"}}}
				if ok, err := f.Match(e); err != nil || ok != (n%2 == 0) {
					t.Errorf("%d: %v, %v", n, ok, err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkFilter(b *testing.B) {
	f, err := filter.Compile(`level >= WEIRD && facility startsWith "net."`)
	if err != nil {
		b.Fatal(err)
	}
	e := parse(b, sample)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Match(e); err != nil {
			b.Fatal(err)
		}
	}
}
