package event_test

import (
	"errors"
	"log/slog"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flogtool/flogtool/event"
)

func TestRecordKeepsEveryKindOfValue(t *testing.T) {
	at := time.Date(2026, 11, 22, 15, 54, 53, 123456789, time.UTC)
	big63 := new(big.Int).SetUint64(math.MaxUint64)
	b := event.AppendRecord(nil, at.UnixNano(), event.Curious, "hello")
	b = event.AppendFacility(b, "app.db")
	b = event.AppendParent(b, 7)
	b = event.AppendUmid(b, "aBcD")
	b = event.AppendInt(event.AppendKey(b, "i"), math.MinInt64)
	b = event.AppendUint(event.AppendKey(b, "u"), math.MaxUint64)
	b = event.AppendFloat(event.AppendKey(b, "f"), math.Inf(-1))
	b = event.AppendBool(event.AppendKey(b, "t"), true)
	b = event.AppendDuration(event.AppendKey(b, "d"), 1500*time.Millisecond)
	b = event.AppendTime(event.AppendKey(b, "at"), at)
	b = event.AppendTime(event.AppendKey(b, "ancient"), time.Date(800, 12, 25, 0, 0, 0, 0, time.UTC))
	b = event.AppendBytes(event.AppendKey(b, "b"), []byte{0, 255})
	b = event.AppendValue(event.AppendKey(b, "v"), []any{nil, event.Tuple{int64(1), "x"}, event.Dict{{Key: "k", Value: big63}}})
	b = event.AppendInt(event.AppendKey(b, "i"), 2) // of duplicates the last wins

	e, err := event.Record(b).Event(1<<63, "84e8b6d1ce3c35a4")
	if err != nil {
		t.Fatal(err)
	}
	want := []event.Field{
		{Key: "num", Value: new(big.Int).SetUint64(1 << 63)},
		{Key: "time", Value: float64(at.UnixNano()) / 1e9},
		{Key: "level", Value: int64(28)},
		{Key: "message", Value: "hello"},
		{Key: "facility", Value: "app.db"},
		{Key: "parent", Value: int64(7)},
		{Key: "umid", Value: "aBcD"},
		{Key: "i", Value: int64(2)},
		{Key: "u", Value: big63},
		{Key: "f", Value: math.Inf(-1)},
		{Key: "t", Value: true},
		{Key: "d", Value: "1.5s"},
		{Key: "at", Value: "2026-11-22T15:54:53.123456789Z"},
		{Key: "ancient", Value: "0800-12-25T00:00:00Z"},
		{Key: "b", Value: []byte{0, 255}},
		{Key: "v", Value: []any{nil, event.Tuple{int64(1), "x"}, event.Dict{{Key: "k", Value: big63}}}},
		{Key: "incarnation", Value: event.Tuple{"84e8b6d1ce3c35a4", nil}},
	}
	if diff := cmp.Diff(want, e.Fields, cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 })); diff != "" {
		t.Errorf("record decoded with a difference (-want +got):\n%s", diff)
	}
	if n, ok := e.Num(); !ok || n != 1<<63 {
		t.Errorf("Num() = %d, %v", n, ok)
	}
	if m, f := event.Record(b).Message(); m != "hello" || f != "app.db" {
		t.Errorf("Message() = %q, %q", m, f)
	}
	if l := event.Record(b).Level(); l != event.Curious {
		t.Errorf("Level() = %v", l)
	}
}

// FuzzRecord: whatever bytes a peer or a dead process left, decoding ends with
// an event or an error that says so.
func FuzzRecord(f *testing.F) {
	good := event.AppendRecord(nil, 1, 30, "m")
	good = event.AppendValue(event.AppendKey(good, "v"), []any{int64(1), "x", event.Dict{{Key: "k", Value: 1.5}}})
	f.Add([]byte(good))
	f.Add([]byte{})
	f.Add(append([]byte(good), 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := event.Record(b).Event(1, "i")
		if err != nil && !errors.Is(err, event.ErrRecord) {
			t.Errorf("error %v is no ErrRecord", err)
		}
		e.AppendJSON(nil)
		event.Record(b).Message()
		event.Record(b).Level()
	})
}

func TestLevels(t *testing.T) {
	for slogLevel, want := range map[int]event.Level{-4: 10, 0: 20, 1: 23, 2: 25, 3: 28, 4: 30, 6: 35, 8: 40, -1: 18, -8: 0, -9: -3, 100: 270} {
		if got := event.FromSlog(slog.Level(slogLevel)); got != want {
			t.Errorf("FromSlog(%d) = %d, want %d", slogLevel, got, want)
		}
	}
	for _, l := range event.Levels {
		if p, ok := event.ParseLevel(l.String()); !ok || p != l {
			t.Errorf("ParseLevel(%q) = %v, %v", l, p, ok)
		}
		if l.Band() != (l + 1).Band() {
			t.Errorf("level %d is not in the band of the named level below it", l+1)
		}
	}
	if event.Level(5).Band() != 0 || event.Level(99).Band() != len(event.Levels)-1 {
		t.Error("levels beyond the named ones are in no band of theirs")
	}
}
