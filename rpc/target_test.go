package rpc_test

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

// The target is an object with the same methods here and in the Python peer. The whole
// interop table can be run against a reference to either.

// point is sent by value, like the Python peer's class Point.
type point struct {
	X any `rpc:"x"`
	Y any `rpc:"y"`
}

const pointClass = "org.example.Point"

// adder is a remote interface that both sides of the table declare.
var adder = &rpc.Interface{Name: "RIAdder.example.org", Methods: map[string]rpc.Signature{
	"add":     plusMethod,
	"concat":  {Args: []rpc.Arg{{Name: "parts", Type: rpc.ListOf(rpc.Text)}}, Returns: rpc.Text},
	"use":     {Args: []rpc.Arg{{Name: "other", Type: rpc.Reference(plus.Name)}}, Returns: rpc.Int},
	"wrong":   {Returns: rpc.Int},
	"missing": {Returns: rpc.None},
}}

var plusMethod = rpc.Signature{Args: []rpc.Arg{{Name: "a", Type: rpc.Int}, {Name: "b", Type: rpc.Int, Optional: true}}, Returns: rpc.Int}

// plus is a remote interface that adder refers to.
var plus = &rpc.Interface{Name: "RIPlus.example.org", Methods: map[string]rpc.Signature{
	"add": plusMethod,
}}

// targetConfig is the configuration of Tubs that take part in the table.
func targetConfig() rpc.Config {
	return rpc.Config{
		AcceptGifts: true,
		Copyables:   []rpc.CopyableType{rpc.Copyable[point](pointClass)},
		Interfaces:  []*rpc.Interface{adder, plus},
	}
}

func bigInt(s string) *big.Int {
	n, ok := new(big.Int).SetString(s, 0)
	if !ok {
		panic(s)
	}
	return n
}

// values has one value of each kind, with the names that the Python peer has for them.
func values() map[string]any {
	s := []any{int64(1), int64(2)}
	cycle := []any{int64(1), nil}
	cycle[1] = cycle
	two200 := new(big.Int).Lsh(big.NewInt(1), 200)
	return map[string]any{
		"none": nil, "true": true, "false": false, "zero": int64(0), "small": int64(127), "two": int64(128),
		"int31": int64(math.MaxInt32), "int32": int64(1 << 31), "int64": int64(math.MaxInt64), "int64+": bigInt("0x8000000000000000"),
		"big": two200, "neg": int64(-1), "neg31": int64(math.MinInt32), "neg32": int64(math.MinInt32 - 1),
		"neg64": int64(math.MinInt64), "negbig": new(big.Int).Neg(two200),
		"float": 1.5, "inf": math.Inf(1), "tiny": 5e-324,
		"bytes": []byte("\x00\xff bytes"), "emptybytes": []byte{}, "word": []byte("list"),
		"text": "h\u00e9llo \U0001F600", "emptytext": "", "wordtext": "none",
		"list":    []any{int64(1), []any{int64(2), []any{}}},
		"tuple":   banana.Tuple{int64(1), banana.Tuple{int64(2), banana.Tuple{}}},
		"dict":    banana.Dict{{Key: "a", Value: int64(1)}, {Key: "b", Value: []any{true}}},
		"intdict": banana.Dict{{Key: int64(1), Value: "one"}}, "tuplekey": banana.Dict{{Key: banana.Tuple{int64(1), "x"}, Value: int64(2)}},
		"set": banana.Set{int64(3)}, "frozenset": banana.FrozenSet{int64(4)}, "decimal": banana.Decimal("1.50"),
		"shared": banana.Tuple{s, s}, "cycle": cycle,
	}
}

// sameValue reports whether v is the value of that name, sharing and cycles
// included.
func sameValue(name string, v any) bool {
	want := values()[name]
	switch name {
	case "cycle":
		l, ok := v.([]any)
		if !ok || len(l) != 2 || l[0] != int64(1) {
			return false
		}
		inner, ok := l[1].([]any)
		return ok && len(inner) == 2 && &inner[0] == &l[0]
	case "shared":
		if !banana.Equal(v, want) {
			return false
		}
		pair := v.(banana.Tuple)
		return &pair[0].([]any)[0] == &pair[1].([]any)[0]
	}
	return banana.Equal(v, want)
}

// target is the Go object of the table.
type target struct {
	rpc.Methods
	said chan any
	tub  *rpc.Tub // for methods that connect

	mu   sync.Mutex
	held []*rpc.Remote
	made rpc.Object
}

func newTarget() *target {
	t := &target{said: make(chan any, 100)}
	one := func(f func(c *rpc.Call, v any) (any, error)) func(*rpc.Call) (any, error) {
		return func(c *rpc.Call) (any, error) {
			v, err := c.Require("v")
			if err != nil {
				return nil, err
			}
			return f(c, v[0])
		}
	}
	last := func() *rpc.Remote {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.held[len(t.held)-1]
	}
	t.Limits = map[string]rpc.MethodLimits{"": {Size: 256 << 20}}
	t.Map = methods{
		"echo":  one(func(_ *rpc.Call, v any) (any, error) { return v, nil }),
		"value": one(func(_ *rpc.Call, v any) (any, error) { s, _ := banana.Text(v); return values()[s], nil }),
		"add": func(c *rpc.Call) (any, error) {
			v, err := c.Bind("a", "b")
			if err != nil {
				return nil, err
			}
			b := int64(100)
			if v[1] != rpc.Missing {
				b = v[1].(int64)
			}
			return v[0].(int64) + b, nil
		},
		"check": func(c *rpc.Call) (any, error) {
			v, err := c.Require("name", "v")
			if err != nil {
				return nil, err
			}
			name, _ := banana.Text(v[0])
			return sameValue(name, v[1]), nil
		},
		"raise": func(c *rpc.Call) (any, error) {
			return nil, rpc.Errorf("builtins."+c.Args.Pos[0].(string), "%s", c.Args.Pos[1])
		},
		"violation": func(*rpc.Call) (any, error) { return nil, &rpc.Violation{Reason: "on purpose"} },
		"point":     func(*rpc.Call) (any, error) { return &point{int64(3), "four"}, nil },
		"pointed": one(func(_ *rpc.Call, v any) (any, error) {
			p := v.(*point)
			return fmt.Sprintf("Point(%v, '%v')", p.X, p.Y), nil
		}),
		"object": func(*rpc.Call) (any, error) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.made = newTarget()
			return t.made, nil
		},
		"is_made": one(func(_ *rpc.Call, v any) (any, error) {
			t.mu.Lock()
			defer t.mu.Unlock()
			return v == t.made, nil
		}),
		"call_back": func(c *rpc.Call) (any, error) {
			c.Go()
			var v any
			err := c.Args.Pos[0].(*rpc.Remote).Call(c.Context(), c.Args.Pos[1].(string), rpc.Pos(c.Args.Pos[2:]...), &v)
			return v, err
		},
		"hold": one(func(_ *rpc.Call, v any) (any, error) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.held = append(t.held, v.(*rpc.Remote))
			return len(t.held), nil
		}),
		"drop": func(*rpc.Call) (any, error) {
			t.mu.Lock()
			defer t.mu.Unlock()
			for _, r := range t.held {
				r.Release()
			}
			t.held = nil
			return nil, nil
		},
		"poke": func(c *rpc.Call) (any, error) {
			c.Go()
			var v any
			err := last().Call(c.Context(), c.Args.Pos[0].(string), rpc.Pos(c.Args.Pos[1:]...), &v)
			return v, err
		},
		"same": one(func(_ *rpc.Call, v any) (any, error) { return v == last(), nil }),
		"later": func(c *rpc.Call) (any, error) {
			c.Go()
			seconds, _ := c.Args.Pos[0].(float64)
			select {
			case <-time.After(time.Duration(seconds * float64(time.Second))):
			case <-c.Context().Done():
			}
			return c.Args.Pos[1], nil
		},
		"never": func(c *rpc.Call) (any, error) {
			c.Go()
			<-c.Context().Done()
			return nil, context.Cause(c.Context())
		},
		"say": one(func(_ *rpc.Call, v any) (any, error) { t.said <- v; return nil, nil }),
		"adder": func(*rpc.Call) (any, error) {
			return newAdder(adder.Name), nil
		},
		"plus": func(*rpc.Call) (any, error) { return newAdder(plus.Name), nil },
		"call_function": func(c *rpc.Call) (any, error) {
			c.Go()
			var reply any
			err := c.Args.Pos[0].(*rpc.Remote).Call(c.Context(), "", rpc.Kw(map[string]any{"v": c.Args.Pos[1]}), &reply)
			return reply, err
		},
		"function": func(*rpc.Call) (any, error) { return &rpc.Function{F: echo}, nil },
		"hello":    func(*rpc.Call) (any, error) { return "hello", nil },
		"introduce": one(func(c *rpc.Call, v any) (any, error) {
			c.Go()
			var reply any
			err := v.(*rpc.Remote).Call(c.Context(), "hello", rpc.Args{}, &reply)
			return reply, err
		}),
		"last": func(*rpc.Call) (any, error) { return last(), nil },
	}
	t.addGifts()
	return t
}

// newAdder returns an object with the methods of adder, one of which violates its
// declaration.
func newAdder(name string) rpc.Object {
	return &rpc.Methods{Name: name, Map: methods{
		"add": func(c *rpc.Call) (any, error) {
			v, err := c.Bind("a", "b")
			if err != nil {
				return nil, err
			}
			if v[1] == rpc.Missing {
				v[1] = int64(100)
			}
			return v[0].(int64) + v[1].(int64), nil
		},
		"concat": func(c *rpc.Call) (any, error) {
			v, err := c.Require("parts")
			if err != nil {
				return nil, err
			}
			var s strings.Builder
			for _, p := range v[0].([]any) {
				s.WriteString(p.(string))
			}
			return s.String(), nil
		},
		"use": func(c *rpc.Call) (any, error) {
			c.Go()
			v, err := c.Require("other")
			if err != nil {
				return nil, err
			}
			var n int
			err = v[0].(*rpc.Remote).Call(c.Context(), "add", rpc.Pos(20, 3), &n)
			return n, err
		},
		"wrong": func(*rpc.Call) (any, error) { return "not an int", nil },
	}}
}

// addGifts adds the methods with which alice sends carol's object to bob.
func (t *target) addGifts() {
	reach := func(c *rpc.Call, furl any) (*rpc.Remote, error) {
		s, _ := banana.Text(furl)
		f, err := rpc.ParseFURL(s)
		if err != nil {
			return nil, err
		}
		return t.tub.Connect(c.Context(), f)
	}
	hello := func(c *rpc.Call, r *rpc.Remote) (any, error) {
		var reply any
		err := r.Call(c.Context(), "hello", rpc.Args{}, &reply)
		return reply, err
	}
	t.Map["give"] = func(c *rpc.Call) (any, error) {
		c.Go()
		v, err := c.Require("how", "bob", "carol")
		if err != nil {
			return nil, err
		}
		bob, err := reach(c, v[1])
		if err != nil {
			return nil, err
		}
		carol, err := reach(c, v[2])
		if err != nil {
			return nil, err
		}
		var reply any
		switch v[0] {
		case "argument":
			err = bob.Call(c.Context(), "introduce", rpc.Pos(carol), &reply)
		case "nested":
			nested := []any{1, banana.Dict{{Key: "k", Value: banana.Tuple{carol, carol}}}}
			err = bob.Call(c.Context(), "introduce_nested", rpc.Args{Pos: []any{nested}, Kw: map[string]any{"after": 2}}, &reply)
		}
		return reply, err
	}
	t.Map["introduce_nested"] = func(c *rpc.Call) (any, error) {
		c.Go()
		v, err := c.Require("v", "after")
		if err != nil {
			return nil, err
		}
		pair := v[0].([]any)[1].(banana.Dict)[0].Value.(banana.Tuple)
		if pair[0] != pair[1] || v[1] != int64(2) {
			return nil, fmt.Errorf("%v arrived", v)
		}
		return hello(c, pair[0].(*rpc.Remote))
	}
	t.Map["obtain"] = func(c *rpc.Call) (any, error) {
		c.Go()
		return reach(c, c.Args.Pos[0])
	}
	t.Map["fetch"] = func(c *rpc.Call) (any, error) {
		c.Go()
		alice, err := reach(c, c.Args.Pos[0])
		if err != nil {
			return nil, err
		}
		var carol *rpc.Remote
		if err := alice.Call(c.Context(), "obtain", rpc.Pos(c.Args.Pos[1]), &carol); err != nil {
			return nil, err
		}
		return hello(c, carol)
	}
}
