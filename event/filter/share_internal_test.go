package filter

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// spend charges a filter, which passes first, as an evaluation does.
func spend(t *testing.T, f *SharedFilter, took time.Duration) error {
	t.Helper()
	if err := f.pass(t.Context()); err != nil {
		return err
	}
	f.charge(took)
	return nil
}

func compileShared(t *testing.T, s *Share) *SharedFilter {
	t.Helper()
	f, err := s.Compile(t.Context(), `level > 5`)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// All that filters use is the rate, and what the bucket holds.
func TestShareRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewShare(0.1)
		start := time.Now()
		var used time.Duration
		a, b := compileShared(t, s), compileShared(t, s)
		for time.Since(start) < 20*time.Second {
			for _, f := range []*SharedFilter{a, b} {
				if err := spend(t, f, 10*time.Millisecond); err != nil {
					t.Fatal(err)
				}
				used += 10 * time.Millisecond
			}
		}
		if least, most := 2*time.Second, 2*time.Second+shareBurst+20*time.Millisecond; used < least || used > most {
			t.Errorf("%v in 20 s, want %v to %v", used, least, most)
		}
		if s := s.Stats(); s.Used != used || s.Filters != 2 || s.Ended != 0 {
			t.Errorf("%+v, used %v", s, used)
		}
	})
}

// A filter that always uses more than its part is ended. One that uses less is served at
// once, from two seconds after its beginning.
func TestShareParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewShare(0)
		small, large := compileShared(t, s), compileShared(t, s)
		time.Sleep(shareNew)
		start := time.Now()
		var err error
		for err == nil {
			if err = spend(t, large, 20*time.Millisecond); err != nil {
				break
			}
			before := time.Now()
			if err := spend(t, small, time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(before); waited > 0 && time.Since(start) > 5*time.Second { // the large one has used its part
				t.Errorf("the small filter waited %v", waited)
			}
		}
		if took := time.Since(start); took < sharePatience || took > sharePatience+10*time.Second {
			t.Errorf("ended after %v", took)
		}
		want := "the filter has used more than its part for 30s: all filters together may use 5 % of one processor"
		if !errors.Is(err, ErrShare) || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
		large.Close()
		large.Close()
		if s := s.Stats(); s.Filters != 1 || s.Ended != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Waiting ends with the context, for an evaluation and for a compilation.
func TestShareWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewShare(0)
		f := compileShared(t, s)
		f.charge(2 * time.Second)
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		time.AfterFunc(7*time.Second, func() { cancel(gone) })
		start := time.Now()
		if err := f.pass(ctx); err != gone || time.Since(start) != 7*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if _, err := s.Compile(ctx, `level > 5`); err != gone {
			t.Errorf("%v", err)
		}
		if err := f.begin(ctx); err != gone {
			t.Errorf("%v", err)
		}
		// 2 s have to drain to 125 ms, at 50 ms a second.
		if err := f.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited < 37*time.Second || waited > 40*time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

// What is measured at random counts for all.
func TestShareMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewShare(1000)
		f := compileShared(t, s)
		measured, counted := 0, 0
		const n = 100_000
		for range n {
			if err := f.begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !f.mark.IsZero() {
				measured++
				counted += int(f.weight)
			}
			f.end()
		}
		if measured < n/measureEvery/2 || measured > 2*n/measureEvery {
			t.Errorf("%d of %d were measured", measured, n)
		}
		if counted < n*8/10 || counted > n*12/10 {
			t.Errorf("they count for %d of %d", counted, n)
		}
	})
}
