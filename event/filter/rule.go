package filter

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"github.com/flogtool/flogtool/event"
)

// MaxEvents is how many events of an incident a rule sees: the last ones, and fewer if
// they take too much memory.
const MaxEvents = 10_000 // taste

// Rule is a compiled expression that gives categories for an incident. Several
// goroutines may use it at once.
type Rule struct {
	expression string
	program    *vm.Program
	use        *use
}

// CompileRule compiles a rule: an expression that gives a category, a list of
// categories, or nil. The error is an [*Error].
func CompileRule(expression string) (*Rule, error) {
	program, use, err := compile(expression, ruleNames, expr.AsAny())
	if err != nil {
		return nil, err
	}
	r := &Rule{expression: expression, program: program, use: use}
	root := program.Node()
	if t := root.Type(); t != nil {
		switch t.Kind() {
		case reflect.Bool, reflect.Int, reflect.Float64, reflect.Map, reflect.Pointer:
			return nil, newError((&file.Error{Location: root.Location(), Message: fmt.Sprintf(
				"a rule gives a category, a list of categories or nil, not %s: write CONDITION ? \"category\" : nil", typeName(reflect.Zero(t).Interface()))}).Bind(file.NewSource(expression)))
		}
	}
	return r, nil
}

// String returns the expression.
func (r *Rule) String() string { return r.expression }

// Warnings returns what is allowed in the rule but cannot be meant: a condition
// that never holds, or a misspelt field. Each call parses the rule again.
func (r *Rule) Warnings() []*Error {
	found := slices.Clone(r.use.warnings)
	root := r.program.Node() // the optimizer has computed what is constant
	switch n := root.(type) {
	case *ast.NilNode:
		found = append(found, warning{n.Location(), "this rule never gives a category"})
	case *ast.ConditionalNode:
		if c, ok := n.Cond.(*ast.BoolNode); ok {
			found = append(found, warning{n.Location(), fmt.Sprintf("the condition is always %v", c.Value)})
		}
	}
	found = append(found, findContradictions(r.expression)...)
	var out []*Error
	for _, w := range found {
		e := newError((&file.Error{Location: w.at, Message: w.msg}).Bind(file.NewSource(r.expression)))
		out = append(out, e.(*Error))
	}
	return out
}

// NeedsEvents reports whether the rule uses the incident's events. Other rules need its
// header only.
func (r *Rule) NeedsEvents() bool { return r.use.names["events"] || r.use.names["before"] }

// RuleInput is the incident that rules classify. What it computes for one rule it keeps
// for the next. It serves one goroutine.
type RuleInput struct {
	Trigger *event.Event                   // required
	Header  event.Dict                     // of the incident's file; may be nil
	Origin  Origin                         // of all events; From is the TubID of the process
	Events  func() ([]*event.Event, error) // called once, when a rule needs them; nil if there are none

	scope  *scope
	known  *use           // the names that the scope has
	events []*event.Event // what Events returned
	loaded bool
	err    error
}

// Run returns the categories that the rule gives for the incident, none if the rule
// does not match. The error is an [*Error] if the rule cannot be evaluated, which wraps
// [ErrOverrun] if it exceeds its limits, or the error of in.Events.
func (r *Rule) Run(in *RuleInput) ([]string, error) {
	if err := in.prepare(r.use); err != nil {
		return nil, err
	}
	v, err := in.scope.run(context.Background(), r.program, maxTime)
	if err != nil {
		return nil, err
	}
	return categories(v)
}

// prepare computes what u uses and no earlier rule did.
func (in *RuleInput) prepare(u *use) error {
	if in.scope == nil {
		in.scope = newScope()
		in.scope.env["before"] = in.before
		in.known = &use{names: map[string]bool{}, fields: map[string]bool{}, attrs: map[string]bool{}}
	}
	env, known := in.scope.env, in.known
	newAttrs := u.anyAttr && !known.anyAttr
	for key := range u.attrs {
		if !known.attrs[key] {
			known.attrs[key] = true
			newAttrs = true
		}
	}
	known.anyAttr = known.anyAttr || u.anyAttr
	newFields := newAttrs && (known.fields["attrs"] || u.fields["attrs"])
	for field := range u.fields {
		if !known.fields[field] {
			known.fields[field] = true
			newFields = true
		}
	}
	for name := range u.names {
		switch {
		case name == "attrs" && (newAttrs || !known.names[name]):
			env[name] = attrsOf(known, in.Trigger)
		case (name == "trigger" || name == "event") && (newFields || !known.names[name]):
			e := &Event{}
			e.fill(known, in.Trigger, in.Origin)
			env["trigger"], env["event"] = e, e
			known.names["trigger"], known.names["event"] = true, true
		case (name == "events" || name == "before") && (newFields || !known.names["events"]):
			if err := in.load(); err != nil {
				return err
			}
			known.names["events"] = true
		case !known.names[name]:
			switch name {
			case "header":
				env[name] = plainMap(in.Header)
			case "versions":
				versions, _ := in.Header.Get("versions")
				d, _ := versions.(event.Dict)
				env[name] = plainMap(d)
			case "tub":
				env[name] = in.Origin.From
			default:
				if v, ok := fieldOf(name, in.Trigger, in.Origin); ok {
					env[name] = v
				}
			}
			known.names[name] = true
		}
	}
	return nil
}

// load sets events, with the fields that rules use.
func (in *RuleInput) load() error {
	if !in.loaded {
		in.loaded = true
		if in.Events != nil {
			in.events, in.err = in.Events()
			in.events = in.events[max(0, len(in.events)-MaxEvents):]
		}
	}
	if in.err != nil {
		return in.err
	}
	all := make([]Event, len(in.events))
	list := make([]*Event, len(in.events))
	left := maxLoaded
	first := len(all)
	for left > 0 && first > 0 {
		first--
		e := &all[first]
		c := converter{min(left, maxAttrs)}
		before := c.left
		e.fillFrom(in.known, in.events[first], in.Origin, &c)
		list[first] = e
		left -= before - c.left + len(e.Message) + len(e.Failure) + len(e.Facility) + len(e.Umid)
	}
	in.events = in.events[first:]
	in.scope.env["events"] = list[first:]
	return nil
}

// before returns the events that the trigger's process recorded within the duration
// before the trigger, in the order of the file. The trigger is not one of them.
func (in *RuleInput) before(duration string) []*Event {
	since := timeOf(in.Trigger) - parseDuration(duration).Seconds()
	num := numOf(in.Trigger)
	list, _ := in.scope.env["events"].([]*Event)
	var out []*Event
	for i, e := range in.events {
		in.scope.meter.tick()
		if n := numOf(e); n < num && timeOf(e) >= since && e.Incarnation() == in.Trigger.Incarnation() {
			out = append(out, list[i])
		}
	}
	return out
}

// category is the form of a category's name, which becomes the name of a file.
var category = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// CheckCategory returns an error that says why name cannot be the name of a category,
// or nil if it can.
func CheckCategory(name string) error {
	if name == "all" {
		return errors.New(`the category "all" is reserved: it means every incident`)
	}
	if !category.MatchString(name) {
		return fmt.Errorf("%.80q cannot be a category: write up to 64 of a-z, 0-9, dot, dash and underscore, the first a letter or digit", name)
	}
	return nil
}

// categories returns the value of a rule as a list of categories.
func categories(v any) ([]string, error) {
	var list []string
	add := func(v any) error {
		s, ok := v.(string)
		if !ok {
			if v == nil {
				return nil
			}
			return &Error{Msg: fmt.Sprintf("a rule gives a category, a list of categories or nil, not %s", typeName(v))}
		}
		if s == "" {
			return nil
		}
		if err := CheckCategory(s); err != nil {
			return &Error{Msg: err.Error()}
		}
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
		return nil
	}
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if err := add(item); err != nil {
				return nil, err
			}
		}
	case []string:
		for _, item := range v {
			if err := add(item); err != nil {
				return nil, err
			}
		}
	default:
		if err := add(v); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Clause is one part of a rule with its value for an incident.
type Clause struct {
	Depth int    // of nesting; 0 is the whole rule
	Text  string // of the part, as the parser understands it
	Value string // for people, up to 200 characters
	Err   error  // why the part cannot be evaluated; Value is then empty
}

// Explain returns the parts of the rule, outermost first, each with its value for the
// incident: they show why the rule matches or does not. The error is that of
// in.Events.
func (r *Rule) Explain(in *RuleInput) ([]Clause, error) {
	tree, err := parser.Parse(r.expression)
	if err != nil {
		return nil, newError(err)
	}
	if err := in.prepare(r.use); err != nil {
		return nil, err
	}
	var out []Clause
	var walk func(n ast.Node, depth int, lets string)
	clause := func(n ast.Node, depth int, lets string) {
		c := Clause{Depth: depth, Text: n.String()}
		program, _, err := compile(lets+n.String(), ruleNames, expr.AsAny())
		if err == nil {
			var v any
			if v, err = in.scope.run(context.Background(), program, maxTime); err == nil {
				c.Value = shown(v)
			}
		}
		c.Err = err
		out = append(out, c)
	}
	walk = func(n ast.Node, depth int, lets string) {
		switch n := n.(type) {
		case *ast.VariableDeclaratorNode:
			clause(n.Value, depth, lets)
			out[len(out)-1].Text = "let " + n.Name + " = " + out[len(out)-1].Text
			walk(n.Expr, depth, lets+"let "+n.Name+" = "+n.Value.String()+"; ")
			return
		case *ast.BinaryNode:
			clause(n, depth, lets)
			switch n.Operator {
			case "&&", "and", "||", "or":
				walk(n.Left, depth+1, lets)
				walk(n.Right, depth+1, lets)
			default:
				for _, side := range []ast.Node{n.Left, n.Right} {
					if !isLiteral(side) {
						walk(side, depth+1, lets)
					}
				}
			}
			return
		case *ast.BuiltinNode:
			clause(n, depth, lets)
			if len(n.Arguments) > 0 && !isLiteral(n.Arguments[0]) {
				walk(n.Arguments[0], depth+1, lets)
			}
			return
		case *ast.UnaryNode:
			clause(n, depth, lets)
			walk(n.Node, depth+1, lets)
			return
		case *ast.ConditionalNode:
			clause(n, depth, lets)
			walk(n.Cond, depth+1, lets)
			for _, branch := range []ast.Node{n.Exp1, n.Exp2} {
				if !isLiteral(branch) {
					walk(branch, depth+1, lets)
				}
			}
			return
		}
		clause(n, depth, lets)
	}
	walk(tree.Node, 0, "")
	return out, nil
}

// isLiteral reports whether n is a constant, whose value is its text.
func isLiteral(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NilNode:
		return true
	case *ast.IdentifierNode:
		_, ok := event.ParseLevel(n.Value)
		return ok
	case *ast.ArrayNode:
		return !slices.ContainsFunc(n.Nodes, func(n ast.Node) bool { return !isLiteral(n) })
	}
	return false
}

// shown returns a value as a short text for people.
func shown(v any) string {
	const width = 200
	var s string
	switch v := v.(type) {
	case *Event:
		s = "event"
		if v != nil && v.ev != nil {
			s = fmt.Sprintf("event #%d %q", numOf(v.ev), messageOf(v.ev))
		}
	case []*Event:
		s = fmt.Sprintf("%d events", len(v))
	case string:
		s = fmt.Sprintf("%q", v)
	case map[string]any:
		s = fmt.Sprintf("%v", v)
	case []any:
		s = fmt.Sprintf("%v", v)
	case nil:
		s = "nil"
	default:
		s = fmt.Sprint(v)
	}
	if r := []rune(s); len(r) > width {
		s = string(r[:width]) + "…"
	}
	return s
}
