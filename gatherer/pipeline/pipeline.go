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
	Dir      *durable.Dir
	Archive  *archive.Archive
	Bus      *bus.Bus        // nil: nothing is published
	Stopping <-chan struct{} // closed when Stored is to give up
	Log      *slog.Logger
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
	all := p.cfg.Archive.Next(archive.ID{}, p.cfg.Archive.Len(), func(archive.State) bool { return true })
	p.log.Info("classifying stored incidents", "stored", len(all))
	anew := 0
	for _, s := range all {
		if ctx.Err() != nil {
			return nil
		}
		state, _ := p.cfg.Archive.State(s.ID)
		categories := state.Categories
		if len(categories) == 0 || state.Grown != 0 {
			var err error
			if categories, err = p.classify(s); err != nil {
				p.log.Error("classify incident", "incident", s.Name, "tub", s.Tub, "err", err)
				continue
			}
			anew++
		}
		p.announce(s, categories, state.Published)
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

// classify runs the rules over the stored incident s and lists it; it returns all
// its categories.
func (p *Pipeline) classify(s archive.Stored) ([]string, error) {
	before, _ := p.cfg.Archive.State(s.ID)
	categories, err := p.rules.classify(s)
	if err != nil {
		return nil, err
	}
	if len(before.Categories) > 0 {
		categories = slices.DeleteFunc(categories, func(c string) bool { return c == classify.Unknown })
	}
	if _, err := p.cfg.Archive.Classify(s, categories, before.Grown); err != nil {
		return nil, err
	}
	p.log.Info("incident classified", "incident", s.Name, "tub", s.Tub, "categories", categories)
	state, _ := p.cfg.Archive.State(s.ID)
	return state.Categories, nil
}

// Stored takes over the stored incident s: it classifies and publishes it, also if
// its publisher has gone meanwhile. What fails, on a full disk, is tried until the
// gatherer stops: the next start finds what is missing then.
func (p *Pipeline) Stored(s archive.Stored) {
	p.untilDone("classify incident; it is tried again", s, func() error {
		before, _ := p.cfg.Archive.State(s.ID)
		categories, err := p.classify(s)
		if err == nil {
			p.announce(s, categories, before.Published)
		}
		return err
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
