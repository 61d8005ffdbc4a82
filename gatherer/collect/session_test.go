package collect

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/internal/testwait"
)

const tub = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// TestEventWaits: an event whose line cannot be written is retried, and its
// publisher waits for that. It is published once, after it is written.
func TestEventWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []string
		s := newSession(New(Config{
			WriteEvent: func(line []byte) error {
				calls = append(calls, "write "+string(line))
				if len(calls) < 4 {
					return errors.New("full disk")
				}
				return nil
			},
			PublishEvent: func(tub string, ev *event.Event, line []byte) { calls = append(calls, "publish "+string(line)) },
			MaxEvent:     200,
			Log:          slog.New(testwait.NewLog(t)),
		}), tub, nil, nil)
		begin := time.Now()
		ev := event.FromDict(event.Dict{{Key: "num", Value: int64(7)}, {Key: "message", Value: strings.Repeat("x", 1000)}})
		if err := s.event(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 7*time.Second {
			t.Errorf("it took %v, want 1+2+4 s", took)
		}
		if len(calls) != 5 {
			t.Fatalf("calls are %q, want 4 of write and 1 of publish", calls)
		}
		for i, call := range calls {
			what, line, _ := strings.Cut(call, " ")
			if want := i == 4; (what == "publish") != want {
				t.Errorf("call %d is %s", i, what)
			}
			if !strings.HasPrefix(line, `{"from": "`+tub+`"`) || !strings.HasSuffix(line, "}\n") || len(line) > 400 || !strings.Contains(line, `"num": 7`) {
				t.Errorf("line is %s, want the shortened event", line)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		calls = nil
		if err := s.event(ctx, ev); err == nil || len(calls) != 1 {
			t.Errorf("after its connection is lost: %v, calls %q", err, calls)
		}
	})
}

func TestOffers(t *testing.T) {
	now := time.Unix(1700000000, 0)
	q := newOffers("incident-1")
	add := func(names ...string) {
		for _, name := range names {
			q.add(&offer{name: name}, 4)
		}
	}
	take := func(want string, wantLive bool) *offer {
		t.Helper()
		o, _, finished := q.next(now)
		if o == nil || o.name != want || o.live != wantLive || finished {
			t.Fatalf("next = %+v, finished %v; want %q, live %v", o, finished, want, wantLive)
		}
		return o
	}
	add("incident-3", "incident-2", "incident-2") // twice: queued once
	q.caughtUp = true
	add("incident-2") // and once more, complete
	if !q.isNewest("incident-3") || q.isNewest("incident-2") || q.isNewest("incident-1") {
		t.Error("the newest is incident-3")
	}
	take("incident-3", false)
	o := take("incident-2", true)
	o.due = now.Add(time.Minute)
	q.delayed = append(q.delayed, o)
	if o, wait, finished := q.next(now); o != nil || wait != time.Minute || finished {
		t.Errorf("next = %v, %v, %v; want nothing for a minute", o, wait, finished)
	}
	add("incident-4", "incident-5", "incident-6", "incident-7") // the last does not fit
	now = now.Add(time.Minute)
	for _, name := range []string{"incident-2", "incident-4", "incident-5", "incident-6"} {
		take(name, true)
	}
	if o, _, finished := q.next(now); o != nil || !finished {
		t.Errorf("next = %v, %v; want to ask the publisher again", o, finished)
	}
	for _, name := range []string{"incident-3", "incident-2", "incident-4", "incident-6"} {
		q.resume.settle(name)
	}
	if q.resume.mark != "incident-4" {
		t.Errorf("mark is %q, want the one before the open incident-5", q.resume.mark)
	}
	q.resume.settle("incident-5")
	if q.resume.mark != "incident-6" {
		t.Errorf("mark is %q, want the one before incident-7, which did not fit", q.resume.mark)
	}
}
