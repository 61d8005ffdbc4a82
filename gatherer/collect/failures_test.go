package collect

import (
	"fmt"
	"testing"
	"time"

	"github.com/flogtool/flogtool/gatherer/archive"
)

// TestFailures: the time between two tries doubles up to a bound, and the number of
// failures that are remembered is bounded.
func TestFailures(t *testing.T) {
	var f failures
	id := archive.ID{Tub: tub, Name: "incident-1"}
	now := time.Unix(1700000000, 0)
	for i := range 100 {
		want := min(time.Second<<min(i, 10), 10*time.Minute)
		until := f.add(id, now)
		if wait := until.Sub(now); wait < want || wait > want*5/4 || f.until(id) != until {
			t.Errorf("after %d failures the next try is in %v, want about %v", i+1, wait, want)
		}
	}
	for i := range maxFailures + 100 {
		f.add(archive.ID{Tub: tub, Name: fmt.Sprintf("incident-2-%d", i)}, now)
	}
	if len(f.m) != maxFailures {
		t.Errorf("%d failures are remembered, want %d", len(f.m), maxFailures)
	}
	f.forget(id)
	if until := f.until(id); !until.IsZero() {
		t.Errorf("a forgotten failure is to be tried at %v", until)
	}
}
