package tail

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
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

// readChain reads files to find the chain of the event that ref names, and returns its
// contains. The files must be regular files, since the caller reads them again.
func readChain(ctx context.Context, files []string, ref *EventRef) (inChain func(r record) bool, err error) {
	for _, name := range files {
		if st, err := os.Stat(name); err == nil && !st.Mode().IsRegular() || name == "-" {
			return nil, fmt.Errorf("%s: not a regular file: --parents reads files twice", name)
		}
	}
	c := &chain{ref: ref}
	s := &sources{names: files}
	err = s.each(ctx, func(l *flogfile.Line, _ *flogfile.Reader) error {
		if l.IsObject() {
			c.add(l)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !c.found {
		return nil, fmt.Errorf("no event #%d in %s", ref.Num, strings.Join(files, ", "))
	}
	return c.contains(), nil
}
