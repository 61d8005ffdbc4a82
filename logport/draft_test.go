package logport_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport"
)

// TestDraftsAreWhatIsBuffered logs the same events twice: as they are, and
// with a Redact that changes nothing, which has every event encoded in a buffer.
func TestDraftsAreWhatIsBuffered(t *testing.T) {
	same := func(_ []string, a slog.Attr) slog.Attr { return a }
	var lps [2]*logport.Logport
	for i, redact := range []func([]string, slog.Attr) slog.Attr{nil, same} {
		lps[i] = open(t, logport.Config{Listen: "off", RingBytes: 64 << 20, Redact: redact})
	}
	const seed = 7
	const count = 5000
	for _, lp := range lps {
		rnd := rand.New(rand.NewPCG(seed, seed))
		l := slog.New(lp.Handler())
		with := l.With("service", "orders", "facility", "app.with")
		for range count {
			logRandom(rnd, lp, l, with)
		}
	}
	direct, buffered := events(lps[0]), events(lps[1])
	if len(direct) != count || len(buffered) != count {
		t.Fatalf("%d and %d events are in the rings, want %d", len(direct), len(buffered), count)
	}
	for i := range direct {
		a, b := shared(direct[i]), shared(buffered[i])
		if a != b {
			t.Fatalf("event %d:\n in a draft %s\n in a buffer %s", i, a, b)
		}
	}
}

// shared is an event without what two Logports do not share.
func shared(e *event.Event) string {
	var fields []event.Field
	for _, f := range e.Fields {
		if f.Key != "time" && f.Key != "incarnation" && f.Key != "num" {
			fields = append(fields, f)
		}
	}
	return string((&event.Event{Fields: fields}).AppendJSON(nil))
}

// logRandom logs one event, below what is a trigger.
func logRandom(rnd *rand.Rand, lp *logport.Logport, l, with *slog.Logger) {
	ctx := context.Background()
	if rnd.IntN(5) == 0 {
		ctx = logport.WithParent(ctx, event.Num(rnd.IntN(1000)))
	}
	level := slog.Level(rnd.IntN(8) - 4)
	text := func() string { return strings.Repeat("é", rnd.IntN(1+rnd.IntN(3000))) }
	values := []func() slog.Value{
		func() slog.Value { return slog.StringValue(text()) },
		func() slog.Value { return slog.IntValue(rnd.IntN(1000) - 500) },
		func() slog.Value { return slog.Uint64Value(rnd.Uint64()) },
		func() slog.Value { return slog.Float64Value(rnd.NormFloat64()) },
		func() slog.Value { return slog.BoolValue(rnd.IntN(2) == 0) },
		func() slog.Value { return slog.DurationValue(time.Duration(rnd.Int64())) },
		func() slog.Value { return slog.TimeValue(time.Unix(rnd.Int64N(1<<40), 0)) },
		func() slog.Value { return slog.AnyValue(errors.New("broken")) },
		func() slog.Value { return slog.AnyValue(nil) },
		func() slog.Value { return slog.GroupValue(slog.Int("inner", 1)) },
		func() slog.Value { return slog.StringValue("pb://abcdefgh@tcp:1.2.3.4:5/secretname") },
	}
	keys := []string{"path", "status", "facility", "umid", "parent", "message", "password", "a", "an attribute with a long name", "ms"}
	var attrs []slog.Attr
	for range rnd.IntN(6) {
		a := slog.Attr{Key: keys[rnd.IntN(len(keys))], Value: values[rnd.IntN(len(values))]()}
		switch a.Key {
		case "facility":
			a.Value = slog.StringValue(fmt.Sprint("f", rnd.IntN(5)))
		case "parent":
			a.Value = slog.Uint64Value(rnd.Uint64N(1000))
		}
		attrs = append(attrs, a)
	}
	switch msg := text(); rnd.IntN(3) {
	case 0:
		lp.Log(ctx, level, msg, attrs...)
	case 1:
		l.LogAttrs(ctx, level, msg, attrs...)
	case 2:
		with.LogAttrs(ctx, level, msg, attrs...)
	}
}

// TestDraftsOfManyWriters: a writer that finds the ring busy encodes in a buffer, and nothing
// is lost or mixed up.
func TestDraftsOfManyWriters(t *testing.T) {
	lp := open(t, logport.Config{Listen: "off", RingBytes: 64 << 20})
	const writers, each = 8, 5000
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				lp.Log(context.Background(), slog.LevelInfo, "m", slog.Int("w", w), slog.Int("i", i), slog.String("fill", strings.Repeat("x", i%200)))
			}
		})
	}
	wg.Wait()
	var next [writers]int64
	total := 0
	for _, e := range events(lp) {
		w, _ := e.Get("w")
		i, _ := e.Get("i")
		n, ok := w.(int64)
		if !ok || i != next[n] || len(e.Text("fill")) != int(next[n]%200) {
			t.Fatalf("event %d of writer %v: %s", next[n], w, e.AppendJSON(nil))
		}
		next[n]++
		total++
	}
	if total != writers*each {
		t.Errorf("%d events, want %d", total, writers*each)
	}
}

// TestDraftsEndWithTheirSegment: what stands behind the attributes needs room too.
func TestDraftsEndWithTheirSegment(t *testing.T) {
	lp := open(t, logport.Config{Listen: "off", RingBytes: 32 << 20})
	l := slog.New(lp.Handler())
	const count = 20_000
	for i := range count {
		logFromFar(l, strings.Repeat("m", i%97), i, strings.Repeat("b", i%301))
	}
	all := events(lp)
	if len(all) != count {
		t.Fatalf("%d events, want %d", len(all), count)
	}
	for i, e := range all {
		n, _ := e.Get("i")
		if n != int64(i) || len(e.Text("message")) != i%97 || len(e.Text("body")) != i%301 || !strings.HasSuffix(e.Text("source"), "_does_not_end_soon.go:100001") {
			t.Fatalf("event %d is %s", i, e.AppendJSON(nil))
		}
	}
}
