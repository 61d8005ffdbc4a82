package rpc_test

import (
	"errors"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

type inner struct {
	Name  string   `rpc:"name"`
	Tags  []string `rpc:"tags"`
	Skip  int      `rpc:"-"`
	Extra *float64
}

type level int

// natural are Go values and the values as which they arrive.
var natural = []struct {
	name string
	in   any
	want any
}{
	{"int8", int8(-5), int64(-5)},
	{"uint16", uint16(7), int64(7)},
	{"uint64", uint64(math.MaxUint64), bigInt("0xffffffffffffffff")},
	{"a type of its own", level(30), int64(30)},
	{"float32", float32(0.5), 0.5},
	{"string slice", []string{"a", "b"}, []any{"a", "b"}},
	{"empty slice", []string{}, []any{}},
	{"array", [2]int{1, 2}, []any{int64(1), int64(2)}},
	{"byte slice of a type of its own", jsonText("x"), []byte("x")},
	{"map", map[string]int{"b": 2, "a": 1}, banana.Dict{{Key: "a", Value: int64(1)}, {Key: "b", Value: int64(2)}}},
	{"map of ints", map[int]bool{2: true, 1: false}, banana.Dict{{Key: int64(1), Value: false}, {Key: int64(2), Value: true}}},
	{"set", map[string]struct{}{"b": {}, "a": {}}, banana.Set{"a", "b"}},
	{"nil pointer", (*int)(nil), nil},
	{"pointer", new(5), int64(5)},
	{"nil slice", []any(nil), []any{}},
	{"struct", inner{Name: "n", Tags: []string{"t"}}, banana.Dict{
		{Key: "Extra", Value: nil}, {Key: "name", Value: "n"}, {Key: "tags", Value: []any{"t"}},
	}},
	{"nested any", map[string]any{"k": []any{1, map[string]any{}}}, banana.Dict{{Key: "k", Value: []any{int64(1), banana.Dict{}}}}},
	{"text that is not UTF-8", "a\xffb\xed\xa0\x80", "a\ufffdb\ufffd"},
}

type jsonText []byte

func TestNaturalValues(t *testing.T) {
	server := newServer(t, targetConfig())
	r := connect(t, newTub(t, targetConfig()), register(t, server, newTarget(), ""))
	for _, tt := range natural {
		if got := call(t, r, "echo", tt.in); !banana.Equal(got, tt.want) {
			t.Errorf("%s arrived as %#v, want %#v", tt.name, got, tt.want)
		}
	}
	// And back into the same types.
	for _, tt := range natural {
		if tt.in == nil || reflect.TypeOf(tt.in).Kind() == reflect.Pointer || tt.name == "text that is not UTF-8" {
			continue
		}
		p := reflect.New(reflect.TypeOf(tt.in))
		if err := r.Call(within(t), "echo", rpc.Pos(tt.in), p.Interface()); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := p.Elem().Interface(); !reflect.DeepEqual(got, tt.in) && tt.name != "nested any" && tt.name != "nil slice" {
			t.Errorf("%s came back as %#v, want %#v", tt.name, got, tt.in)
		}
	}
	failure := call(t, r, "echo", errors.New("as a value")).(*banana.Copyable)
	if e := rpc.AsRemoteError(failure); e.Text != "as a value" || e.Type != "builtins.Exception" {
		t.Errorf("an error as a value: %+v", e)
	}
	furl := rpc.FURL{Tub: someTub, Hints: []string{"tcp:h:1"}, Name: "n"}
	if got := call(t, r, "echo", furl); !furl.Same(got.(rpc.FURL)) {
		t.Errorf("a FURL arrived as %v", got)
	}
}

func TestConvert(t *testing.T) {
	two70 := new(big.Int).Lsh(big.NewInt(1), 70)
	for _, tt := range []struct {
		v    any
		to   any
		want any // nil: a Violation
	}{
		{int64(5), new(int8), int8(5)},
		{int64(128), new(int8), nil},
		{int64(-1), new(uint), nil},
		{two70, new(int64), nil},
		{two70, new(float64), math.Ldexp(1, 70)},
		{two70, new(*big.Int), two70},
		{int64(7), new(*big.Int), big.NewInt(7)},
		{int64(5), new(float64), 5.0},
		{int64(1<<53 + 1), new(float64), nil},
		{1.5, new(int), nil},
		{1e300, new(float32), nil},
		{[]byte("b"), new(string), "b"},
		{"s", new([]byte), nil},
		{"s", new(string), "s"},
		{nil, new(string), ""},
		{true, new(bool), true},
		{int64(1), new(bool), nil},
		{banana.Tuple{int64(1), int64(2)}, new([2]int), [2]int{1, 2}},
		{banana.Tuple{int64(1)}, new([2]int), nil},
		{[]any{"a"}, new([]int), nil},
		{banana.Dict{{Key: []byte("a"), Value: int64(1)}}, new(map[string]int), map[string]int{"a": 1}},
		{banana.Dict{{Key: "name", Value: "x"}, {Key: "unknown", Value: int64(1)}}, new(inner), inner{Name: "x"}},
		{banana.Dict{{Key: "name", Value: int64(1)}}, new(inner), nil},
		{banana.Set{"a"}, new(map[string]struct{}), map[string]struct{}{"a": {}}},
		{banana.Set{"a"}, new([]string), []string{"a"}},
		{banana.Dict{{Key: banana.Tuple{}, Value: nil}}, new(map[any]int), nil}, // not comparable
		{"x", new(*rpc.Remote), nil},
	} {
		err := rpc.Convert(tt.v, tt.to)
		if tt.want == nil {
			if _, ok := errors.AsType[*rpc.Violation](err); !ok {
				t.Errorf("%#v into %T: %v, want a Violation", tt.v, tt.to, err)
			}
			continue
		}
		if got := reflect.ValueOf(tt.to).Elem().Interface(); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%#v into %T = %#v, %v; want %#v", tt.v, tt.to, got, err, tt.want)
		}
	}
	if err := rpc.Convert(1, 5); err == nil {
		t.Error("something was stored in no pointer")
	}
	cycle := []any{nil}
	cycle[0] = cycle
	type list []list
	if err := rpc.Convert(cycle, new(list)); !errors.Is(err, rpc.ErrLimit) {
		t.Errorf("a cycle into a type that could hold it for ever: %v", err)
	}
}

// TestHiddenTypes: with ExposeRemoteExceptionTypes false, the type of a remote
// exception is not visible to errors.Is; local errors are unchanged.
func TestHiddenTypes(t *testing.T) {
	server := newServer(t, rpc.Config{})
	f := register(t, server, newTarget(), "")
	r := connect(t, newTub(t, rpc.Config{ExposeRemoteExceptionTypes: new(false)}), f)
	err := r.Call(within(t), "raise", rpc.Pos("KeyError", "gone"), nil)
	h, ok := errors.AsType[*rpc.HiddenError](err)
	if !ok || h.Remote.Type != "builtins.KeyError" {
		t.Fatalf("raise: %#v", err)
	}
	if _, ok := errors.AsType[*rpc.RemoteError](err); ok || errors.Is(err, rpc.RemoteType("builtins.KeyError")) {
		t.Error("the type shows")
	}
	err = r.Call(within(t), "echo", rpc.Pos(make(chan int)), nil)
	if _, ok := errors.AsType[*rpc.Violation](err); !ok {
		t.Errorf("a local Violation: %v", err)
	}
	server.Close()
	<-r.Done()
	if err := r.Call(within(t), "echo", rpc.Pos(1), nil); !errors.Is(err, rpc.ErrDeadReference) {
		t.Errorf("a dead reference: %v", err)
	}
}

// TestMethodsThatMisbehave: a panic and a result that cannot be sent are errors
// of that call.
func TestMethodsThatMisbehave(t *testing.T) {
	server := newServer(t, rpc.Config{})
	f := register(t, server, &rpc.Methods{Map: methods{
		"panic":  func(*rpc.Call) (any, error) { panic("on purpose") },
		"chan":   func(*rpc.Call) (any, error) { return []any{1, make(chan int)}, nil },
		"twice":  func(c *rpc.Call) (any, error) { c.Go(); c.Go(); return "once", nil },
		"long":   func(*rpc.Call) (any, error) { return nil, errors.New(strings.Repeat("ä", 5000)) },
		"remote": func(*rpc.Call) (any, error) { return nil, &rpc.RemoteError{Type: "x.Y", Text: "passed on"} },
		"echo":   echo,
	}}, "")
	r := connect(t, newTub(t, rpc.Config{}), f)
	for method, want := range map[string]string{
		"panic": "builtins.RuntimeError", "chan": "foolscap.tokens.Violation", "long": "builtins.Exception", "remote": "x.Y",
		"absent": "builtins.AttributeError",
	} {
		err := r.Call(within(t), method, rpc.Args{}, nil)
		e, ok := errors.AsType[*rpc.RemoteError](err)
		if !ok || e.Type != want || len(e.Text) > 1000 {
			t.Errorf("%s: %v, want a %s", method, err, want)
		}
	}
	if v := call(t, r, "twice"); v != "once" {
		t.Errorf("twice = %v", v)
	}
	if v := call(t, r, "echo", 1); v != int64(1) {
		t.Errorf("echo = %v", v)
	}
}

func TestDisconnect(t *testing.T) {
	server := newServer(t, rpc.Config{})
	f := register(t, server, &rpc.Methods{Map: methods{
		"bye": func(c *rpc.Call) (any, error) { c.Peer().Disconnect(); return nil, nil },
	}}, "")
	client := newTub(t, rpc.Config{})
	r := connect(t, client, f)
	if err := r.Call(within(t), "bye", rpc.Args{}, nil); !errors.Is(err, rpc.ErrDeadReference) {
		t.Errorf("bye: %v", err)
	}
	connect(t, client, f)
}
