package pipeline

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/flogtool/flogtool/gatherer/archive"
	"github.com/flogtool/flogtool/incident"
)

// Target is where incidents are published; *bus.Bus is one. Its errors have a
// method Unavailable that returns true if nothing can be published now.
type Target interface {
	// Publish publishes payload, unless the subject has been published before: then
	// it returns the payload of that message.
	Publish(ctx context.Context, subject string, payload []byte) (earlier []byte, err error)

	// PutObject stores a file of size bytes, unless it is there. It returns false
	// if the file is too large.
	PutObject(ctx context.Context, name string, size int64, file io.ReadSeeker) (stored bool, err error)
}

// publishStep publishes an incident, one message for each category, and notes each
// acknowledgement in the ledger `published`.
type publishStep struct {
	archive  *archive.Archive
	target   Target
	attempts *archive.Attempts
	log      *slog.Logger
}

// unpublished reports whether the incident has a category in which it has not been
// published.
func unpublished(s archive.State) bool {
	return slices.ContainsFunc(s.Categories, func(c string) bool { return !publishedAs(s, c) })
}

func publishedAs(s archive.State, category string) bool {
	return slices.Contains(s.Published, archive.EveryTarget) || slices.Contains(s.Published, incident.CategorySubject(category))
}

func (p *publishStep) Do(ctx context.Context, s archive.Stored) error {
	state, ok := p.archive.State(s.ID)
	if !ok || !unpublished(state) {
		return nil
	}
	var sum *incident.Summary
	var payload []byte
	// What NATS does with it is not guarded: a kill while a server is slow is not the
	// incident's fault.
	err := p.attempts.Guard(state.Stored, func() (err error) {
		if sum, err = p.archive.Summary(state.Stored); err != nil {
			return err
		}
		sum.Categories = state.Categories
		payload = sum.AppendJSON(nil)
		return nil
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute+time.Duration(sum.Size>>20)*time.Second)
	defer cancel()
	object := sum.Object
	if err := p.putFile(ctx, state.Stored, sum); err != nil {
		return err
	}
	if sum.Object != object {
		payload = sum.AppendJSON(nil)
	}
	for _, category := range state.Categories {
		if publishedAs(state, category) {
			continue
		}
		subject := incident.IncidentSubject(category, sum.Incarnation, s.Name)
		earlier, err := p.target.Publish(ctx, subject, payload)
		if err == nil && earlier != nil && !sum.Same(earlier) {
			// Another incident with the same claims. Both are published.
			subject = sum.Distinct(category)
			earlier, err = p.target.Publish(ctx, subject, payload)
			if err == nil && earlier != nil && !sum.Same(earlier) {
				err = fmt.Errorf("another incident is published on %s", subject)
			}
		}
		if err != nil {
			return err
		}
		if err := p.archive.AddPublished(state.Stored, incident.CategorySubject(category)); err != nil {
			return &writeError{err}
		}
		p.log.Info("incident published", "subject", subject)
	}
	return nil
}

// putFile puts the incident's file into the object store. If it is too large, the
// summary will not name an object.
func (p *publishStep) putFile(ctx context.Context, s archive.Stored, sum *incident.Summary) error {
	f, err := p.archive.OpenFile(s)
	if err != nil {
		return err
	}
	defer f.Close()
	stored, err := p.target.PutObject(ctx, sum.Object, sum.Size, f)
	if err == nil && !stored {
		sum.Object = ""
	}
	return err
}
