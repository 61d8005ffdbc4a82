package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/flogtool/flogtool/classify"
	"github.com/flogtool/flogtool/gatherer/archive"
)

// rulesPoll is how often the rules' files are looked at.
const rulesPoll = 2 * time.Second

// ruleBook is the rules in the gatherer's directory, which may change while it
// runs. A bad file is reported once; its last good version stays in force.
type ruleBook struct {
	dir   string
	rules *classify.Rules
	log   *slog.Logger

	mu   sync.Mutex
	told map[string]bool // problems that are still there; guarded by mu
}

func openRules(dir string, log *slog.Logger) (*ruleBook, error) {
	rules, err := classify.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("pipeline: rules: %w", err)
	}
	b := &ruleBook{dir: dir, rules: rules, log: log}
	b.report()
	return b, nil
}

// report says what is wrong with the rules and was not said yet.
func (b *ruleBook) report() {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := map[string]bool{}
	tell := func(level slog.Level, msg string, problems []*classify.RuleError) {
		for _, p := range problems {
			text := p.Error()
			now[text] = true
			if !b.told[text] {
				b.log.Log(context.Background(), level, msg, "err", text)
			}
		}
	}
	tell(slog.LevelError, "rule cannot be used", b.rules.Errors())
	tell(slog.LevelWarn, "rule looks wrong", b.rules.Warnings())
	b.told = now
}

// reload looks at the files again.
func (b *ruleBook) reload() {
	changed, err := b.rules.Reload()
	if err != nil {
		b.log.Error("read rules", "err", err)
		return
	}
	if changed {
		b.log.Info("rules read", "rules", b.rules.Len())
		b.report()
	}
}

// watch keeps the rules as their files are until ctx is done.
func (b *ruleBook) watch(ctx context.Context) {
	poll := time.NewTicker(rulesPoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
			b.reload()
		}
	}
}

// classify returns the categories of the stored incident s. A rule that fails
// on it is reported, and the others count.
func (b *ruleBook) classify(s archive.Stored) ([]string, error) {
	file, err := classify.Open(filepath.Join(b.dir, filepath.FromSlash(s.Path())))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	file.Name = s.Name
	result := b.rules.Classify(&file.Incident)
	for _, e := range result.Errors {
		b.log.Error("rule failed on an incident", "incident", s.Name, "tub", s.Tub, "err", e.Error())
	}
	if err := file.Damage(); err != nil {
		b.log.Warn("incident is damaged", "incident", s.Name, "tub", s.Tub, "err", err)
	}
	return result.Categories, nil
}
