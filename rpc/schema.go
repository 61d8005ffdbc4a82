package rpc

import (
	"fmt"
	"math/big"
	"slices"

	"github.com/flogtool/flogtool/rpc/banana"
)

// An Interface is a remote interface: the methods of the objects with its name, with
// their arguments and results. Only the name is ever sent; each side checks what it
// sends and receives against its own declaration. A value that is not declared is a
// [*Violation]; the connection stays usable.
//
// Interfaces are for [Config].Interfaces and must not be changed afterwards.
type Interface struct {
	Name    string               // as it is sent: "RIFoo.example.org"
	Methods map[string]Signature // by method name
}

// A Signature declares the arguments and the result of a method.
type Signature struct {
	Args    []Arg      // in the order of positional arguments
	Returns Constraint // nil: anything
}

// An Arg declares one argument of a method.
type Arg struct {
	Name     string     // for keyword arguments
	Type     Constraint // nil: anything
	Optional bool       // may be left out
}

// A Constraint declares which values are accepted in a place.
type Constraint interface {
	// check returns why v is not accepted, or "". v has a type in which values
	// arrive.
	check(v any, depth int) string
}

// constraint is a Constraint with a name for errors.
type constraint struct {
	name string
	ok   func(v any, depth int) bool
}

func (c constraint) check(v any, depth int) string {
	if c.ok(v, depth) {
		return ""
	}
	return kindName(v) + " where " + c.name + " is declared"
}

// Constraints of single values.
var (
	// Any accepts everything.
	Any Constraint = constraint{"anything", func(any, int) bool { return true }}

	// Int accepts integers of up to 1024 bytes, but no booleans.
	Int Constraint = constraint{"int", isInt}

	// Float accepts floats and integers.
	Float Constraint = constraint{"float", func(v any, d int) bool { _, ok := v.(float64); return ok || isInt(v, d) }}

	// Bytes accepts byte strings.
	Bytes Constraint = constraint{"bytes", func(v any, _ int) bool { _, ok := v.([]byte); return ok }}

	// Text accepts text.
	Text Constraint = constraint{"str", func(v any, _ int) bool { _, ok := v.(string); return ok }}

	// Bool accepts booleans.
	Bool Constraint = constraint{"bool", func(v any, _ int) bool { _, ok := v.(bool); return ok }}

	// None accepts None only.
	None Constraint = constraint{"None", func(v any, _ int) bool { return v == nil }}
)

func isInt(v any, _ int) bool {
	switch v := v.(type) {
	case int64, int, uint64, int32, uint32, int16, uint16, int8, uint8, uint:
		return true
	case *big.Int:
		return v.BitLen() <= 8*1024 // foolscap-wire.md section 5.9
	}
	return false
}

// accept returns why c does not accept v, or "".
func accept(c Constraint, v any) string {
	if why := c.check(v, 0); why == "" {
		return ""
	}
	return c.check(canonical(v), 0)
}

// maxCheck bounds the recursion, since constraints and values may contain themselves.
const maxCheck = 200

// ListOf accepts lists whose elements c accepts.
func ListOf(c Constraint) Constraint {
	return elements("list", func(v any) ([]any, bool) { l, ok := v.([]any); return l, ok }, c)
}

// SetOf accepts sets and frozensets whose elements c accepts.
func SetOf(c Constraint) Constraint {
	return elements("set", func(v any) ([]any, bool) {
		if s, ok := v.(banana.FrozenSet); ok {
			return s, true
		}
		s, ok := v.(banana.Set)
		return s, ok
	}, c)
}

type elementsOf struct {
	name  string
	items func(v any) ([]any, bool)
	c     Constraint
}

func elements(name string, items func(v any) ([]any, bool), c Constraint) Constraint {
	return elementsOf{name, items, c}
}

func (e elementsOf) check(v any, depth int) string {
	items, ok := e.items(v)
	if !ok {
		return kindName(v) + " where " + e.name + " is declared"
	}
	if depth > maxCheck {
		return "the value nests too deep"
	}
	for i, item := range items {
		if why := e.c.check(item, depth+1); why != "" {
			return fmt.Sprintf("in element %d: %s", i, why)
		}
	}
	return ""
}

// TupleOf accepts tuples with exactly one element for each constraint.
func TupleOf(cs ...Constraint) Constraint { return tupleOf(cs) }

type tupleOf []Constraint

func (cs tupleOf) check(v any, depth int) string {
	items, ok := v.(banana.Tuple)
	if !ok {
		return kindName(v) + " where tuple is declared"
	}
	if len(items) != len(cs) {
		return fmt.Sprintf("a tuple of %d elements where %d are declared", len(items), len(cs))
	}
	if depth > maxCheck {
		return "the value nests too deep"
	}
	for i, item := range items {
		if why := cs[i].check(item, depth+1); why != "" {
			return fmt.Sprintf("in element %d: %s", i, why)
		}
	}
	return ""
}

// DictOf accepts dicts whose keys and values the two constraints accept.
func DictOf(key, value Constraint) Constraint { return dictOf{key, value} }

type dictOf struct{ key, value Constraint }

func (c dictOf) check(v any, depth int) string {
	d, ok := v.(banana.Dict)
	if !ok {
		return kindName(v) + " where dict is declared"
	}
	if depth > maxCheck {
		return "the value nests too deep"
	}
	for _, item := range d {
		if why := c.key.check(item.Key, depth+1); why != "" {
			return "in a key: " + why
		}
		if why := c.value.check(item.Value, depth+1); why != "" {
			return fmt.Sprintf("under key %.40q: %s", fmt.Sprint(item.Key), why)
		}
	}
	return ""
}

// Reference accepts references to objects with exactly this remote interface name, of
// this Tub or of others.
func Reference(name string) Constraint {
	return constraint{"a reference to " + name, func(v any, _ int) bool {
		switch v := v.(type) {
		case *Remote:
			return v != nil && v.iface == name
		case Object:
			return v.Interface() == name
		}
		return false
	}}
}

// AnyReference accepts any reference.
var AnyReference Constraint = constraint{"a reference", func(v any, _ int) bool {
	switch v := v.(type) {
	case *Remote:
		return v != nil
	case Object:
		return true
	}
	return false
}}

// OneOf accepts the values that at least one of cs accepts.
func OneOf(cs ...Constraint) Constraint {
	return constraint{"one of several types", func(v any, depth int) bool {
		return slices.ContainsFunc(cs, func(c Constraint) bool { return c.check(v, depth) == "" })
	}}
}

func newInterfaces(list []*Interface) (map[string]*Interface, error) {
	m := make(map[string]*Interface)
	for _, i := range list {
		if i == nil || i.Name == "" || m[i.Name] != nil {
			return nil, fmt.Errorf("rpc: Config.Interfaces: each interface needs a name of its own")
		}
		m[i.Name] = i
	}
	return m, nil
}

// bind checks the arguments of a call.
func (s Signature) bind(a Args) error {
	if len(a.Pos) > len(s.Args) {
		return violationf("too many positional arguments: %d >= %d", len(a.Pos), len(s.Args))
	}
	for name := range a.Kw {
		i := slices.IndexFunc(s.Args, func(arg Arg) bool { return arg.Name == name })
		switch {
		case i < 0:
			return violationf("unknown argument '%s'", name)
		case i < len(a.Pos):
			return violationf("got multiple values for keyword argument '%s'", name)
		}
	}
	for i, arg := range s.Args {
		var v any
		if i < len(a.Pos) {
			v = a.Pos[i]
		} else if given, ok := a.Kw[arg.Name]; ok {
			v = given
		} else if arg.Optional {
			continue
		} else {
			return violationf("missing required argument '%s'", arg.Name)
		}
		if arg.Type == nil {
			continue
		}
		if why := accept(arg.Type, v); why != "" {
			return violationf("in argument %s: %s", arg.Name, why)
		}
	}
	return nil
}

// signature returns the declaration of a method; known is false if its interface is
// not among Config.Interfaces.
func (t *Tub) signature(iface, method string) (sig Signature, known bool, err error) {
	if iface == "" || len(t.interfaces) == 0 {
		return Signature{}, false, nil
	}
	i := t.interfaces[iface]
	if i == nil {
		return Signature{}, false, nil
	}
	sig, ok := i.Methods[method]
	if !ok {
		return Signature{}, true, violationf("method '%s' not defined in %s", method, iface)
	}
	return sig, true, nil
}

// checkCall checks a call that is about to be made.
func (t *Tub) checkCall(r *Remote, method string, args Args) error {
	sig, known, err := t.signature(r.iface, method)
	if err != nil || !known {
		return err
	}
	if err := sig.bind(args); err != nil {
		return locate(err, "in call of "+method)
	}
	return nil
}

// checkResult checks an answer that has arrived.
func (t *Tub) checkResult(r *Remote, method string, v any) error {
	sig, known, err := t.signature(r.iface, method)
	if err != nil || !known || sig.Returns == nil {
		return err
	}
	if why := accept(sig.Returns, v); why != "" {
		return &Violation{Where: "in the answer of " + method, Reason: why}
	}
	return nil
}

// invoke runs a method, and checks its arguments and result.
func (t *Tub) invoke(obj Object, call *Call) (any, error) {
	sig, known, err := t.signature(obj.Interface(), call.Method)
	if err != nil {
		return nil, err
	}
	if known {
		if err := sig.bind(call.Args); err != nil {
			return nil, locate(err, "in arguments of "+call.Method)
		}
	}
	v, err := obj.Invoke(call)
	if err != nil || !known || sig.Returns == nil {
		return v, err
	}
	if why := accept(sig.Returns, v); why != "" {
		return nil, &Violation{Where: "in return value of " + call.Method, Reason: why}
	}
	return v, nil
}
