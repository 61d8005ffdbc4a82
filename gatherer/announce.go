package gatherer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/incident"
)

// announcer publishes stored and classified incidents on NATS, in the order in
// which they were classified, and notes in the ledger what was acknowledged.
// What is not published when the gatherer ends is found again at its start.
type announcer struct {
	g    *Gatherer
	log  *slog.Logger
	news chan struct{} // holds a token when queue has grown

	mu    sync.Mutex
	queue []notice // guarded by mu
}

// notice is an incident to be published under some of its categories.
type notice struct {
	stored
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
		a.log.Error("publish incident; it is tried again", "incident", n.name, "tub", n.tub, "err", err, "next_try", wait)
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
	sum, err := a.g.summarize(n.stored)
	if err != nil {
		return err
	}
	sum.Categories = n.all
	if err := a.putObject(ctx, n.stored, sum); err != nil {
		return err
	}
	payload := sum.AppendJSON(nil)
	for _, category := range n.categories {
		target := incident.CategorySubject(category)
		subject := incident.IncidentSubject(category, sum.Incarnation, n.name)
		if err := a.g.bus.Publish(ctx, subject, payload); err != nil {
			return fmt.Errorf("%s: %w", subject, err)
		}
		if err := a.g.dir.AppendLines(publishedFile, n.path()+" "+target); err != nil {
			return err
		}
		a.log.Info("incident published", "subject", subject)
	}
	return nil
}

func (a *announcer) putObject(ctx context.Context, s stored, sum *incident.Summary) error {
	f, err := a.g.dir.Open(s.path())
	if err != nil {
		return err
	}
	defer f.Close()
	if sum.Size > int64(a.g.settings.NATS.MaxStore)/4 {
		sum.Object = "" // it would push all others out
		return nil
	}
	if err := a.g.bus.Put(ctx, sum.Object, sum.Size, f); err != nil {
		return fmt.Errorf("object store: %w", err)
	}
	return nil
}

// summarize reads the stored incident s.
func (g *Gatherer) summarize(s stored) (*incident.Summary, error) {
	f, err := g.dir.Open(s.path())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, f)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	header, events, err := readIncident(f, s.path())
	if err != nil {
		return nil, err
	}
	sum := incident.NewSummary(s.name, header, events)
	sum.Tubs = append([]string{s.tub}, g.archive.alsoTubs(s.incidentID)...)
	sum.File, sum.Size, sum.SHA256 = s.path(), size, hex.EncodeToString(hash.Sum(nil))
	sum.Object = incident.ObjectName(sum.Incarnation, sum.File)
	return sum, nil
}

// readIncident reads an incident file to its end and returns its header and how
// many events it has. Of a damaged one it returns what is readable.
func readIncident(r io.Reader, name string) (header event.Dict, events int, err error) {
	in, err := flogfile.NewReader(r, name)
	if err != nil {
		return nil, 0, err
	}
	defer in.Close()
	for {
		line, err := in.Next()
		if err != nil {
			if header == nil {
				return nil, 0, fmt.Errorf("%s: no header can be read: %w", name, err)
			}
			return header, events, nil
		}
		if line.Kind&flogfile.KindHeader != 0 && header == nil {
			header = line.Header()
		}
		if line.Kind&flogfile.KindEvent != 0 {
			events++
		}
	}
}

// publishEvent publishes an event that was just written, if it is important
// enough. line is its line of the file; it is not kept.
func (g *Gatherer) publishEvent(tub string, ev *event.Event, line []byte) {
	if g.bus == nil || g.settings.NATS.Events.none || ev.Level() < g.settings.NATS.Events.from {
		return
	}
	g.bus.Event(incident.EventSubject(tub, ev.Level(), ev.Facility()), bytes.Clone(bytes.TrimSuffix(line, []byte{'\n'})))
}
