package collect

import (
	"math/rand/v2"
	"testing"
)

// TestResume compares the mark with a plain model: the greatest settled name
// that is smaller than all open and all lost ones.
func TestResume(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		r := newResume("incident-0")
		open, lost, settled := map[string]bool{}, map[string]bool{}, map[string]bool{"incident-0": true}
		mark := "incident-0"
		for range 100 {
			name := "incident-" + string(rune('1'+rng.IntN(60)))
			switch {
			case rng.IntN(100) == 0:
				r.skip(name)
				lost[name] = true
			case rng.IntN(2) == 0:
				r.add(name)
				open[name] = true
			case open[name]:
				r.settle(name)
				delete(open, name)
				settled[name] = true
			}
			for s := range settled {
				below := true
				for o := range open {
					below = below && s < o
				}
				for l := range lost {
					below = below && s < l
				}
				// A mark never goes back: what is offered below it was
				// there when it was set.
				if below && s > mark {
					mark = s
				}
			}
			if r.mark != mark {
				t.Fatalf("seed %d: mark = %q, want %q; open %v, settled %v", seed, r.mark, mark, open, settled)
			}
		}
	}
}
