package tail

import (
	"github.com/flogtool/flogtool/event"
)

// chain finds an event and its ancestors: its parent, the parent's parent, and so on.
type chain struct {
	ref         *EventRef
	parents     map[string]map[event.Num]event.Num // by incarnation: number to parent's number
	found       bool                               // the event that ref names
	incarnation string                             // of that event
}

// add takes an event, in any order.
func (c *chain) add(r record) {
	n, ok := r.Num()
	if !ok {
		return
	}
	incarnation := r.Incarnation()
	if !c.found && c.ref.match(r) {
		c.found, c.incarnation = true, incarnation
	}
	if parent, ok := r.Parent(); ok && parent != n {
		if c.parents == nil {
			c.parents = make(map[string]map[event.Num]event.Num)
		}
		if c.parents[incarnation] == nil {
			c.parents[incarnation] = make(map[event.Num]event.Num)
		}
		c.parents[incarnation][n] = parent
	}
}

// contains returns a function that reports whether an event is the one that ref names or
// one of its ancestors. All events must have been added before.
func (c *chain) contains() func(r record) bool {
	numbers := map[event.Num]bool{}
	if c.found {
		for n, ok := c.ref.Num, true; ok && !numbers[n]; n, ok = c.parents[c.incarnation][n] {
			numbers[n] = true
		}
	}
	return func(r record) bool {
		n, ok := r.Num()
		return ok && numbers[n] && r.Incarnation() == c.incarnation
	}
}
