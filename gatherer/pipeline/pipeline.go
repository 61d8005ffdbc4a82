// Package pipeline does what follows when an incident is stored. It is a list of
// steps:
//
//	stored ──► classify ─────────► publish
//	           the rules            NATS flog.incident.…, object store
//	           files: classified/   file: published
//
// Each step has a goroutine, which does one incident at a time and hands it to the
// next step. At start, a step finds what it has not done by comparing files.
//
// If a step fails three times on an incident, because its file is damaged or the
// server refuses it, or if the process dies twice in a row at work on an incident,
// the incident is set aside with the reason: it does not hold up
// others, and is retried every hour and at the next start. If the target of a step
// is away as a whole, the step waits and tries it again, at least once a minute; no
// incident is set aside.
//
// Memory is bounded: a step has at most 1000 names in its queue. If more incidents
// wait, it finds their names in the archive.
//
// Spec: docs/nats.md.
package pipeline

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/flogtool/flogtool/classify"
	"github.com/flogtool/flogtool/gatherer/archive"
)

// Config says where incidents are, and by what they are classified and published.
type Config struct {
	Archive *archive.Archive
	Rules   *classify.Rules
	Target  Target       // nil: incidents are not published
	Log     *slog.Logger // our own diagnostics; required
}

// Pipeline is the steps over one archive.
type Pipeline struct {
	archive *archive.Archive
	log     *slog.Logger
	rules   *ruleWatch
	stages  []*stage // in order
	guards  []*archive.Attempts
}

// New returns the steps that Config asks for. The caller must call Run.
func New(cfg Config) *Pipeline {
	p := &Pipeline{archive: cfg.Archive, log: cfg.Log, rules: newRuleWatch(cfg.Rules, cfg.Log)}
	p.add(cfg, "classify", &classifyStep{cfg.Archive, cfg.Rules, p.attempts("classify"), cfg.Log}, unclassified)
	p.stages[0].caughtUp = func(done int) { p.log.Info("stored incidents are classified", "anew", done) }
	if cfg.Target != nil {
		p.add(cfg, "publish", &publishStep{cfg.Archive, cfg.Target, p.attempts("publish"), cfg.Log}, unpublished)
	}
	return p
}

// attempts returns what guards a step against incidents that kill the process. Without
// its files the step works unguarded.
func (p *Pipeline) attempts(step string) *archive.Attempts {
	t, err := p.archive.Attempts(step)
	if err != nil {
		p.log.Error("a step works without a record of its attempts", "step", step, "err", err)
		return nil
	}
	p.guards = append(p.guards, t)
	return t
}

// add appends a step.
func (p *Pipeline) add(cfg Config, name string, step step, undone func(archive.State) bool) {
	st := newStage(name, step, cfg.Archive, undone, cfg.Log)
	if last := len(p.stages) - 1; last >= 0 {
		p.stages[last].next = st.add
	}
	if cfg.Target != nil {
		st.idle = p.idle
	}
	p.stages = append(p.stages, st)
}

// Run does the steps, and reads rules whose files change, until ctx is done.
func (p *Pipeline) Run(ctx context.Context) {
	p.log.Info("classifying stored incidents", "stored", p.archive.Len())
	defer func() {
		for _, t := range p.guards {
			t.Close()
		}
	}()
	var loops sync.WaitGroup
	defer loops.Wait()
	loops.Go(func() { p.rules.run(ctx) })
	for _, st := range p.stages {
		loops.Go(func() { st.run(ctx) })
	}
}

// Stored takes over an incident that was stored or has grown. It does not block.
func (p *Pipeline) Stored(s archive.Stored) { p.stages[0].add(s) }

// ReloadRules reads the rules whose files have changed.
func (p *Pipeline) ReloadRules() { p.rules.reload() }

// idle is called when a step has nothing more to do.
func (p *Pipeline) idle() {
	if !slices.ContainsFunc(p.stages, (*stage).busy) {
		p.log.Debug("all is published")
	}
}

// SetAside is an incident that a step cannot do.
type SetAside struct {
	archive.Stored
	Step   string    // classify or publish
	Reason string    // of the last try
	Since  time.Time // of the first try
	Tries  int
}

// SetAside returns the incidents that are set aside, in the order of Since. If they
// are more than 1000 for a step, the others are reported in the log only.
func (p *Pipeline) SetAside() []SetAside {
	var list []SetAside
	for _, st := range p.stages {
		list = append(list, st.setAside()...)
	}
	slices.SortFunc(list, func(x, y SetAside) int { return cmp.Or(x.Since.Compare(y.Since), x.Compare(y.ID)) })
	return list
}
