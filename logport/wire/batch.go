package wire

import (
	"encoding/binary"
	"errors"
	"iter"
	"math/big"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

// Batch is a run of events of one process, as it is sent. A handler may use its
// records until it returns.
//
// For one subscription that has not failed, all batches together account for
// every event: sent, filtered out, or dropped.
//
//	data = entry*
//	entry = uvarint step, uvarint n, n bytes of record
//
// The first step is 0 and stands for First; each later one is added to the number
// before it, and is at least 1.
type Batch struct {
	Incarnation string
	Count       int       // events
	First, Last event.Num // their numbers; meaningless if Count is 0

	Filtered uint64 // events that did not match, since the batch before
	Dropped  uint64 // events that were lost before First

	// All dropped events are numbered DroppedFrom or above and below
	// DroppedUntil; that range may hold others too.
	DroppedFrom, DroppedUntil event.Num

	// CaughtUp is true in one batch: what the rings held when the subscription
	// began has been accounted for, and what follows is new.
	CaughtUp bool

	Until event.Num // all events below are accounted for by this batch and those before

	data []byte
}

// Sizes of a batch, in bytes of records.
const (
	MaxBatch = 64 << 10 // a publisher sends no more at once, except one longer record

	// maxReceived is what a reader accepts: the longest record beside a full batch.
	maxReceived = 4 * MaxBatch
)

// ErrBatch is the error of a subscription whose publisher sent a malformed batch.
var ErrBatch = errors.New("wire: malformed batch of events")

// Position returns where a later subscription can go on.
func (b *Batch) Position() Position { return Position{b.Incarnation, b.Until} }

// Size returns how many bytes the records take.
func (b *Batch) Size() int { return len(b.data) }

// Empty reports whether the batch says nothing: no event, no count, no end of the
// catch-up.
func (b *Batch) Empty() bool {
	return b.Count == 0 && b.Filtered == 0 && b.Dropped == 0 && !b.CaughtUp
}

// Append adds the event num, which is above Last, and copies rec.
func (b *Batch) Append(num event.Num, rec event.Record) {
	if b.Count == 0 {
		b.First, b.Last = num, num
	}
	b.data = binary.AppendUvarint(b.data, uint64(num-b.Last))
	b.data = binary.AppendUvarint(b.data, uint64(len(rec)))
	b.data = append(b.data, rec...)
	b.Last, b.Until = num, num+1
	b.Count++
}

// AddDropped counts events that were lost; all their numbers are from or above and
// below until.
func (b *Batch) AddDropped(count uint64, from, until event.Num) {
	if count == 0 {
		return
	}
	if b.Dropped == 0 {
		b.DroppedFrom = from
	}
	b.Dropped += count
	b.DroppedFrom, b.DroppedUntil = min(b.DroppedFrom, from), max(b.DroppedUntil, until)
	b.Until = until
}

// Next empties the batch for the events that follow, which are written to buf. It
// returns the records so far, which the batch does not use any more.
func (b *Batch) Next(buf []byte) (sent []byte) {
	sent = b.data
	*b = Batch{Incarnation: b.Incarnation, Until: b.Until, data: buf[:0]}
	return sent
}

// Records yields the events of the batch. It stops early where the records of a
// batch made by hand are cut short; those of one that was received are whole.
func (b *Batch) Records() iter.Seq2[event.Num, event.Record] {
	return func(yield func(event.Num, event.Record) bool) {
		num := b.First
		for data := b.data; len(data) > 0; {
			step, n := binary.Uvarint(data)
			data = data[n:]
			size, n := binary.Uvarint(data)
			data = data[n:]
			num += event.Num(step)
			if !yield(num, event.Record(data[:size:size])) {
				return
			}
			data = data[size:]
		}
	}
}

// Keys of a batch's info.
const (
	keyIncarnation  = "incarnation"
	keyCount        = "count"
	keyFirst        = "first"
	keyLast         = "last"
	keyFiltered     = "filtered"
	keyUntil        = "until"
	keyCaughtUp     = "caught_up"
	keyDropped      = "dropped"
	keyDroppedFrom  = "dropped_from"
	keyDroppedUntil = "dropped_until"
)

// Args returns the arguments of the observer's method batch. They share the
// batch's records until they are sent.
func (b *Batch) Args() rpc.Args {
	info := event.Dict{
		{Key: keyIncarnation, Value: b.Incarnation},
		{Key: keyCount, Value: int64(b.Count)},
		{Key: keyFiltered, Value: event.NumValue(event.Num(b.Filtered))},
		{Key: keyUntil, Value: event.NumValue(b.Until)},
	}
	if b.Count > 0 {
		info = append(info, event.Item{Key: keyFirst, Value: event.NumValue(b.First)}, event.Item{Key: keyLast, Value: event.NumValue(b.Last)})
	}
	if b.CaughtUp {
		info = append(info, event.Item{Key: keyCaughtUp, Value: true})
	}
	if b.Dropped > 0 {
		info = append(info, event.Item{Key: keyDropped, Value: event.NumValue(event.Num(b.Dropped))},
			event.Item{Key: keyDroppedFrom, Value: event.NumValue(b.DroppedFrom)},
			event.Item{Key: keyDroppedUntil, Value: event.NumValue(b.DroppedUntil)})
	}
	return rpc.Pos(b.data, info)
}

// parseBatch checks what a publisher sent and keeps data. Its error is ErrBatch.
func parseBatch(data, info any) (*Batch, error) {
	raw, ok1 := data.([]byte)
	d, ok2 := info.(event.Dict)
	if !ok1 || !ok2 || len(raw) > maxReceived {
		return nil, ErrBatch
	}
	number := func(key string) uint64 {
		v, _ := d.Get(key)
		return wholeNumber(v)
	}
	b := &Batch{
		data:  raw,
		First: event.Num(number(keyFirst)), Last: event.Num(number(keyLast)), Until: event.Num(number(keyUntil)),
		Filtered: number(keyFiltered), Dropped: number(keyDropped),
		DroppedFrom: event.Num(number(keyDroppedFrom)), DroppedUntil: event.Num(number(keyDroppedUntil)),
	}
	v, _ := d.Get(keyIncarnation)
	b.Incarnation, _ = banana.Text(v)
	v, _ = d.Get(keyCaughtUp)
	b.CaughtUp, _ = v.(bool)
	num := b.First
	for rest := raw; len(rest) > 0; b.Count++ {
		step, n := binary.Uvarint(rest)
		if n <= 0 || step == 0 && b.Count > 0 || step > 0 && b.Count == 0 || num+event.Num(step) < num {
			return nil, ErrBatch
		}
		num += event.Num(step)
		rest = rest[n:]
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return nil, ErrBatch
		}
		rest = rest[uint64(n)+size:]
	}
	if b.Count > 0 && num != b.Last {
		return nil, ErrBatch
	}
	return b, nil
}

// wholeNumber returns a number that a peer sent, 0 if it is not one from 0 to
// 2^64-1.
func wholeNumber(v any) uint64 {
	switch v := v.(type) {
	case int64:
		return uint64(max(0, v))
	case *big.Int:
		if v.IsUint64() {
			return v.Uint64()
		}
	}
	return 0
}
