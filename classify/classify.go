// Package classify names incidents by rules: files classify_NAME.expr in a
// directory, each with one expression of package event/filter.
//
//	// The disk is full: free space, or move the spool.
//	message contains "disk full" ? "disk-full" : nil
//
// Cases that say what a rule must give stand beside it, see [Test].
//
// It stores nothing: who asks for categories keeps them.
package classify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/event/flogfile"
)

// Unknown is the category of an incident that no rule matches.
const Unknown = "unknown"

// maxOverruns is how often in a row a rule may run over its limits before it is
// switched off; taste.
const maxOverruns = 3

// Incident is what rules look at.
type Incident struct {
	Name    string                         // for messages
	Tub     string                         // who sent it, "" if that is not known
	Header  event.Dict                     //
	Trigger *event.Event                   //
	Events  func() ([]*event.Event, error) // called at most once, if a rule needs them; may be nil
}

// input returns what rules look at.
func (inc *Incident) input() *filter.RuleInput {
	return &filter.RuleInput{
		Trigger: inc.Trigger, Header: inc.Header, Events: inc.Events,
		Origin: filter.Origin{From: inc.Tub, Program: flogfile.Program(inc.Header)},
	}
}

// Result is what the rules make of an incident.
type Result struct {
	Categories []string     // sorted; Unknown alone if no rule matched
	Errors     []*RuleError // of rules that failed; the others count
}

// RuleError is what is wrong with a rule, or with how it ran.
type RuleError struct {
	File         string
	Line, Column int    // from 1; 0 if the error has no place
	Incident     string // on which the rule failed, "" if it is wrong for all
	Off          bool   // set if the rule is now switched off
	Err          error
}

func (e *RuleError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": ")
	if e.Incident != "" {
		fmt.Fprintf(&b, "%s: ", e.Incident)
	}
	fe, ok := errors.AsType[*filter.Error](e.Err)
	if !ok {
		b.WriteString(e.Err.Error())
	} else if b.WriteString(fe.Msg); fe.Snippet != "" {
		b.WriteString("\n" + fe.Snippet)
	}
	if e.Off {
		b.WriteString("\n  the rule is switched off until its file changes")
	}
	return b.String()
}

func (e *RuleError) Unwrap() error { return e.Err }

// newRuleError returns err, of package filter or of reading a file, as what is
// wrong with the rule in that file.
func newRuleError(file string, err error) *RuleError {
	e := &RuleError{File: file, Err: err}
	if fe, ok := errors.AsType[*filter.Error](err); ok {
		e.Line, e.Column = fe.Line, fe.Column
	}
	return e
}

// Rules are the rules of one directory. It may be used by several goroutines at
// once, also while it is reloaded.
type Rules struct {
	fsys fs.FS
	dir  string // prefix of file names in messages

	reload sync.Mutex
	set    atomic.Pointer[ruleSet]
}

// ruleSet is a state of the rules that does not change.
type ruleSet struct {
	rules  []*rule
	errors []*RuleError
}

// rule is a file with a rule.
type rule struct {
	file    string
	stamp   stamp        // of the version that was looked at last
	rule    *filter.Rule // the last good version, nil if there was none
	problem *RuleError   // of the version that was looked at last

	overruns *atomic.Int32 // in a row
	off      *atomic.Bool
}

// stamp tells versions of a file apart.
type stamp struct {
	size int64
	time time.Time
}

// Load loads the rules of a directory. The error says that it cannot be read;
// what is wrong with single rules is in Errors, and the others run.
func Load(dir string) (*Rules, error) {
	if st, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !st.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: dir, Err: errors.New("not a directory")}
	}
	return LoadFS(os.DirFS(dir), dir)
}

// LoadFS loads the rules of a file system; name is put before the names of its
// files in messages.
func LoadFS(fsys fs.FS, name string) (*Rules, error) {
	r := &Rules{fsys: fsys, dir: name}
	r.set.Store(&ruleSet{})
	if _, err := r.Reload(); err != nil {
		return nil, err
	}
	return r, nil
}

// Len returns how many rules are in force.
func (r *Rules) Len() int {
	n := 0
	for _, rule := range r.set.Load().rules {
		if rule.rule != nil {
			n++
		}
	}
	return n
}

// Errors returns what is wrong with files of rules, in their order. The last
// good version of such a rule stays in force.
func (r *Rules) Errors() []*RuleError { return r.set.Load().errors }

// Warnings returns what in the rules is allowed and yet cannot be meant.
func (r *Rules) Warnings() []*RuleError {
	var out []*RuleError
	for _, rule := range r.set.Load().rules {
		if rule.rule == nil {
			continue
		}
		for _, w := range rule.rule.Warnings() {
			out = append(out, newRuleError(r.path(rule.file), w))
		}
	}
	return out
}

func (r *Rules) path(file string) string { return path.Join(r.dir, file) }

// Reload looks at the directory again and takes what has changed: a file that is
// new, changed or gone, each as a whole. It reports whether there was any. The
// error says that the directory cannot be read; all then stays as it is.
func (r *Rules) Reload() (changed bool, err error) {
	r.reload.Lock()
	defer r.reload.Unlock()
	entries, err := fs.ReadDir(r.fsys, ".")
	if err != nil {
		return false, err
	}
	old := r.set.Load()
	next := &ruleSet{}
	for _, entry := range entries {
		if ok, _ := path.Match("classify_*.expr", entry.Name()); !ok {
			continue
		}
		i := slices.IndexFunc(old.rules, func(x *rule) bool { return x.file == entry.Name() })
		var before *rule
		if i >= 0 {
			before = old.rules[i]
		}
		now := r.read(entry.Name(), before)
		changed = changed || now != before
		next.rules = append(next.rules, now)
		if now.problem != nil {
			next.errors = append(next.errors, now.problem)
		}
	}
	if !changed && len(next.rules) == len(old.rules) {
		return false, nil
	}
	r.set.Store(next)
	return true, nil
}

// read returns the rule in file, or before if that is its version.
func (r *Rules) read(file string, before *rule) *rule {
	now := &rule{file: file, overruns: new(atomic.Int32), off: new(atomic.Bool)}
	if info, err := fs.Stat(r.fsys, file); err == nil {
		now.stamp = stamp{info.Size(), info.ModTime()}
	}
	if before != nil && before.stamp == now.stamp {
		return before
	}
	source, err := fs.ReadFile(r.fsys, file)
	if err == nil {
		now.rule, err = filter.CompileRule(string(source))
	}
	if err != nil {
		now.problem = newRuleError(r.path(file), err)
		if before != nil {
			now.rule, now.overruns, now.off = before.rule, before.overruns, before.off
		}
	}
	return now
}

// Classify returns the categories of an incident.
func (r *Rules) Classify(inc *Incident) Result {
	var result Result
	in := inc.input()
	for _, rule := range r.set.Load().rules {
		if rule.rule == nil || rule.off.Load() {
			continue
		}
		categories, err := rule.rule.Run(in)
		if err != nil {
			e := newRuleError(r.path(rule.file), err)
			e.Incident = inc.Name
			e.Off = rule.failed(err)
			result.Errors = append(result.Errors, e)
			continue
		}
		rule.overruns.Store(0)
		result.Categories = append(result.Categories, categories...)
	}
	slices.Sort(result.Categories)
	result.Categories = slices.Compact(result.Categories)
	if len(result.Categories) == 0 {
		result.Categories = []string{Unknown}
	}
	return result
}

// failed notes that the rule failed, and reports whether it is now off.
func (r *rule) failed(err error) bool {
	if !errors.Is(err, filter.ErrOverrun) {
		r.overruns.Store(0)
		return false
	}
	return r.overruns.Add(1) == maxOverruns && r.off.CompareAndSwap(false, true)
}

// Explanation is why a rule matches an incident, or why not.
type Explanation struct {
	File       string
	Categories []string
	Clauses    []filter.Clause
	Err        error // why the rule could not be evaluated
}

// Explain returns what each rule makes of the incident, part by part, in the
// order of their files. If names are given, it explains those rules only. A name
// is that of a rule's file in the directory, with or without classify_ and .expr,
// or the path of any file with a rule. A name with a slash is a path; one that
// ends in .expr is a path if the directory has no such rule.
//
// The error says that there is no rule of a name or that a file cannot be read, or
// is a [*RuleError] if a named rule does not compile.
func (r *Rules) Explain(inc *Incident, names ...string) ([]Explanation, error) {
	in := inc.input()
	rules := r.set.Load().rules
	wanted := make(map[string]bool) // NAME of classify_NAME.expr
	var paths []string
	for _, name := range names {
		known := slices.ContainsFunc(rules, func(x *rule) bool { return ruleName(x.file) == ruleName(name) })
		switch {
		case strings.Contains(name, "/") || !known && strings.HasSuffix(name, ".expr"):
			paths = append(paths, name)
		case known:
			wanted[ruleName(name)] = true
		default:
			return nil, fmt.Errorf("classify: no rule %q in %s", name, r.dir)
		}
	}
	var out []Explanation
	for _, rule := range rules {
		named := wanted[ruleName(rule.file)]
		switch {
		case len(names) > 0 && !named:
		case rule.rule != nil:
			out = append(out, explain(r.path(rule.file), rule.rule, in))
		case named:
			return nil, rule.problem
		}
	}
	for _, name := range paths {
		source, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("classify: %w", err)
		}
		rule, err := filter.CompileRule(string(source))
		if err != nil {
			return nil, newRuleError(name, err)
		}
		out = append(out, explain(name, rule, in))
	}
	return out, nil
}

// explain explains the rule in file.
func explain(file string, rule *filter.Rule, in *filter.RuleInput) Explanation {
	e := Explanation{File: file}
	var err error
	if e.Categories, err = rule.Run(in); err != nil {
		e.Err = newRuleError(file, err)
	}
	if e.Clauses, err = rule.Explain(in); err != nil && e.Err == nil {
		e.Err = newRuleError(file, err)
	}
	return e
}

// ruleName returns NAME of classify_NAME.expr.
func ruleName(file string) string {
	return strings.TrimSuffix(strings.TrimPrefix(file, "classify_"), ".expr")
}
