package logport

import (
	"context"
	"errors"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport/internal/publish"
	"github.com/flogtool/flogtool/logport/wire"
)

// EventWatch is a subscription within the process, from [Logport.WatchEvents]. It
// serves one goroutine.
type EventWatch struct {
	lp *Logport
	s  *publish.Subscription
}

// Run gives handle the events since the watch was made until ctx ends, handle returns
// an error, or the Logport is closed and all was given; it returns ctx's cause,
// handle's error or [ErrClosed]. It may be called once. handle may use a batch's
// records until it returns; while it works, up to 4 MiB of events wait, and what does
// not fit is dropped and counted in the batch it is missing before.
func (w *EventWatch) Run(ctx context.Context, handle func(*wire.Batch) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The Logport's end is not ctx's: what is queued then is still given.
	stop := context.AfterFunc(w.lp.late, func() { cancel(ErrClosed) })
	defer stop()
	defer w.s.Stop()
	var buf []byte
	w.lp.publisher.Count(func() {
		w.s.Run(ctx, func(b *wire.Batch) bool {
			if err := handle(b); err != nil {
				cancel(err)
				return false
			}
			buf = b.Next(buf)
			return true
		})
	})
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return ErrClosed
}

// IncidentWatch reports incidents as they begin and as they are complete. It serves
// one goroutine.
type IncidentWatch struct{ w *publish.IncidentWatch }

// Run calls began with the trigger of every recording that begins, and complete with
// the name of every complete incident whose name is greater than since, in the order
// of names, until ctx ends, complete returns an error, or the Logport is closed and
// all was reported; it returns ctx's cause, complete's error or [ErrClosed]. began may
// be nil.
func (w *IncidentWatch) Run(ctx context.Context, since string, began func(trigger *event.Event), complete func(name string) error) error {
	h := publish.IncidentHandler{Complete: complete}
	if began != nil {
		h.Began = func(trigger *event.Event) error { began(trigger); return nil }
	}
	err := w.w.Run(ctx, since, h)
	if errors.Is(err, publish.ErrFinished) {
		return ErrClosed
	}
	return err
}
