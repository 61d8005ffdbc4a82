package pipeline

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/flogtool/flogtool/gatherer/archive"
	"github.com/flogtool/flogtool/incident"
)

// announcer publishes stored and classified incidents on NATS, in the order in
// which they were classified, and notes in the ledger what was acknowledged.
// What is not published when the gatherer ends is found again at its start.
type announcer struct {
	p    *Pipeline
	log  *slog.Logger
	news chan struct{} // holds a token when queue has grown

	mu    sync.Mutex
	queue []notice // guarded by mu
}

// notice is an incident to be published under some of its categories.
type notice struct {
	archive.Stored
	categories []string // to publish under
	all        []string // that it has
}

func (a *announcer) add(n notice) {
	if len(n.categories) == 0 {
		return
	}
	a.mu.Lock()
	a.queue = append(a.queue, n)
	a.mu.Unlock()
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// first returns the notice to be published next; done removes it.
func (a *announcer) first() (n notice, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 {
		return n, false
	}
	return a.queue[0], true
}

func (a *announcer) done() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue[0] = notice{}
	a.queue = a.queue[1:]
}

// run publishes until ctx is done. NATS may be away: then it waits, and only
// the queue of names grows.
func (a *announcer) run(ctx context.Context) {
	wait := minRetry
	for ctx.Err() == nil {
		n, ok := a.first()
		if !ok {
			a.log.Debug("all is published")
			select {
			case <-ctx.Done():
			case <-a.news:
			}
			continue
		}
		err := a.publish(ctx, n)
		if err == nil {
			a.done()
			wait = minRetry
			continue
		}
		if ctx.Err() != nil {
			return
		}
		a.log.Error("publish incident; it is tried again", "incident", n.Name, "tub", n.Tub, "err", err, "next_try", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Minute)
	}
}

// publish puts the incident's file into the object store, publishes one message
// for each category, and notes each acknowledgement.
func (a *announcer) publish(ctx context.Context, n notice) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	sum, err := a.p.cfg.Archive.Summary(n.Stored)
	if err != nil {
		return err
	}
	sum.Categories = n.all
	if err := a.putObject(ctx, n.Stored, sum); err != nil {
		return err
	}
	payload := sum.AppendJSON(nil)
	for _, category := range n.categories {
		target := incident.CategorySubject(category)
		subject := incident.IncidentSubject(category, sum.Incarnation, n.Name)
		if err := a.p.cfg.Bus.Publish(ctx, subject, payload); err != nil {
			return err
		}
		if err := a.p.cfg.Archive.AddPublished(n.Stored, target); err != nil {
			return err
		}
		a.log.Info("incident published", "subject", subject)
	}
	return nil
}

func (a *announcer) putObject(ctx context.Context, s archive.Stored, sum *incident.Summary) error {
	f, err := a.p.cfg.Archive.OpenFile(s)
	if err != nil {
		return err
	}
	defer f.Close()
	stored, err := a.p.cfg.Bus.PutObject(ctx, sum.Object, sum.Size, f)
	if err != nil {
		return err
	}
	if !stored {
		sum.Object = ""
	}
	return nil
}
