package logport

import (
	"testing"

	"github.com/flogtool/flogtool/event"
)

// TestLossIsCountedWhereItIs: a subscription that is cut while it catches up goes
// on where it was, so what the rings gave up before that must have been counted.
func TestLossIsCountedWhereItIs(t *testing.T) {
	a := newRings(make([]byte, minRingBytes), false, settings{})
	r := a.ring(a.facility(""), 0)
	payload := make([]byte, 1000)
	logMany := func(n int) {
		for range n {
			a.append(r, payload)
		}
	}
	for name, start := range map[string]func() *follower{
		"from the beginning": func() *follower { return follow(a, newPump(a), true, 0, 1<<20) },
		"from a number":      func() *follower { return followFrom(a, newPump(a), event.Num(a.next.Load()-100), 0, 1<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			logMany(1000) // the rings hold some 200
			f := start()
			first, _, ok := f.next(t.Context(), false, nil)
			if l := f.takeLost(); !ok || l.count != 0 {
				t.Fatalf("the first event is %d, %v, after a loss of %d", first, ok, l.count)
			}
			logMany(180)
			returned, lost := uint64(1), uint64(0)
			last := first
			for event.Num(a.next.Load()) > last+1 {
				num, _, ok := f.next(t.Context(), false, nil)
				if !ok {
					t.Fatal("next ended")
				}
				l := f.takeLost()
				if l.count != uint64(num-last-1) {
					t.Fatalf("between %d and %d a loss of %d is counted", last, num, l.count)
				}
				if l.count > 0 && (l.from != last+1 || l.until != num) {
					t.Errorf("the events lost between %d and %d are said to be %d to below %d", last, num, l.from, l.until)
				}
				returned, lost, last = returned+1, lost+l.count, num
				if num+1 >= f.c.until {
					break // what follows comes by the pump, which does not run here
				}
			}
			if lost == 0 {
				t.Error("nothing was lost: the test tests nothing")
			}
			if returned+lost != uint64(last-first)+1 {
				t.Errorf("%d events returned and %d lost of %d", returned, lost, last-first+1)
			}
		})
	}
}
