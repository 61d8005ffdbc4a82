package banana

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strings"
)

// A Message encodes one top-level sequence. It does not know its place in the
// stream: AppendTo fills in the numbers of its OPENs and whatever else depends on
// the state of the connection. The sender therefore encodes its own message, and
// holds the connection's lock for little more than a copy.
//
// The caller must call Reset before each message, and must discard the whole
// message after an error: nothing is ever aborted on the wire. One goroutine may
// use a Message at a time.
type Message struct {
	// Extend encodes a value that this package does not know. It returns false if
	// it does not know the value either.
	Extend func(m *Message, v any) (bool, error)

	vocab bool
	buf   []byte
	long  [][]byte // byte strings that only AppendTo copies
	size  int      // bytes of these together
	fixes []fix
	opens uint64
	depth int
	begun []begun            // containers to which a reference is possible, while they are few
	known map[pointer]uint64 // the same, when they are many
}

// fix is a place in buf where AppendTo inserts something.
type fix struct {
	at   int // before buf[at]
	kind fixKind
	n    uint64 // the OPEN number within the message; the index of a long string
}

type fixKind uint8

const (
	fixOpen fixKind = iota
	fixClose
	fixReference
	fixSlot
	fixLong
)

// pointer is the identity of a container: its elements and its kind.
type pointer struct {
	data uintptr
	len  int
	kind Kind
}

type begun struct {
	pointer
	open uint64
}

// fewContainers is the number up to which a linear search is faster than a map.
const fewContainers = 16

// maxSendDepth stops values that contain themselves through pointers or maps. It
// is the default of [Limits].Depth.
const maxSendDepth = 1000

// Reset prepares m for a new message. table is the vocabulary table of the stream,
// 0 or 1.
func (m *Message) Reset(table int) {
	if cap(m.buf) > 1<<20 {
		m.buf = nil
	}
	if cap(m.fixes) > 8<<10 {
		m.fixes = nil
	}
	if len(m.known) > 0 {
		m.known = nil
	}
	m.vocab = table == 1
	m.buf, m.fixes, m.begun = m.buf[:0], m.fixes[:0], m.begun[:0]
	clear(m.long)
	m.long, m.size = m.long[:0], 0
	m.opens, m.depth = 0, 0
}

// Len returns the approximate size of the message in bytes.
func (m *Message) Len() int { return len(m.buf) + 4*len(m.fixes) + m.size }

// Opens returns the number of OPENs in the message.
func (m *Message) Opens() uint64 { return m.opens }

// AppendTo appends the message to dst, for a place in the stream after base OPENs.
// It calls slot for each place that Slot has left, with the OPEN number of the
// sequence and the number of the slot, from 0; slot appends the sequence to dst.
// slot may be nil if there are no slots.
func (m *Message) AppendTo(dst []byte, base uint64, slot func(dst []byte, open uint64, n int) []byte) []byte {
	from, slots := 0, 0
	for _, f := range m.fixes {
		dst = append(dst, m.buf[from:f.at]...)
		from = f.at
		switch f.kind {
		case fixOpen:
			dst = AppendToken(dst, base+f.n, TokenOpen)
		case fixClose:
			dst = AppendToken(dst, base+f.n, TokenClose)
		case fixReference:
			dst = AppendInt(dst, int64(base+f.n))
		case fixSlot:
			dst = slot(dst, base+f.n, slots)
			slots++
		case fixLong:
			dst = append(dst, m.long[f.n]...)
		}
	}
	return append(dst, m.buf[from:]...)
}

// Open begins a sequence and returns its number for Close.
func (m *Message) Open(k Kind) (open uint64) {
	open = m.opens
	m.opens++
	m.fixes = append(m.fixes, fix{len(m.buf), fixOpen, open})
	switch {
	case k == KindDecimal:
		m.buf = append(appendHeader(m.buf, uint64(len("decimal"))), byte(TokenString))
		m.buf = append(m.buf, "decimal"...)
	case m.vocab:
		m.buf = append(m.buf, byte(k), byte(TokenVocab))
	default:
		m.buf = append(appendHeader(m.buf, uint64(len(words[k]))), byte(TokenString))
		m.buf = append(m.buf, words[k]...)
	}
	return open
}

// Close ends the sequence that Open has begun under this number.
func (m *Message) Close(open uint64) {
	m.fixes = append(m.fixes, fix{len(m.buf), fixClose, open})
}

// Slot leaves a place for one sequence, without sequences inside it, that AppendTo
// fills in.
func (m *Message) Slot() {
	m.fixes = append(m.fixes, fix{len(m.buf), fixSlot, m.opens})
	m.opens++
}

// Int appends an integer as INT, NEG, LONGINT or LONGNEG.
func (m *Message) Int(n int64) { m.buf = AppendInt(m.buf, n) }

// Count appends a number as an INT token, whatever its size: the protocol demands
// that for request ids and counts.
func (m *Message) Count(n uint64) { m.buf = AppendToken(m.buf, n, TokenInt) }

// Word appends a byte string, as a VOCAB if the table has it.
func (m *Message) Word(s string) {
	if m.vocab {
		if i := wordIndex(s); i >= 0 {
			m.buf = append(m.buf, byte(i), byte(TokenVocab))
			return
		}
	}
	m.buf = append(appendHeader(m.buf, uint64(len(s))), byte(TokenString))
	m.buf = append(m.buf, s...)
}

// longBytes is the length from which a byte string is copied by AppendTo only.
const longBytes = 4 << 10

// Bytes appends a byte string. The caller must not change b before AppendTo has
// returned.
func (m *Message) Bytes(b []byte) {
	if m.vocab {
		if i := wordIndex(b); i >= 0 {
			m.buf = append(m.buf, byte(i), byte(TokenVocab))
			return
		}
	}
	m.buf = append(appendHeader(m.buf, uint64(len(b))), byte(TokenString))
	if len(b) < longBytes {
		m.buf = append(m.buf, b...)
		return
	}
	m.fixes = append(m.fixes, fix{len(m.buf), fixLong, uint64(len(m.long))})
	m.long = append(m.long, b)
	m.size += len(b)
}

// Text appends text. It replaces bytes that are not UTF-8, lone surrogates
// included, by U+FFFD: a peer would drop the connection for them.
func (m *Message) Text(s string) {
	open := m.Open(KindUnicode)
	m.Word(strings.ToValidUTF8(s, "\ufffd"))
	m.Close(open)
}

// None appends None.
func (m *Message) None() { m.Close(m.Open(KindNone)) }

func (m *Message) float(f float64) {
	m.buf = binary.BigEndian.AppendUint64(append(m.buf, byte(TokenFloat)), math.Float64bits(f))
}

// Bool appends a boolean.
func (m *Message) Bool(v bool) {
	open := m.Open(KindBoolean)
	m.buf = append(m.buf, 0, byte(TokenInt))
	if v {
		m.buf[len(m.buf)-2] = 1
	}
	m.Close(open)
}

func (m *Message) bigInt(n *big.Int) error {
	if n.IsInt64() {
		m.Int(n.Int64())
		return nil
	}
	b := n.Bytes()
	if len(b) > maxInteger {
		return violationf("an integer of %d bytes, the limit is %d", len(b), maxInteger)
	}
	t := TokenLongInt
	if n.Sign() < 0 {
		t = TokenLongNeg
	}
	m.buf = append(appendHeader(m.buf, uint64(len(b))), byte(t))
	m.buf = append(m.buf, b...)
	return nil
}

// refer encodes a reference if the message already has the container. Otherwise it
// notes that the container is about to begin as OPEN number m.opens.
func (m *Message) refer(v any, n int, k Kind) bool {
	if n == 0 {
		return false // empty containers have no identity in Go
	}
	p := pointer{reflect.ValueOf(v).Pointer(), n, k}
	open, found := uint64(0), false
	if m.known == nil {
		for i := range m.begun {
			if m.begun[i].pointer == p {
				open, found = m.begun[i].open, true
				break
			}
		}
	} else {
		open, found = m.known[p]
	}
	if found {
		ref := m.Open(KindReference)
		m.fixes = append(m.fixes, fix{len(m.buf), fixReference, open})
		m.Close(ref)
		return true
	}
	switch {
	case m.known != nil:
		m.known[p] = m.opens
	case len(m.begun) < fewContainers:
		m.begun = append(m.begun, begun{p, m.opens})
	default:
		m.known = make(map[pointer]uint64, 8*fewContainers)
		for _, b := range m.begun {
			m.known[b.pointer] = b.open
		}
		m.known[p] = m.opens
	}
	return false
}

// Value appends a value of one of the types listed at [Tuple], of one of Go's other
// numeric types, or of a type that Extend knows. A list, tuple, dict or set that
// the message already has (the same elements in memory) becomes a reference.
//
// The error is a *Violation, or that of Extend; the message must be discarded.
func (m *Message) Value(v any) error {
	switch x := v.(type) {
	case nil:
		m.None()
	case bool:
		m.Bool(x)
	case int:
		m.Int(int64(x))
	case int64:
		m.Int(x)
	case float64:
		m.float(x)
	case string:
		m.Text(x)
	case []byte:
		m.Bytes(x)
	case []any:
		return m.list(v, x, KindList)
	case Tuple:
		return m.list(v, x, KindTuple)
	case Dict:
		return m.dict(v, x)
	case Set:
		return m.list(v, x, KindSet)
	case FrozenSet:
		return m.items(x, KindFrozenSet) // no references: the original reads them as tuples
	case Decimal:
		if !validDecimal([]byte(x)) {
			return violationf("%.40q is not a decimal number", string(x))
		}
		open := m.Open(KindDecimal)
		m.Word(string(x))
		m.Close(open)
	case *Copyable:
		return m.copyable(x)
	case *big.Int:
		return m.bigInt(x)
	default:
		return m.other(v)
	}
	return nil
}

func (m *Message) other(v any) error {
	switch v := v.(type) {
	case int8:
		m.Int(int64(v))
	case int16:
		m.Int(int64(v))
	case int32:
		m.Int(int64(v))
	case uint8:
		m.Int(int64(v))
	case uint16:
		m.Int(int64(v))
	case uint32:
		m.Int(int64(v))
	case uint:
		return m.unsigned(uint64(v))
	case uint64:
		return m.unsigned(v)
	case float32:
		m.float(float64(v))
	default:
		if m.Extend != nil {
			if done, err := m.Extend(m, v); done || err != nil {
				return err
			}
		}
		return violationf("a %T cannot be sent", v)
	}
	return nil
}

func (m *Message) unsigned(n uint64) error {
	if n <= math.MaxInt64 {
		m.Int(int64(n))
		return nil
	}
	return m.bigInt(new(big.Int).SetUint64(n))
}

// Enter must be called before the elements of a container are encoded, and Leave
// after them. It returns a *Violation if containers nest deeper than 1000, which
// stops values that contain themselves.
func (m *Message) Enter() error {
	if m.depth++; m.depth > maxSendDepth {
		return &Violation{Reason: fmt.Sprintf("a value nests deeper than %d", maxSendDepth), Err: ErrLimit}
	}
	return nil
}

// Leave ends what Enter began.
func (m *Message) Leave() { m.depth-- }

// list appends items; v is the same slice with the type that has its identity.
func (m *Message) list(v any, items []any, k Kind) error {
	if m.refer(v, len(items), k) {
		return nil
	}
	return m.items(items, k)
}

func (m *Message) items(items []any, k Kind) error {
	if err := m.Enter(); err != nil {
		return err
	}
	open := m.Open(k)
	for _, e := range items {
		if err := m.Value(e); err != nil {
			return err
		}
	}
	m.Close(open)
	m.Leave()
	return nil
}

func (m *Message) dict(v any, d Dict) error {
	if m.refer(v, len(d), KindDict) {
		return nil
	}
	if err := m.Enter(); err != nil {
		return err
	}
	open := m.Open(KindDict)
	for i := range d {
		if !hashable(d[i].Key) {
			return violationf("a %T cannot be a key", d[i].Key)
		}
		if err := m.Value(d[i].Key); err != nil {
			return err
		}
		if err := m.Value(d[i].Value); err != nil {
			return err
		}
	}
	m.Close(open)
	m.Leave()
	return nil
}

func (m *Message) copyable(c *Copyable) error {
	if c == nil {
		m.None()
		return nil
	}
	if err := m.Enter(); err != nil {
		return err
	}
	open := m.Open(KindCopyable)
	m.Word(c.Class)
	for i := range c.Attrs {
		name, ok := Text(c.Attrs[i].Key)
		if !ok {
			return violationf("an attribute of a %q is named by a %T", c.Class, c.Attrs[i].Key)
		}
		m.Word(name)
		if err := m.Value(c.Attrs[i].Value); err != nil {
			return err
		}
	}
	m.Close(open)
	m.Leave()
	return nil
}
