package collect

import (
	"cmp"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/flogtool/flogtool/gatherer/archive"
)

// failures remembers what could not be fetched, across connections: an
// incident that costs the connection each time must not stop all others.
type failures struct {
	mu sync.Mutex
	m  map[archive.ID]failure // guarded by mu
}

type failure struct {
	times int
	until time.Time
}

// maxFailures bounds what is remembered; beyond it an arbitrary one is
// forgotten, and tried again sooner.
const maxFailures = 10_000

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
		for old := range f.m {
			delete(f.m, old)
			break
		}
	}
	one := f.m[id]
	wait := min(minRetry<<min(one.times, 20), maxRetry)
	wait += rand.N(cmp.Or(wait/4, 1)) // jitter
	f.m[id] = failure{one.times + 1, now.Add(wait)}
	return f.m[id].until
}
