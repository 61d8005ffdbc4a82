package banana

import (
	"bytes"
	"fmt"
	"math/big"
	"reflect"
	"regexp"
	"slices"
)

// fewKeys is the number of keys up to which comparing each with each is faster
// than a map.
const fewKeys = 12

// distinctKeys finds duplicate keys and keys that Python cannot hash. Keys are
// equal if their types and values are: 1 and 1.0 are two keys here and one in
// Python.
type distinctKeys struct{ m map[any]struct{} }

// add checks key against the n keys that at returns.
func (k *distinctKeys) add(key any, at func(i int) any, n int) error {
	if !hashable(key) {
		return violationf("unhashable key of a dict or set: %T", key)
	}
	if n < fewKeys {
		for i := range n {
			if Equal(at(i), key) {
				return violationf("duplicate key %.40q", fmt.Sprint(identity(key)))
			}
		}
		return nil
	}
	if k.m == nil {
		k.m = make(map[any]struct{}, 2*n)
		for i := range n {
			k.m[identity(at(i))] = struct{}{}
		}
	}
	id := identity(key)
	if _, ok := k.m[id]; ok {
		return violationf("duplicate key %.40q", fmt.Sprint(identity(key)))
	}
	k.m[id] = struct{}{}
	return nil
}

// distinct returns items without duplicates.
func distinct(items []any) ([]any, error) {
	kept := items[:0]
	var keys distinctKeys
	for _, v := range items {
		if !hashable(v) {
			return nil, violationf("unhashable element of a set: %T", v)
		}
		if keys.add(v, func(i int) any { return kept[i] }, len(kept)) == nil {
			kept = append(kept, v)
		}
	}
	return kept, nil
}

// maxKey is the maximum number of values in a key. References let a tuple contain
// another one many times, so a few bytes could make a key of unlimited size.
const maxKey = 64

// hashable reports whether v may be a key.
func hashable(v any) bool {
	left := maxKey
	return hashableWithin(v, &left)
}

func hashableWithin(v any, left *int) bool {
	if *left--; *left < 0 {
		return false
	}
	switch v := v.(type) {
	case []any, Dict, Set, unfinished:
		return false
	case Tuple:
		return allHashable(v, left)
	case FrozenSet:
		return allHashable(v, left)
	}
	return true
}

func allHashable(items []any, left *int) bool {
	for _, e := range items {
		if !hashableWithin(e, left) {
			return false
		}
	}
	return true
}

// identity returns a comparable stand-in for a key.
func identity(v any) any {
	switch v := v.(type) {
	case []byte:
		return "b" + string(v)
	case string:
		return "s" + v
	case Decimal:
		return "d" + string(v)
	case *big.Int:
		return "i" + v.Text(62)
	case Tuple:
		return "t" + compound(v)
	case FrozenSet:
		return "f" + compound(v)
	}
	return v
}

// compound describes elements so that two descriptions are equal only if all
// elements are: each is written with its length. Elements other than numbers, text
// and compounds are described by how they print, which for objects includes their
// address.
func compound(items []any) string {
	var b []byte
	for _, e := range items {
		id := fmt.Sprintf("%T%v", e, identity(e))
		b = appendHeader(b, uint64(len(id)))
		b = append(b, 0xff)
		b = append(b, id...)
	}
	return string(b)
}

// Equal reports whether two values have the same types and are equal. Lists and
// dicts are compared element by element, the entries of dicts and sets in any
// order. The values must not contain cycles.
func Equal(a, b any) bool {
	switch a := a.(type) {
	case string:
		b, ok := b.(string)
		return ok && a == b
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	case *big.Int:
		b, ok := b.(*big.Int)
		return ok && a.Cmp(b) == 0
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, Equal)
	case Tuple:
		b, ok := b.(Tuple)
		return ok && slices.EqualFunc(a, b, Equal)
	case Set:
		b, ok := b.(Set)
		return ok && sameElements(a, b)
	case FrozenSet:
		b, ok := b.(FrozenSet)
		return ok && sameElements(a, b)
	case Dict:
		b, ok := b.(Dict)
		return ok && sameEntries(a, b)
	case *Copyable:
		b, ok := b.(*Copyable)
		return ok && (a == b || a.Class == b.Class && sameEntries(a.Attrs, b.Attrs))
	}
	t := reflect.TypeOf(a)
	return (t == nil || t.Comparable()) && a == b
}

func sameElements(a, b []any) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x any) bool {
		return !slices.ContainsFunc(b, func(y any) bool { return Equal(x, y) })
	})
}

func sameEntries(a, b Dict) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x Item) bool {
		return !slices.ContainsFunc(b, func(y Item) bool { return Equal(x.Key, y.Key) && Equal(x.Value, y.Value) })
	})
}

// validDecimal reports whether b is a number in the form that Python's Decimal
// prints:
// 1.50, 1.5E+3, -0, NaN, sNaN12, Infinity.
func validDecimal(b []byte) bool {
	if len(b) > maxError {
		return false
	}
	return decimalForm.Match(b)
}

var decimalForm = regexp.MustCompile(`^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|(?i:s?nan\d*|inf(?:inity)?))$`)
