package rpc

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/flogtool/flogtool/rpc/banana"
)

// This file converts between Go's own types and the values of package banana.

// Convert stores a value that has arrived in the variable to which the pointer to
// points. The types may differ, but an integer must fit, and a float variable takes
// only int64s that it can represent exactly; it rounds larger integers. A string takes
// bytes too. None stores the zero value. The error is a [*Violation] if v does not fit.
//
// These Go types are sent as, and read from, these values, in addition to those of
// package banana:
//
//	any integer or float type     int, float
//	types based on string, []byte, bool and numbers, as these
//	slices, arrays                list; any sequence is read
//	maps                          dict, in the order of the keys
//	map[K]struct{}                set, in the order of the keys
//	structs                       dict of the exported fields, by name or by the tag rpc:"name"
//	structs in Config.Copyables   copyable
//	FURL                          foolscap.SturdyRef
//	error                         failure; sent only
//	pointers                      what they point to; nil is None
func Convert(v any, to any) error {
	p := reflect.ValueOf(to)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return fmt.Errorf("rpc: cannot store into a %T: it is not a pointer", to)
	}
	return assign(p.Elem(), v)
}

// reflected encodes a value of a Go type by reflection.
func (m *message) reflected(v any) (bool, error) {
	switch v := v.(type) {
	case missing:
		return false, nil
	case FURL:
		return true, m.sturdyRef(v)
	case error:
		return true, m.Value(Failure(v))
	case *gift:
		return true, m.Value(v.remote)
	}
	rv := reflect.ValueOf(v)
	if !sendable(rv.Kind()) {
		return false, nil
	}
	return true, m.value(rv)
}

func sendable(k reflect.Kind) bool {
	switch k {
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Uintptr, reflect.Complex64, reflect.Complex128, reflect.Invalid:
		return false
	}
	return true
}

// value encodes v, whose type Message.Value may know.
func (m *message) value(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Bool:
		m.Bool(v.Bool())
		return nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		m.Int(v.Int())
		return nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return m.Value(v.Uint())
	case reflect.Float32, reflect.Float64:
		return m.Value(v.Float())
	case reflect.String:
		if v.Type() != reflect.TypeFor[banana.Decimal]() {
			m.Text(v.String())
			return nil
		}
	case reflect.Interface:
		if v.IsNil() {
			m.None()
			return nil
		}
		return m.value(v.Elem())
	}
	if special(v.Type()) {
		return m.Value(v.Interface())
	}
	if err := m.Enter(); err != nil {
		return err
	}
	defer m.Leave()
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			m.None()
			return nil
		}
		return m.value(v.Elem())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			m.Bytes(v.Bytes())
			return nil
		}
		return m.list(v)
	case reflect.Array:
		return m.list(v)
	case reflect.Map:
		return m.mapping(v)
	case reflect.Struct:
		if class, ok := m.c.tub.copies.byType[v.Type()]; ok {
			return m.copyable(class, v)
		}
		return m.structure(v)
	}
	return violationf("a %v cannot be sent", v.Type())
}

var (
	objectType = reflect.TypeFor[Object]()
	errorType  = reflect.TypeFor[error]()
)

// special reports whether values of a type have a form of their own on the wire.
func special(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[[]any](), reflect.TypeFor[banana.Tuple](), reflect.TypeFor[banana.Dict](), reflect.TypeFor[banana.Set](),
		reflect.TypeFor[banana.FrozenSet](), reflect.TypeFor[banana.Decimal](), reflect.TypeFor[*banana.Copyable](),
		reflect.TypeFor[*big.Int](), reflect.TypeFor[*Remote](), reflect.TypeFor[FURL](), reflect.TypeFor[*gift]():
		return true
	}
	return t.Implements(objectType) || t.Implements(errorType)
}

func (m *message) list(v reflect.Value) error {
	open := m.Open(banana.KindList)
	for i := range v.Len() {
		if err := m.value(v.Index(i)); err != nil {
			return err
		}
	}
	m.Close(open)
	return nil
}

func (m *message) mapping(v reflect.Value) error {
	keys := v.MapKeys()
	slices.SortFunc(keys, compareKeys)
	isSet := v.Type().Elem().Kind() == reflect.Struct && v.Type().Elem().NumField() == 0
	kind := banana.KindDict
	if isSet {
		kind = banana.KindSet
	}
	open := m.Open(kind)
	for _, k := range keys {
		if err := m.value(k); err != nil {
			return err
		}
		if isSet {
			continue
		}
		if err := m.value(v.MapIndex(k)); err != nil {
			return err
		}
	}
	m.Close(open)
	return nil
}

func compareKeys(a, b reflect.Value) int {
	switch {
	case a.Kind() == reflect.Interface:
		a, b = a.Elem(), b.Elem()
		if a.Kind() != b.Kind() {
			return cmp.Compare(a.Kind(), b.Kind())
		}
		if a.Kind() != reflect.Interface && a.Kind() != reflect.Invalid {
			return compareKeys(a, b)
		}
	case a.CanInt():
		return cmp.Compare(a.Int(), b.Int())
	case a.CanUint():
		return cmp.Compare(a.Uint(), b.Uint())
	case a.CanFloat():
		return cmp.Compare(a.Float(), b.Float())
	case a.Kind() == reflect.String:
		return cmp.Compare(a.String(), b.String())
	}
	return 0
}

func (m *message) structure(v reflect.Value) error {
	open := m.Open(banana.KindDict)
	for _, f := range fieldsOf(v.Type()).list {
		m.Text(f.name)
		if err := m.value(v.FieldByIndex(f.index)); err != nil {
			return err
		}
	}
	m.Close(open)
	return nil
}

// fields are the exported fields of a struct type, by ascending name.
type fields struct {
	list   []field
	byName map[string]int
}

type field struct {
	name  string
	index []int
}

var structs sync.Map // reflect.Type to *fields

func fieldsOf(t reflect.Type) *fields {
	if f, ok := structs.Load(t); ok {
		return f.(*fields)
	}
	f := &fields{byName: make(map[string]int)}
	for _, sf := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(sf.Tag.Get("rpc"), ",")
		if !sf.IsExported() || sf.Anonymous || name == "-" || len(sf.Index) > 1 {
			continue
		}
		f.list = append(f.list, field{cmp.Or(name, sf.Name), sf.Index})
	}
	slices.SortFunc(f.list, func(a, b field) int { return cmp.Compare(a.name, b.name) })
	for i, fd := range f.list {
		f.byName[fd.name] = i
	}
	actual, _ := structs.LoadOrStore(t, f)
	return actual.(*fields)
}

// mismatch returns the error that v cannot be stored in a type.
func mismatch(v any, t reflect.Type) error {
	return violationf("%s where %v is wanted", kindName(v), t)
}

// kindName returns the name of the Python type of a value.
func kindName(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case int64, *big.Int, int:
		return "int"
	case float64:
		return "float"
	case []byte:
		return "bytes"
	case string:
		return "str"
	case []any:
		return "list"
	case banana.Tuple:
		return "tuple"
	case banana.Dict:
		return "dict"
	case banana.Set:
		return "set"
	case banana.FrozenSet:
		return "frozenset"
	case banana.Decimal:
		return "Decimal"
	case *banana.Copyable:
		return v.Class
	case *Remote, Object, *gift:
		return "a reference"
	}
	return fmt.Sprintf("%T", v)
}

// maxConvert bounds the recursion of assign: the values may be cyclic.
const maxConvert = 1000

func assign(to reflect.Value, v any) error { return assignAt(to, v, 0) }

func assignAt(to reflect.Value, v any, depth int) error {
	if depth > maxConvert {
		return &Violation{Reason: fmt.Sprintf("a value nests deeper than %d", maxConvert), Err: ErrLimit}
	}
	t := to.Type()
	if v == nil {
		to.SetZero()
		return nil
	}
	if rv := reflect.ValueOf(v); rv.Type().AssignableTo(t) {
		to.Set(rv)
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return assignPointer(to, v, depth)
	case reflect.Bool:
		if b, ok := v.(bool); ok {
			to.SetBool(b)
			return nil
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		switch n := v.(type) {
		case int64:
			if !to.OverflowInt(n) {
				to.SetInt(n)
				return nil
			}
			return violationf("%d does not fit %v", n, t)
		case *big.Int:
			return violationf("an int of %d bits does not fit %v", n.BitLen(), t)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		switch n := v.(type) {
		case int64:
			if n >= 0 && !to.OverflowUint(uint64(n)) {
				to.SetUint(uint64(n))
				return nil
			}
			return violationf("%d does not fit %v", n, t)
		case *big.Int:
			if n.IsUint64() && !to.OverflowUint(n.Uint64()) {
				to.SetUint(n.Uint64())
				return nil
			}
			return violationf("an int of %d bits does not fit %v", n.BitLen(), t)
		}
	case reflect.Float32, reflect.Float64:
		return assignFloat(to, v)
	case reflect.String:
		if s, ok := banana.Text(v); ok {
			to.SetString(s)
			return nil
		}
	case reflect.Slice:
		if b, ok := v.([]byte); ok && t.Elem().Kind() == reflect.Uint8 {
			to.SetBytes(b)
			return nil
		}
		if items, ok := sequence(v); ok {
			s := reflect.MakeSlice(t, len(items), len(items))
			for i, e := range items {
				if err := assignAt(s.Index(i), e, depth+1); err != nil {
					return err
				}
			}
			to.Set(s)
			return nil
		}
	case reflect.Array:
		if items, ok := sequence(v); ok {
			if len(items) != t.Len() {
				return violationf("%d elements where %v is wanted", len(items), t)
			}
			for i, e := range items {
				if err := assignAt(to.Index(i), e, depth+1); err != nil {
					return err
				}
			}
			return nil
		}
	case reflect.Map:
		return assignMap(to, v, depth)
	case reflect.Struct:
		return assignStruct(to, v, depth)
	}
	return mismatch(v, t)
}

func assignPointer(to reflect.Value, v any, depth int) error {
	t := to.Type()
	switch {
	case t == reflect.TypeFor[*big.Int]():
		if n, ok := v.(int64); ok {
			to.Set(reflect.ValueOf(big.NewInt(n)))
			return nil
		}
		return mismatch(v, t)
	case t == reflect.TypeFor[*Remote]() || t == reflect.TypeFor[*banana.Copyable]():
		return mismatch(v, t)
	}
	p := reflect.New(t.Elem())
	if err := assignAt(p.Elem(), v, depth+1); err != nil {
		return err
	}
	to.Set(p)
	return nil
}

func assignFloat(to reflect.Value, v any) error {
	var f float64
	switch n := v.(type) {
	case float64:
		f = n
	case int64:
		f = float64(n)
		if int64(f) != n || f == 1<<63 {
			return violationf("%d does not fit %v exactly", n, to.Type())
		}
	case *big.Int:
		f, _ = n.Float64()
	default:
		return mismatch(v, to.Type())
	}
	if to.OverflowFloat(f) && !math.IsInf(f, 0) {
		return violationf("%g does not fit %v", f, to.Type())
	}
	to.SetFloat(f)
	return nil
}

// sequence returns the elements of a list, tuple or set.
func sequence(v any) ([]any, bool) {
	switch v := v.(type) {
	case []any:
		return v, true
	case banana.Tuple:
		return v, true
	case banana.Set:
		return v, true
	case banana.FrozenSet:
		return v, true
	}
	return nil, false
}

func assignMap(to reflect.Value, v any, depth int) error {
	t := to.Type()
	set := func(m reflect.Value, k, e any) error {
		key := reflect.New(t.Key()).Elem()
		if err := assignAt(key, k, depth+1); err != nil {
			return err
		}
		if !key.Comparable() {
			return violationf("%s as a key of %v", kindName(k), t)
		}
		value := reflect.New(t.Elem()).Elem()
		if e != nil {
			if err := assignAt(value, e, depth+1); err != nil {
				return err
			}
		}
		m.SetMapIndex(key, value)
		return nil
	}
	switch v := v.(type) {
	case banana.Dict:
		m := reflect.MakeMapWithSize(t, len(v))
		for _, item := range v {
			if err := set(m, item.Key, item.Value); err != nil {
				return err
			}
		}
		to.Set(m)
		return nil
	case banana.Set, banana.FrozenSet:
		if t.Elem().Kind() != reflect.Struct || t.Elem().NumField() != 0 {
			break
		}
		items, _ := sequence(v)
		m := reflect.MakeMapWithSize(t, len(items))
		for _, e := range items {
			if err := set(m, e, nil); err != nil {
				return err
			}
		}
		to.Set(m)
		return nil
	}
	return mismatch(v, t)
}

func assignStruct(to reflect.Value, v any, depth int) error {
	t := to.Type()
	// A copyable of a registered type arrives as a pointer to it.
	if rv := reflect.ValueOf(v); rv.Kind() == reflect.Pointer && rv.Type().Elem() == t && !rv.IsNil() {
		to.Set(rv.Elem())
		return nil
	}
	switch v := v.(type) {
	case banana.Dict:
		return assignFieldsAt(to, v, "key", depth)
	case *banana.Copyable:
		return assignFieldsAt(to, v.Attrs, "attribute", depth)
	}
	return mismatch(v, t)
}

// assignFields sets the fields of a struct by name.
func assignFields(to reflect.Value, items banana.Dict, what string) error {
	return assignFieldsAt(to, items, what, 0)
}

func assignFieldsAt(to reflect.Value, items banana.Dict, what string, depth int) error {
	fs := fieldsOf(to.Type())
	for _, item := range items {
		name, _ := banana.Text(item.Key)
		i, ok := fs.byName[name]
		if !ok {
			continue
		}
		if err := assignAt(to.FieldByIndex(fs.list[i].index), item.Value, depth+1); err != nil {
			return locate(err, fmt.Sprintf("in %s %q", what, name))
		}
	}
	return nil
}

// canonical returns v with the types that it would have on arrival, which
// constraints check.
func canonical(v any) any { return canonicalAt(v, 0) }

func canonicalAt(v any, depth int) any {
	switch v.(type) {
	case nil, bool, int64, float64, string, []byte, []any, banana.Tuple, banana.Dict, banana.Set, banana.FrozenSet,
		banana.Decimal, *banana.Copyable, *big.Int, *Remote, Object, FURL, error:
		return v
	}
	rv := reflect.ValueOf(v)
	if depth > maxCheck || !sendable(rv.Kind()) {
		return v
	}
	switch rv.Kind() {
	case reflect.Bool:
		return rv.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return rv.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if n := rv.Uint(); n > math.MaxInt64 {
			return new(big.Int).SetUint64(n)
		}
		return int64(rv.Uint())
	case reflect.Float32, reflect.Float64:
		return rv.Float()
	case reflect.String:
		return rv.String()
	case reflect.Pointer:
		if rv.IsNil() {
			return nil
		}
		if rv.Elem().Kind() == reflect.Struct {
			return v // a copyable, or a dict that no constraint looks into
		}
		return canonicalAt(rv.Elem().Interface(), depth+1)
	case reflect.Slice, reflect.Array:
		if rv.Type().Elem().Kind() == reflect.Uint8 && rv.Kind() == reflect.Slice {
			return rv.Bytes()
		}
		items := make([]any, rv.Len())
		for i := range items {
			items[i] = canonicalAt(rv.Index(i).Interface(), depth+1)
		}
		return items
	case reflect.Map:
		keys := rv.MapKeys()
		slices.SortFunc(keys, compareKeys)
		if t := rv.Type().Elem(); t.Kind() == reflect.Struct && t.NumField() == 0 {
			set := make(banana.Set, len(keys))
			for i, k := range keys {
				set[i] = canonicalAt(k.Interface(), depth+1)
			}
			return set
		}
		d := make(banana.Dict, len(keys))
		for i, k := range keys {
			d[i] = banana.Item{Key: canonicalAt(k.Interface(), depth+1), Value: canonicalAt(rv.MapIndex(k).Interface(), depth+1)}
		}
		return d
	}
	return v
}
