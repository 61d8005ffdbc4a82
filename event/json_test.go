package event_test

import (
	"bytes"
	"compress/bzip2"
	"io"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/rpc/banana"
)

// Every line that the original wrote is the same bytes after it was read and
// written again.
func TestJSONCorpusUnchanged(t *testing.T) {
	lines := 0
	for _, dir := range []string{"flogs", "incidents"} {
		files, err := filepath.Glob(filepath.Join("../testdata/corpus", dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			var r io.Reader = f
			if strings.HasSuffix(name, ".bz2") {
				r = bzip2.NewReader(f)
			}
			data, err := io.ReadAll(r)
			f.Close()
			if err != nil {
				t.Fatal(name, err)
			}
			for line := range bytes.Lines(data) {
				if line[0] == '#' {
					continue
				}
				lines++
				line = bytes.TrimSuffix(line, []byte("\n"))
				v, err := event.ParseJSON(line)
				if err != nil {
					t.Errorf("%s: %v in %.200s", name, err, line)
					continue
				}
				if got := event.AppendJSON(nil, v); !bytes.Equal(got, line) {
					t.Errorf("%s: read and written again\n got %.300s\nwant %.300s", name, got, line)
				}
			}
		}
	}
	if lines < 1000 {
		t.Errorf("only %d lines found", lines)
	}
}

func TestParseJSON(t *testing.T) {
	huge, _ := new(big.Int).SetString(strings.Repeat("9", 600), 10)
	for _, c := range []struct {
		in   string
		want any
	}{
		{"null", nil},
		{" true\r\n", true},
		{"-0", int64(0)},
		{"-0.0", math.Copysign(0, -1)},
		{"9223372036854775807", int64(math.MaxInt64)},
		{"18446744073709551616", new(big.Int).Lsh(big.NewInt(1), 64)},
		{strings.Repeat("9", 600), huge},
		{"1e400", math.Inf(1)},
		{"1e-400", 0.0},
		{"1E5", 100000.0},
		{"-Infinity", math.Inf(-1)},
		{`"\ud83d\ude00"`, "\U0001f600"},
		{`"\ud83d"`, "\xed\xa0\xbd"},
		{`"\ude00\ud83d"`, "\xed\xb8\x80\xed\xa0\xbd"},
		{`"\u0000\/ü` + "\x7f" + `"`, "\x00/ü\x7f"},
		{`{"b": 1, "a": 2, "b": 3}`, event.Dict{{Key: "b", Value: int64(3)}, {Key: "a", Value: int64(2)}}},
		{"[ ]", []any{}},
		{"{ }", event.Dict{}},
	} {
		got, err := event.ParseJSON([]byte(c.in))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("ParseJSON(%.60q) = %#v, %v, want %#v", c.in, got, err, c.want)
		}
	}
	if got, err := event.ParseJSON([]byte("NaN")); err != nil || !math.IsNaN(got.(float64)) {
		t.Errorf("ParseJSON(NaN) = %v, %v", got, err)
	}
}

func TestParseJSONErrors(t *testing.T) {
	for _, c := range []struct {
		in     string
		offset int
		msg    string
	}{
		{"", 0, "expecting a value"},
		{"\x00\x00", 0, "expecting a value"},
		{"nul", 0, "expecting a value"},
		{"01", 1, "extra data"},
		{"1.", 1, "extra data"},
		{"1e+", 1, "extra data"},
		{"{} {}", 3, "extra data"},
		{`{"a" 1}`, 5, "expecting ':'"},
		{`{"a": 1 "b"}`, 8, "expecting ',' or '}'"},
		{`{"a": 1,}`, 8, "expecting a property name in double quotes"},
		{`[1 2]`, 3, "expecting ',' or ']'"},
		{`{"a": "b`, 6, "string without an end"},
		{`"\x"`, 1, "bad escape"},
		{`"\u12g4"`, 1, "bad \\u escape"},
		{"\"a\nb\"", 2, "control character in a string"},
		{"\"a\xffb\"", 2, "invalid UTF-8"},
		{"\"\xed\xa0\xbd\"", 1, "invalid UTF-8"},
		{strings.Repeat("[", 1_000_000), 1000, "nested deeper than 1000"},
		{strings.Repeat("9", 200_000), 0, "integer of more than 100000 digits"},
	} {
		_, err := event.ParseJSON([]byte(c.in))
		se, ok := err.(*event.SyntaxError)
		if !ok || se.Offset != c.offset || se.Msg != c.msg {
			t.Errorf("ParseJSON(%.40q) = %v, want %q at byte %d", c.in, err, c.msg, c.offset)
		}
	}
}

func TestAppendJSON(t *testing.T) {
	deep := any(int64(1))
	for range 3000 {
		deep = []any{deep}
	}
	for _, c := range []struct {
		v    any
		want string
	}{
		{1e16, "1e+16"},
		{1e15, "1000000000000000.0"},
		{1e-7, "1e-07"},
		{0.0001, "0.0001"},
		{5e-324, "5e-324"},
		{math.Copysign(0, -1), "-0.0"},
		{3.0, "3.0"},
		{"\x7f\x1f\b\f é\u2028\U0001f600", `"\u007f\u001f\b\f \u00e9\u2028\ud83d\ude00"`},
		{"bad \xff byte", `"bad \udcff byte"`},
		{event.Dict{{Key: int64(1), Value: nil}, {Key: 1.5, Value: nil}, {Key: true, Value: nil}, {Key: nil, Value: nil}, {Key: []byte("k"), Value: nil}},
			`{"1": null, "1.5": null, "true": null, "null": null, "b'k'": null}`},
		{event.Tuple{"a", nil}, `["a", null]`},
		{[]byte("\x00\xff'"), `{"@": "UnJSONable", "message": "log.msg() was given an object that could not be encoded into JSON. ` +
			`I've replaced it with this UnJSONable object. The object's repr is in .repr", "repr": "b\"\\x00\\xff'\""}`},
		{&banana.Copyable{Class: banana.FailureClass, Attrs: event.Dict{
			{Key: "value", Value: []byte("'nope'")}, {Key: "type", Value: []byte("builtins.KeyError")},
			{Key: "traceback", Value: []byte("Traceback:\n")}, {Key: "parents", Value: []any{}},
		}}, `{"@": "Failure", "str": "[CopiedFailure instance: Traceback from remote host -- Traceback:\n]", ` +
			`"repr": "<foolscap.call.CopiedFailure builtins.KeyError: 'nope'>", "traceback": "Traceback from remote host -- Traceback:\n"}`},
		{deep, strings.Repeat("[", 1000) + `"..."` + strings.Repeat("]", 1000)},
	} {
		if got := string(event.AppendJSON(nil, c.v)); got != c.want {
			t.Errorf("AppendJSON(%.80v)\n got %.300s\nwant %.300s", c.v, got, c.want)
		}
	}
}

func FuzzParseJSON(f *testing.F) {
	seeds := 0
	for _, pattern := range []string{"flogs/*.flog", "damaged/*.flog"} {
		files, _ := filepath.Glob(filepath.Join("../testdata/corpus", pattern))
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			for line := range bytes.Lines(data) {
				if len(line) < 2000 {
					f.Add(line)
					seeds++
				}
			}
		}
	}
	if seeds == 0 {
		f.Fatal("no seeds: this target would pass and test nothing")
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := event.ParseJSON(data)
		if err != nil {
			return
		}
		text := event.AppendJSON(nil, v)
		again, err := event.ParseJSON(text)
		if err != nil {
			t.Fatalf("%q was read, and written as %q: %v", data, text, err)
		}
		if second := event.AppendJSON(nil, again); !bytes.Equal(second, text) {
			t.Fatalf("written as %q, then as %q", text, second)
		}
	})
}
