package flogfile_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/pytext"
)

const corpus = "../../testdata/corpus"

// readAll returns the raw lines of a file and the error that ended it.
func readAll(t *testing.T, name string) (lines []string, err error) {
	t.Helper()
	r, err := flogfile.Open(filepath.Join(corpus, name))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for {
		l, err := r.Next()
		if err != nil {
			return lines, err
		}
		lines = append(lines, string(l.Raw))
	}
}

// All that the original wrote reads without damage, and gives the events a full
// decoding gives.
func TestReadCorpus(t *testing.T) {
	events := 0
	for _, dir := range []string{"flogs", "incidents"} {
		names, err := filepath.Glob(filepath.Join(corpus, dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			r, err := flogfile.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			for {
				l, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if l.Kind&flogfile.KindEvent == 0 {
					continue
				}
				events++
				e, err := l.Event()
				if err != nil {
					t.Fatalf("%s:%d: %v", name, l.Number, err)
				}
				lazy, full := string(l.AppendText(nil)), pytext.Format(e)
				if lazy != full {
					t.Errorf("%s:%d: text %q from the line, %q from the event", name, l.Number, lazy, full)
				}
				lnum, lok := l.Num()
				enum, eok := e.Num()
				if lnum != enum || lok != eok {
					t.Errorf("%s:%d: num %v %v from the line, %v %v from the event", name, l.Number, lnum, lok, enum, eok)
				}
				ls, lok := l.Seconds()
				es, eok := e.Seconds()
				if ls != es || lok != eok {
					t.Errorf("%s:%d: time %v from the line, %v from the event", name, l.Number, ls, es)
				}
				if l.Level() != e.Level() || l.Facility() != e.Facility() || l.Incarnation() != e.Incarnation() {
					t.Errorf("%s:%d: level, facility or incarnation differ", name, l.Number)
				}
			}
			r.Close()
		}
	}
	if events < 900 {
		t.Errorf("only %d events", events)
	}
}

func TestFormatError(t *testing.T) {
	for name, want := range map[string]flogfile.Format{
		"damaged/bad-pickle.flog":             flogfile.FormatPickle,
		"damaged/bad-pickle-proto2.flog":      flogfile.FormatUnknown,
		"damaged/bad-furl.flog":               flogfile.FormatFURL,
		"damaged/bad-bz2-without-suffix.flog": flogfile.FormatBzip2,
		"damaged/bad-empty.flog":              flogfile.FormatUnknown,
		"damaged/bad-incident.flog.bz2.tmp":   flogfile.FormatUnknown,
		"damaged/bad-magic-crlf.flog":         flogfile.FormatUnknown,
		"damaged/bad-magic-v2.flog":           flogfile.FormatUnknown,
		"damaged/bad-magic-short.flog":        flogfile.FormatUnknown,
	} {
		_, err := readAll(t, name)
		e, ok := errors.AsType[*flogfile.FormatError](err)
		if !ok || e.Format != want {
			t.Errorf("%s: %v, want a FormatError of kind %v", name, err, want)
		}
	}
}

func TestDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		lines  int // readable
		line   int
		offset int64
		text   string
	}{
		{"bad-json-line.flog", 3, 4, 280, "expecting a value (column 30); 1 line (35 bytes) is missing"},
		{"bad-blank-line.flog", 3, 4, 280, "an empty line; 1 line (1 bytes) is missing"},
		{"bad-magic-again.flog", 6, 6, 599, "a second magic line; 1 line (23 bytes) is missing"},
		{"bad-nul-tail.flog", 4, 6, 599, "zero bytes, as after a power loss; 1 line (64 bytes) is missing"},
		{"bad-truncated-mid-line.flog", 3, 5, 439, "cut off after 120 bytes of the line; 1 line (120 bytes) is missing"},
		{"bad-truncated-mid-header.flog", 0, 2, 23, "cut off after 37 bytes of the line; 1 line (37 bytes) is missing"},
		{"bad-utf8.flog", 3, 4, 280, "invalid UTF-8 (column 51); 1 line (56 bytes) is missing"},
		{"bad-two-on-a-line.flog", 3, 4, 280, "extra data (column 4); 1 line (6 bytes) is missing"},
		{"bad-corrupt.flog.bz2", 0, 1, 0, "the bzip2 data is damaged"},
		{"bad-truncated-small.flog.bz2", 0, 0, 0, "the bzip2 data ends too early within the first 258 of 258 stored bytes: how much is missing cannot be known"},
		{"bad-truncated.flog.bz2", 1, 0, 0, "the bzip2 data ends too early"},
		{"bad-empty.flog.bz2", 0, 1, 0, "nothing can be read"},
		{"odd-line-is-number.flog", 3, 4, 280, "a number, where an object is expected"},
	} {
		lines, err := readAll(t, "damaged/"+c.name)
		damage, ok := errors.AsType[*flogfile.DamageError](err)
		if !ok {
			t.Errorf("%s: %v, want a DamageError", c.name, err)
			continue
		}
		if len(lines) < c.lines || c.line != 0 && damage.Line != c.line || c.offset != 0 && damage.Offset != c.offset || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %d lines, then %v\nwant %d lines, damage at line %d, byte %d: %s", c.name, len(lines), err, c.lines, c.line, c.offset, c.text)
		}
	}
}

// The original reads all of these.
func TestUndamaged(t *testing.T) {
	for _, name := range []string{
		"bad-magic-only.flog", "bad-bz2-trailing-junk.flog.bz2", "odd-bz2-two-streams.flog.bz2", "odd-no-final-newline.flog",
		"odd-raw-utf8.flog", "odd-spaces-and-order.flog", "odd-headerless.flog", "odd-long-integer.flog",
		// The original does not read these, though nothing is missing.
		"bad-not-bz2.flog.bz2", "bad-tail-plain-text-named-bz2.flog.bz2", "bad-integer-too-long.flog",
	} {
		lines, err := readAll(t, "damaged/"+name)
		if err != io.EOF || len(lines) == 0 && name != "bad-magic-only.flog" {
			t.Errorf("%s: %d lines, %v", name, len(lines), err)
		}
	}
}

// A line too long for a block is read whole; one too long for memory is passed
// over and said.
func TestLongLines(t *testing.T) {
	long := `{"d": {"message": "` + strings.Repeat("x", 3<<20) + `"}}`
	text := flogfile.Magic + long + "\n{\"d\": {}}\n" + long + "\n"
	r, err := flogfile.NewReader(strings.NewReader(text), "long")
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for {
		l, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(l.Raw))
	}
	if len(sizes) != 3 || sizes[0] != len(long) || sizes[1] != 9 || sizes[2] != len(long) {
		t.Errorf("lines of %v bytes", sizes)
	}

	r, err = flogfile.NewReader(io.MultiReader(strings.NewReader(flogfile.Magic+"{\"d\": {}}\n"), io.LimitReader(letters{}, 100<<20), strings.NewReader("\n{\"d\": {\"num\": 1}}\n")), "absurd")
	if err != nil {
		t.Fatal(err)
	}
	events := 0
	for {
		_, err := r.Next()
		if err == nil {
			events++
			continue
		}
		damage, ok := errors.AsType[*flogfile.DamageError](err)
		if !ok || damage.Line != 3 || damage.Bytes != 100<<20+1 {
			t.Errorf("after an absurd line: %v", err)
		}
		break
	}
	if events != 2 {
		t.Errorf("%d events beside an absurd line, want 2", events)
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// Scanning a line and decoding it must agree on what is valid.
func FuzzScan(f *testing.F) {
	seeds := 0
	names, _ := filepath.Glob(filepath.Join(corpus, "*", "*.flog"))
	for _, name := range names {
		for line := range bytes.Lines(read(f, name)) {
			if len(line) < 1000 {
				f.Add(bytes.TrimSuffix(line, []byte("\n")))
				seeds++
			}
		}
	}
	if seeds == 0 {
		f.Fatal("no seeds: this target would pass and test nothing")
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.IndexByte(data, '\n') >= 0 {
			return
		}
		v, perr := event.ParseJSON(data)
		d, isObject := v.(event.Dict)
		r, err := flogfile.NewReader(io.MultiReader(strings.NewReader(flogfile.Magic), bytes.NewReader(data)), "fuzz")
		if err != nil {
			t.Fatal(err)
		}
		l, err := r.Next()
		if len(data) > 0 && (err == nil) != (perr == nil && isObject) {
			t.Fatalf("scanning %q: %v; decoding it: %v", data, err, perr)
		}
		if err != nil {
			return
		}
		ev, _ := d.Get("d")
		fields, _ := ev.(event.Dict)
		for _, item := range fields {
			got, ok := l.Get(item.Key.(string))
			if !ok || !bytes.Equal(event.AppendJSON(nil, got), event.AppendJSON(nil, item.Value)) {
				t.Fatalf("field %q of %q: %v %v, want %v", item.Key, data, got, ok, item.Value)
			}
		}
	})
}
