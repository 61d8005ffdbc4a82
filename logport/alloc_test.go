//go:build !race

package logport_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport"
)

// TestLogDoesNotAllocate keeps the hot path free of garbage, for up to eight
// attributes of basic kinds.
func TestLogDoesNotAllocate(t *testing.T) {
	lp := open(t, logport.Config{Listen: "off"})
	ctx := logport.WithParent(context.Background(), event.Num(3))
	l := slog.New(lp.Handler())
	with := l.With("service", "orders").WithGroup("request")
	now := time.Now()
	lp.Log(ctx, slog.LevelDebug, "the ring's first", logport.Facility("app"))
	for name, f := range map[string]func(){
		"Log": func() {
			lp.Log(ctx, slog.LevelDebug, "eight attributes", slog.String("s", "text"), slog.Int("i", -5), slog.Uint64("u", 7),
				slog.Float64("f", 1.5), slog.Bool("b", true), slog.Duration("d", time.Second), slog.Time("t", now), logport.Facility("app"))
		},
		"slog": func() {
			l.LogAttrs(ctx, slog.LevelInfo, "five attributes", slog.String("s", "text"), slog.Int("i", -5),
				slog.Float64("f", 1.5), slog.Bool("b", true), slog.Duration("d", time.Second))
		},
		"slog with": func() {
			with.LogAttrs(ctx, slog.LevelInfo, "in a group", slog.String("s", "text"), slog.Int("i", -5))
		},
		"below the threshold": func() { lp.Log(ctx, slog.Level(-20), "nothing", slog.Int("i", 1)) },
	} {
		f()
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s allocates %v times an event, want 0", name, n)
		}
	}
}
