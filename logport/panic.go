package logport

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/flogtool/flogtool/event"
)

// panicWait is how long a panic is held up until its incident is on disk.
const panicWait = 2 * time.Second

// Recover records a panic as an incident, with its stack, and panics again with
// the same value. It does nothing if there is no panic. It must be deferred
// itself:
//
//	defer lp.Recover()
func (lp *Logport) Recover() {
	if v := recover(); v != nil {
		lp.Panicked(context.Background(), v)
		panic(v)
	}
}

// Panicked records the value of a panic that the caller has recovered, with the
// stack of the caller, and waits a moment for the incident to be on disk.
func (lp *Logport) Panicked(ctx context.Context, v any, attrs ...slog.Attr) event.Num {
	text, err := panicText(v)
	if err != nil {
		text = panicked(err)
	}
	kind := "panic"
	if t := reflect.TypeOf(v); t != nil {
		kind = t.String()
	}
	trace := string(debug.Stack())
	failure := event.Dict{
		{Key: "@", Value: "Failure"},
		{Key: "repr", Value: fmt.Sprintf("<panic %s: %s>", kind, text)},
		{Key: "str", Value: fmt.Sprintf("panic: %s (%s)\n%s", text, kind, trace)},
		{Key: "traceback", Value: trace},
	}
	b := event.AppendRecord(nil, lp.clock.now(), event.Bad, "panic: "+text)
	b = event.AppendValue(event.AppendKey(b, "failure"), maskAll(failure))
	b = event.AppendInt(event.AppendKey(b, "isError"), 1)
	p := noPlacing
	for _, a := range attrs {
		b = lp.appendTop(b, &p, &a)
	}
	num := lp.finish(ctx, b, event.Bad, &p)
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), panicWait)
	defer cancel()
	lp.Flush(wait)
	return num
}

func panicText(v any) (text string, err error) {
	v, err = readable(v)
	return fmt.Sprint(v), err
}
