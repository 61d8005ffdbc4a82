package wire

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/rpc"
)

type entry struct {
	num event.Num
	rec string
}

func entries(b *Batch) (list []entry) {
	for num, rec := range b.Records() {
		list = append(list, entry{num, string(rec)})
	}
	return list
}

// received is b as a reader gets it.
func received(t *testing.T, b *Batch) *Batch {
	t.Helper()
	args := b.Args()
	got, err := parseBatch(bytes.Clone(args.Pos[0].([]byte)), args.Pos[1])
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestBatchCrossesTheWire: what a publisher puts into a batch is what a reader finds in
// it, and nothing of one batch is left in the next.
func TestBatchCrossesTheWire(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	b := Batch{Incarnation: "84e8b6d1ce3c35a4"}
	num := event.Num(1<<53 - 100)
	for round := range 50 {
		var want []entry
		for range rng.IntN(20) {
			num += event.Num(1 + rng.IntN(3))
			rec := make([]byte, rng.IntN(300))
			b.Append(num, rec)
			want = append(want, entry{num, string(rec)})
		}
		b.Filtered = uint64(rng.IntN(2))
		if round%3 == 0 {
			b.AddDropped(2, num+1, num+3)
			b.AddDropped(5, num+10, num+20)
			num += 20
		}
		b.CaughtUp = round == 7
		got := received(t, &b)
		if !slices.Equal(entries(got), want) || got.Count != len(want) {
			t.Fatalf("round %d: %d entries came, want %d", round, got.Count, len(want))
		}
		if got.Incarnation != b.Incarnation || got.Filtered != b.Filtered || got.Dropped != b.Dropped || got.CaughtUp != b.CaughtUp ||
			got.Until != b.Until || got.DroppedFrom != b.DroppedFrom || got.DroppedUntil != b.DroppedUntil {
			t.Fatalf("round %d: %+v came, want %+v", round, got, b)
		}
		if round%3 == 0 && (got.Dropped != 7 || got.DroppedFrom != num-19 || got.DroppedUntil != num || got.Until != num) {
			t.Errorf("round %d: the losses are %+v", round, got)
		}
		if got.Empty() != (len(want) == 0 && b.Filtered == 0 && b.Dropped == 0 && !b.CaughtUp) {
			t.Errorf("round %d: Empty is %v", round, got.Empty())
		}
		until := b.Until
		b.Next(nil)
		if !b.Empty() || b.Until != until || b.Size() != 0 {
			t.Fatalf("round %d: the next batch begins as %+v", round, b)
		}
	}
}

func TestMalformedBatches(t *testing.T) {
	info := func(first, last int64) event.Dict {
		return event.Dict{{Key: "first", Value: first}, {Key: "last", Value: last}}
	}
	for name, c := range map[string]struct {
		data, info any
	}{
		"no bytes":                 {"text", info(0, 0)},
		"no dict":                  {[]byte{0, 1, 'x'}, nil},
		"cut within a number":      {[]byte{0x80}, info(0, 0)},
		"cut before the length":    {[]byte{0}, info(0, 0)},
		"cut within a record":      {[]byte{0, 5, 'x'}, info(0, 0)},
		"a length beyond all":      {[]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, info(0, 0)},
		"first step is not 0":      {[]byte{1, 1, 'x'}, info(0, 1)},
		"second step is 0":         {[]byte{0, 1, 'x', 0, 1, 'y'}, info(0, 0)},
		"numbers wrap":             {[]byte{0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0}, info(5, 4)},
		"last is another number":   {[]byte{0, 1, 'x', 1, 1, 'y'}, info(0, 2)},
		"more than a reader takes": {make([]byte, maxReceived+1), info(0, 0)},
	} {
		if _, err := parseBatch(c.data, c.info); !errors.Is(err, ErrBatch) {
			t.Errorf("%s: error %v, want ErrBatch", name, err)
		}
	}
}

// FuzzBatch: whatever a publisher sends, its records lie within what was sent, and their
// numbers ascend to the last one.
func FuzzBatch(f *testing.F) {
	f.Add([]byte{0, 1, 'x', 2, 0}, uint64(7), uint64(9))
	f.Add([]byte{}, uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, first, last uint64) {
		info := event.Dict{{Key: "first", Value: event.NumValue(event.Num(first))}, {Key: "last", Value: event.NumValue(event.Num(last))}}
		b, err := parseBatch(data, info)
		if err != nil {
			return
		}
		n, before := 0, event.Num(0)
		for num := range b.Records() {
			if n > 0 && num <= before {
				t.Fatalf("%d after %d", num, before)
			}
			before = num
			n++
		}
		if n != b.Count || n > 0 && before != b.Last {
			t.Fatalf("%d records up to %d, want %d up to %d", n, before, b.Count, b.Last)
		}
	})
}

func TestSubscribeOptionsCrossTheWire(t *testing.T) {
	for _, o := range []SubscribeOptions{
		{},
		{CatchUp: true, Level: event.Weird, Filter: "level > WEIRD"},
		{Level: -5, After: Position{"84e8b6d1ce3c35a4", 1<<63 + 1}},
	} {
		got, err := ParseSubscribeOptions(o.dict())
		if err != nil || got != o {
			t.Errorf("%+v came as %+v, %v", o, got, err)
		}
	}
	for _, none := range []any{nil, rpc.Missing} {
		if got, err := ParseSubscribeOptions(none); err != nil || got != (SubscribeOptions{}) {
			t.Errorf("ParseSubscribeOptions(%v) = %+v, %v", none, got, err)
		}
	}
	for _, bad := range []any{"text", event.Dict{{Key: "level", Value: "high"}}} {
		if _, err := ParseSubscribeOptions(bad); err == nil {
			t.Errorf("ParseSubscribeOptions(%v) gives no error", bad)
		}
	}
	// What a later version adds is passed over.
	if _, err := ParseSubscribeOptions(event.Dict{{Key: "colour", Value: "red"}}); err != nil {
		t.Error(err)
	}
}

func TestParseIncident(t *testing.T) {
	header := event.Dict{{Key: "trigger", Value: event.Dict{{Key: "num", Value: int64(3)}}}}
	events := []any{event.Dict{{Key: "num", Value: int64(3)}}}
	for _, answer := range []any{event.Tuple{header, events}, []any{header, events}} {
		if h, e, err := parseIncident(answer); err != nil || len(h) != 1 || len(e) != 1 {
			t.Errorf("parseIncident(%T) = %v, %v, %v", answer, h, e, err)
		}
	}
	for name, answer := range map[string]any{
		"nothing":               nil,
		"one thing":             event.Tuple{header},
		"a header of text":      event.Tuple{"header", events},
		"no trigger":            event.Tuple{event.Dict{}, events},
		"a trigger of text":     event.Tuple{event.Dict{{Key: "trigger", Value: "x"}}, events},
		"events in a dict":      event.Tuple{header, event.Dict{}},
		"an event that is text": event.Tuple{header, []any{"event"}},
	} {
		if _, _, err := parseIncident(answer); err == nil {
			t.Errorf("%s gives no error", name)
		}
	}
}
