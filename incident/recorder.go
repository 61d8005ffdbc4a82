package incident

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/internal/durable"
)

// Source gives a recorder the events of one process in the order of their
// numbers: first what the rings hold, then what is logged.
type Source interface {
	// Next returns the next event, waiting for it until ctx ends; it returns an
	// event that is there even if ctx has ended. The record is valid until the
	// next call.
	Next(ctx context.Context) (event.Num, event.Record, error)

	// Logged returns the number of the next event to be logged.
	Logged() event.Num
}

// Trigger is the event that starts an incident.
type Trigger struct {
	Num    event.Num
	Record event.Record
	At     time.Time // when it was logged; the trailing window is counted from it on the monotonic clock
}

// Config says how an incident is recorded.
type Config struct {
	Program        string // its name; stands in the header
	Incarnation    string
	PID            int
	Versions       event.Dict
	TrailingDelay  time.Duration // 0: no later events
	TrailingEvents int           // at most; 0: no later events

	// Folded returns, when the recording ends, the triggers numbered between
	// this one and until: they are part of this incident, and marked in it.
	// May be nil.
	Folded func(until event.Num) []Trigger

	Header event.Dict   // more for the header, or nil
	Attach []Attachment // taken when the recording begins

	Reason  Reason // why the recording ended, where that is known beforehand
	Dropped int    // events that are known to be missing
}

// Reason says why a recording ended.
type Reason string

const (
	ByTime    Reason = "time"      // the trailing delay was over
	ByCount   Reason = "count"     // the trailing events were enough
	ByClose   Reason = "close"     // the process closed its log
	Recovered Reason = "recovered" // the recorder died, and a later process completed the file
)

// Recording is what became of a trigger.
type Recording struct {
	Name    string
	Trigger event.Dict // as in the header
	Until   event.Num  // the first event that is not covered
	Folded  int        // triggers in the trailing window
	Reason  Reason

	NotAttached []error // attachments that could not be taken
}

// Record records the incident of a trigger into s and returns when its file is
// complete and durable. When ctx ends it completes the file with what has been
// logged. If an error, usually of the disk, cuts the recording short, Until is set all
// the same; what could be written stays as a plain file, which the next OpenStore
// completes.
//
//	trigger.At ──── events up to the trigger: one rx_time ────┐
//	           ──── later ones, each with its own ────────────┴─ delay or count ── trailer
func (s *Store) Record(ctx context.Context, tr Trigger, src Source, cfg Config) (Recording, error) {
	w := &writer{store: s, cfg: cfg, trigger: tr}
	w.rec.Name = s.next(time.Now())
	w.rec.Until = tr.Num + 1
	err := w.open()
	if err == nil {
		w.rec.NotAttached = s.attach(w.rec.Name, cfg.Attach)
		err = w.record(ctx, src)
	}
	err = errors.Join(err, w.close(err == nil))
	if err != nil {
		return w.rec, fmt.Errorf("incident: record %q: %w", w.rec.Name, err)
	}
	return w.rec, nil
}

// writer writes one incident.
type writer struct {
	store   *Store
	cfg     Config
	trigger Trigger
	rec     Recording
	trailer trailer

	file   durable.File // NAME.flog, or nil in memory
	memory bytes.Buffer // its text, in memory
	out    *bufio.Writer
	line   []byte // reused
	event  []byte // reused
}

func (w *writer) open() error {
	var dst io.Writer = &w.memory
	if w.store.dir != nil {
		f, err := w.store.dir.OpenFile(w.rec.Name+plainEnding, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		w.file, dst = f, f
	}
	w.out = bufio.NewWriterSize(dst, 64<<10)

	e, err := w.trigger.Record.Event(w.trigger.Num, w.cfg.Incarnation)
	if err != nil {
		return err
	}
	w.rec.Trigger = e.Dict()
	header := event.Dict{
		{Key: "type", Value: "incident"},
		{Key: "trigger", Value: w.rec.Trigger},
		{Key: "versions", Value: w.cfg.Versions},
		{Key: "pid", Value: int64(w.cfg.PID)},
		{Key: "program", Value: w.cfg.Program},
	}
	w.out.WriteString(flogfile.Magic)
	w.line = flogfile.AppendHeader(w.line[:0], append(header, w.cfg.Header...))
	_, err = w.out.Write(w.line)
	return err
}

// record writes events until the trailing window is over.
func (w *writer) record(ctx context.Context, src Source) error {
	deadline := w.trigger.At.Add(max(0, w.cfg.TrailingDelay))
	window, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()

	declared := time.Now()
	end := event.NoNum // the first event that is not recorded, once that is known
	if w.cfg.TrailingEvents <= 0 || w.cfg.TrailingDelay <= 0 {
		end = w.trigger.Num + 1
		w.rec.Reason = ByTime
	}
	seen := event.Num(0) // all below has been read, or is gone
	trailing := 0
	for {
		if end == event.NoNum && window.Err() != nil {
			end = max(src.Logged(), w.trigger.Num+1)
			w.rec.Reason = ByTime
			if ctx.Err() != nil {
				w.rec.Reason = ByClose
			}
		}
		if end != event.NoNum && seen >= end {
			break
		}
		num, rec, err := src.Next(window)
		if err != nil {
			if end == event.NoNum && window.Err() != nil {
				continue // now the end is known
			}
			break // nothing more below the end
		}
		if num >= end {
			break
		}
		seen = num + 1
		if num <= w.trigger.Num {
			if err := w.write(num, rec, declared); err != nil {
				return err
			}
			if num == w.trigger.Num {
				if err := w.out.Flush(); err != nil {
					return err
				}
			}
			continue
		}
		if trailing == w.cfg.TrailingEvents {
			w.rec.Reason = ByCount
			break
		}
		trailing++
		w.rec.Until = num + 1
		if err := w.write(num, rec, time.Now()); err != nil {
			return err
		}
		// Each trailing event is in the file at once: the process may die of
		// what it is about.
		if err := w.out.Flush(); err != nil {
			return err
		}
	}
	if w.rec.Reason != ByCount {
		w.rec.Until = max(w.rec.Until, end)
	}
	return nil
}

func (w *writer) write(num event.Num, rec event.Record, rx time.Time) error {
	e, err := rec.Event(num, w.cfg.Incarnation)
	if err != nil {
		w.trailer.dropped++ // not a record, which only a defect of ours can cause
		return nil
	}
	w.event = e.AppendJSON(w.event[:0])
	w.line = flogfile.AppendEvent(w.line[:0], "local", rx, w.event)
	_, err = w.out.Write(w.line)
	return err
}

// fold notes the triggers of the trailing window.
func (w *writer) fold() {
	if w.cfg.Folded == nil {
		return
	}
	for _, tr := range w.cfg.Folded(w.rec.Until) {
		w.rec.Folded++
		message, _ := tr.Record.Message()
		w.trailer.folded = append(w.trailer.folded, folded{tr.Num, message})
	}
}

// close ends the file: complete, if all went well, else as far as it came.
func (w *writer) close(ok bool) error {
	if w.out == nil {
		return nil
	}
	if ok {
		w.fold()
		w.rec.Reason = cmp.Or(w.cfg.Reason, w.rec.Reason)
		w.trailer.dropped += w.cfg.Dropped
		w.trailer.reason, w.trailer.ended = w.rec.Reason, time.Now()
		w.line = flogfile.AppendTrailer(w.line[:0], w.trailer.dict())
		w.out.Write(w.line)
	}
	err := w.out.Flush()
	if w.file == nil {
		if !ok || err != nil {
			return err
		}
		return w.store.keep(w.rec.Name, w.memory.Bytes())
	}
	err = errors.Join(err, w.file.Close())
	if !ok || err != nil {
		return err
	}
	plain, err := w.store.dir.Open(w.rec.Name + plainEnding)
	if err != nil {
		return err
	}
	defer plain.Close()
	return w.store.finish(w.rec.Name, plain)
}

// trailer is the last line of a complete incident.
type trailer struct {
	folded  []folded
	reason  Reason
	ended   time.Time
	dropped int // events that should be here and are not
}

type folded struct {
	num     event.Num
	message string
}

func (t trailer) dict() event.Dict {
	list := []any{}
	for _, f := range t.folded {
		list = append(list, event.Dict{{Key: "num", Value: event.NumValue(f.num)}, {Key: "message", Value: f.message}})
	}
	return event.Dict{
		{Key: "folded", Value: list},
		{Key: "reason", Value: string(t.reason)},
		{Key: "ended", Value: flogfile.Seconds(t.ended)},
		{Key: "dropped", Value: int64(t.dropped)},
	}
}
