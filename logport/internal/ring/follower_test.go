package ring

import (
	"context"
	"testing"

	"github.com/flogtool/flogtool/event"
)

// TestLossIsCountedWhereItIs: a subscription that is cut while it catches up goes
// on where it was, so what the rings evicted before that must have been counted.
func TestLossIsCountedWhereItIs(t *testing.T) {
	a := New(make([]byte, MinBytes), false)
	facility := a.Facility("")
	payload := make([]byte, 1000)
	logMany := func(n int) {
		for range n {
			a.Append(facility, event.Noisy, payload)
		}
	}
	for name, options := range map[string]func() FollowOptions{
		"from the beginning": func() FollowOptions { return FollowOptions{CatchUp: true, MaxBytes: 1 << 20} },
		"from a number":      func() FollowOptions { return FollowOptions{Resume: true, From: a.Next() - 100, MaxBytes: 1 << 20} },
	} {
		t.Run(name, func(t *testing.T) {
			logMany(1000) // the rings hold some 200
			f := Follow(NewPump(a), options())
			first, ok := f.Next(t.Context(), false, nil)
			if !ok || first.Kind != Event {
				t.Fatalf("the first item is %+v, %v, want an event", first, ok)
			}
			logMany(180)
			returned, lost := uint64(1), uint64(0)
			last := first.Num
			for a.Next() > last+1 {
				it, ok := f.Next(t.Context(), false, nil)
				if !ok {
					t.Fatal("Next ended")
				}
				var l Loss
				if it.Kind == Lost {
					l = it.Loss
					if it, ok = f.Next(t.Context(), false, nil); !ok {
						t.Fatal("Next ended after a loss")
					}
				}
				if it.Kind != Event || l.Count != uint64(it.Num-last-1) {
					t.Fatalf("between %d and %d a loss of %d is counted", last, it.Num, l.Count)
				}
				if l.Count > 0 && (l.From != last+1 || l.Until != it.Num) {
					t.Errorf("the events lost between %d and %d are said to be %d to below %d", last, it.Num, l.From, l.Until)
				}
				returned, lost, last = returned+1, lost+l.Count, it.Num
				if it.Num+1 >= f.c.Until() {
					break // what follows comes by the pump, which does not run here
				}
			}
			if lost == 0 {
				t.Error("nothing was lost: the test tests nothing")
			}
			if returned+lost != uint64(last-first.Num)+1 {
				t.Errorf("%d events returned and %d lost of %d", returned, lost, last-first.Num+1)
			}
		})
	}
}

// TestFollowerItems: what is logged before, while and after a follower catches up
// comes once and in order; the end of the catch-up is told once; a full queue gives a
// loss where the events are missing; the pump's end ends the follower.
func TestFollowerItems(t *testing.T) {
	a := New(make([]byte, 64*BlockSize), false)
	facility := a.Facility("")
	logMany := func(n int) {
		for range n {
			a.Append(facility, event.Noisy, []byte("payload"))
		}
	}
	logMany(10)
	p := NewPump(a)
	f := Follow(p, FollowOptions{CatchUp: true, MaxCount: 5, MaxBytes: 1 << 20})
	defer f.Stop()
	next := func(busy bool) Item {
		t.Helper()
		it, ok := f.Next(t.Context(), busy, nil)
		if !ok {
			t.Fatal("Next ended")
		}
		return it
	}
	logMany(3) // after the cut: joined before the queue begins
	for want := range event.Num(13) {
		if it := next(false); it.Kind != Event || it.Num != want || string(it.Record) != "payload" {
			t.Fatalf("item %+v, want event %d", it, want)
		}
	}
	if it := next(false); it.Kind != CaughtUp || it.Num != 13 {
		t.Fatalf("item %+v, want the end of the catch-up at 13", it)
	}
	if it := next(true); it.Kind != Idle {
		t.Fatalf("item %+v, want idle", it)
	}
	logMany(8)
	p.pass()
	for want := event.Num(13); want < 18; want++ {
		if it := next(false); it.Kind != Event || it.Num != want {
			t.Fatalf("item %+v, want event %d", it, want)
		}
	}
	if it := next(false); it.Kind != Lost || it.Loss != (Loss{3, 18, 21}) {
		t.Fatalf("item %+v, want the loss of 18 to 20", it)
	}
	if it := next(true); it.Kind != Idle {
		t.Fatalf("item %+v, want idle", it)
	}
	logMany(1)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	p.Run(ended)
	if it := next(false); it.Kind != Event || it.Num != 21 {
		t.Fatalf("item %+v, want the event before the end", it)
	}
	if it, ok := f.Next(t.Context(), false, nil); ok {
		t.Errorf("item %+v after the pump has ended", it)
	}
}
