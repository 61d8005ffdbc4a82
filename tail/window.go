package tail

import (
	"errors"
	"fmt"
)

// window chooses by Last and Around among the events it is given one after the
// other, and keeps no more of them than that takes.
type window[T any] struct {
	sel   *Select
	kept  []T // the last ones, as many as are wanted
	after int // how many are wanted yet
	found bool
}

// add takes an event that the other conditions hold for. It is shown by now, or
// keep makes what show shows later. The error is theirs, or errEnough if neither
// this event nor any after it is wanted.
func (w *window[T]) add(r record, keep func() T, show func(T) error, now func() error) error {
	n := w.sel.Last
	switch around := w.sel.Around; {
	case around == nil && n == 0:
		return now()
	case around == nil:
	case w.found && w.after == 0:
		return errEnough
	case w.found:
		w.after--
		return now()
	case around.match(r):
		w.found, w.after = true, w.sel.Context
		if err := w.flush(show); err != nil {
			return err
		}
		return now()
	default:
		n = w.sel.Context
	}
	if w.kept = append(w.kept, keep()); len(w.kept) > n {
		w.kept = w.kept[1:]
	}
	return nil
}

// end shows what is wanted of what was kept. The error is show's, or says that
// there was no event as Around names it.
func (w *window[T]) end(show func(T) error) error {
	if w.sel.Around == nil {
		return w.flush(show)
	}
	if !w.found {
		return fmt.Errorf("no event #%d is among those selected", w.sel.Around.Num)
	}
	return nil
}

func (w *window[T]) flush(show func(T) error) error {
	kept := w.kept
	w.kept = nil
	for _, k := range kept {
		if err := show(k); err != nil {
			return err
		}
	}
	return nil
}

// errEnough says that nothing more is wanted.
var errEnough = errors.New("tail: enough")
