package rpc

import (
	"fmt"
	"reflect"

	"github.com/flogtool/flogtool/rpc/banana"
)

// SturdyRefClass is the class of a copyable that holds a FURL. Every Foolscap process
// knows it. It arrives as a [FURL].
const SturdyRefClass = "foolscap.SturdyRef"

// A CopyableType is a Go type that is sent by value under a class name: see
// [Copyable].
type CopyableType struct {
	class string
	typ   reflect.Type
}

// Copyable returns the CopyableType of the struct type T, for [Config].Copyables. A T
// or *T that is sent becomes a copyable of this class whose attributes are T's
// exported fields, and such a copyable arrives as a *T. The name of an attribute is
// that of the field or the one in its tag, `rpc:"x"`; "-" leaves the field out. An
// attribute without a field is dropped; a field without an attribute is zero.
//
// The counterpart in Python is a Copyable and a RemoteCopy with the same class and
// attribute names.
func Copyable[T any](class string) CopyableType {
	return CopyableType{class, reflect.TypeFor[T]()}
}

// copyables are a Tub's Go types that are sent by value. They do not change.
type copyables struct {
	any     bool // let unknown classes through
	byClass map[string]reflect.Type
	byType  map[reflect.Type]string
}

func newCopyables(types []CopyableType, anyClass bool) (*copyables, error) {
	cs := &copyables{anyClass, make(map[string]reflect.Type), make(map[reflect.Type]string)}
	for _, ct := range types {
		switch {
		case ct.typ == nil || ct.typ.Kind() != reflect.Struct:
			return nil, fmt.Errorf("rpc: Copyable of %q: %v is not a struct type", ct.class, ct.typ)
		case ct.class == "" || ct.class == banana.FailureClass || ct.class == SturdyRefClass:
			return nil, fmt.Errorf("rpc: Copyable: the class name %q is reserved", ct.class)
		case cs.byClass[ct.class] != nil || cs.byType[ct.typ] != "":
			return nil, fmt.Errorf("rpc: Copyable: %q or %v is given twice", ct.class, ct.typ)
		}
		cs.byClass[ct.class], cs.byType[ct.typ] = ct.typ, ct.class
	}
	return cs, nil
}

// fromWire returns the value of a copyable that has arrived.
func (cs *copyables) fromWire(c *banana.Copyable) (any, error) {
	switch c.Class {
	case banana.FailureClass:
		return c, nil
	case SturdyRefClass:
		return sturdyRef(c)
	}
	typ, ok := cs.byClass[c.Class]
	if !ok {
		if cs.any {
			return c, nil
		}
		return nil, violationf("unknown RemoteCopy name %q", c.Class)
	}
	v := reflect.New(typ)
	if err := assignFields(v.Elem(), c.Attrs, "attribute"); err != nil {
		return nil, locate(err, "in a "+c.Class)
	}
	return v.Interface(), nil
}

func sturdyRef(c *banana.Copyable) (any, error) {
	url, _ := c.Attrs.Get("url")
	text, ok := banana.Text(url)
	if !ok {
		return nil, violationf("a SturdyRef without url")
	}
	f, err := ParseFURL(text)
	if err != nil {
		return nil, violationf("a SturdyRef with a bad url")
	}
	return f, nil
}

// sturdyRef encodes a FURL as the original does.
func (m *message) sturdyRef(f FURL) error {
	hints := make([]any, len(f.Hints))
	for i, h := range f.Hints {
		hints[i] = h
	}
	return m.Value(&banana.Copyable{Class: SturdyRefClass, Attrs: banana.Dict{
		{Key: "locationHints", Value: hints},
		{Key: "name", Value: f.Name},
		{Key: "tubID", Value: string(f.Tub)},
		{Key: "url", Value: f.String()},
	}})
}

// copyable encodes a struct of a registered type.
func (m *message) copyable(class string, v reflect.Value) error {
	if err := m.Enter(); err != nil {
		return err
	}
	open := m.Open(banana.KindCopyable)
	m.Word(class)
	for _, f := range fieldsOf(v.Type()).list {
		m.Word(f.name)
		if err := m.value(v.FieldByIndex(f.index)); err != nil {
			return err
		}
	}
	m.Close(open)
	m.Leave()
	return nil
}
