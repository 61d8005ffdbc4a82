package banana

import "math/big"

// Tuple is Python's tuple. It may be a dict's key. All types of values are:
//
//	Go                    Python        on the wire
//	nil                   None          none
//	bool                  bool          boolean
//	int64 (sent: any int) int           INT, NEG, LONGINT, LONGNEG
//	*big.Int              int           an int that does not fit an int64
//	float64               float         FLOAT
//	[]byte                bytes         STRING, VOCAB
//	string                str           unicode
//	[]any                 list          list
//	Tuple                 tuple         tuple
//	Dict                  dict          dict
//	Set, FrozenSet        set           set, immutable-set
//	Decimal               Decimal       decimal
//	*Copyable             Copyable      copyable
//
// A string holds a lone surrogate of Python's text as the three bytes that UTF-8
// would use for it (WTF-8).
//
// Spec: foolscap-wire.md section 4.
type Tuple []any

// Dict is Python's dict, in the order in which it was read or is to be written.
type Dict []Item

// Item is one entry of a Dict.
type Item struct{ Key, Value any }

// Set is Python's set. The order has no meaning.
type Set []any

// FrozenSet is Python's frozenset. The order has no meaning.
type FrozenSet []any

// Decimal is a decimal number in the text form that Python prints: "1.50".
type Decimal string

// Copyable is an object that is sent by value: a class name and attributes. The
// keys of Attrs are strings here and bytes on the wire.
type Copyable struct {
	Class string
	Attrs Dict
}

// FailureClass is the class name of a [Copyable] that holds an exception; its
// attributes are the bytes value, type and traceback and the list parents.
// Spec: foolscap-wire.md section 4.2.
const FailureClass = "twisted.python.failure.Failure"

// Get returns the value of the first entry whose key is key, as text or as bytes:
// Python 2 peers send names as bytes.
func (d Dict) Get(key string) (value any, ok bool) {
	for i := range d {
		if k, ok := Text(d[i].Key); ok && k == key {
			return d[i].Value, true
		}
	}
	return nil, false
}

// Int returns v as an int64 if it is an integer that fits.
func Int(v any) (n int64, ok bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case int:
		return int64(v), true
	case uint64:
		return int64(v), v <= 1<<63-1
	case *big.Int:
		return v.Int64(), v.IsInt64()
	}
	return 0, false
}

// Text returns v as text if it is text or bytes.
func Text(v any) (s string, ok bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case []byte:
		return string(v), true
	}
	return "", false
}
