package ring

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/flogtool/flogtool/event"
)

// drain takes all that a queue holds: the numbers of events, and its gaps.
func drain(q *queue) (nums []event.Num, gaps []gap) {
	entries, _ := q.take()
	for rest := entries; len(rest) > 0; {
		num, rec, g, after := nextEntry(rest)
		if rest = after; rec == nil {
			gaps = append(gaps, g)
			continue
		}
		nums = append(nums, num)
		q.done(1, entryHeader+len(rec))
	}
	q.giveBack(entries)
	return nums, gaps
}

// TestPumpServesEachQueueApart: a full queue counts what it misses, and costs the others
// nothing; one that is added later begins where the pump is.
func TestPumpServesEachQueueApart(t *testing.T) {
	a := New(make([]byte, 64*BlockSize), false)
	facility := a.Facility("")
	logMany := func(n int) {
		for range n {
			a.Append(facility, event.Noisy, []byte("payload"))
		}
	}
	p := NewPump(a)
	logMany(3)
	small, large := newQueue(2, 1<<20), newQueue(0, 1<<20)
	if from := p.add(small); from != 3 {
		t.Errorf("the first queue begins at %d, want 3", from)
	}
	p.add(large)
	logMany(5)
	p.pass()
	late := newQueue(0, 1<<20)
	if from := p.add(late); from != 8 {
		t.Errorf("a late queue begins at %d, want 8", from)
	}
	logMany(2)
	p.pass()
	if nums, gaps := drain(small); !slices.Equal(nums, []event.Num{3, 4}) || !slices.Equal(gaps, []gap{{5, 10}}) {
		t.Errorf("the small queue has %v and gaps %v, want 3 and 4, and the gap of 5 to 9", nums, gaps)
	}
	if nums, gaps := drain(large); len(nums) != 7 || nums[0] != 3 || len(gaps) != 0 {
		t.Errorf("the large queue has %v and gaps %v, want 3 to 9", nums, gaps)
	}
	if nums, _ := drain(late); !slices.Equal(nums, []event.Num{8, 9}) {
		t.Errorf("the late queue has %v, want 8 and 9", nums)
	}
	// A queue that was emptied takes events again, after its gap.
	logMany(1)
	p.pass()
	if nums, gaps := drain(small); !slices.Equal(nums, []event.Num{10}) || len(gaps) != 0 {
		t.Errorf("the small queue has %v and gaps %v, want 10", nums, gaps)
	}
	p.remove(small)
	logMany(1)
	p.pass()
	if nums, _ := drain(small); len(nums) != 0 {
		t.Errorf("a queue that was removed still gets %v", nums)
	}
}

// TestPumpCountsWhatTheRingsEvicted: what is gone before the pump comes is one gap, and
// queues that are all full are not read for.
func TestPumpCountsWhatTheRingsEvicted(t *testing.T) {
	a := New(make([]byte, MinBytes), false)
	facility := a.Facility("")
	p := NewPump(a)
	q := newQueue(0, 1<<20)
	p.add(q)
	const logged = 5000
	for range logged {
		a.Append(facility, event.Noisy, make([]byte, 1000))
	}
	p.pass()
	nums, gaps := drain(q)
	if len(gaps) != 1 || gaps[0].from != 0 || len(nums) == 0 || nums[0] != gaps[0].until || nums[len(nums)-1] != logged-1 {
		t.Fatalf("%d events and gaps %v, want one gap at the beginning", len(nums), gaps)
	}
	if int(gaps[0].until)+len(nums) != logged {
		t.Errorf("%d missing and %d there, want %d in all", gaps[0].until, len(nums), logged)
	}
	full := newQueue(1, 1<<20)
	p.remove(q)
	p.pass()
	p.add(full)
	for range 10 {
		a.Append(facility, event.Noisy, make([]byte, 1000))
		p.pass()
	}
	if nums, gaps := drain(full); !slices.Equal(nums, []event.Num{logged}) || !slices.Equal(gaps, []gap{{logged + 1, logged + 10}}) {
		t.Errorf("a full queue has %v and gaps %v", nums, gaps)
	}
}

// TestPumpUnderLoad: with loggers, queues that come and go and a pump that runs, every
// follower gets an unbroken run of events and losses.
func TestPumpUnderLoad(t *testing.T) {
	a := New(make([]byte, 64*BlockSize), false)
	p := NewPump(a)
	ctx, cancel := context.WithCancel(t.Context())
	var running, loggers, followers sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	for i := range 2 {
		loggers.Go(func() {
			facility := a.Facility([]string{"a", "b"}[i])
			for range 20_000 {
				a.Append(facility, event.Noisy, make([]byte, 100))
			}
		})
	}
	for i := range 4 {
		followers.Go(func() {
			for range 5 {
				f := Follow(p, FollowOptions{Resume: true, From: a.Next(), MaxCount: 100 * (i + 1), MaxBytes: 1 << 20})
				next := f.pos
				for range 500 {
					it, ok := f.Next(ctx, true, nil)
					switch {
					case !ok:
						f.Stop()
						return
					case it.Kind == Event && it.Num == next:
						next++
					case it.Kind == Lost && it.Loss.From == next && it.Loss.Count == uint64(it.Loss.Until-it.Loss.From):
						next = it.Loss.Until
					case it.Kind == CaughtUp, it.Kind == Idle:
					default:
						t.Errorf("%+v after all below %d", it, next)
					}
				}
				f.Stop()
			}
		})
	}
	loggers.Wait()
	followers.Wait()
	cancel()
	running.Wait()
}
