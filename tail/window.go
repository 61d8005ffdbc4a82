package tail

import (
	"errors"
	"fmt"
)

// window applies Last and Around of a Select to a sequence of events. T is an event in a
// form that can be kept; the window keeps no more events than the selection takes.
type window[T any] struct {
	sel   *Select
	held  []T  // the latest events, which may turn out to be wanted
	found bool // the event that Around names has been added
	after int  // how many events after that one are still wanted
}

// add takes the next event for which the other conditions hold. If the event is wanted,
// add calls showNow, and before that show for the held events that are wanted with it. If
// the event may turn out to be wanted, add holds what hold returns. The error is that of
// show or showNow, or errEnough if neither this event nor a later one is wanted.
func (w *window[T]) add(r record, hold func() T, show func(T) error, showNow func() error) error {
	n := w.sel.Last
	switch around := w.sel.Around; {
	case around == nil && n == 0:
		return showNow()
	case around == nil:
	case w.found && w.after == 0:
		return errEnough
	case w.found:
		w.after--
		return showNow()
	case around.match(r):
		w.found, w.after = true, w.sel.Context
		if err := w.flush(show); err != nil {
			return err
		}
		return showNow()
	default:
		n = w.sel.Context
	}
	if w.held = append(w.held, hold()); len(w.held) > n {
		w.held = w.held[1:]
	}
	return nil
}

// end ends the sequence: it calls show for the held events that are wanted. The error is
// that of show, or says that the event that Around names was not among the events.
func (w *window[T]) end(show func(T) error) error {
	if w.sel.Around == nil {
		return w.flush(show)
	}
	if !w.found {
		return fmt.Errorf("no event #%d among the selected events", w.sel.Around.Num)
	}
	return nil
}

func (w *window[T]) flush(show func(T) error) error {
	held := w.held
	w.held = nil
	for _, it := range held {
		if err := show(it); err != nil {
			return err
		}
	}
	return nil
}

// errEnough means that no further event is wanted.
var errEnough = errors.New("tail: enough")
