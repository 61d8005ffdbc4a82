package banana

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"unicode/utf8"
)

// ErrAborted: the sender gave up on a message after it had begun to send it.
var ErrAborted error = &Violation{Reason: "ABORT received"}

// A Decoder reads values from a Reader. References within one message come out
// shared, or as cycles, as they were sent.
type Decoder struct {
	*Reader

	// Extend reads a sequence of a kind this package does not know, whose OPEN
	// and index token have been read, up to and including its CLOSE. Its value
	// can not be referred to. A nil Extend refuses them.
	Extend func(d *Decoder, k Kind) (any, error)

	// Copy turns a copyable that was read into the value it stands for; nil
	// leaves it as it is.
	Copy func(c *Copyable) (any, error)

	refs   []shared
	values int  // left to read in this message
	nested int  // sequences in refs that are being read
	cyclic bool // some reference was to a sequence not yet complete
}

// shared is a sequence that a reference later in the message may mean.
type shared struct {
	open  uint64
	value any // nil while it is being read
}

// unfinished stands for a reference to an enclosing sequence until that is
// complete.
type unfinished struct{ ref int }

// NewDecoder returns a Decoder that reads from r.
func NewDecoder(r *Reader) *Decoder { return &Decoder{Reader: r} }

// Begin forgets the sequences of the last message. It must be called before
// the first value of each.
func (d *Decoder) Begin() {
	if cap(d.refs) > 1024 {
		d.refs = nil
	}
	clear(d.refs)
	d.refs = d.refs[:0]
	d.values = d.lim.Values
	d.nested = 0
	d.cyclic = false
}

// Value reads one value. Its type is one of those listed at [Tuple], or what
// Extend and Copy return.
//
// A *Violation concerns this message only: go on with Skip.
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
		return nil, &Violation{Reason: fmt.Sprintf("more than %d values in one message", d.lim.Values), Err: ErrLimit}
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
	return nil, d.Syntax("%v where a value must be", t.Type)
}

// integer returns n as an int64 if it fits.
func integer(n *big.Int) any {
	if n.IsInt64() {
		return n.Int64()
	}
	return n
}

// Syntax makes and remembers the error that the stream is not the protocol.
func (d *Decoder) Syntax(format string, a ...any) error {
	return d.syntax(d.Offset(), format, a...)
}

// Kind reads the index token behind an OPEN.
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
		return KindUnknown, d.Syntax("%v where the name of a sequence must be", t.Type)
	default:
		return KindUnknown, violationf("%v where the name of a sequence must be", t.Type)
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
		ref := d.share(number)
		items, err := d.items([]any{})
		return d.finish(ref, items, err)
	case KindTuple:
		ref := d.share(number)
		items, err := d.items([]any{})
		return d.finish(ref, Tuple(items), err)
	case KindSet:
		ref := d.share(number)
		items, err := d.items([]any{})
		if err == nil {
			items, err = distinct(items)
		}
		return d.finish(ref, Set(items), err)
	case KindFrozenSet:
		ref := d.share(number)
		items, err := d.items([]any{})
		if err == nil {
			items, err = distinct(items)
		}
		return d.finish(ref, FrozenSet(items), err)
	case KindDict:
		ref := d.share(number)
		dict, err := d.dict()
		return d.finish(ref, dict, err)
	case KindCopyable:
		ref := d.share(number)
		v, err := d.copyable()
		return d.finish(ref, v, err)
	}
	if d.Extend == nil {
		return nil, violationf("unknown OPEN type %q", k)
	}
	return d.Extend(d, k)
}

// End reads the CLOSE of a sequence that has nothing more in it.
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
	return d.Syntax("%v in %s, where nothing more may be", t.Type, what)
}

func (d *Decoder) share(number uint64) (ref int) {
	d.nested++
	d.refs = append(d.refs, shared{open: number})
	return len(d.refs) - 1
}

func (d *Decoder) finish(ref int, v any, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	d.refs[ref].value = v
	if d.nested--; d.nested == 0 && d.cyclic {
		d.tie()
	}
	return v, nil
}

func (d *Decoder) reference() (any, error) {
	t, err := d.Next()
	if err != nil {
		return nil, err
	}
	if t.Type != TokenInt || t.Big != nil {
		return nil, d.Syntax("%v where the number of a reference must be", t.Type)
	}
	n := t.Num
	if err := d.End("reference"); err != nil {
		return nil, err
	}
	// Numbers ascend: the nearest reference is most often a recent one, but any
	// may be meant.
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
		return nil, nil // as the original reads an empty one
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
		return nil, nil // as the original reads an empty one
	case t.Type == TokenAbort:
		return nil, ErrAborted
	case !t.IsString():
		return nil, d.Syntax("%v in a unicode", t.Type)
	case !utf8.Valid(t.Body):
		return nil, violationf("text that is not UTF-8")
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
		return nil, violationf("%.40q is no decimal number", t.Body)
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
			return dict, nil // a key without value is dropped, as the original does
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
		return nil, d.Syntax("%v where the class of a copyable must be", t.Type)
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
			return nil, d.Syntax("%v where an attribute of a copyable must be", t.Type)
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

// tie puts the sequences, now complete, where references to them were read
// before they were. A slice is replaced in place, so whoever has it sees it.
// Every sequence of the message is in refs once: a pass over refs meets every
// place without following a cycle.
func (d *Decoder) tie() {
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
