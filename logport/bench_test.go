package logport_test

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"

	"github.com/flogtool/flogtool/logport"
)

func open(tb testing.TB, cfg logport.Config) *logport.Logport {
	tb.Helper()
	lp, err := logport.Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { lp.Close() })
	return lp
}

func BenchmarkLog(b *testing.B) {
	lp := open(b, logport.Config{Listen: "off"})
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		lp.Log(ctx, slog.LevelInfo, "request served", slog.String("path", "/v1/orders"), slog.Int("status", 200), slog.Float64("ms", 1.25))
	}
}

func BenchmarkSlog(b *testing.B) {
	lp := open(b, logport.Config{Listen: "off"})
	l := slog.New(lp.Handler())
	b.ReportAllocs()
	for b.Loop() {
		l.LogAttrs(context.Background(), slog.LevelInfo, "request served", slog.String("path", "/v1/orders"), slog.Int("status", 200), slog.Float64("ms", 1.25))
	}
}

type nothing struct{}

func (nothing) Enabled(context.Context, slog.Level) bool  { return true }
func (nothing) Handle(context.Context, slog.Record) error { return nil }
func (nothing) WithAttrs([]slog.Attr) slog.Handler        { return nothing{} }
func (nothing) WithGroup(string) slog.Handler             { return nothing{} }

func BenchmarkSlogNothing(b *testing.B) {
	l := slog.New(nothing{})
	b.ReportAllocs()
	for b.Loop() {
		l.LogAttrs(context.Background(), slog.LevelInfo, "request served", slog.String("path", "/v1/orders"), slog.Int("status", 200), slog.Float64("ms", 1.25))
	}
}

func BenchmarkSlogJSON(b *testing.B) {
	l := slog.New(slog.NewJSONHandler(io.Discard, nil))
	b.ReportAllocs()
	for b.Loop() {
		l.LogAttrs(context.Background(), slog.LevelInfo, "request served", slog.String("path", "/v1/orders"), slog.Int("status", 200), slog.Float64("ms", 1.25))
	}
}

// BenchmarkLogTwo logs from two goroutines, each to a facility of its own.
func BenchmarkLogTwo(b *testing.B) {
	lp := open(b, logport.Config{Listen: "off"})
	var wg sync.WaitGroup
	for _, facility := range []string{"a", "b"} {
		wg.Go(func() {
			for i := range b.N / 2 {
				lp.Log(context.Background(), slog.LevelInfo, "request served", logport.Facility(facility),
					slog.String("path", "/v1/orders"), slog.Int("status", i), slog.Float64("ms", 1.25))
			}
		})
	}
	wg.Wait()
}
