package classify

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/event/flogfile"
)

// CaseResult is the result of one case of a rule.
type CaseResult struct {
	Rule string   // the file of the rule
	File string   // the file of the case
	Line int      // of the case in its file
	Name string   // of the case, may be empty
	Want []string // the categories that the case wants, sorted
	Got  []string // the categories that the rule gives, sorted
	Err  error    // why the case cannot be run, or nil
}

// OK reports whether the rule gives the categories that the case wants.
func (c *CaseResult) OK() bool { return c.Err == nil && slices.Equal(c.Want, c.Got) }

// Test runs the cases of all rules. Each line of classify_NAME.cases.jsonl is a case of
// the rule classify_NAME.expr:
//
//	{"trigger": {…}, "want": ["disk-full"]}
//	{"name": "another disk", "trigger": {…}, "events": [{…}], "header": {…}, "tub": "…", "want": []}
//
// Blank lines and lines that begin with // are ignored. A rule without cases gives no
// result; cases without a rule give one with an error. The error of Test is that of
// reading a file of cases.
func (r *Rules) Test() ([]CaseResult, error) {
	var results []CaseResult
	for _, rule := range r.set.Load().rules {
		file := strings.TrimSuffix(rule.file, ".expr") + ".cases.jsonl"
		data, err := fs.ReadFile(r.fsys, file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return results, err
		}
		number := 0
		for line := range bytes.Lines(data) {
			number++
			line = bytes.TrimSpace(line)
			if len(line) == 0 || bytes.HasPrefix(line, []byte("//")) {
				continue
			}
			c := CaseResult{Rule: r.path(rule.file), File: r.path(file), Line: number}
			c.run(rule, line)
			results = append(results, c)
		}
	}
	// Cases whose rule does not exist would never be run.
	all, err := fs.Glob(r.fsys, "classify_*.cases.jsonl")
	for _, file := range all {
		rule := strings.TrimSuffix(file, ".cases.jsonl") + ".expr"
		if _, err := fs.Stat(r.fsys, rule); err != nil {
			results = append(results, CaseResult{Rule: r.path(rule), File: r.path(file), Line: 1, Err: err})
		}
	}
	return results, err
}

func (c *CaseResult) run(rule *rule, line []byte) {
	v, err := event.ParseJSON(line)
	if err != nil {
		c.Err = err
		return
	}
	d, ok := v.(event.Dict)
	if !ok {
		c.Err = errors.New("the case is not an object")
		return
	}
	var in filter.RuleInput
	for _, item := range d {
		switch item.Key {
		case "name":
			c.Name, _ = item.Value.(string)
		case "tub":
			in.Origin.From, _ = item.Value.(string)
		case "header":
			in.Header, _ = item.Value.(event.Dict)
			in.Origin.Program = flogfile.Program(in.Header)
		case "trigger":
			if trigger, ok := item.Value.(event.Dict); ok {
				in.Trigger = event.FromDict(trigger)
			}
		case "events":
			list, _ := item.Value.([]any)
			var events []*event.Event
			for _, e := range list {
				d, _ := e.(event.Dict)
				events = append(events, event.FromDict(d))
			}
			in.Events = func() ([]*event.Event, error) { return events, nil }
		case "want":
			list, ok := item.Value.([]any)
			if !ok {
				c.Err = errors.New(`"want" is not a list of categories`)
				return
			}
			for _, category := range list {
				s, _ := category.(string)
				c.Want = append(c.Want, s)
			}
			slices.Sort(c.Want)
		default:
			c.Err = fmt.Errorf("%q is not a key of a case", item.Key)
			return
		}
	}
	switch _, hasWant := d.Get("want"); {
	case in.Trigger == nil:
		c.Err = errors.New(`the case has no "trigger"`)
	case !hasWant:
		c.Err = errors.New(`the case has no "want"`)
	case rule.rule == nil:
		c.Err = rule.problem
	default:
		c.Got, c.Err = rule.rule.Run(&in)
		slices.Sort(c.Got)
		if c.Err != nil {
			c.Err = newRuleError(path.Base(rule.file), c.Err)
		}
	}
}
