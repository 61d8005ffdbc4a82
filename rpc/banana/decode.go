package banana

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"unicode/utf8"
)

// ErrAborted is returned for a message that its sender has aborted.
var ErrAborted error = &Violation{Reason: "ABORT received"}

// A Decoder reads values from a Reader. A list, tuple, dict or set to which the
// message refers several times is one value with several references, which may
// form cycles. One goroutine may use a Decoder at a time.
type Decoder struct {
	*Reader

	// Extend reads a sequence of a kind that this package does not know, up to and
	// including its CLOSE. Its OPEN and index token have been read. The message
	// cannot refer to its value. If Extend is nil such sequences are refused.
	Extend func(d *Decoder, k Kind) (any, error)

	// Copy converts a copyable that was read. If it is nil the value is the
	// *Copyable.
	Copy func(c *Copyable) (any, error)

	refs   []container
	values int  // values that the message may still have
	most   int  // values that it may have in all
	nested int  // sequences in refs that are being read
	cyclic bool // a reference was to a sequence that was still being read
}

// container is a sequence to which the message may refer.
type container struct {
	open  uint64
	value any // nil while it is being read
}

// unfinished replaces a reference to an enclosing sequence until that sequence is
// complete.
type unfinished struct{ ref int }

// NewDecoder returns a Decoder that reads from r.
func NewDecoder(r *Reader) *Decoder { return &Decoder{Reader: r} }

// Begin forgets the sequences of the last message. The caller must call it before
// it reads the first value of each message.
func (d *Decoder) Begin() {
	if cap(d.refs) > 1024 {
		d.refs = nil
	}
	clear(d.refs)
	d.refs = d.refs[:0]
	d.values, d.most = d.lim.Values, d.lim.Values
	d.due = 0
	d.nested = 0
	d.cyclic = false
}

// AllowValues changes [Limits].Values for the rest of the message.
func (d *Decoder) AllowValues(n int) {
	d.values += n - d.most
	d.most = n
}

// valueCost is about what a value takes in memory beside its bytes: its place in the
// sequence around it, which grows by doubling, and its header.
const valueCost = 64

// Value reads one value. Its type is one of those listed at [Tuple], or the type
// of what Extend and Copy return.
//
// After a *Violation the rest of the message must be dropped with Skip. Other
// errors are those of [Reader.Next].
func (d *Decoder) Value() (any, error) {
	t, err := d.Next()
	if err != nil {
		return nil, err
	}
	return d.value(t)
}

// ValueOf is Value for a value whose first token has been read.
func (d *Decoder) ValueOf(t *Token) (any, error) { return d.value(t) }

func (d *Decoder) value(t *Token) (any, error) {
	if d.values--; d.values < 0 {
		return nil, &Violation{Reason: fmt.Sprintf("more than %d values in one message", d.most), Err: ErrLimit}
	}
	cost := valueCost
	if !t.Owned {
		cost += len(t.Body)
	}
	if err := d.charge(cost); err != nil {
		return nil, err
	}
	switch t.Type {
	case TokenInt:
		if t.Big != nil {
			return t.Big, nil
		}
		if t.Num > math.MaxInt64 {
			return new(big.Int).SetUint64(t.Num), nil
		}
		return int64(t.Num), nil
	case TokenNeg:
		if t.Big != nil {
			return integer(t.Big.Neg(t.Big)), nil
		}
		if t.Num > 1<<63 {
			n := new(big.Int).SetUint64(t.Num)
			return n.Neg(n), nil
		}
		return -int64(t.Num), nil
	case TokenLongInt:
		return integer(new(big.Int).SetBytes(t.Body)), nil
	case TokenLongNeg:
		n := new(big.Int).SetBytes(t.Body)
		return integer(n.Neg(n)), nil
	case TokenFloat:
		return math.Float64frombits(binary.BigEndian.Uint64(t.Body)), nil
	case TokenString, TokenVocab:
		if t.Owned {
			return t.Body, nil
		}
		return append(make([]byte, 0, len(t.Body)), t.Body...), nil
	case TokenOpen:
		return d.sequence()
	case TokenAbort:
		return nil, ErrAborted
	}
	return nil, d.Syntax("%v where a value is expected", t.Type)
}

// integer returns n as an int64 if it fits.
func integer(n *big.Int) any {
	if n.IsInt64() {
		return n.Int64()
	}
	return n
}

// Syntax returns a *SyntaxError at the current offset. Every later call of Next
// returns it too.
func (d *Decoder) Syntax(format string, a ...any) error {
	return d.syntax(d.Offset(), format, a...)
}

// Kind reads the index token that follows an OPEN. The error of an unknown name is
// a *Violation.
func (d *Decoder) Kind() (Kind, error) {
	t, err := d.Next()
	if err != nil {
		return KindUnknown, err
	}
	switch t.Type {
	case TokenVocab:
	case TokenString:
		if len(t.Body) > maxIndex {
			return KindUnknown, violationf("the name of a sequence is limited to %d bytes", maxIndex)
		}
	case TokenAbort:
		return KindUnknown, ErrAborted
	case TokenOpen, TokenClose:
		return KindUnknown, d.Syntax("%v where the name of a sequence is expected", t.Type)
	default:
		return KindUnknown, violationf("%v where the name of a sequence is expected", t.Type)
	}
	if k := kindOf(t); k != KindUnknown {
		return k, nil
	}
	return KindUnknown, violationf("unknown OPEN type %q", t.Body)
}

func (d *Decoder) sequence() (any, error) {
	number := d.opens - 1
	k, err := d.Kind()
	if err != nil {
		return nil, err
	}
	switch k {
	case KindNone:
		return nil, d.End("none")
	case KindBoolean:
		return d.boolean()
	case KindUnicode:
		return d.text()
	case KindDecimal:
		return d.decimal()
	case KindReference:
		return d.reference()
	case KindList:
		ref := d.track(number)
		items, err := d.items([]any{})
		return d.complete(ref, items, err)
	case KindTuple:
		ref := d.track(number)
		items, err := d.items([]any{})
		return d.complete(ref, Tuple(items), err)
	case KindSet:
		ref := d.track(number)
		items, err := d.items([]any{})
		if err == nil {
			items, err = distinct(items)
		}
		return d.complete(ref, Set(items), err)
	case KindFrozenSet:
		ref := d.track(number)
		items, err := d.items([]any{})
		if err == nil {
			items, err = distinct(items)
		}
		return d.complete(ref, FrozenSet(items), err)
	case KindDict:
		ref := d.track(number)
		dict, err := d.dict()
		return d.complete(ref, dict, err)
	case KindCopyable:
		ref := d.track(number)
		v, err := d.copyable()
		return d.complete(ref, v, err)
	}
	if d.Extend == nil {
		return nil, violationf("unknown OPEN type %q", k)
	}
	return d.Extend(d, k)
}

// End reads the CLOSE of a sequence; what names the sequence in errors. Any other
// token is an error.
func (d *Decoder) End(what string) error {
	t, err := d.Next()
	switch {
	case err != nil:
		return err
	case t.Type == TokenClose:
		return nil
	case t.Type == TokenAbort:
		return ErrAborted
	}
	return d.Syntax("%v in %s, where CLOSE is expected", t.Type, what)
}

// track notes that the sequence with this OPEN number is being read.
func (d *Decoder) track(number uint64) (ref int) {
	d.nested++
	d.refs = append(d.refs, container{open: number})
	return len(d.refs) - 1
}

// complete notes the value of a sequence that was read whole.
func (d *Decoder) complete(ref int, v any, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	d.refs[ref].value = v
	if d.nested--; d.nested == 0 && d.cyclic {
		d.resolveCycles()
	}
	return v, nil
}

func (d *Decoder) reference() (any, error) {
	t, err := d.Next()
	if err != nil {
		return nil, err
	}
	if t.Type != TokenInt || t.Big != nil {
		return nil, d.Syntax("%v where the number of a reference is expected", t.Type)
	}
	n := t.Num
	if err := d.End("reference"); err != nil {
		return nil, err
	}
	// The numbers in refs ascend.
	lo, hi := 0, len(d.refs)
	for lo < hi {
		if m := (lo + hi) / 2; d.refs[m].open < n {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo == len(d.refs) || d.refs[lo].open != n {
		return nil, d.Syntax("dangling reference %d", n)
	}
	if d.refs[lo].value == nil {
		d.cyclic = true
		return unfinished{lo}, nil
	}
	return d.refs[lo].value, nil
}

func (d *Decoder) boolean() (any, error) {
	t, err := d.Next()
	switch {
	case err != nil:
		return nil, err
	case t.Type == TokenClose:
		return nil, nil // the original reads an empty one as None
	case t.Type == TokenAbort:
		return nil, ErrAborted
	case t.Type != TokenInt:
		return nil, d.Syntax("%v in a boolean", t.Type)
	}
	v := t.Num != 0 || t.Big != nil
	return v, d.End("boolean")
}

func (d *Decoder) text() (any, error) {
	t, err := d.Next()
	switch {
	case err != nil:
		return nil, err
	case t.Type == TokenClose:
		return nil, nil // the original reads an empty one as None
	case t.Type == TokenAbort:
		return nil, ErrAborted
	case !t.IsString():
		return nil, d.Syntax("%v in a unicode", t.Type)
	case !utf8.Valid(t.Body):
		return nil, violationf("text that is not UTF-8")
	}
	if err := d.charge(len(t.Body)); err != nil {
		return nil, err
	}
	s := string(t.Body)
	return s, d.End("unicode")
}

func (d *Decoder) decimal() (any, error) {
	t, err := d.Next()
	switch {
	case err != nil:
		return nil, err
	case t.Type == TokenAbort:
		return nil, ErrAborted
	case !t.IsString():
		return nil, d.Syntax("%v in a decimal", t.Type)
	case !validDecimal(t.Body):
		return nil, violationf("%.40q is not a decimal number", t.Body)
	}
	if err := d.charge(len(t.Body)); err != nil {
		return nil, err
	}
	s := Decimal(t.Body)
	return s, d.End("decimal")
}

// items appends the values up to the CLOSE of a sequence.
func (d *Decoder) items(to []any) ([]any, error) {
	for {
		t, err := d.Next()
		if err != nil {
			return nil, err
		}
		if t.Type == TokenClose {
			return to, nil
		}
		v, err := d.value(t)
		if err != nil {
			return nil, err
		}
		to = append(to, v)
	}
}

func (d *Decoder) dict() (Dict, error) {
	dict := Dict{}
	var keys distinctKeys
	for {
		t, err := d.Next()
		if err != nil {
			return nil, err
		}
		if t.Type == TokenClose {
			return dict, nil
		}
		key, err := d.value(t)
		if err != nil {
			return nil, err
		}
		if err := keys.add(key, func(i int) any { return dict[i].Key }, len(dict)); err != nil {
			return nil, err
		}
		if t, err = d.Next(); err != nil {
			return nil, err
		}
		if t.Type == TokenClose {
			return dict, nil // the original drops a key without a value too
		}
		value, err := d.value(t)
		if err != nil {
			return nil, err
		}
		dict = append(dict, Item{key, value})
	}
}

func (d *Decoder) copyable() (any, error) {
	t, err := d.Next()
	switch {
	case err != nil:
		return nil, err
	case t.Type == TokenAbort:
		return nil, ErrAborted
	case !t.IsString():
		return nil, d.Syntax("%v where the class of a copyable is expected", t.Type)
	case len(t.Body) > 1000:
		return nil, violationf("the class name of a copyable has %d bytes", len(t.Body))
	}
	c := &Copyable{Class: string(t.Body)}
	var keys distinctKeys
	for {
		t, err := d.Next()
		switch {
		case err != nil:
			return nil, err
		case t.Type == TokenAbort:
			return nil, ErrAborted
		case t.Type == TokenClose:
			if d.Copy == nil {
				return c, nil
			}
			if d.cyclic {
				return nil, violationf("a %q takes part in a cycle", c.Class)
			}
			return d.Copy(c)
		case !t.IsString():
			return nil, d.Syntax("%v where an attribute of a copyable is expected", t.Type)
		}
		if err := d.charge(valueCost + len(t.Body)); err != nil {
			return nil, err
		}
		key := string(t.Body)
		if err := keys.add(key, func(i int) any { return c.Attrs[i].Key }, len(c.Attrs)); err != nil {
			return nil, err
		}
		value, err := d.Value()
		if err != nil {
			return nil, err
		}
		c.Attrs = append(c.Attrs, Item{key, value})
	}
}

// resolveCycles replaces references that were read before their sequence was
// complete. Slices are changed in place, so all references to them see the result.
// Every sequence of the message is in refs once: a pass over refs reaches every
// place without following a cycle.
func (d *Decoder) resolveCycles() {
	d.cyclic = false
	resolve := func(v *any) {
		if u, ok := (*v).(unfinished); ok {
			*v = d.refs[u.ref].value
		}
	}
	for i := range d.refs {
		items, entries := parts(d.refs[i].value)
		for j := range items {
			resolve(&items[j])
		}
		for j := range entries {
			resolve(&entries[j].Value)
		}
	}
}

// parts returns the values directly inside a sequence.
func parts(v any) (items []any, entries []Item) {
	switch v := v.(type) {
	case []any:
		return v, nil
	case Tuple:
		return v, nil
	case Set:
		return v, nil
	case FrozenSet:
		return v, nil
	case Dict:
		return nil, v
	case *Copyable:
		return nil, v.Attrs
	}
	return nil, nil
}
