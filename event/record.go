package event

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"
)

// Record is one encoded event without its number and incarnation, which are stored
// beside it. Rings hold records, and our own programs send
// them to each other. A record is self-describing: it refers to nothing outside it.
//
//	record = time level field*           time: 8 bytes, nanoseconds since 1970, little-endian
//	field  = key value                   level: zigzag varint
//	key    = uvarint n<<1, n bytes       or  uvarint code<<1 | 1, a key of knownKeys
//	value  = kind byte, then by kind:
//	         nil false true              nothing
//	         int duration                zigzag varint (durations in ns)
//	         float time                  8 bytes, little-endian (times in ns since 1970)
//	         string bytes integer number uvarint n, n bytes (integer, number: digits)
//	         list tuple                  value*, end
//	         dict                        field*, end
//
// If several fields have one key, the last one counts.
//
// The functions that build a record append to a buffer and return it, as append
// does. A record is what [AppendRecord] or [AppendRecordHead] appends, then any
// number of fields. A field is a key ([AppendKey], or a function that names the
// key), then one value. The functions check nothing: a wrong order gives a damaged
// record, for which [Record.Event] returns an error.
type Record []byte

// RecordVersion is the version of the encoding of [Record]. A reader that does not
// know a version keeps the records and reports the version; it does not guess.
const RecordVersion = 1

// kind is the type of an encoded value. Files hold these numbers: add, but never
// renumber.
type kind = byte

const (
	kindNil kind = iota
	kindFalse
	kindTrue
	kindInt
	kindDuration
	kindFloat
	kindTime
	kindString
	kindBytes
	kindInteger // a whole number beyond the range of int64
	kindList
	kindTuple
	kindDict
	kindEnd
)

// knownKeys are encoded as a code instead of their text: index + 1. Files hold the
// codes: append, but never reorder.
var knownKeys = [...]string{
	"message", "facility", "format", "args", "parent", "umid", "source",
	"failure", "isError", "why", "stacktrace", "err", "error",
}

const (
	codeEnd = iota // ends a dict
	codeMessage
	codeFacility
	codeFormat
	codeArgs
	codeParent
	codeUmid
	codeSource
)

// maxDepth bounds the nesting of a record's values. A peer or a damaged file may
// hold more than the stack does.
const maxDepth = 64

// AppendRecord begins the record of an event with a message. unixNano is the event's
// time in nanoseconds since 1970.
//
// Every logging call uses this function and those below. BenchmarkLog in package
// logport shows that they do not allocate.
func AppendRecord(dst []byte, unixNano int64, level Level, message string) []byte {
	dst = AppendRecordHead(dst, unixNano, level)
	return AppendString(append(dst, codeMessage<<1|1), message)
}

// AppendRecordHead begins the record of an event without a message. unixNano is the
// event's time in nanoseconds since 1970; 0 means that it has none.
func AppendRecordHead(dst []byte, unixNano int64, level Level) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(unixNano))
	return binary.AppendVarint(dst, int64(level))
}

// AppendFormat appends the field format, the pattern of the event's text.
func AppendFormat(dst []byte, format string) []byte {
	return AppendString(append(dst, codeFormat<<1|1), format)
}

// AppendKey appends the key of a field. A value must follow.
func AppendKey(dst []byte, key string) []byte {
	if len(key) < 64 {
		dst = append(dst, byte(len(key)<<1))
	} else {
		dst = binary.AppendUvarint(dst, uint64(len(key))<<1)
	}
	return append(dst, key...)
}

// AppendFacility appends the field facility.
func AppendFacility(dst []byte, s string) []byte {
	return AppendString(append(dst, codeFacility<<1|1), s)
}

// AppendUmid appends the field umid, the short fixed id of a log statement.
func AppendUmid(dst []byte, s string) []byte { return AppendString(append(dst, codeUmid<<1|1), s) }

// AppendSource appends the field source, the place of a log statement:
// "dir/file.go:12".
func AppendSource(dst []byte, s string) []byte { return AppendString(append(dst, codeSource<<1|1), s) }

// AppendParent appends the field parent, the number of the event's parent.
func AppendParent(dst []byte, n Num) []byte {
	return AppendUint(append(dst, codeParent<<1|1), uint64(n))
}

// AppendArgsKey appends the key args of the arguments of a message. A list, tuple or
// dict must follow.
func AppendArgsKey(dst []byte) []byte { return append(dst, codeArgs<<1|1) }

// AppendNil appends the value nil.
func AppendNil(dst []byte) []byte { return append(dst, kindNil) }

// AppendBool appends true or false as a value.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, kindTrue)
	}
	return append(dst, kindFalse)
}

// AppendInt appends a whole number as a value.
func AppendInt(dst []byte, v int64) []byte { return binary.AppendVarint(append(dst, kindInt), v) }

// AppendUint appends a whole number as a value. Above 2^63-1 it decodes to a
// *big.Int.
func AppendUint(dst []byte, v uint64) []byte {
	if v <= math.MaxInt64 {
		return AppendInt(dst, int64(v))
	}
	return appendText(dst, kindInteger, strconv.FormatUint(v, 10))
}

// AppendFloat appends a number as a value. NaN and the infinities keep their bits.
func AppendFloat(dst []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, kindFloat), math.Float64bits(v))
}

// AppendDuration appends a duration as a value. It decodes to text as Go prints it:
// "1.5s".
func AppendDuration(dst []byte, v time.Duration) []byte {
	return binary.AppendVarint(append(dst, kindDuration), int64(v))
}

// AppendTime appends a time as a value. It decodes to text in UTC as RFC 3339 has
// it. A time outside the years 1679 to 2261 is encoded as that text.
func AppendTime(dst []byte, v time.Time) []byte {
	if y := v.Year(); y < 1679 || y > 2261 {
		return AppendString(dst, v.UTC().Format(time.RFC3339Nano))
	}
	return binary.LittleEndian.AppendUint64(append(dst, kindTime), uint64(v.UnixNano()))
}

// AppendString appends text as a value. It does not check that s is UTF-8.
func AppendString(dst []byte, s string) []byte { return appendText(dst, kindString, s) }

// AppendBytes appends bytes as a value; it copies b.
func AppendBytes(dst []byte, b []byte) []byte {
	dst = binary.AppendUvarint(append(dst, kindBytes), uint64(len(b)))
	return append(dst, b...)
}

func appendText(dst []byte, k kind, s string) []byte {
	if len(s) < 0x80 {
		dst = append(dst, k, byte(len(s)))
	} else {
		dst = binary.AppendUvarint(append(dst, k), uint64(len(s)))
	}
	return append(dst, s...)
}

// AppendDictBegin begins a dict as a value. Its fields follow, then
// [AppendDictEnd].
func AppendDictBegin(dst []byte) []byte { return append(dst, kindDict) }

// AppendDictEnd ends a dict.
func AppendDictEnd(dst []byte) []byte { return append(dst, codeEnd<<1|1) }

// AppendListBegin begins a list as a value. Its values follow, then
// [AppendListEnd].
func AppendListBegin(dst []byte) []byte { return append(dst, kindList) }

// AppendTupleBegin begins a tuple as a value. Its values follow, then
// [AppendListEnd].
func AppendTupleBegin(dst []byte) []byte { return append(dst, kindTuple) }

// AppendListEnd ends a list or a tuple.
func AppendListEnd(dst []byte) []byte { return append(dst, kindEnd) }

// AppendValue appends v, a value of one of the types of package banana. A type
// without an encoding of its own is appended as text, as fmt.Sprint prints it, and a
// value that is nested deeper than 61 levels as "…".
func AppendValue(dst []byte, v any) []byte { return appendValue(dst, v, 0) }

func appendValue(dst []byte, v any, depth int) []byte {
	if depth == maxDepth-2 {
		return AppendString(dst, "…")
	}
	switch v := v.(type) {
	case nil:
		return AppendNil(dst)
	case bool:
		return AppendBool(dst, v)
	case int:
		return AppendInt(dst, int64(v))
	case int64:
		return AppendInt(dst, v)
	case uint64:
		return AppendUint(dst, v)
	case *big.Int:
		return appendText(dst, kindInteger, v.String())
	case float64:
		return AppendFloat(dst, v)
	case string:
		return AppendString(dst, v)
	case []byte:
		return AppendBytes(dst, v)
	case []any:
		return appendList(AppendListBegin(dst), v, depth)
	case Tuple:
		return appendList(AppendTupleBegin(dst), v, depth)
	case Dict:
		dst = AppendDictBegin(dst)
		for _, item := range v {
			dst = AppendKey(dst, fmt.Sprint(item.Key))
			dst = appendValue(dst, item.Value, depth+1)
		}
		return AppendDictEnd(dst)
	}
	return AppendString(dst, fmt.Sprint(v))
}

func appendList(dst []byte, v []any, depth int) []byte {
	for _, item := range v {
		dst = appendValue(dst, item, depth+1)
	}
	return AppendListEnd(dst)
}

// ErrRecord is wrapped by the errors of decoding a damaged record.
var ErrRecord = errors.New("event: not a record")

// UnixNano returns the event's time in nanoseconds since 1970, or 0 if r is too short
// to be a record.
func (r Record) UnixNano() int64 {
	if len(r) < 8 {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(r))
}

// Level returns the event's level, or 0 if r is too short to be a record.
func (r Record) Level() Level {
	if len(r) < 8 {
		return 0
	}
	l, _ := binary.Varint(r[8:])
	return Level(l)
}

// Message returns the event's message or format, whichever comes last, and its
// facility. It decodes no other field. It returns what precedes the damage if r is
// damaged.
func (r Record) Message() (message, facility string) {
	d := decoder{r: r}
	d.head()
	for d.err == nil && len(d.r) > 0 {
		key := d.key()
		switch key {
		case "message", "format":
			message = d.text()
		case "facility":
			facility = d.text()
		default:
			d.value(0)
		}
	}
	return message, facility
}

// Event decodes r as the event num of an incarnation. The order of the fields is
// num, time, level, then as logged, then incarnation. The event shares no memory
// with r. An error wraps [ErrRecord]; the event then holds what precedes the damage.
func (r Record) Event(num Num, incarnation string) (*Event, error) {
	d := decoder{r: r}
	e := &Event{Fields: make([]Field, 3, 12)}
	e.Fields[0] = Field{"num", NumValue(num)}
	nano, level := d.head()
	e.Fields[1] = Field{"time", float64(nano) / 1e9}
	e.Fields[2] = Field{"level", level}
	if nano == 0 { // logged without a time
		e.Fields = append(e.Fields[:1], Field{"level", level})
	}
	var set fieldSet
	for d.err == nil && len(d.r) > 0 {
		key := d.key()
		value := d.value(0)
		if d.err == nil {
			set.add(e, key, value)
		}
	}
	e.Fields = append(e.Fields, Field{"incarnation", Tuple{incarnation, nil}})
	return e, d.err
}

// NumValue returns n as the value of a field: an int64, or a *big.Int above 2^63-1.
func NumValue(n Num) any {
	if n <= math.MaxInt64 {
		return int64(n)
	}
	return new(big.Int).SetUint64(uint64(n))
}

// decoder reads a record from its front. After an error it reads no more.
type decoder struct {
	r   []byte
	err error
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %d bytes before its end", ErrRecord, len(d.r))
	}
	d.r = nil
}

func (d *decoder) head() (unixNano, level int64) {
	unixNano = int64(d.fixed())
	return unixNano, d.varint()
}

func (d *decoder) fixed() uint64 {
	if len(d.r) < 8 {
		d.fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(d.r)
	d.r = d.r[8:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.r)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.r = d.r[n:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.r)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.r = d.r[n:]
	return v
}

// bytes returns the next n bytes of the record itself.
func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.r)) {
		d.fail()
		return nil
	}
	b := d.r[:n]
	d.r = d.r[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

// key returns the next key. The end of a dict is not a key, but an error.
func (d *decoder) key() string {
	n := d.uvarint()
	if n&1 == 0 {
		return string(d.bytes(n >> 1))
	}
	if code := n >> 1; code != codeEnd && code <= uint64(len(knownKeys)) {
		return knownKeys[code-1]
	}
	d.fail()
	return ""
}

func (d *decoder) text() string {
	s, _ := d.value(0).(string)
	return s
}

func (d *decoder) value(depth int) any {
	if depth == maxDepth {
		d.fail()
		return nil
	}
	switch k := d.byte(); k {
	case kindNil:
		return nil
	case kindFalse:
		return false
	case kindTrue:
		return true
	case kindInt:
		return d.varint()
	case kindDuration:
		return time.Duration(d.varint()).String()
	case kindFloat:
		return math.Float64frombits(d.fixed())
	case kindTime:
		return time.Unix(0, int64(d.fixed())).UTC().Format(time.RFC3339Nano)
	case kindString:
		return string(d.bytes(d.uvarint()))
	case kindBytes:
		return append([]byte{}, d.bytes(d.uvarint())...)
	case kindInteger:
		digits := d.bytes(d.uvarint())
		if n, ok := new(big.Int).SetString(string(digits), 10); ok && len(digits) <= maxDigits {
			return n
		}
		d.fail()
		return nil
	case kindList:
		return d.values(depth)
	case kindTuple:
		return Tuple(d.values(depth))
	case kindDict:
		return d.dict(depth)
	}
	d.fail()
	return nil
}

// maxDigits bounds whole numbers, as Python does when it converts text to one.
const maxDigits = 4300

func (d *decoder) values(depth int) []any {
	list := []any{}
	for d.err == nil {
		if len(d.r) > 0 && d.r[0] == kindEnd {
			d.r = d.r[1:]
			return list
		}
		list = append(list, d.value(depth+1))
	}
	return nil
}

func (d *decoder) dict(depth int) Dict {
	var e Event
	var set fieldSet
	for d.err == nil {
		if len(d.r) > 0 && d.r[0] == codeEnd<<1|1 {
			d.r = d.r[1:]
			return (&e).Dict()
		}
		key := d.key()
		set.add(&e, key, d.value(depth+1))
	}
	return nil
}

// fieldSet sets fields of an event that may have many. A peer may send tens of
// thousands, and searching all of them for each would take seconds.
type fieldSet struct {
	index map[string]int // of e.Fields, once there are manyFields
}

const manyFields = 32

// add does what e.Set does.
func (s *fieldSet) add(e *Event, key string, value any) {
	if len(e.Fields) < manyFields {
		e.Set(key, value)
		return
	}
	if s.index == nil {
		s.index = make(map[string]int, 2*manyFields)
		for i, f := range e.Fields {
			s.index[f.Key] = i
		}
	}
	if i, ok := s.index[key]; ok {
		e.Fields[i].Value = value
		return
	}
	s.index[key] = len(e.Fields)
	e.Fields = append(e.Fields, Field{key, value})
}
