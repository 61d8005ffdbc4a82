package main

import (
	"context"
	"io"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	phuslu "github.com/phuslu/log"
	"github.com/rs/zerolog"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport"
)

// nothing is a slog handler that does nothing. It shows what slog itself costs.
type nothing struct{ off bool }

func (n nothing) Enabled(context.Context, slog.Level) bool { return !n.off }
func (nothing) Handle(context.Context, slog.Record) error  { return nil }
func (n nothing) WithAttrs([]slog.Attr) slog.Handler       { return n }
func (n nothing) WithGroup(string) slog.Handler            { return n }

// candidate is one way to log one event with three attributes.
type candidate struct {
	name string
	log  func(n int)
	best float64 // ns for one event, of the best round
}

// compare runs the candidates in turns and keeps the best round of each, which is one that
// other load on the machine did not disturb.
func compare(rounds, events int, candidates []*candidate) {
	for _, c := range candidates {
		c.best = math.Inf(1)
		c.log(events / 10)
	}
	for range rounds {
		for _, c := range candidates {
			start := time.Now()
			c.log(events)
			c.best = min(c.best, float64(time.Since(start))/float64(events))
		}
	}
}

// benchRecorder compares log calls with those of other loggers.
func benchRecorder(r *report) {
	ctx := context.Background()
	lp := openForBench(r, logport.Config{Listen: "off"})
	defer lp.Close()
	mapped := openForBench(r, logport.Config{Listen: "off", Dir: tempDir(r)})
	defer mapped.Close()
	above := openForBench(r, logport.Config{Listen: "off"})
	defer above.Close()
	above.SetThreshold("", event.Weird)

	slogTo := func(h slog.Handler) func(int) {
		l := slog.New(h)
		return func(n int) {
			for i := range n {
				l.LogAttrs(ctx, slog.LevelInfo, "request served",
					slog.String("path", "/v1/orders"), slog.Int("status", i), slog.Float64("ms", 1.25))
			}
		}
	}
	native := func(lp *logport.Logport) func(int) {
		return func(n int) {
			for i := range n {
				lp.Log(ctx, slog.LevelInfo, "request served",
					slog.String("path", "/v1/orders"), slog.Int("status", i), slog.Float64("ms", 1.25))
			}
		}
	}
	zl := zerolog.New(io.Discard).With().Timestamp().Logger()
	pl := phuslu.Logger{Level: phuslu.InfoLevel, Writer: phuslu.IOWriter{Writer: io.Discard}}

	slogNothing := &candidate{name: "slog, a handler that does nothing", log: slogTo(nothing{})}
	slogJSON := &candidate{name: "slog, its JSON handler to io.Discard", log: slogTo(slog.NewJSONHandler(io.Discard, nil))}
	slogOff := &candidate{name: "slog, disabled", log: slogTo(nothing{off: true})}
	zero := &candidate{name: "zerolog to io.Discard", log: func(n int) {
		for i := range n {
			zl.Info().Str("path", "/v1/orders").Int("status", i).Float64("ms", 1.25).Msg("request served")
		}
	}}
	phus := &candidate{name: "phuslu/log to io.Discard", log: func(n int) {
		for i := range n {
			pl.Info().Str("path", "/v1/orders").Int("status", i).Float64("ms", 1.25).Msg("request served")
		}
	}}
	ourSlog := &candidate{name: "flogtool through slog, into rings", log: slogTo(lp.Handler())}
	ourLog := &candidate{name: "flogtool Log, into rings", log: native(lp)}
	ourMapped := &candidate{name: "flogtool Log, into mapped rings", log: native(mapped)}
	ourOff := &candidate{name: "flogtool through slog, below the threshold", log: slogTo(above.Handler())}

	// Fill the rings first, so that every event overwrites others.
	native(lp)(1_000_000)
	native(mapped)(1_000_000)
	compare(150, 10_000, []*candidate{slogNothing, ourSlog, slogJSON, ourLog, ourMapped, zero, phus})
	compare(20, 2_000_000, []*candidate{slogOff, ourOff})
	for _, c := range []*candidate{slogNothing, ourSlog, slogJSON, ourLog, ourMapped, zero, phus, slogOff, ourOff} {
		r.Row(c.name, c.best, "ns/event")
	}
	one := native(lp)
	allocs := testing.AllocsPerRun(10_000, func() { one(1) })
	r.Row("allocations for one event", allocs, "allocs")
	r.Ratio("recorder-slog-vs-nothing", ourSlog.best/slogNothing.best)
	r.Ratio("recorder-slog-vs-slogjson", ourSlog.best/slogJSON.best)
	r.Ratio("recorder-log-vs-phuslu", ourLog.best/phus.best)
	r.Ratio("recorder-log-vs-zerolog", ourLog.best/zero.best)
	r.Ratio("recorder-mapped-vs-memory", ourMapped.best/ourLog.best)
	r.Ratio("recorder-off-vs-slogoff", ourOff.best/slogOff.best)

	other := openForBench(r, logport.Config{Listen: "off"})
	defer other.Close()
	alone, two, same, apart := 0.0, 0.0, 0.0, 0.0
	for range 40 {
		alone = max(alone, eventsPerSecond(writer{lp, "a"}))
		two = max(two, eventsPerSecond(writer{lp, "a"}, writer{lp, "b"}))
		same = max(same, eventsPerSecond(writer{lp, "a"}, writer{lp, "a"}))
		apart = max(apart, eventsPerSecond(writer{lp, "a"}, writer{other, "a"}))
	}
	r.Row("one goroutine", alone, "events/s")
	r.Row("two goroutines, two facilities", two, "events/s")
	r.Row("two goroutines, one facility", same, "events/s")
	r.Row("two goroutines, two Logports: nothing shared", apart, "events/s")
	r.Ratio("recorder-two-facilities-vs-one", two/alone)
	r.Ratio("recorder-two-logports-vs-one", apart/alone)
	r.Ratio("recorder-one-facility-vs-one", same/alone)
	runtime.KeepAlive(lp)
}

// writer is a goroutine of eventsPerSecond.
type writer struct {
	lp       *logport.Logport
	facility string
}

// eventsPerSecond logs for 50 ms, with a goroutine for each writer, and returns the rate.
func eventsPerSecond(writers ...writer) float64 {
	var wg sync.WaitGroup
	var total atomic.Int64
	start := time.Now()
	for _, w := range writers {
		wg.Go(func() {
			n := int64(0)
			for time.Since(start) < 50*time.Millisecond {
				for i := range 1000 {
					w.lp.Log(context.Background(), slog.LevelInfo, "request served", logport.Facility(w.facility),
						slog.String("path", "/v1/orders"), slog.Int("status", i), slog.Float64("ms", 1.25))
				}
				n += 1000
			}
			total.Add(n)
		})
	}
	wg.Wait()
	return float64(total.Load()) / time.Since(start).Seconds()
}
