package tail

import (
	"fmt"
	"sync"
)

// backlog has the events that a process had buffered when a follower first connected.
// While it is open, Last, Around and Parents of the Select choose among its events, as
// they do for a dump among the events of a file. When it has been closed, and in the zero
// value, events are shown as they come, and only the conditions on one event select. Its
// methods may be called from any goroutine.
type backlog struct {
	mu sync.Mutex
	t  backlogTable // guarded by mu
}

type backlogTable struct {
	open   bool
	sel    *Select
	window window[*liveEvent]
	due    []*liveEvent // to be shown when the backlog is closed

	// With Parents the chain is known at the end only. Until then all events are kept.
	chain *chain
	all   []*liveEvent
}

// newBacklog returns a backlog, which is open if a condition of sel concerns more than one
// event.
func newBacklog(sel *Select) *backlog {
	b := &backlog{t: backlogTable{open: sel.spansEvents(), sel: sel, window: window[*liveEvent]{sel: sel}}}
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

// add takes the next event, and returns false if the backlog is closed. Conditions are
// those that the publisher has not evaluated.
func (b *backlog) add(ev *liveEvent, conditions *Select) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.t.open {
		return false
	}
	if b.t.chain != nil {
		b.t.chain.add(ev)
		b.t.all = append(b.t.all, ev)
	} else if conditions.match(ev, "") {
		b.t.choose(ev)
	}
	return true
}

// choose applies Last and Around to an event for which the other conditions hold.
func (t *backlogTable) choose(ev *liveEvent) {
	show := func(ev *liveEvent) error { t.due = append(t.due, ev); return nil }
	// The error can only be errEnough, after which events still have to be taken.
	t.window.add(ev, func() *liveEvent { return ev }, show, func() error { return show(ev) })
}

// close closes the backlog. It returns the events to be shown, and an error if the event
// that Around or Parents names is not among the buffered ones. A backlog that is closed
// already has no events to show.
func (b *backlog) close() ([]*liveEvent, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.t
	b.t = backlogTable{}
	if !t.open {
		return nil, nil
	}
	if t.chain != nil {
		if !t.chain.found {
			return nil, fmt.Errorf("no event #%d among the buffered events", t.chain.ref.Num)
		}
		inChain := t.chain.contains()
		for _, ev := range t.all {
			if inChain(ev) && t.sel.match(ev, "") {
				t.choose(ev)
			}
		}
	}
	err := t.window.end(func(ev *liveEvent) error { t.due = append(t.due, ev); return nil })
	return t.due, err
}
