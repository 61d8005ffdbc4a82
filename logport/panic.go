package logport

import (
	"fmt"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/flogtool/flogtool/event"
)

// panicWait is how long a panic is held up until its incident is on disk.
const panicWait = 2 * time.Second

// panicMessage returns the message and the failure that an event has for the value of a
// panic, with the stack of the caller.
func panicMessage(v any) (message string, failure event.Dict) {
	text, err := panicText(v)
	if err != nil {
		text = panicked(err)
	}
	kind := "panic"
	if t := reflect.TypeOf(v); t != nil {
		kind = t.String()
	}
	trace := string(debug.Stack())
	return "panic: " + text, event.Dict{
		{Key: "@", Value: "Failure"},
		{Key: "repr", Value: fmt.Sprintf("<panic %s: %s>", kind, text)},
		{Key: "str", Value: fmt.Sprintf("panic: %s (%s)\n%s", text, kind, trace)},
		{Key: "traceback", Value: trace},
	}
}

func panicText(v any) (text string, err error) {
	v, err = readable(v)
	return fmt.Sprint(v), err
}
