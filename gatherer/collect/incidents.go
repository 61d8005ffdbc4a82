package collect

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/gatherer/archive"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// fetchTimeout is for one incident and its parts.
const fetchTimeout = 10 * time.Minute

// collectIncidents subscribes to incidents and fetches what is offered, until ctx is
// done or the publisher refuses.
func (s *Session) collectIncidents(ctx context.Context) {
	for ctx.Err() == nil {
		latest := s.c.cfg.Archive.Latest(s.tub)
		s.mu.Lock()
		s.t = newOffers(latest)
		s.mu.Unlock()
		since := secondOf(latest)
		subscription, err := wire.SubscribeIncidents(ctx, s.remote, wire.IncidentOptions{CatchUp: true, Since: since}, wire.IncidentObserver{
			New:      s.offered,
			CaughtUp: s.caughtUp,
			Refused: func(name any) {
				s.log.Warn("refused an incident's name", "incident", fmt.Sprintf("%.200q", name))
			},
		})
		if err != nil {
			if ctx.Err() == nil {
				s.log.Error("subscribe to incidents", "err", err)
			}
			return
		}
		s.log.Info("gathering incidents", "after", since)
		s.fetchAll(ctx)
		if subscription != nil && ctx.Err() == nil { // more was offered than fits: subscribe again
			if err := subscription.Call(ctx, wire.MethodUnsubscribe, rpc.Args{}, nil); err != nil && ctx.Err() == nil {
				s.log.Warn("unsubscribe from incidents", "err", err)
			}
		}
	}
}

// secondOf returns a text that sorts before all names of the second in which the
// incident name began. Names of one second from an original publisher are in no
// order: a smaller one may be of a later incident.
func secondOf(name string) string {
	if incident.NameTime(name).IsZero() {
		return name
	}
	return name[:strings.LastIndexByte(name, '-')+1]
}

// offered takes an offer.
func (s *Session) offered(name string, _ *event.Event) error {
	s.mu.Lock()
	s.t.add(&offer{name: name}, s.c.cfg.MaxOffers)
	s.mu.Unlock()
	s.signal()
	return nil
}

// caughtUp notes that what is offered from now on is complete.
func (s *Session) caughtUp() {
	s.mu.Lock()
	s.t.caughtUp = true
	s.mu.Unlock()
	s.signal()
}

func (s *Session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// fetchAll fetches what is offered, one incident at a time, until ctx is done. After
// more was offered than fits, it returns when what fits has been fetched.
func (s *Session) fetchAll(ctx context.Context) {
	for {
		s.mu.Lock()
		o, wait, finished := s.t.next(time.Now())
		s.mu.Unlock()
		switch {
		case ctx.Err() != nil || finished:
			return
		case o != nil:
			s.fetch(ctx, o)
			continue
		}
		var alarm <-chan time.Time
		if wait > 0 {
			alarm = time.After(wait)
		}
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-alarm:
		}
	}
}

// fetch fetches an incident if that is needed, and settles the offer or delays it.
func (s *Session) fetch(ctx context.Context, o *offer) {
	id := archive.ID{Tub: s.tub, Name: o.name}
	state, stored := s.c.cfg.Archive.State(id)
	s.mu.Lock()
	newest := s.t.isNewest(o.name)
	s.mu.Unlock()
	known := stored || s.c.cfg.Archive.KnownElsewhere(s.tub, o.name)
	if known && !o.live && !o.again && !newest {
		// It was complete when it was fetched: a later one had begun, or it was
		// settled before.
		s.settle(o.name)
		return
	}
	if until := s.c.failures.until(id); time.Now().Before(until) {
		s.delay(o, until)
		return
	}

	s.log.Info("fetching incident", "incident", o.name)
	var err error
	if stored {
		err = s.fetchAgain(ctx, state.Stored)
	} else {
		err = s.fetchNew(ctx, id)
	}
	switch {
	case errors.Is(err, wire.ErrGone):
		s.log.Warn("incident gone before it was fetched", "incident", o.name)
		s.c.failures.forget(id)
		s.settle(o.name)
	case err != nil:
		// If it costs the connection each time, the others must come first when
		// the publisher is back.
		until := s.c.failures.add(id, time.Now())
		s.log.Error("fetch incident; it is tried again", "incident", o.name, "err", err, "next_try", until)
		s.delay(o, until)
	case newest && !o.live && !o.again: // it may not have been complete
		s.c.failures.forget(id)
		o.again = true
		s.delay(o, time.Now().Add(s.c.cfg.UnfinishedFor))
	default:
		s.c.failures.forget(id)
		s.settle(o.name)
	}
}

// fetchNew fetches an incident and stores it.
func (s *Session) fetchNew(ctx context.Context, id archive.ID) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	header, events, err := s.get(ctx, id.Name)
	if err != nil {
		return err
	}
	if same, err := s.sameElsewhere(ctx, id, header, events); same || err != nil {
		return err
	}
	return s.store(ctx, id, header, events)
}

// fetchAgain fetches an incident that is stored, and stores it again if it has
// become longer.
func (s *Session) fetchAgain(ctx context.Context, stored archive.Stored) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	header, events, err := s.get(ctx, stored.Name)
	if err != nil {
		return err
	}
	longer, err := s.c.cfg.Archive.Longer(stored, header, len(events))
	if errors.Is(err, archive.ErrNameTaken) {
		s.log.Warn("another incident of a name that is taken", "incident", stored.Name)
		return nil
	}
	if err != nil || !longer {
		return err
	}
	return s.store(ctx, stored.ID, header, events)
}

// get asks the publisher for an incident.
func (s *Session) get(ctx context.Context, name string) (header event.Dict, events []event.Dict, err error) {
	if header, events, err = wire.GetIncident(ctx, s.remote, name, 2*s.c.cfg.MaxIncident+1<<20); err != nil {
		return nil, nil, err
	}
	limit := s.c.cfg.MaxIncident
	buf := event.AppendJSON(nil, header)
	total := int64(len(buf))
	for _, d := range events {
		buf = event.AppendJSON(buf[:0], d)
		if total += int64(len(buf)); total > limit {
			return nil, nil, fmt.Errorf("it is larger than incidents.max_size, %d bytes", limit)
		}
	}
	return header, events, nil
}

// store stores an incident with its parts, and hands it on.
func (s *Session) store(ctx context.Context, id archive.ID, header event.Dict, events []event.Dict) error {
	if err := s.fetchParts(ctx, id); err != nil {
		return err
	}
	stored, err := s.c.cfg.Archive.Store(id, header, events, time.Now())
	if err != nil {
		return err
	}
	s.log.Info("incident stored", "incident", id.Name, "events", len(events))
	s.c.cfg.Sink.Stored(stored)
	return nil
}

// sameElsewhere reports whether an incident with this header and these events is stored
// under another TubID, and notes that this publisher offered it too. A name and a
// trigger prove nothing: an incident that has those of another one, and differs from
// it, is stored beside it. The attachments of this publisher are kept in any case.
func (s *Session) sameElsewhere(ctx context.Context, id archive.ID, header event.Dict, events []event.Dict) (bool, error) {
	stored := s.c.cfg.Archive
	trigger := archive.TriggerOf(incident.HeaderTrigger(header))
	if !trigger.Known() {
		return false, nil
	}
	content := "" // computed if it is needed
	for _, other := range stored.Elsewhere(s.tub, id.Name) {
		if t, err := stored.Trigger(other); err != nil || t != trigger {
			continue
		}
		if content == "" {
			content = archive.ContentOf(header, events)
		}
		if c, err := stored.Content(other); err != nil || c != content {
			continue
		}
		if err := s.fetchParts(ctx, id); err != nil {
			return false, err
		}
		added, err := stored.AddAlso(s.tub, other)
		if err != nil {
			return false, err
		}
		if added {
			s.log.Info("incident is here from another Tub", "incident", id.Name, "from", other.Tub)
		}
		return true, nil
	}
	return false, nil
}

// settle notes that nothing more is to be done for the offer of name.
func (s *Session) settle(name string) {
	s.mu.Lock()
	s.t.resume.limit = archive.LatestLimit(time.Now())
	s.t.resume.settle(name)
	mark := s.t.resume.mark
	s.mu.Unlock()
	if mark == s.c.cfg.Archive.Latest(s.tub) {
		return
	}
	if err := s.c.cfg.Archive.SetLatest(s.tub, mark); err != nil {
		s.log.Error("note the latest incident", "incident", mark, "err", err)
		return
	}
	s.log.Debug("all incidents are here", "latest", mark)
}

// delay has o fetched when it is due.
func (s *Session) delay(o *offer, due time.Time) {
	o.due = due
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.delayed = append(s.t.delayed, o)
}
