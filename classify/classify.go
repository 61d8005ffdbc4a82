// Package classify gives incidents their categories. The rules are files
// classify_NAME.expr in a directory, each with one expression of package event/filter:
//
//	// The disk is full: free space, or move the spool.
//	message contains "disk full" ? "disk-full" : nil
//
// [Load] reads the rules of a directory, [Rules.Reload] what has changed in it.
// [Rules.Classify] gives the categories of an incident, which [Open] reads from its
// file. [Rules.Test] runs the cases beside the rules, [Rules.Explain] shows why a rule
// matches, and [Rules.Warnings] reports conditions that never hold.
//
// A rule that does not compile, or that fails on an incident, is reported and does not
// affect the others. The package writes no files.
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
	"github.com/flogtool/flogtool/incident"
)

// Unknown is the category of an incident for which no rule gives one.
const Unknown = incident.Unclassified

// maxOverruns is how many times in a row a rule may exceed its limits before it is
// switched off; taste.
const maxOverruns = 3

// Incident is an incident to be classified.
type Incident struct {
	Name    string                         // for messages
	Tub     string                         // the TubID of the process that recorded it, "" if unknown
	Header  event.Dict                     // of its file; may be nil
	Trigger *event.Event                   // required
	Events  func() ([]*event.Event, error) // called once at most, when a rule needs them; may be nil
}

// input returns the incident in the form that rules take.
func (inc *Incident) input() *filter.RuleInput {
	return &filter.RuleInput{
		Trigger: inc.Trigger, Header: inc.Header, Events: inc.Events,
		Origin: filter.Origin{From: inc.Tub, Program: flogfile.Program(inc.Header)},
	}
}

// Result holds the categories of an incident.
type Result struct {
	Categories []string     // sorted; only Unknown if no rule matches
	Errors     []*RuleError // of the rules that failed
}

// RuleError says why a rule does not compile, or why it failed on an incident.
type RuleError struct {
	File         string // of the rule
	Line, Column int    // from 1; 0 if the error has no place
	Incident     string // the name of the incident, "" if the rule does not compile
	Off          bool   // the rule is switched off from now on
	Err          error  // a *filter.Error, or that of reading the file or the events
}

// Error returns the file, the place, the incident and the error, with a caret under the
// column if the place is known.
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

// Unwrap returns e.Err.
func (e *RuleError) Unwrap() error { return e.Err }

// newRuleError returns err as an error of the rule in file.
func newRuleError(file string, err error) *RuleError {
	e := &RuleError{File: file, Err: err}
	if fe, ok := errors.AsType[*filter.Error](err); ok {
		e.Line, e.Column = fe.Line, fe.Column
	}
	return e
}

// Rules holds the rules of one directory. Several goroutines may use it at once, also
// while one calls [Rules.Reload].
type Rules struct {
	fsys fs.FS
	dir  string // the prefix of file names in messages

	reload sync.Mutex
	set    atomic.Pointer[ruleSet]
}

// ruleSet is the result of one reload. It is not modified.
type ruleSet struct {
	rules  []*rule
	errors []*RuleError
}

// rule is the file of a rule.
type rule struct {
	file    string
	stamp   stamp        // of the latest version
	rule    *filter.Rule // the latest version that compiles, nil if none did
	problem *RuleError   // of the latest version, nil if it compiles

	overruns *atomic.Int32 // in a row
	off      *atomic.Bool
}

// stamp distinguishes versions of a file.
type stamp struct {
	size int64
	time time.Time
}

// Load loads the rules of the directory dir. The error says that dir cannot be read.
// [Rules.Errors] returns the errors of single rules.
func Load(dir string) (*Rules, error) {
	if st, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !st.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: dir, Err: errors.New("not a directory")}
	}
	return LoadFS(os.DirFS(dir), dir)
}

// LoadFS loads the rules in the root of a file system. In messages name precedes the
// names of the files. The error is as for [Load].
func LoadFS(fsys fs.FS, name string) (*Rules, error) {
	r := &Rules{fsys: fsys, dir: name}
	r.set.Store(&ruleSet{})
	if _, err := r.Reload(); err != nil {
		return nil, err
	}
	return r, nil
}

// Len returns the number of rules in force.
func (r *Rules) Len() int {
	n := 0
	for _, rule := range r.set.Load().rules {
		if rule.rule != nil {
			n++
		}
	}
	return n
}

// Errors returns an error for each rule that does not compile, in the order of the
// files. The latest version that did compile stays in force.
func (r *Rules) Errors() []*RuleError { return r.set.Load().errors }

// Warnings returns what is allowed in the rules but cannot be meant, such as a
// condition that never holds: see [filter.Rule.Warnings].
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

// Reload reads the files that are new or have changed and drops the rules whose files
// are gone. It reports whether there was any change. The error says that the directory
// cannot be read; the rules then stay in force.
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

// read returns the rule in file, or before if the file has not changed.
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

// Classify returns the categories that the rules give for an incident.
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

// failed counts a failure of the rule, and reports whether it switched the rule off.
func (r *rule) failed(err error) bool {
	if !errors.Is(err, filter.ErrOverrun) {
		r.overruns.Store(0)
		return false
	}
	return r.overruns.Add(1) == maxOverruns && r.off.CompareAndSwap(false, true)
}

// Explanation shows why a rule matches an incident, or why it does not.
type Explanation struct {
	File       string          // of the rule
	Categories []string        // none if the rule does not match
	Clauses    []filter.Clause // the parts of the rule with their values
	Err        error           // why the rule cannot be evaluated, a *RuleError, or nil
}

// Explain shows, part by part, why the rules match an incident or do not, in the order
// of their files. If names are given, it explains these rules only. A name is that of a
// file in the directory, with or without classify_ and .expr, or the path of any file
// with a rule. A name with a slash is a path. So is one that ends in .expr if the
// directory has no such rule.
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
