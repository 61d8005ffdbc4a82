package collect

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/flogtool/flogtool/gatherer/archive"
)

// Retries of a fetch: the time between two tries is doubled from one to the other.
const (
	minRetry = time.Second
	maxRetry = 10 * time.Minute
)

// maxFailures bounds the failures that are remembered. Beyond it, any one of them is
// forgotten, and retried sooner.
const maxFailures = 10_000

// failures remembers the incidents that could not be fetched, across connections: an
// incident that costs the connection each time must not stop all others.
type failures struct {
	mu sync.Mutex
	m  map[archive.ID]failure // guarded by mu
}

type failure struct {
	times int
	until time.Time // of the next try
}

// until returns when the incident may be fetched again; the zero time if it has not
// failed.
func (f *failures) until(id archive.ID) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.m[id].until
}

func (f *failures) forget(id archive.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.m, id)
}

// add notes one more failure and returns when to try again.
func (f *failures) add(id archive.ID, now time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m == nil {
		f.m = map[archive.ID]failure{}
	}
	if _, ok := f.m[id]; !ok && len(f.m) >= maxFailures {
		for other := range f.m {
			delete(f.m, other)
			break
		}
	}
	times := f.m[id].times
	wait := min(minRetry<<min(times, 20), maxRetry)
	wait += rand.N(wait / 4)
	f.m[id] = failure{times + 1, now.Add(wait)}
	return f.m[id].until
}
