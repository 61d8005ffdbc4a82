// Package natspub publishes a process's events and incidents straight to NATS,
// for people who run NATS and no gatherer.
//
//	p, err := natspub.Start(lp, natspub.Config{URL: "nats://127.0.0.1:4222"})
//	…
//	defer p.Close()
//
//	events    ──► flog.event.TUBID.LEVEL.FACILITY          the wrapper line of a flog file
//	lost ones ──► flog.gap.TUBID                           how many, between which numbers
//	triggers  ──► flog.trigger.TUBID                       the event
//	incidents ──► flog.incident.unknown.INCARNATION.NAME   a summary; the file is in the object store
//
// Logging never waits: while the server is away, up to 4 MiB of events are queued, and
// what does not fit is counted and reported when it is back. The package reconnects
// for ever.
//
// Spec: docs/nats.md.
package natspub

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/logport/wire"
)

// Config says what is published where.
type Config struct {
	URL     string        // of the server, or several with commas
	Options []nats.Option // credentials, TLS, …

	Level  event.Level // events of this level and above; default WEIRD, as the gatherer's
	Filter string      // and only those that match this expression; "": all of them

	// JetStream has events and incidents acknowledged by a stream that takes their
	// subjects: then nothing is lost that is not reported. An incident's file goes
	// into the object store flog-incidents, which must exist.
	JetStream bool

	Log *slog.Logger // default discards
}

// Publisher publishes until it is closed.
type Publisher struct {
	lp   *logport.Logport
	cfg  Config
	nc   *nats.Conn
	js   jetstream.JetStream // or nil
	stop context.CancelFunc
	wg   sync.WaitGroup

	published, dropped atomic.Uint64
}

// Start begins publishing what lp records from now on, and incidents from those
// that are stored on. It fails only on a Config that can never work: a server
// that is away is waited for.
func Start(lp *logport.Logport, cfg Config) (*Publisher, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Level = cmp.Or(cfg.Level, event.Weird)
	p := &Publisher{lp: lp, cfg: cfg}
	options := append([]nats.Option{
		nats.Name("flogtool " + lp.Name()),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1), // events wait in our queue, where they are counted
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { cfg.Log.Warn("NATS is away", "err", err) }),
		nats.ReconnectHandler(func(*nats.Conn) { cfg.Log.Info("NATS is back") }),
	}, cfg.Options...)
	nc, err := nats.Connect(cfg.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("natspub: %w", err)
	}
	p.nc = nc
	if cfg.JetStream {
		if p.js, err = jetstream.New(nc); err != nil {
			nc.Close()
			return nil, fmt.Errorf("natspub: %w", err)
		}
	}
	// Both watches begin here: what is logged from now on is published or counted.
	events, err := lp.WatchEvents(wire.SubscribeOptions{CatchUp: true, Level: cfg.Level, Filter: cfg.Filter})
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("natspub: %w", err)
	}
	incidents := lp.WatchIncidents()
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.wg.Go(func() { events.Run(ctx, func(b *wire.Batch) error { return p.events(ctx, b) }) })
	p.wg.Go(func() {
		incidents.Run(ctx, "", p.began, func(name string) error { return p.incident(ctx, name) })
	})
	return p, nil
}

// Stats returns how many events were handed to the server, and how many were
// lost because it was away or slow.
func (p *Publisher) Stats() (published, dropped uint64) {
	return p.published.Load(), p.dropped.Load()
}

// Close ends publishing. What is handed over is flushed if that takes no longer
// than a second.
func (p *Publisher) Close() error {
	p.stop()
	p.wg.Wait()
	err := p.nc.FlushTimeout(time.Second)
	p.nc.Close()
	return err
}

// retryEvery is how often publishing is tried again while the server is away.
const retryEvery = 100 * time.Millisecond

// publish hands one message to the server, waiting for it as long as it is away.
func (p *Publisher) publish(ctx context.Context, subject string, payload []byte, opts ...jetstream.PublishOpt) error {
	for {
		var err error
		if !p.nc.IsConnected() {
			// Before its first connection the client would buffer without a bound.
			err = nats.ErrDisconnected
		} else if p.js != nil {
			attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
			_, err = p.js.Publish(attempt, subject, payload, opts...)
			cancel()
		} else {
			err = p.nc.Publish(subject, payload)
		}
		switch {
		case err == nil, wrongSequence(err): // the latter: it is there already
			return nil
		case errors.Is(err, nats.ErrMaxPayload):
			p.cfg.Log.Warn("message too large for NATS", "subject", subject, "bytes", len(payload))
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(retryEvery):
		}
	}
}

// wrongSequence reports whether a message was refused because its subject has
// one already.
func wrongSequence(err error) bool {
	e, ok := errors.AsType[*jetstream.APIError](err)
	return ok && e.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

// events publishes a batch. While it waits, lp's queue for us fills, drops, and
// counts.
func (p *Publisher) events(ctx context.Context, b *wire.Batch) error {
	tub := p.lp.TubID()
	if b.Dropped > 0 {
		p.dropped.Add(b.Dropped)
		gap := event.Event{Fields: []event.Field{
			{Key: "from", Value: tub},
			{Key: "incarnation", Value: b.Incarnation},
			{Key: "dropped", Value: event.NumValue(event.Num(b.Dropped))},
			{Key: "dropped_from", Value: event.NumValue(b.DroppedFrom)},
			{Key: "dropped_until", Value: event.NumValue(b.DroppedUntil)},
		}}
		if err := p.publish(ctx, incident.GapSubject(tub), gap.AppendJSON(nil)); err != nil {
			return err
		}
	}
	for num, rec := range b.Records() {
		e, err := rec.Event(num, b.Incarnation)
		if err != nil {
			continue
		}
		if err := p.publish(ctx, incident.EventSubject(tub, e.Level(), e.Facility()), p.line(e)); err != nil {
			return err
		}
		p.published.Add(1)
	}
	return nil
}

// line returns an event as the wrapper line of a flog file.
func (p *Publisher) line(e *event.Event) []byte {
	line := flogfile.AppendEvent(nil, cmp.Or(p.lp.TubID(), "local"), time.Now(), e.AppendJSON(nil))
	return line[:len(line)-1]
}

func (p *Publisher) began(trigger *event.Event) {
	// Not waited for: the incident itself will come.
	if err := p.nc.Publish(incident.TriggerSubject(p.lp.TubID()), p.line(trigger)); err != nil {
		p.cfg.Log.Info("trigger not published", "err", err)
	}
}

// incident puts the file into the object store and publishes the summary.
func (p *Publisher) incident(ctx context.Context, name string) error {
	header, events, err := p.lp.ReadIncident(name)
	if err != nil {
		p.cfg.Log.Warn("incident cannot be published", "incident", name, "err", err)
		return nil
	}
	sum := incident.NewSummary(name, header, len(events))
	sum.Tubs, sum.Categories, sum.File = []string{p.lp.TubID()}, []string{incident.Unclassified}, name+".flog.zst"
	sum.SHA256, sum.Size, err = p.file(name, io.Discard)
	if err == nil && p.js != nil {
		sum.Object = incident.ObjectName(sum.Incarnation, sum.File, sum.SHA256)
		if err := p.put(ctx, name, sum.Object); err != nil {
			return err
		}
	}
	if err != nil {
		p.cfg.Log.Warn("incident cannot be published", "incident", name, "err", err)
		return nil
	}
	subject := incident.IncidentSubject(incident.Unclassified, sum.Incarnation, name)
	return p.publish(ctx, subject, sum.AppendJSON(nil), jetstream.WithExpectLastSequencePerSubject(0))
}

// file copies an incident's file and returns its SHA-256 in hex and its size.
func (p *Publisher) file(name string, w io.Writer) (sum string, size int64, err error) {
	r, err := p.lp.OpenIncident(name)
	if err != nil {
		return "", 0, err
	}
	defer r.Close()
	hash := sha256.New()
	size, err = io.Copy(io.MultiWriter(w, hash), r)
	return hex.EncodeToString(hash.Sum(nil)), size, err
}

// put stores the file, trying again for as long as the server is away.
func (p *Publisher) put(ctx context.Context, name, object string) error {
	for {
		err := p.putOnce(ctx, name, object)
		if err == nil || errors.Is(err, jetstream.ErrBucketNotFound) {
			if err != nil {
				p.cfg.Log.Warn("incident's file not stored: there is no object store "+incident.ObjectStore, "incident", name)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

func (p *Publisher) putOnce(ctx context.Context, name, object string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	store, err := p.js.ObjectStore(ctx, incident.ObjectStore)
	if err != nil {
		return err
	}
	r, err := p.lp.OpenIncident(name)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = store.Put(ctx, jetstream.ObjectMeta{Name: object}, r)
	return err
}
