package tail

import (
	"github.com/flogtool/flogtool/event"
)

// chain finds the events that a chain of parents leads through.
type chain struct {
	ref     *EventRef
	parents map[string]map[event.Num]event.Num // by incarnation: number to parent
	found   bool
	inc     string
}

// add notes an event.
func (c *chain) add(r record) {
	n, ok := r.Num()
	if !ok {
		return
	}
	inc := r.Incarnation()
	if !c.found && c.ref.match(r) {
		c.found, c.inc = true, inc
	}
	if parent, ok := r.Parent(); ok && parent != n {
		if c.parents == nil {
			c.parents = make(map[string]map[event.Num]event.Num)
		}
		if c.parents[inc] == nil {
			c.parents[inc] = make(map[event.Num]event.Num)
		}
		c.parents[inc][n] = parent
	}
}

// wanted returns what tells whether an event is in the chain: the one that was
// asked for, or an ancestor of it.
func (c *chain) wanted() func(r record) bool {
	numbers := map[event.Num]bool{}
	if c.found {
		for n, ok := c.ref.Num, true; ok && !numbers[n]; n, ok = c.parents[c.inc][n] {
			numbers[n] = true
		}
	}
	return func(r record) bool {
		n, ok := r.Num()
		return ok && numbers[n] && r.Incarnation() == c.inc
	}
}
