package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/gatherer/archive"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/rpc"
)

// Remote interface names; foolscap-wire.md section 6.1.
const (
	gathererInterface  = "RILogGatherer.foolscap.lothar.com"
	publisherInterface = "RILogPublisher.foolscap.lothar.com"
	observerInterface  = "RILogObserver.foolscap.lothar.com"
)

const (
	// maxAnnounced bounds the incidents of one publisher that wait to be
	// fetched. When more are announced, the rest is asked for again later.
	maxAnnounced = 50_000

	// unfinishedFor is how long an incident may have been growing when a
	// publisher announced it: the original offers in its catch-up what it is
	// still recording, for 5 s. The newest one is fetched again after this.
	unfinishedFor = 10 * time.Second

	fetchTimeout = 10 * time.Minute
	minRetry     = time.Second
	maxRetry     = 10 * time.Minute
)

// Session is one process that offered its logport over one connection. Its
// run has one goroutine; the methods that the process calls run on its
// connection's, one after the other.
type Session struct {
	c      *Collector
	tub    string // proved, and a safe file name
	remote *rpc.Remote
	log    *slog.Logger
	stop   context.CancelFunc // of run's context
	ended  chan struct{}      // closed when run has returned

	line, d []byte // of msg

	news chan struct{} // holds a token when t has changed

	mu sync.Mutex
	t  announcements // guarded by mu
}

// announcements are the incidents a publisher told us of.
type announcements struct {
	queue    []*announcement          // to be fetched, in this order
	queued   map[string]*announcement // the same by name
	waiting  []*announcement          // to be fetched again when due; few
	resume   *resume
	latest   string // all up to it was here before
	newest   string // the greatest name announced
	caughtUp bool   // the publisher has said that from here on they are new
	overflow bool   // some did not fit: ask again
}

// announcement is one incident that can be fetched.
type announcement struct {
	name    string
	trigger archive.Trigger
	live    bool      // announced when it was complete, not in the catch-up
	again   bool      // fetched before, when it may not have been complete
	due     time.Time // not before
}

// run gathers from the publisher until ctx is done, which is when the
// connection is lost at the latest.
func (p *Session) run(ctx context.Context) {
	p.log.Info("publisher connected", "addr", p.remote.Peer().RemoteAddr())
	defer p.log.Info("publisher gone")
	if p.c.cfg.WriteEvent != nil {
		observer := &rpc.Methods{Name: observerInterface, Map: map[string]func(*rpc.Call) (any, error){
			"msg": p.msg, "done": ignore,
		}}
		var subscription any // not kept: it lasts as long as the connection
		if err := p.remote.Call(ctx, "subscribe_to_all", rpc.Pos(observer), &subscription); err != nil {
			if ctx.Err() == nil {
				p.log.Error("subscribe to events", "err", err)
			}
		} else {
			p.log.Info("gathering events")
		}
	}
	if p.c.cfg.Archive != nil {
		p.gatherIncidents(ctx)
	}
	<-ctx.Done()
}

func ignore(*rpc.Call) (any, error) { return nil, nil }

// msg takes one event. It is in the file when the answer goes out. While the
// file cannot be written, the publisher waits, and drops at its own end what
// its queue does not hold.
func (p *Session) msg(c *rpc.Call) (any, error) {
	args, err := c.Require("logmsg")
	if err != nil {
		return nil, err
	}
	dict, ok := args[0].(event.Dict)
	if !ok {
		p.log.Warn("refused an event that is no dict")
		return nil, rpc.Errorf("builtins.TypeError", "logmsg must be a dict")
	}
	ev := event.FromDict(dict)
	rx := time.Now()
	p.d = ev.AppendJSON(p.d[:0])
	if limit := p.c.cfg.MaxEvent; len(p.d) > limit {
		ev = event.Shortened(ev, len(p.d), limit)
		p.d = ev.AppendJSON(p.d[:0])
	}
	p.line = flogfile.AppendEvent(p.line[:0], p.tub, rx, p.d)
	for wait := minRetry; ; wait = min(2*wait, 10*time.Second) {
		err := p.c.cfg.WriteEvent(p.line)
		if err == nil {
			break
		}
		p.log.Error("write event; its publisher waits", "err", err)
		select {
		case <-c.Context().Done():
			return nil, err
		case <-time.After(wait):
		}
	}
	if p.c.cfg.PublishEvent != nil {
		p.c.cfg.PublishEvent(p.tub, ev, p.line)
	}
	return nil, nil
}

// gatherIncidents asks for incidents and fetches what is announced until ctx is
// done.
func (p *Session) gatherIncidents(ctx context.Context) {
	for ctx.Err() == nil {
		since := secondOf(p.reset())
		observer := &rpc.Methods{Name: observerInterface, Map: map[string]func(*rpc.Call) (any, error){
			"new_incident": p.newIncident, "done_with_incident_catchup": p.caughtUp, "done": ignore,
		}}
		args := rpc.Args{
			Pos: []any{observer},
			Kw:  map[string]any{"catch_up": true, "since": []byte(since)},
		}
		var subscription *rpc.Remote
		if err := p.remote.Call(ctx, "subscribe_to_incidents", args, &subscription); err != nil {
			if ctx.Err() == nil {
				p.log.Error("subscribe to incidents", "err", err)
			}
			return
		}
		p.log.Info("gathering incidents", "after", since)
		p.fetchAll(ctx)
		if subscription != nil && ctx.Err() == nil { // more was announced than is kept: once more
			if err := subscription.Call(ctx, "unsubscribe", rpc.Args{}, nil); err != nil && ctx.Err() == nil {
				p.log.Warn("unsubscribe from incidents", "err", err)
			}
		}
	}
}

// reset forgets what was announced and returns the name up to which all is here.
func (p *Session) reset() (latest string) {
	latest = p.c.cfg.Archive.Latest(p.tub)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.t = announcements{queued: map[string]*announcement{}, resume: newResume(latest), latest: latest}
	return latest
}

// secondOf returns what sorts before all names of the second in which the
// incident name began: within it the original's names are in no order, so one
// that is greater may have been recorded earlier.
func secondOf(name string) string {
	if incident.NameTime(name).IsZero() {
		return name
	}
	return name[:strings.LastIndexByte(name, '-')+1]
}

// newIncident takes the announcement of an incident.
func (p *Session) newIncident(c *rpc.Call) (any, error) {
	args, err := c.Require("name", "trigger")
	if err != nil {
		return nil, err
	}
	name, ok := text(args[0])
	if !ok || !incident.ValidName(name) {
		p.log.Warn("refused an incident's name", "incident", fmt.Sprintf("%.200q", args[0]))
		return nil, rpc.Errorf("builtins.ValueError", "this is no name of an incident")
	}
	a := &announcement{name: name, trigger: archive.Trigger{Num: event.NoNum}}
	if trigger, ok := args[1].(event.Dict); ok {
		a.trigger = archive.TriggerOf(event.FromDict(trigger))
	}
	p.mu.Lock()
	p.t.add(a, p.c.cfg.MaxOffers)
	p.mu.Unlock()
	p.wake()
	return nil, nil
}

func text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case []byte:
		return string(v), true
	}
	return "", false
}

// add queues a, unless it is queued already. When limit are queued it is left
// for the next subscription.
func (t *announcements) add(a *announcement, limit int) {
	a.live = t.caughtUp
	if have := t.queued[a.name]; have != nil {
		have.live = have.live || a.live
		return
	}
	if len(t.queue)+len(t.waiting) >= limit {
		t.overflow = true
		t.resume.lose(a.name)
		return
	}
	t.resume.announce(a.name)
	t.newest = max(t.newest, a.name)
	t.queue = append(t.queue, a)
	t.queued[a.name] = a
}

func (p *Session) caughtUp(*rpc.Call) (any, error) {
	p.mu.Lock()
	p.t.caughtUp = true
	p.mu.Unlock()
	p.wake()
	return nil, nil
}

func (p *Session) wake() {
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// next takes the first announcement that is due, or returns how long until one
// is: 0 if nothing but news can change that. done says that the queue is empty
// and that more is to be asked for.
func (p *Session) next(now time.Time) (a *announcement, wait time.Duration, done bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := &p.t
	for i, a := range t.waiting {
		until := a.due.Sub(now)
		if until <= 0 {
			t.waiting = slices.Delete(t.waiting, i, i+1)
			return a, 0, false
		}
		if wait == 0 || until < wait {
			wait = until
		}
	}
	if len(t.queue) == 0 {
		return nil, wait, t.overflow
	}
	a = t.queue[0]
	t.queue[0] = nil
	t.queue = t.queue[1:]
	delete(t.queued, a.name)
	return a, 0, false
}

// fetchAll fetches what is announced, one incident at a time, until ctx is done
// or, after more was announced than is kept, all that is kept has been fetched.
func (p *Session) fetchAll(ctx context.Context) {
	for {
		a, wait, done := p.next(time.Now())
		switch {
		case ctx.Err() != nil || done:
			return
		case a != nil:
			p.fetch(ctx, a)
			continue
		}
		var alarm <-chan time.Time
		if wait > 0 {
			alarm = time.After(wait)
		}
		select {
		case <-ctx.Done():
		case <-p.news:
		case <-alarm:
		}
	}
}

// errGone is what fetching an incident gives that its publisher has no more.
var errGone = errors.New("the publisher does not have it any more")

// fetch brings one incident here, or sees to it that it is tried again.
func (p *Session) fetch(ctx context.Context, a *announcement) {
	id := archive.ID{Tub: p.tub, Name: a.name}
	have, stored := p.c.cfg.Archive.State(id)
	p.mu.Lock()
	newest := a.name >= p.t.newest && a.name > p.t.latest
	p.mu.Unlock()
	if stored && !a.live && !a.again && !newest {
		// It was complete when the next one began, or when it was settled.
		p.settle(a.name)
		return
	}
	if until := p.c.failures.until(id); time.Now().Before(until) {
		p.later(a, until)
		return
	}
	if !stored && p.storedElsewhere(a) {
		p.settle(a.name)
		return
	}

	err := p.bring(ctx, a, have.Stored, stored)
	switch {
	case err == nil, errors.Is(err, errGone):
		if err != nil {
			p.log.Warn("incident gone before it was fetched", "incident", a.name)
		}
		p.c.failures.forget(id)
		if newest && !a.live && !a.again && err == nil {
			a.again = true
			p.later(a, time.Now().Add(p.c.cfg.UnfinishedFor))
			return
		}
		p.settle(a.name)
	default:
		// The connection may be what this incident costs each time: the
		// others come first then, and the next try waits longer.
		until := p.c.failures.add(id, time.Now())
		p.log.Error("fetch incident; it is tried again", "incident", a.name, "err", err, "next_try", until)
		p.later(a, until)
	}
}

// bring fetches the incident, stores it if it is new or longer than what is
// here, and has it classified and published.
func (p *Session) bring(ctx context.Context, a *announcement, have archive.Stored, stored bool) error {
	p.log.Info("fetching incident", "incident", a.name)
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	var answer any
	err := p.remote.Call(ctx, "get_incident", rpc.Pos([]byte(a.name)), &answer)
	if remote, ok := errors.AsType[*rpc.RemoteError](err); ok &&
		remote.Type == "builtins.KeyError" && strings.Contains(remote.Text, "no incident named") {
		return errGone
	}
	if err != nil {
		return err
	}
	header, events, err := incidentParts(answer)
	if err != nil {
		return err
	}
	if err := p.checkSize(header, events); err != nil {
		return err
	}
	if stored {
		longer, err := p.c.cfg.Archive.Longer(have, header, len(events))
		if errors.Is(err, archive.ErrNameTaken) {
			p.log.Warn("another incident of a name that is taken", "incident", a.name)
			return nil
		}
		if err != nil || !longer {
			return err
		}
	}
	if err := p.bringAttachments(ctx, a.name); err != nil {
		return err
	}
	s, err := p.c.cfg.Archive.Store(archive.ID{Tub: p.tub, Name: a.name}, header, events, time.Now())
	if err != nil {
		return err
	}
	p.log.Info("incident stored", "incident", a.name, "events", len(events))
	p.c.cfg.Sink.Stored(s)
	return nil
}

// storedElsewhere reports whether another Tub gave us this very incident, and
// notes that this one offered it too.
func (p *Session) storedElsewhere(a *announcement) bool {
	for _, s := range p.c.cfg.Archive.Elsewhere(p.tub, a.name) {
		trigger, err := p.c.cfg.Archive.Trigger(s)
		if err != nil || trigger != a.trigger || !trigger.Known() {
			continue
		}
		news, err := p.c.cfg.Archive.AddAlso(p.tub, s)
		if err != nil {
			p.log.Error("note an incident known from another Tub", "incident", a.name, "err", err)
			return false
		}
		if news {
			p.log.Info("incident is here from another Tub", "incident", a.name, "from", s.Tub)
		}
		return true
	}
	return false
}

// settle notes that nothing more is to be done for name.
func (p *Session) settle(name string) {
	p.mu.Lock()
	p.t.resume.settle(name)
	mark := p.t.resume.mark
	p.mu.Unlock()
	if mark == p.c.cfg.Archive.Latest(p.tub) {
		return
	}
	if err := p.c.cfg.Archive.SetLatest(p.tub, mark); err != nil {
		p.log.Error("note the latest incident", "incident", mark, "err", err)
		return
	}
	p.log.Debug("all incidents are here", "latest", mark)
}

// later has a fetched when it is due.
func (p *Session) later(a *announcement, due time.Time) {
	a.due = due
	p.mu.Lock()
	defer p.mu.Unlock()
	p.t.waiting = append(p.t.waiting, a)
}

// incidentParts checks the shape of what get_incident answered: a header with a
// trigger, and events.
func incidentParts(answer any) (header event.Dict, events []event.Dict, err error) {
	var pair []any
	switch v := answer.(type) {
	case event.Tuple:
		pair = v
	case []any:
		pair = v
	}
	if len(pair) != 2 {
		return nil, nil, errors.New("the answer is no pair of a header and events")
	}
	header, ok := pair[0].(event.Dict)
	if !ok {
		return nil, nil, errors.New("the header is no dict")
	}
	trigger, _ := header.Get("trigger")
	if _, ok := trigger.(event.Dict); !ok {
		return nil, nil, errors.New("the header has no trigger that is a dict")
	}
	list, ok := pair[1].([]any)
	if !ok {
		return nil, nil, errors.New("the events are no list")
	}
	events = make([]event.Dict, len(list))
	for i, v := range list {
		if events[i], ok = v.(event.Dict); !ok {
			return nil, nil, fmt.Errorf("event %d is no dict", i)
		}
	}
	return header, events, nil
}

// checkSize refuses an incident that would be larger than the settings allow.
func (p *Session) checkSize(header event.Dict, events []event.Dict) error {
	limit := p.c.cfg.MaxIncident
	buf := event.AppendJSON(nil, header)
	total := int64(len(buf))
	for _, d := range events {
		buf = event.AppendJSON(buf[:0], d)
		if total += int64(len(buf)); total > limit {
			return fmt.Errorf("it is larger than incidents.max_size, %v", p.c.cfg.MaxIncident)
		}
	}
	return nil
}
