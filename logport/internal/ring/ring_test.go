package ring

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/flogtool/flogtool/event"
)

// held returns what the rings hold, by a cursor.
func held(t *testing.T, a *Rings) map[event.Num][]byte {
	t.Helper()
	c := NewCursor(a, 0)
	c.Cut()
	got := map[event.Num][]byte{}
	last := event.Num(0)
	for {
		num, rec, ok := c.Read()
		if !ok {
			return got
		}
		if len(got) > 0 && num <= last {
			t.Fatalf("cursor returned %d after %d", num, last)
		}
		last = num
		got[num] = bytes.Clone(rec)
	}
}

// payload is recognisable by its number and any size.
func payload(rng *rand.Rand, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// TestRingsAgainstModel logs at random and compares what the rings hold with the
// claims of the design: what is there is whole, the newest of each ring are
// there, and no facility takes from another more than its fair share.
func TestRingsAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			a := New(make([]byte, 64*BlockSize), true)
			all := map[event.Num][]byte{}
			ringOf := map[event.Num]*Ring{}
			newest := map[*Ring]event.Num{}
			for range 4000 {
				name := fmt.Sprintf("f%d", min(rng.IntN(12), rng.IntN(12)))
				f, band := a.Facility(name), rng.IntN(3)
				r := a.newRing(f, band)
				size := rng.IntN(600)
				if rng.IntN(200) == 0 {
					size = rng.IntN(a.maxRecord)
				}
				p := payload(rng, size)
				num := a.Append(f, event.Levels[band], p)
				if num != event.Num(len(all)) {
					t.Fatalf("append gave number %d, want %d", num, len(all))
				}
				all[num], ringOf[num], newest[r] = p, r, num
			}
			got := held(t, a)
			for num, p := range got {
				if !bytes.Equal(p, all[num]) {
					t.Fatalf("event %d is not what was logged", num)
				}
			}
			for r, num := range newest {
				if got[num] == nil {
					t.Errorf("the newest event of %s/%d, number %d, is gone", r.fac.name, r.band, num)
				}
			}
			// In each ring, what is there is an unbroken run up to the newest.
			for num := range all {
				if got[num] == nil {
					continue
				}
				for later := num + 1; later < event.Num(len(all)); later++ {
					if ringOf[later] == ringOf[num] && got[later] == nil {
						t.Fatalf("event %d of a ring is there and the later %d is gone", num, later)
					}
				}
			}
			blocks := len(a.t.free)
			for _, f := range *a.facilities.Load() {
				blocks += f.blocks
			}
			if blocks != a.t.total {
				t.Errorf("%d blocks are accounted for, want %d", blocks, a.t.total)
			}
		})
	}
}

// TestNoisyFacilityLeavesTheShareOfOthers: one facility logs a hundred times
// what the rings hold; what the others logged before is untouched.
func TestNoisyFacilityLeavesTheShareOfOthers(t *testing.T) {
	a := New(make([]byte, 64*BlockSize), true)
	quiet := a.Facility("quiet")
	var first []event.Num
	for range 10 * BlockSize / 200 { // ten blocks: below a fair share of 28
		first = append(first, a.Append(quiet, event.Noisy, make([]byte, 200-recordHeader)))
	}
	noisy := a.Facility("noisy")
	for range 100 * 64 * BlockSize / 1000 {
		a.Append(noisy, event.Noisy, make([]byte, 1000))
	}
	got := held(t, a)
	for _, num := range first {
		if got[num] == nil {
			t.Fatalf("event %d of the quiet facility was evicted by the noisy one", num)
		}
	}
}

// TestPinKeepsWhatLedToTheTrigger: events that follow a trigger do not overwrite
// what led to it as long as the reserve lasts; then what is evicted is counted.
func TestPinKeepsWhatLedToTheTrigger(t *testing.T) {
	a := New(make([]byte, 64*BlockSize), true)
	f := a.Facility("")
	for range 64 * BlockSize / 500 {
		a.Append(f, event.Noisy, make([]byte, 500))
	}
	before := held(t, a)
	trigger := a.Append(f, event.Noisy, make([]byte, 10))
	a.Pin(trigger)
	for range a.t.reserve * BlockSize / 600 {
		a.Append(f, event.Noisy, make([]byte, 500))
	}
	after := held(t, a)
	for num := range before {
		if after[num] == nil {
			t.Fatalf("event %d was overwritten although it is pinned", num)
		}
	}
	if a.t.pinLost != 0 {
		t.Errorf("%d events are counted as evicted, want 0", a.t.pinLost)
	}
	for range 4 * BlockSize / 500 {
		a.Append(f, event.Noisy, make([]byte, 500))
	}
	after = held(t, a)
	lost := 0
	for num := range before {
		if after[num] == nil {
			lost++
		}
	}
	if lost == 0 || uint64(lost) != a.t.pinLost {
		t.Errorf("%d pinned events are gone and %d are counted", lost, a.t.pinLost)
	}
	a.Unpin(trigger)
	for range 3 * 64 * BlockSize / 500 {
		a.Append(f, event.Noisy, make([]byte, 500))
	}
	if len(a.t.free) < a.t.reserve-4 {
		t.Errorf("%d blocks are free after the pin, want the reserve of %d back", len(a.t.free), a.t.reserve)
	}
}

func TestRingLimits(t *testing.T) {
	a := New(make([]byte, 64*BlockSize), true)
	a.SetRing("", event.Noisy, 0, 100)
	a.SetRing("small", event.Noisy, 2*BlockSize, 0)
	a.SetRing("few.er", event.Noisy, 0, 3)
	for _, name := range []string{"", "few.er.child", "small.one"} {
		for range 5000 {
			a.Append(a.Facility(name), event.Noisy, make([]byte, 100))
		}
	}
	count := map[int]int{}
	for num := range held(t, a) {
		count[int(num)/5000]++
	}
	if count[0] != 100 || count[1] != 3 {
		t.Errorf("rings limited to 100 and 3 events hold %d and %d", count[0], count[1])
	}
	if max := 2 * blockData / (100 + recordHeader); count[2] > max || count[2] < max/2 {
		t.Errorf("a ring limited to two blocks holds %d events, want %d to %d", count[2], max/2, max)
	}
}

// TestCursorLosesNothingWhileOthersLog: with rings large enough, a cursor that
// reads while eight goroutines log sees every number once, in order.
func TestCursorLosesNothingWhileOthersLog(t *testing.T) {
	a := New(make([]byte, 4096*BlockSize), true)
	const each = 20000
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			f := a.Facility(fmt.Sprintf("f%d", g%3))
			for i := range each {
				a.Append(f, event.Levels[i%4], []byte("payload"))
			}
		})
	}
	c := NewCursor(a, 0)
	want := event.Num(0)
	for want < 8*each {
		if err := a.Wait(context.Background(), want); err != nil {
			t.Fatal(err)
		}
		c.Cut()
		for {
			num, _, ok := c.Read()
			if !ok {
				break
			}
			if num != want {
				t.Fatalf("cursor returned %d, want %d", num, want)
			}
			want++
		}
		if want != c.until {
			t.Fatalf("cursor ended at %d, below its cut %d", want, c.until)
		}
	}
	wg.Wait()
}

func TestManyFacilitiesShareOther(t *testing.T) {
	a := New(make([]byte, 1024*BlockSize), true)
	for i := range 200 {
		f := a.Facility(fmt.Sprint("f", i))
		a.Append(f, event.Noisy, []byte("x"))
	}
	if n := len(*a.facilities.Load()); n != maxFacilities+1 {
		t.Errorf("%d facilities have rings, want %d and (other)", n, maxFacilities)
	}
	if got := len(held(t, a)); got != 200 {
		t.Errorf("%d events are held, want 200", got)
	}
	// A small total has room for few; every event still finds a ring.
	a = New(make([]byte, MinBytes), true)
	for i := range 2000 {
		f := a.Facility(fmt.Sprint("f", i%100))
		a.Append(f, event.Levels[i%8], make([]byte, 1000))
	}
	if len(held(t, a)) == 0 {
		t.Error("nothing is held")
	}
}
