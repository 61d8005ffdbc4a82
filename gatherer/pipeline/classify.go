package pipeline

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/flogtool/flogtool/classify"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/gatherer/archive"
)

// classifyStep runs the rules over an incident and lists it in classified/.
type classifyStep struct {
	archive  *archive.Archive
	rules    *classify.Rules
	attempts *archive.Attempts
	log      *slog.Logger
}

// unclassified reports whether no file of classified/ lists the incident, or not
// all of its events have been seen by the rules.
func unclassified(s archive.State) bool { return len(s.Categories) == 0 || s.Grown != 0 }

func (c *classifyStep) Do(_ context.Context, s archive.Stored) error {
	before, ok := c.archive.State(s.ID)
	if !ok || !unclassified(before) {
		return nil
	}
	var categories []string
	err := c.attempts.Guard(before.Stored, func() (err error) {
		categories, err = c.classify(before.Stored)
		return err
	})
	if err != nil {
		return err
	}
	if len(before.Categories) > 0 {
		categories = slices.DeleteFunc(categories, func(c string) bool { return c == classify.Unknown })
	}
	added, err := c.archive.Classify(before.Stored, categories, before.Grown)
	if err != nil {
		return &writeError{err}
	}
	if len(added) > 0 {
		after, _ := c.archive.State(s.ID)
		c.log.Info("incident classified", "incident", s.Name, "tub", s.Tub, "categories", after.Categories)
	}
	return nil
}

// classify returns the categories of an incident. A rule that fails is logged, and
// the others count.
func (c *classifyStep) classify(s archive.Stored) ([]string, error) {
	f, err := c.archive.OpenFile(s)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := flogfile.NewReader(f, s.Path())
	if err != nil {
		return nil, err
	}
	file, err := classify.NewFile(s.Path(), r)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	file.Name = s.Name
	result := c.rules.Classify(&file.Incident)
	for _, e := range result.Errors {
		c.log.Error("rule failed on an incident", "incident", s.Name, "tub", s.Tub, "err", e.Error())
	}
	if err := file.Damage(); err != nil {
		c.log.Warn("incident is damaged", "incident", s.Name, "tub", s.Tub, "err", err)
	}
	return result.Categories, nil
}

// writeError is that of a file in the gatherer's directory that cannot be written.
type writeError struct{ err error }

func (e *writeError) Error() string     { return e.err.Error() }
func (e *writeError) Unwrap() error     { return e.err }
func (e *writeError) Unavailable() bool { return true }

// rulesPoll is how often the files of the rules are looked at.
const rulesPoll = 2 * time.Second

// ruleWatch reads rules again when their files change, and logs what is wrong with
// them, once.
type ruleWatch struct {
	rules *classify.Rules
	log   *slog.Logger

	mu       sync.Mutex
	problems map[string]bool // that are logged and still there; guarded by mu
}

func newRuleWatch(rules *classify.Rules, log *slog.Logger) *ruleWatch {
	w := &ruleWatch{rules: rules, log: log}
	w.report()
	return w
}

// report logs what is wrong with the rules and has not been logged yet.
func (w *ruleWatch) report() {
	w.mu.Lock()
	defer w.mu.Unlock()
	problems := map[string]bool{}
	add := func(level slog.Level, msg string, errs []*classify.RuleError) {
		for _, err := range errs {
			text := err.Error()
			if !w.problems[text] && !problems[text] {
				w.log.Log(context.Background(), level, msg, "err", text)
			}
			problems[text] = true
		}
	}
	add(slog.LevelError, "rule cannot be used", w.rules.Errors())
	add(slog.LevelWarn, "rule looks wrong", w.rules.Warnings())
	w.problems = problems
}

// reload reads the rules whose files have changed.
func (w *ruleWatch) reload() {
	changed, err := w.rules.Reload()
	if err != nil {
		w.log.Error("read rules", "err", err)
		return
	}
	if changed {
		w.log.Info("rules read", "rules", w.rules.Len())
		w.report()
	}
}

// run calls reload from time to time until ctx is done.
func (w *ruleWatch) run(ctx context.Context) {
	poll := time.NewTicker(rulesPoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
			w.reload()
		}
	}
}
