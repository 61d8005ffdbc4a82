package tail

import (
	"fmt"
	"sync"
)

// backlog is what a process had buffered when it was first attached to. While it is
// open, Last, Around and Parents choose among its events, as dump does among those of
// a file. Once it is closed, and in the zero value, events are shown as they come and
// only the other conditions select. Its methods may be called from any goroutine.
type backlog struct {
	mu sync.Mutex
	t  backlogTable // guarded by mu
}

type backlogTable struct {
	open   bool
	sel    *Select
	window window[*live]
	due    []*live // to be shown when the backlog is closed

	// With Parents the chain is known at the end only: all are kept until then.
	chain *chain
	all   []*live
}

// newBacklog returns a backlog that is open if sel concerns several events.
func newBacklog(sel *Select) *backlog {
	b := &backlog{t: backlogTable{open: sel.whole(), sel: sel, window: window[*live]{sel: sel}}}
	if sel.Parents != nil {
		b.t.chain = &chain{ref: sel.Parents}
	}
	return b
}

func (b *backlog) isOpen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.t.open
}

// hold takes an event that may be shown when the backlog is closed; false if it is
// closed. Conditions are those that are not known to hold for the event.
func (b *backlog) hold(it *live, conditions *Select) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.t.open {
		return false
	}
	if b.t.chain != nil {
		b.t.chain.add(it)
		b.t.all = append(b.t.all, it)
	} else if conditions.match(it, "") {
		b.t.choose(it)
	}
	return true
}

func (t *backlogTable) choose(it *live) {
	show := func(it *live) error { t.due = append(t.due, it); return nil }
	t.window.add(it, func() *live { return it }, show, func() error { return show(it) }) // errEnough: of these only
}

// close returns what is to be shown, and what of the request is not there. A closed
// backlog has nothing to show.
func (b *backlog) close() ([]*live, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.t
	b.t = backlogTable{}
	if !t.open {
		return nil, nil
	}
	if t.chain != nil {
		if !t.chain.found {
			return nil, fmt.Errorf("no event #%d is among those buffered", t.chain.ref.Num)
		}
		wanted := t.chain.wanted()
		for _, it := range t.all {
			if wanted(it) && t.sel.match(it, "") {
				t.choose(it)
			}
		}
	}
	err := t.window.end(func(it *live) error { t.due = append(t.due, it); return nil })
	return t.due, err
}
