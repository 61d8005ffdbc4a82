package banana_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/rpc/banana"
)

func bigInt(s string) *big.Int {
	n, ok := new(big.Int).SetString(s, 0)
	if !ok {
		panic(s)
	}
	return n
}

// values are encodings that the original was seen to send, numbered from 0.
var values = []struct {
	name  string
	value any
	hex   string
}{
	{"127", int64(127), "7f 81"},
	{"128", int64(128), "00 01 81"},
	{"2^31-1", int64(math.MaxInt32), "7f 7f 7f 7f 07 81"},
	{"2^31", int64(1 << 31), "04 85 80 00 00 00"},
	{"2^64", bigInt("0x10000000000000000"), "09 85 01 00 00 00 00 00 00 00 00"},
	{"-1", int64(-1), "01 83"},
	{"-2^31", int64(math.MinInt32), "00 00 00 00 08 83"},
	{"-2^31-1", int64(math.MinInt32 - 1), "04 86 80 00 00 01"},
	{"-2^63", int64(math.MinInt64), "08 86 80 00 00 00 00 00 00 00"},
	{"1.5", 1.5, "84 3f f8 00 00 00 00 00 00"},
	{"inf", math.Inf(1), "84 7f f0 00 00 00 00 00 00"},
	{"bytes", []byte("two"), "03 82 74 77 6f"},
	{"empty bytes", []byte{}, "00 82"},
	{"a word of the vocabulary", []byte("list"), "04 87"},
	{"none", nil, "00 88 00 87 00 89"},
	{"true", true, "00 88 01 87 01 81 00 89"},
	{"false", false, "00 88 01 87 00 81 00 89"},
	{"text", "héllo", "00 88 08 87 06 82 68 c3 a9 6c 6c 6f 00 89"},
	{"text that is a word", "none", "00 88 08 87 00 87 00 89"},
	{"list", []any{int64(2)}, "00 88 04 87 02 81 00 89"},
	{"tuple", banana.Tuple{int64(2)}, "00 88 05 87 02 81 00 89"},
	{"dict", banana.Dict{{int64(1), "one"}}, "00 88 03 87 01 81 01 88 08 87 03 82 6f 6e 65 01 89 00 89"},
	{"set", banana.Set{int64(3)}, "00 88 06 87 03 81 00 89"},
	{"frozenset", banana.FrozenSet{int64(4)}, "00 88 07 87 04 81 00 89"},
	{"decimal", banana.Decimal("1.50"), "00 88 07 82 64 65 63 69 6d 61 6c 04 82 31 2e 35 30 00 89"},
	{"copyable", &banana.Copyable{Class: "org.example.Point", Attrs: banana.Dict{{"x", int64(1)}}},
		"00 88 12 87 11 82 6f 72 67 2e 65 78 61 6d 70 6c 65 2e 50 6f 69 6e 74 01 82 78 01 81 00 89"},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func encode(t testing.TB, base uint64, v any) []byte {
	t.Helper()
	var m banana.Message
	m.Reset(1)
	if err := m.Value(v); err != nil {
		t.Fatalf("Value(%v): %v", v, err)
	}
	return m.AppendTo(nil, base, nil)
}

// decode reads one value inside a sequence.
func decode(b []byte, lim banana.Limits) (any, error) {
	in := append([]byte{0x00, 0x88, 0x04, 0x87}, b...)
	d := banana.NewDecoder(banana.NewReader(bytes.NewReader(append(in, 0x00, 0x89)), 1, lim))
	d.Begin()
	v, err := d.Value()
	if err != nil {
		return nil, err
	}
	if list := v.([]any); len(list) == 1 {
		return list[0], nil
	}
	return nil, errors.New("not one value")
}

func TestValues(t *testing.T) {
	for _, tt := range values {
		want := unhex(t, tt.hex)
		if got := encode(t, 0, tt.value); !bytes.Equal(got, want) {
			t.Errorf("%s: encoded as % x, want % x", tt.name, got, want)
		}
		v, err := decode(want, banana.Limits{})
		if err != nil || !banana.Equal(v, tt.value) {
			t.Errorf("%s: decoded as %#v, %v; want %#v", tt.name, v, err, tt.value)
		}
	}
}

// TestKeysOfSeveralTypes: the keys of a dict may have types that Python cannot compare,
// for which the original cannot send it.
func TestKeysOfSeveralTypes(t *testing.T) {
	d := banana.Dict{{"text", int64(1)}, {[]byte("text"), int64(2)}, {int64(3), nil}, {nil, "x"}, {banana.Tuple{int64(1)}, true}}
	v, err := decode(encode(t, 0, d), banana.Limits{})
	if err != nil || !banana.Equal(v, d) {
		t.Errorf("decoded as %#v, %v; want %#v", v, err, d)
	}
}

// TestLenient has encodings that the original reads but does not write.
func TestLenient(t *testing.T) {
	for _, tt := range []struct {
		name string
		hex  string
		want any
	}{
		{"NEG 0", "00 83", int64(0)},
		{"no header", "81", int64(0)},
		{"superfluous zeros", "05 00 00 81", int64(5)},
		{"small LONGINT", "01 85 07", int64(7)},
		{"empty LONGINT", "00 85", int64(0)},
		{"LONGINT with zeros", "03 85 00 00 07", int64(7)},
		{"large INT", "00 00 00 00 00 00 00 00 00 02 81", bigInt("0x10000000000000000")},
		{"INT 2^63", "00 00 00 00 00 00 00 00 00 01 81", bigInt("0x8000000000000000")},
		{"NEG 2^63", "00 00 00 00 00 00 00 00 00 01 83", int64(math.MinInt64)},
		{"large NEG", "00 00 00 00 00 00 00 00 00 02 83", bigInt("-0x10000000000000000")},
		{"empty boolean", "01 88 01 87 01 89", nil},
		{"empty unicode", "01 88 08 87 01 89", nil},
		{"boolean 7", "01 88 01 87 07 81 01 89", true},
		{"words as strings", "01 88 04 82 6c 69 73 74 01 81 01 89", []any{int64(1)}},
		{"key without value", "01 88 03 87 01 81 02 81 03 81 01 89", banana.Dict{{int64(1), int64(2)}}},
		{"set with repetition", "01 88 06 87 01 81 01 81 02 81 01 89", banana.Set{int64(1), int64(2)}},
		{"float with header", "05 84 3f f8 00 00 00 00 00 00", 1.5},
	} {
		v, err := decode(unhex(t, tt.hex), banana.Limits{})
		if err != nil || !banana.Equal(v, tt.want) {
			t.Errorf("%s: decoded as %#v, %v; want %#v", tt.name, v, err, tt.want)
		}
	}
}

func TestRefused(t *testing.T) {
	type kind int
	const (
		fatal kind = iota
		violation
	)
	for _, tt := range []struct {
		name string
		hex  string
		kind kind
		text string
	}{
		{"long header", strings.Repeat("01 ", 65) + "81", fatal, "limited to 64"},
		{"unknown token", "8b", fatal, "unknown token"},
		{"LIST", "80", fatal, "unknown token"},
		{"unknown word", "7f 87", fatal, "VOCAB 127"},
		{"OPEN OPEN", "01 88 02 88", fatal, "name of a sequence"},
		{"wrong CLOSE", "01 88 04 87 02 89", fatal, "lost sync, got CLOSE(2) but expecting 1"},
		{"dangling reference", "01 88 02 87 63 81 01 89", fatal, "dangling"},
		{"token in none", "01 88 00 87 01 81 01 89", fatal, "none"},
		{"text in boolean", "01 88 01 87 01 82 61 01 89", fatal, "boolean"},
		{"unknown sequence", "01 88 03 82 78 79 7a 01 89", violation, "unknown OPEN type"},
		{"attrdict", "01 88 18 87 01 89", violation, "unknown OPEN type"},
		{"long name", "01 88 10 82" + strings.Repeat("61", 16) + "01 89", violation, "15 bytes"},
		{"not UTF-8", "01 88 08 87 01 82 ff 01 89", violation, "UTF-8"},
		{"surrogate", "01 88 08 87 03 82 ed a0 80 01 89", violation, "UTF-8"},
		{"bad decimal", "01 88 07 82 64 65 63 69 6d 61 6c 01 82 78 01 89", violation, "decimal"},
		{"repeated key", "01 88 03 87 01 81 01 81 01 81 01 81 01 89", violation, "duplicate"},
		{"list as key", "01 88 03 87 02 88 04 87 02 89 01 81 01 89", violation, "unhashable"},
		{"aborted", "01 88 04 87 01 8a 01 89", violation, "ABORT"},
		{"long string", "7f 7f 7f 01 82", fatal, "longer"}, // more than a message may have
	} {
		_, err := decode(unhex(t, tt.hex), banana.Limits{Token: 100, Message: 1000})
		_, isFatal := errors.AsType[*banana.SyntaxError](err)
		_, isViolation := errors.AsType[*banana.Violation](err)
		if isFatal != (tt.kind == fatal) || isViolation != (tt.kind == violation) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: error %v, want one with %q, fatal: %v", tt.name, err, tt.text, tt.kind == fatal)
		}
	}
}

func TestLimits(t *testing.T) {
	deep := append(bytes.Repeat([]byte{0x00, 0x88, 0x04, 0x87}, 50), bytes.Repeat([]byte{0x00, 0x89}, 50)...)
	many := append(append([]byte{0x00, 0x88, 0x04, 0x87}, bytes.Repeat([]byte{0x01, 0x81}, 50)...), 0x00, 0x89)
	long := append([]byte{50, 0x82}, make([]byte, 50)...)
	for _, tt := range []struct {
		name string
		in   []byte
		lim  banana.Limits
	}{
		{"depth", deep, banana.Limits{Depth: 20}},
		{"values", many, banana.Limits{Values: 20}},
		{"token", long, banana.Limits{Token: 20}},
		{"message", long, banana.Limits{Message: 20}},
	} {
		if _, err := decode(tt.in, banana.Limits{}); err != nil {
			t.Errorf("%s: with default limits: %v", tt.name, err)
		}
		_, err := decode(tt.in, tt.lim)
		if !errors.Is(err, banana.ErrLimit) {
			t.Errorf("%s: error %v, want ErrLimit", tt.name, err)
		}
	}
}

// TestSkip: after a Violation the rest of the message is skipped, and the next message is
// read normally.
func TestSkip(t *testing.T) {
	bad := "00 88 04 87 01 88 03 82 78 79 7a 02 88 02 88 00 89" // unknown sequence with junk in it
	bad = "00 88 04 87 01 88 03 82 78 79 7a 02 88 04 87 05 82 61 62 63 64 65 02 8a 02 89 01 89 03 81 00 89"
	good := "05 88 04 87 07 81 05 89"
	d := banana.NewDecoder(banana.NewReader(bytes.NewReader(unhex(t, bad+good)), 1, banana.Limits{}))
	d.Begin()
	if _, err := d.Value(); err == nil {
		t.Fatal("an unknown sequence was accepted")
	}
	if err := d.Skip(0); err != nil {
		t.Fatalf("Skip: %v", err)
	}
	d.Begin()
	v, err := d.Value()
	if err != nil || !banana.Equal(v, []any{int64(7)}) {
		t.Errorf("the value after a skipped one = %v, %v", v, err)
	}
	if _, err := d.Value(); err != io.EOF {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

func TestShared(t *testing.T) {
	s := []any{int64(1), int64(2)}
	got := encode(t, 83, banana.Tuple{banana.Tuple{s, s}, banana.Dict{{"k", s}}})
	want := unhex(t, "53 88 05 87 54 88 05 87 55 88 04 87 01 81 02 81 55 89 56 88 02 87 55 81 56 89 54 89"+
		"57 88 03 87 58 88 08 87 01 82 6b 58 89 59 88 02 87 55 81 59 89 57 89 53 89")
	if !bytes.Equal(got, want) {
		t.Errorf("a shared list: % x, want % x", got, want)
	}

	// The decoded values are shared too.
	v, err := decode(encode(t, 1, banana.Tuple{s, s}), banana.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	pair := v.(banana.Tuple)
	pair[0].([]any)[0] = "changed"
	if pair[1].([]any)[0] != "changed" {
		t.Error("two references to one list are two lists")
	}

	// Many containers: a map is used instead of the search.
	var lists []any
	for range 40 {
		l := []any{int64(len(lists))}
		lists = append(lists, l)
	}
	lists = append(lists, lists[3], lists[30])
	v, err = decode(encode(t, 1, lists), banana.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	back := v.([]any)
	if &back[3].([]any)[0] != &back[40].([]any)[0] || &back[30].([]any)[0] != &back[41].([]any)[0] {
		t.Error("sharing among many lists is lost")
	}
}

func TestCycles(t *testing.T) {
	list := []any{int64(1), nil}
	list[1] = list
	b := encode(t, 1, list)
	if want := unhex(t, "01 88 04 87 01 81 02 88 02 87 01 81 02 89 01 89"); !bytes.Equal(b, want) {
		t.Errorf("a list in itself: % x, want % x", b, want)
	}
	v, err := decode(b, banana.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	l := v.([]any)
	if inner, ok := l[1].([]any); !ok || &inner[0] != &l[0] || len(inner) != 2 {
		t.Errorf("a list in itself came back as %T", l[1])
	}

	// A dict, in a tuple, in that dict; twice, so that the second cycle of a message is
	// resolved too.
	d := banana.Dict{{"t", nil}}
	d[0].Value = banana.Tuple{d}
	v, err = decode(encode(t, 1, []any{d, []any{list}}), banana.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	got := v.([]any)[0].(banana.Dict)
	if inner, ok := got[0].Value.(banana.Tuple)[0].(banana.Dict); !ok || &inner[0] != &got[0] {
		t.Error("a dict in a tuple in that dict is not that dict")
	}

	// Cycles through maps or pointers cannot be encoded as references; encoding must end.
	type node struct{ next any }
	n := &node{}
	n.next = n
	var m banana.Message
	m.Extend = func(m *banana.Message, v any) (bool, error) {
		if err := m.Enter(); err != nil {
			return true, err
		}
		return true, m.Value(v.(*node).next)
	}
	m.Reset(1)
	if err := m.Value(n); !errors.Is(err, banana.ErrLimit) {
		t.Errorf("an endless value: %v, want ErrLimit", err)
	}
}

// TestKeysThatNeverEnd: tuples that contain each other many times through references must
// not make a key whose comparison does not end.
func TestKeysThatNeverEnd(t *testing.T) {
	tuple := banana.Tuple{int64(0)}
	for range 60 {
		tuple = banana.Tuple{tuple, tuple}
	}
	v, err := decode(encode(t, 1, []any{tuple}), banana.Limits{})
	if err != nil {
		t.Fatalf("as a value: %v", err)
	}
	list := encode(t, 2, v.([]any)[0])
	in := append([]byte{0x01, 0x88, 0x03, 0x87}, list...)
	in = append(in, 0x01, 0x81, 0x01, 0x89)
	if _, err := decode(in, banana.Limits{}); err == nil {
		t.Error("an endless key was accepted")
	}
}

func TestPing(t *testing.T) {
	var pings []uint64
	// PING without number and with 5 between tokens of a list, and a PONG.
	in := unhex(t, "8e 00 88 05 8e 04 87 07 81 8f 00 89")
	r := banana.NewReader(bytes.NewReader(in), 1, banana.Limits{})
	r.OnPing = func(n uint64) { pings = append(pings, n) }
	d := banana.NewDecoder(r)
	d.Begin()
	v, err := d.Value()
	if err != nil || !banana.Equal(v, []any{int64(7)}) {
		t.Errorf("value with PINGs in it = %v, %v", v, err)
	}
	if len(pings) != 2 || pings[0] != 0 || pings[1] != 5 {
		t.Errorf("pings %v, want 0 and 5", pings)
	}
	if got := banana.AppendPing(nil, 0, banana.TokenPing); !bytes.Equal(got, []byte{0x8e}) {
		t.Errorf("PING 0 = % x, want 8e", got)
	}
}

func TestErrorToken(t *testing.T) {
	r := banana.NewReader(bytes.NewReader(banana.AppendError(nil, "no more")), 1, banana.Limits{})
	_, err := r.Next()
	if e, ok := errors.AsType[*banana.PeerError](err); !ok || e.Text != "no more" {
		t.Errorf("error %v, want the peer's text", err)
	}
}

// TestLengthCostsNothing: a length without data does not allocate that much memory.
func TestLengthCostsNothing(t *testing.T) {
	in := unhex(t, "00 88 04 87 00 00 00 20 82") // 64 MiB announced
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d := banana.NewDecoder(banana.NewReader(bytes.NewReader(in), 1, banana.Limits{}))
			d.Begin()
			if _, err := d.Value(); err != io.ErrUnexpectedEOF {
				b.Fatalf("error %v, want an unexpected end", err)
			}
		}
	}).AllocedBytesPerOp()
	if allocated > 1<<20 {
		t.Errorf("a length of 64 MiB made us allocate %d bytes", allocated)
	}
}

// TestLargeBody: a string longer than the buffer arrives whole, in pieces of any size.
func TestLargeBody(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	in := encode(t, 0, []any{want, int64(5)})
	for _, step := range []int{7, 1000, 4096, 1 << 20} {
		d := banana.NewDecoder(banana.NewReader(&stutter{bytes.NewReader(in), step}, 1, banana.Limits{}))
		d.Begin()
		v, err := d.Value()
		if err != nil || !banana.Equal(v, []any{want, int64(5)}) {
			t.Errorf("in pieces of %d: %v", step, err)
		}
	}
}

type stutter struct {
	r io.Reader
	n int
}

func (s *stutter) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), s.n)]) }
