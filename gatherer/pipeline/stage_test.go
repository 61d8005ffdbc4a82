package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flogtool/flogtool/gatherer/archive"
	"github.com/flogtool/flogtool/internal/testwait"
)

// counter is a step that counts its tries, and fails where fail says so.
type counter struct {
	fail func(s archive.Stored) error
	gate chan struct{} // Do receives from it, if it is not nil

	mu    sync.Mutex
	tries map[archive.ID]int
	done  map[archive.ID]int
}

func (c *counter) Do(_ context.Context, s archive.Stored) error {
	if c.gate != nil {
		<-c.gate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done[s.ID] > 0 {
		return nil
	}
	c.tries[s.ID]++
	if err := c.fail(s); err != nil {
		return err
	}
	c.done[s.ID]++
	return nil
}

func (c *counter) undone(s archive.State) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done[s.ID] == 0
}

// newCounterStage returns a stage over an archive with n incidents.
func newCounterStage(t *testing.T, n int) (*stage, *counter) {
	t.Helper()
	dir := newDir(t)
	for _, name := range []string{"incidents", "incidents/" + tub} {
		if err := dir.Mkdir(name); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		f, err := dir.NewFile(stored(i).Path(), 0o600)
		if err == nil {
			err = f.Commit()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	a, err := archive.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{
		fail:  func(archive.Stored) error { return nil },
		tries: map[archive.ID]int{}, done: map[archive.ID]int{},
	}
	return newStage("count", c, a, c.undone, slog.New(testwait.NewLog(t))), c
}

func stored(i int) archive.Stored { return archive.Stored{ID: id(i), Ending: ".flog.zst"} }

// run runs the stage until the test ends.
func run(t *testing.T, st *stage) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); st.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
}

// TestQueueIsBounded: more incidents come than the queue holds. The others are
// found in the archive, and each is done once.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 5*maxQueue + 7
		st, c := newCounterStage(t, n)
		c.gate = make(chan struct{})
		handed := map[archive.ID]bool{}
		st.next = func(s archive.Stored) { handed[s.ID] = true }
		run(t, st)
		for i := range n {
			st.add(stored(i))
			st.mu.Lock()
			queue, queued := len(st.t.queue), len(st.t.queued)
			st.mu.Unlock()
			if queue > maxQueue || queued != queue {
				t.Fatalf("the queue has %d names, and %d in its index; the bound is %d", queue, queued, maxQueue)
			}
			if i%1000 == 0 {
				c.gate <- struct{}{} // some are done meanwhile
			}
		}
		close(c.gate)
		synctest.Wait()
		for i := range n {
			if times := c.done[id(i)]; times != 1 {
				t.Errorf("incident %d was done %d times, want once", i, times)
			}
		}
		if len(handed) != n || st.busy() {
			t.Errorf("%d incidents were handed on, want %d; busy = %v", len(handed), n, st.busy())
		}
	})
}

// TestFailuresAreBounded: more incidents fail than the stage remembers. All good
// ones are done, and all others are tried again, also those not remembered.
func TestFailuresAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 3 * maxFailed
		st, c := newCounterStage(t, n)
		bad := func(i int) bool { return i%10 != 0 }
		number := map[archive.ID]int{}
		for i := range n {
			number[id(i)] = i
		}
		c.fail = func(s archive.Stored) error {
			if bad(number[s.ID]) {
				return fmt.Errorf("no use for %s", s.Name)
			}
			return nil
		}
		run(t, st)
		check := func(tries int) {
			t.Helper()
			st.mu.Lock()
			defer st.mu.Unlock()
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(st.t.failed) > maxFailed || len(st.t.suspects) > 0 {
				t.Errorf("%d failures are remembered, the bound is %d; %d suspects", len(st.t.failed), maxFailed, len(st.t.suspects))
			}
			for i := range n {
				if bad(i) && (c.tries[id(i)] < tries || c.tries[id(i)] > 3*tries) {
					t.Errorf("bad incident %d was tried %d times, want %d or a little more", i, c.tries[id(i)], tries)
				}
				if !bad(i) && (c.done[id(i)] != 1 || c.tries[id(i)] != 1) {
					t.Errorf("good incident %d was tried %d times and done %d times, want once", i, c.tries[id(i)], c.done[id(i)])
				}
			}
		}
		time.Sleep(10 * time.Minute)
		check(1)
		if list := st.setAside(); len(list) != maxFailed {
			t.Errorf("%d incidents are set aside, want %d", len(list), maxFailed)
		}
		time.Sleep(80 * time.Minute)
		check(2)
		c.mu.Lock()
		c.fail = func(archive.Stored) error { return nil }
		c.mu.Unlock()
		time.Sleep(80 * time.Minute)
		synctest.Wait()
		for i := range n {
			if times := c.done[id(i)]; times != 1 {
				t.Errorf("incident %d was done %d times, want once", i, times)
			}
		}
		if len(st.t.failed) > 0 || len(st.setAside()) > 0 {
			t.Errorf("%d are still remembered as failed", len(st.t.failed))
		}
	})
}

// TestTargetAwayBounded: while the target is away for days, memory is bounded, and
// then all are done.
func TestTargetAwayBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 3 * maxQueue
		st, c := newCounterStage(t, n)
		c.fail = func(archive.Stored) error { return fmt.Errorf("full disk: %w", away{}) }
		run(t, st)
		for i := range n {
			st.add(stored(i))
			time.Sleep(time.Minute)
		}
		st.mu.Lock()
		if len(st.t.queue) > maxQueue || len(st.t.suspects) > maxFailed || len(st.t.failed) > 0 {
			t.Errorf("%d are queued, %d suspected, %d have failed", len(st.t.queue), len(st.t.suspects), len(st.t.failed))
		}
		st.mu.Unlock()
		c.mu.Lock()
		c.fail = func(archive.Stored) error { return nil }
		c.mu.Unlock()
		time.Sleep(80 * time.Second)
		synctest.Wait()
		for i := range n {
			if times := c.done[id(i)]; times != 1 {
				t.Errorf("incident %d was done %d times, want once", i, times)
			}
		}
		if len(st.t.suspects) > 0 {
			t.Errorf("%d are still suspected", len(st.t.suspects))
		}
	})
}

func TestUnavailable(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{errors.New("x"), false},
		{away{}, true},
		{fmt.Errorf("y: %w", away{}), true},
		{&writeError{errors.New("z")}, true},
	} {
		if got := unavailable(tt.err); got != tt.want {
			t.Errorf("unavailable(%v) = %v, want %v", tt.err, got, tt.want)
		}
	}
}
