// Package pipeline classifies and publishes the incidents that are stored.
package pipeline

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/flogtool/flogtool/classify"
	"github.com/flogtool/flogtool/gatherer/archive"
	"github.com/flogtool/flogtool/gatherer/bus"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/internal/durable"
)

// Config says where incidents and rules are, and where to publish.
type Config struct {
	Dir       *durable.Dir
	Archive   *archive.Archive
	Listing   *archive.Listing
	Bus       *bus.Bus        // nil: nothing is published
	MaxObject int64           // bytes; larger files are not put into the object store
	Stopping  <-chan struct{} // closed when Stored is to give up
	Log       *slog.Logger
}

// Pipeline classifies and publishes incidents.
type Pipeline struct {
	cfg       Config
	log       *slog.Logger
	rules     *ruleBook
	announcer *announcer
}

const minRetry = time.Second

// New reads the rules.
func New(cfg Config) (*Pipeline, error) {
	p := &Pipeline{cfg: cfg, log: cfg.Log}
	p.announcer = &announcer{p: p, log: cfg.Log, news: make(chan struct{}, 1)}
	var err error
	p.rules, err = openRules(cfg.Dir.Name(), cfg.Log)
	return p, err
}

// Run keeps the rules as their files are and publishes, until ctx is done.
func (p *Pipeline) Run(ctx context.Context) {
	var loops sync.WaitGroup
	defer loops.Wait()
	loops.Go(func() { p.rules.watch(ctx) })
	if p.cfg.Bus != nil {
		loops.Go(func() { p.announcer.run(ctx) })
	}
}

// Reload looks at the rules' files again.
func (p *Pipeline) Reload() { p.rules.reload() }

// Resume classifies the incidents that no file of classified/ names, and queues
// for publication those whose ledger lacks an acknowledgement.
func (p *Pipeline) Resume(ctx context.Context) error {
	listed, err := p.cfg.Listing.Read()
	if err != nil {
		return err
	}
	published, err := archive.ReadLedger(p.cfg.Dir, archive.PublishedFile)
	if err != nil {
		return err
	}
	all := p.cfg.Archive.All()
	p.log.Info("classifying stored incidents", "stored", len(all), "classified", len(listed))
	anew := 0
	for _, s := range all {
		if ctx.Err() != nil {
			return nil
		}
		categories, ok := listed[s.ID]
		if !ok {
			if categories, err = p.classify(s); err != nil {
				p.log.Error("classify incident", "incident", s.Name, "tub", s.Tub, "err", err)
				continue
			}
			anew++
		}
		p.announce(s, categories, published[s.ID])
	}
	p.log.Info("stored incidents are classified", "anew", anew)
	return nil
}

// announce queues s for publication under those of its categories whose target
// is not among acknowledged.
func (p *Pipeline) announce(s archive.Stored, categories, acknowledged []string) {
	if p.cfg.Bus == nil || slices.Contains(acknowledged, archive.EveryTarget) {
		return
	}
	n := notice{Stored: s, all: categories}
	for _, category := range categories {
		target := incident.CategorySubject(category)
		if !slices.Contains(acknowledged, target) {
			n.categories = append(n.categories, category)
		}
	}
	p.announcer.add(n)
}

// classify runs the rules over the stored incident s and lists it.
func (p *Pipeline) classify(s archive.Stored) ([]string, error) {
	categories, err := p.rules.classify(s)
	if err != nil {
		return nil, err
	}
	if err := p.cfg.Listing.Add(s, categories); err != nil {
		return nil, err
	}
	p.log.Info("incident classified", "incident", s.Name, "tub", s.Tub, "categories", categories)
	return categories, nil
}

// Stored takes over the stored incident s. If grown is true, it was stored before
// with fewer events.
func (p *Pipeline) Stored(s archive.Stored, grown bool) {
	if grown {
		p.grown(s)
	} else {
		p.arrived(s)
	}
}

// arrived classifies and publishes the incident s that was just stored, also
// if its publisher has gone meanwhile. What fails, on a full disk, is tried
// until the gatherer stops: the next start finds what is missing then.
func (p *Pipeline) arrived(s archive.Stored) {
	p.untilDone("classify incident; it is tried again", s, func() error {
		categories, err := p.classify(s)
		if err == nil {
			p.announce(s, categories, nil)
		}
		return err
	})
}

// grown classifies anew the incident s, which is here in full only now, and
// lists and publishes it under what that adds.
func (p *Pipeline) grown(s archive.Stored) {
	p.untilDone("classify incident that has grown; it is tried again", s, func() error {
		categories, err := p.rules.classify(s)
		if err != nil {
			return err
		}
		listed, err := p.cfg.Listing.Read()
		if err != nil {
			return err
		}
		had := listed[s.ID]
		more := slices.DeleteFunc(categories, func(c string) bool {
			return slices.Contains(had, c) || c == classify.Unknown && len(had) > 0
		})
		if len(more) == 0 {
			return nil
		}
		if err := p.cfg.Listing.Add(s, more); err != nil {
			return err
		}
		all := append(slices.Clone(had), more...)
		slices.Sort(all)
		if p.cfg.Bus != nil {
			p.announcer.add(notice{Stored: s, categories: more, all: all})
		}
		return nil
	})
}

// untilDone calls f until it succeeds or the gatherer stops.
func (p *Pipeline) untilDone(complaint string, s archive.Stored, f func() error) {
	for wait := minRetry; ; wait = min(2*wait, time.Minute) {
		err := f()
		if err == nil {
			return
		}
		p.log.Error(complaint, "incident", s.Name, "tub", s.Tub, "err", err, "next_try", wait)
		select {
		case <-p.cfg.Stopping:
			return
		case <-time.After(wait):
		}
	}
}
