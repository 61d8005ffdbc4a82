package logport

import (
	"context"
	"fmt"
	"io"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/logport/wire"
)

// Incarnation returns the name of this run of the process.
func (lp *Logport) Incarnation() string { return lp.incarnation }

// TubID returns the identity under which others know the process, "" if it has
// none because nobody can connect.
func (lp *Logport) TubID() string {
	if lp.tub == nil {
		return ""
	}
	return string(lp.tub.ID())
}

// Watch gives handle the process's own events, as [wire.Subscribe] does from afar,
// until ctx ends, handle returns an error, or the Logport is closed and all was
// given. While handle works, up to 4 MiB of events wait; what does not fit is
// dropped and counted in the batch it is missing before.
func (lp *Logport) Watch(ctx context.Context, o wire.SubscribeOptions, handle func(*wire.Batch) error) error {
	options, err := newSubscription(o)
	if err != nil {
		return fmt.Errorf("logport: watch: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The Logport's end is not ctx's: what is queued then is still given.
	stop := context.AfterFunc(lp.late, func() { cancel(ErrClosed) })
	defer stop()
	lp.subs.active.Add(1)
	defer lp.subs.active.Add(-1)
	var buf []byte
	lp.gather(ctx, options, func(b *wire.Batch) bool {
		if err := handle(b); err != nil {
			cancel(err)
			return false
		}
		buf = b.Next(buf)
		return true
	})
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return ErrClosed
}

// IncidentWatch tells of incidents as they begin and as they are complete. It
// serves one goroutine.
type IncidentWatch struct {
	lp    *Logport
	begun int // recordings told of, or before the watch
}

// WatchIncidents returns a watch of the incidents whose recording is under way or
// begins after the call.
func (lp *Logport) WatchIncidents() *IncidentWatch {
	w := &IncidentWatch{lp: lp}
	w.begun = lp.incidents.begunBefore()
	return w
}

// Run calls began for the trigger of every recording that begins, and complete
// for every complete incident whose name is greater than since, in the order of
// names, until ctx ends, complete returns an error, or the Logport is closed and
// all were told. began may be nil.
func (w *IncidentWatch) Run(ctx context.Context, since string, began func(*event.Event), complete func(name string) error) error {
	in := w.lp.incidents
	for {
		change, triggers, now := in.state(w.begun)
		w.begun = now
		for _, tr := range triggers {
			if e, err := tr.Record.Event(tr.Num, w.lp.incarnation); err == nil && began != nil {
				began(e)
			}
		}
		for _, name := range in.store.Names(since) {
			since = name
			if err := complete(name); err != nil {
				return err
			}
		}
		select {
		case <-change:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-in.finished:
			if len(in.store.Names(since)) == 0 {
				return ErrClosed
			}
		}
	}
}

// ReadIncident returns the header and the events of an incident. An error wraps
// [incident.ErrNoIncident] if there is none of that name.
func (lp *Logport) ReadIncident(name string) (header event.Dict, events []any, err error) {
	return lp.incidents.store.Read(name)
}

// OpenIncident opens an incident's flog file, compressed as it is on disk.
func (lp *Logport) OpenIncident(name string) (io.ReadCloser, error) {
	r, err := lp.incidents.store.OpenPart(name, incident.FlogPart)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(r, 0, 1<<62), r}, nil
}
