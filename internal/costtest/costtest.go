// Package costtest measures what a piece of code costs, for tests of what a hostile
// peer, file or rule can make the process spend.
package costtest

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"
)

// Cost is what a function has cost.
type Cost struct {
	Time  time.Duration
	Peak  int64 // bytes of heap and stacks at once, above those before; sampled every millisecond
	Total int64 // bytes allocated, whether or not they were freed
}

// Measure calls f and returns what it cost. While f runs the garbage collector runs
// often, so that Peak is close to what f holds. Other goroutines count too: a test that
// measures does not run in parallel with others.
func Measure(f func()) Cost {
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	runtime.GC()
	before, peak := read(), int64(0)
	done := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				peak = max(peak, read().inUse-before.inUse)
			}
		}
	})
	start := time.Now()
	f()
	took := time.Since(start)
	after := read()
	close(done)
	sampler.Wait()
	return Cost{Time: took, Peak: max(peak, after.inUse-before.inUse), Total: after.total - before.total}
}

// Check reports a test that cost more than it may. With the race detector it may take
// longer: see [Slowness].
func (c Cost) Check(t testing.TB, maxTime time.Duration, maxPeak int64) {
	t.Helper()
	t.Logf("%v, %.1f MiB at once, %.1f MiB allocated", c.Time.Round(10*time.Microsecond), mib(c.Peak), mib(c.Total))
	maxTime *= Slowness
	if c.Time > maxTime {
		t.Errorf("took %v, more than %v", c.Time, maxTime)
	}
	if c.Peak > maxPeak {
		t.Errorf("held %.1f MiB at once, more than %.1f MiB", mib(c.Peak), mib(maxPeak))
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

type memory struct{ inUse, total int64 }

func read() memory {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/gc/heap/allocs:bytes"},
	}
	metrics.Read(samples)
	return memory{
		inUse: int64(samples[0].Value.Uint64() + samples[1].Value.Uint64()),
		total: int64(samples[2].Value.Uint64()),
	}
}
