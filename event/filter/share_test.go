//go:build unix

package filter_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/internal/costtest"
)

// processorTime returns what the process has used.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// A filter that needs too long for one event is ended, and says why.
func TestShareEnds(t *testing.T) {
	e := hostileEvent()
	for name, source := range hostileFilters {
		t.Run(name, func(t *testing.T) {
			share := filter.NewShare(0)
			f, err := share.Compile(t.Context(), source)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			before := processorTime(t)
			for err = nil; !errors.Is(err, filter.ErrShare); {
				if _, err = f.Match(t.Context(), e, filter.Origin{}); err == nil || errors.Is(err, filter.ErrOverrun) {
					break // it needs less, or is refused for another reason
				}
			}
			if took := processorTime(t) - before; took > 100*time.Millisecond*costtest.Slowness {
				t.Errorf("took %v", took)
			}
			t.Log(err, share.Stats())
			if !errors.Is(err, filter.ErrShare) {
				return
			}
			if want := "the filter takes longer than 25ms for one event: all filters together may use 5 % of one processor"; err.Error() != want {
				t.Errorf("the reason is %q, want %q", err, want)
			}
			if _, again := f.Match(t.Context(), &event.Event{}, filter.Origin{}); again != err {
				t.Errorf("then %v", again)
			}
			if s := share.Stats(); s.Ended != 1 || s.Filters != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// However many filters there are, whatever they do, and how often they leave and come
// again: all together they take their share, and an honest one is served.
func TestShareTogether(t *testing.T) {
	e := hostileEvent()
	ordinary := parse(t, sample)
	share := filter.NewShare(0.05)
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	var ended, came atomic.Int64
	attack := func(source string, e *event.Event) {
		readers.Go(func() {
			for ctx.Err() == nil {
				f, err := share.Compile(ctx, source)
				if err != nil {
					return
				}
				came.Add(1)
				for err = nil; ctx.Err() == nil && !errors.Is(err, filter.ErrShare); {
					_, err = f.Match(ctx, e, filter.Origin{})
				}
				ended.Add(1)
				f.Close()
			}
		})
	}
	honest, err := share.Compile(ctx, `level >= WEIRD && facility startsWith "net."`)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second) // it is not new any more
	start, before := time.Now(), processorTime(t)
	for _, source := range hostileFilters {
		attack(source, e)
	}
	for range 20 { // each of them needs little, but all of them all of the time
		attack(`message contains "x" && attrs.path matches "^/[a-z]+/x+$"`, ordinary)
	}
	var late []time.Duration
	for time.Since(start) < 4*time.Second {
		time.Sleep(10 * time.Millisecond)
		asked := time.Now()
		if ok, err := honest.Match(ctx, ordinary, filter.Origin{}); !ok || err != nil {
			t.Fatalf("%v, %v", ok, err)
		}
		late = append(late, time.Since(asked))
	}
	used, elapsed := processorTime(t)-before, time.Since(start)
	slow := 0
	for _, d := range late {
		if d > 50*time.Millisecond {
			slow++
		}
	}
	t.Logf("%v in %v; %d came, %d ended; honest %d, slow %d; %+v", used, elapsed, came.Load(), ended.Load(), len(late), slow, share.Stats())
	if limit := 300*time.Millisecond + elapsed/10; used > limit*costtest.Slowness {
		t.Errorf("filters took %v in %v", used, elapsed)
	}
	if slow > len(late)/20 {
		t.Errorf("an honest filter waited for %d of %d events", slow, len(late))
	}
}

// A record is decoded and matched at the filter's cost.
func TestMatchRecord(t *testing.T) {
	f, err := filter.NewShare(0).Compile(t.Context(), `num == 7 && level == WEIRD && message == "m" && event.attrs.incarnation[0] == "run"`)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !f.Uses("message") || f.Uses("failure") || !strings.HasPrefix(f.String(), "num == 7") {
		t.Error("Uses or String")
	}
	rec := event.AppendRecord(nil, 1, event.Weird, "m")
	if ok, err := f.MatchRecord(t.Context(), 7, rec, "run", filter.Origin{}); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if ok, err := f.MatchRecord(t.Context(), 7, rec[:len(rec)-1], "run", filter.Origin{}); ok || !errors.Is(err, event.ErrRecord) {
		t.Errorf("a damaged record: %v, %v", ok, err)
	}
	if _, err := filter.NewShare(0).Compile(t.Context(), `levle > 5`); err == nil || errors.Is(err, filter.ErrShare) {
		t.Errorf("a bad expression: %v", err)
	}
}
