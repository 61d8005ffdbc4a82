package logotel_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/logport/logotel"
)

func spanContext() context.Context {
	return trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0x4b, 0xf9, 0x2f, 15: 0x36}, SpanID: trace.SpanID{0x00, 0xf0, 7: 0xb7},
	}))
}

func TestHandlerAddsIDsAtTheTop(t *testing.T) {
	var out bytes.Buffer
	l := slog.New(logotel.Handler(slog.NewTextHandler(&out, nil)))
	l.InfoContext(spanContext(), "plain", "k", 1)
	l.With("a", 1).WithGroup("g").With("b", 2).InfoContext(spanContext(), "grouped", "k", 1)
	l.With("a", 1).WithGroup("g").Info("no span", "k", 1)
	const ids = "trace_id=4bf92f00000000000000000000000036 span_id=00f00000000000b7"
	lines := strings.Split(out.String(), "\n")
	for i, want := range []string{"msg=plain k=1 " + ids, "msg=grouped a=1 " + ids + " g.b=2 g.k=1", "msg=\"no span\" a=1 g.k=1"} {
		got := lines[i][strings.Index(lines[i], "msg="):]
		wantSet, gotSet := strings.Fields(want), strings.Fields(got)
		for _, w := range wantSet {
			if !strings.Contains(" "+got+" ", " "+w+" ") {
				t.Errorf("line %d is %q, want %q in it", i, got, w)
			}
		}
		if len(gotSet) != len(wantSet) {
			t.Errorf("line %d is %q, want the fields of %q", i, got, want)
		}
	}
}

func TestIntoRings(t *testing.T) {
	lp, err := logport.Open(logport.Config{Listen: "off"})
	if err != nil {
		t.Fatal(err)
	}
	defer lp.Close()
	ctx := spanContext()
	slog.New(logotel.Handler(lp.Handler())).WithGroup("g").InfoContext(ctx, "by slog", "k", 1)
	lp.Log(ctx, slog.LevelInfo, "by Log", logotel.Attrs(ctx)...)
	var found []*event.Event
	for e := range lp.Buffered() {
		if e.Text(logotel.TraceID) == "4bf92f00000000000000000000000036" && e.Text(logotel.SpanID) == "00f00000000000b7" {
			found = append(found, e)
		}
	}
	if len(found) != 2 {
		t.Errorf("%d events have the ids, want 2", len(found))
	}
}
