package publish

import (
	"context"
	"errors"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// Incidents is the process's recorder of incidents, as far as it is published.
type Incidents interface {
	Store() *incident.Store

	// Begun returns how many recordings have begun, without the one under way.
	Begun() int

	// State returns the triggers whose recording has begun since that many had, how
	// many have begun in all, and a channel that is closed when something changes.
	State(begun int) (change <-chan struct{}, triggers []incident.Trigger, now int)

	// Finished is closed when nothing is recorded any more.
	Finished() <-chan struct{}
}

// IncidentWatch follows incidents as they begin and as they are complete. It serves
// one goroutine.
type IncidentWatch struct {
	in          Incidents
	incarnation string
	begun       int // recordings reported, or before the watch
}

// WatchIncidents returns a watch of the incidents whose recording is under way or
// begins after the call.
func (p *Publisher) WatchIncidents() *IncidentWatch {
	return &IncidentWatch{in: p.cfg.Incidents, incarnation: p.cfg.Incarnation, begun: p.cfg.Incidents.Begun()}
}

// IncidentHandler is what a watch calls; an error ends the watch.
type IncidentHandler struct {
	Began    func(trigger *event.Event) error // a recording has begun; may be nil
	Complete func(name string) error          // an incident is complete, in the order of names
	Idle     func() error                     // all there is has been reported; may be nil
}

// ErrFinished is the end of a watch whose log was closed, and all was reported.
var ErrFinished = errors.New("publish: the log is closed")

// Run reports every recording that begins, and every complete incident whose name is
// greater than since, until ctx ends, h returns an error, or the log is closed and
// all was reported.
func (w *IncidentWatch) Run(ctx context.Context, since string, h IncidentHandler) error {
	store := w.in.Store()
	for {
		change, triggers, now := w.in.State(w.begun)
		w.begun = now
		for _, tr := range triggers {
			if h.Began == nil {
				break
			}
			if e, err := tr.Record.Event(tr.Num, w.incarnation); err == nil {
				if err := h.Began(e); err != nil {
					return err
				}
			}
		}
		for _, name := range store.Names(since) {
			since = name
			if err := h.Complete(name); err != nil {
				return err
			}
		}
		if h.Idle != nil {
			if err := h.Idle(); err != nil {
				return err
			}
		}
		select {
		case <-change:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-w.in.Finished():
			if len(store.Names(since)) == 0 {
				return ErrFinished
			}
		}
	}
}

// errObserver ends a watch whose observer fails or is gone.
var errObserver = errors.New("publish: the observer does not answer")

// send calls an observer with the names of incidents as they complete, in
// the order of names, and before that, if asked to catch up, of those there are. One
// that knows the extensions is also called when an incident begins.
func (w *IncidentWatch) send(ctx context.Context, observer *rpc.Remote, o wire.IncidentOptions, extended bool) {
	store := w.in.Store()
	out := newSender(observer)
	call := func(method string, args rpc.Args) error {
		if !out.call(ctx, method, args) {
			return errObserver
		}
		return nil
	}
	since := o.Since
	if !o.CatchUp {
		if names := store.Names(since); len(names) > 0 {
			since = names[len(names)-1]
		}
	}
	h := IncidentHandler{
		Complete: func(name string) error {
			trigger, err := store.Trigger(name)
			if err != nil {
				return nil // reported by the store, and no reason to keep the others back
			}
			return call(wire.MethodNewIncident, rpc.Pos([]byte(name), trigger))
		},
		Idle: func() error {
			if !out.drain(ctx) {
				return errObserver
			}
			if o.CatchUp {
				o.CatchUp = false
				return call(wire.MethodCaughtUp, rpc.Args{})
			}
			return nil
		},
	}
	if extended {
		h.Began = func(trigger *event.Event) error { return call(wire.MethodIncidentBegan, rpc.Pos(trigger.Dict())) }
	}
	w.Run(ctx, since, h)
}
