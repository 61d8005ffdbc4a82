package filter

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/conf"

	"github.com/flogtool/flogtool/event"
)

// This file finds conditions that can never hold, such as level > 40 && level < 10.
//
// For each expression that a condition compares with constants, it computes the set
// of values for which the condition can hold: ranges of numbers and texts. The set may
// be too large, since not every condition is understood, but never too small. An empty
// set proves that no event meets the condition.

// fact says which values an expression can have where a condition holds.
type fact struct {
	values valueSet
	parts  []part // that the condition has
	local  bool   // the expression depends on the element of a loop
}

// part is one part of a condition, such as a comparison.
type part struct {
	text   string
	values valueSet // for which this part alone holds
}

// facts holds a fact for each expression, by the expression's text. It is not modified.
type facts map[string]fact

// and returns the facts where the conditions of both hold. If they contradict each
// other about an expression, it leaves that out and ok is false.
func (f facts) and(g facts) (both facts, ok bool) {
	if len(g) == 0 {
		return f, true
	}
	both, ok = maps.Clone(f), true
	if both == nil {
		both = make(facts, len(g))
	}
	for name, b := range g {
		if a, known := f[name]; known {
			b = fact{a.values.and(b.values), slices.Concat(a.parts, b.parts), b.local}
		}
		both[name] = b
		if b.values.empty() {
			delete(both, name)
			ok = false
		}
	}
	return both, ok
}

// or returns the facts where the conditions of f or those of g hold.
func (f facts) or(g facts) facts {
	out := make(facts)
	for name, a := range f {
		if b, ok := g[name]; ok {
			all := a.values.or(b.values)
			text := inner(described(a.parts, " and ")) + " or " + inner(described(b.parts, " and "))
			out[name] = fact{all, []part{{"(" + shortened(text) + ")", all}}, a.local}
		}
	}
	return out
}

// inner returns the text of alternatives without its brackets.
func inner(text string) string {
	if in, ok := strings.CutPrefix(text, "("); ok && strings.IndexByte(text, ')') == len(text)-1 {
		return strings.TrimSuffix(in, ")")
	}
	return text
}

const maxShown = 60 // characters of a part in a warning; taste

func shortened(text string) string {
	if r := []rune(text); len(r) > maxShown {
		return string(r[:maxShown]) + "…"
	}
	return text
}

// described joins the texts of parts.
func described(parts []part, with string) string {
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = p.text
	}
	return strings.Join(texts, with)
}

// comparison is a comparison of an expression with constants.
type comparison struct {
	name  string   // the text of the expression
	local bool     // it depends on the element of a loop
	all   valueSet // that the expression can have
	op    string
	text  string   // of the constants
	holds valueSet // for which the comparison holds
	fails valueSet // for which it does not
}

// fact returns the fact where the comparison holds, or where it fails.
func (c *comparison) fact(holds bool) fact {
	p := part{c.op + " " + c.text, c.holds}
	if !holds {
		p = part{negated[c.op] + " " + c.text, c.fails}
	}
	p.text = strings.TrimPrefix(p.text, "== ")
	return fact{c.all.and(p.values), []part{p}, c.local}
}

var (
	flipped = map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
	negated = map[string]string{"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "==", "in": "not in"}
)

// compared returns n as a comparison; false if it is not one.
func compared(n ast.Node) (*comparison, bool) {
	b, ok := n.(*ast.BinaryNode)
	if !ok {
		return nil, false
	}
	c := &comparison{op: b.Operator}
	left, right := b.Left, b.Right
	if c.op != "in" {
		if flipped[c.op] == "" {
			return nil, false
		}
		if _, ok := constant(right); !ok {
			left, right, c.op = right, left, flipped[c.op]
		}
		value, ok := constant(right)
		if !ok {
			return nil, false
		}
		switch c.op {
		case "==":
			c.holds = equal(value)
			c.fails = c.holds.not()
		case "!=":
			c.fails = equal(value)
			c.holds = c.fails.not()
		default:
			number, ok := value.(float64)
			if !ok {
				return nil, false
			}
			c.holds = valueSet{numbers: []span{beyond(c.op, number)}}
			c.fails = c.holds.not()
		}
	} else {
		list, ok := right.(*ast.ArrayNode)
		if !ok {
			return nil, false
		}
		for _, n := range list.Nodes {
			value, ok := constant(n)
			if !ok {
				return nil, false
			}
			c.holds = c.holds.or(equal(value))
		}
		c.fails = c.holds.not()
	}
	if _, ok := constant(left); ok {
		return nil, false
	}
	c.name, c.local, c.text, c.all = left.String(), isLocal(left), shortened(right.String()), possible(left)
	return c, true
}

// isLocal reports whether n depends on the element of the loop around it.
func isLocal(n ast.Node) bool {
	switch n.(type) {
	case *ast.PointerNode:
		return true
	case *ast.PredicateNode: // of a loop within n
		return false
	}
	return slices.ContainsFunc(children(n), isLocal)
}

// maxExact bounds the constants that are understood. Below it every whole number is a
// float64, and comparing a whole number with a fraction is exact.
const maxExact = 1 << 53

// constant returns the value of n if that is a constant; every number is a float64.
func constant(n ast.Node) (value any, ok bool) {
	switch n := n.(type) {
	case *ast.NilNode:
		return nil, true
	case *ast.BoolNode:
		return n.Value, true
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode:
		return float64(n.Value), -maxExact < n.Value && n.Value < maxExact
	case *ast.FloatNode:
		return n.Value, math.Abs(n.Value) < maxExact
	case *ast.IdentifierNode:
		level, ok := event.ParseLevel(n.Value)
		return float64(level), ok && n.Value == level.String()
	case *ast.UnaryNode:
		if v, ok := constant(n.Node); ok && n.Operator == "-" {
			f, ok := v.(float64)
			return -f, ok
		}
	}
	return nil, false
}

// equal returns the values that equal a constant.
func equal(constant any) valueSet {
	switch c := constant.(type) {
	case float64:
		return valueSet{numbers: []span{{min: c, max: c}}}
	case string:
		return valueSet{texts: textSet{list: []string{c}}}
	}
	return valueSet{others: true}
}

// beyond returns the numbers for which the comparison with a number holds.
func beyond(op string, number float64) span {
	s := allNumbers[0]
	switch op {
	case "<", "<=":
		s.max, s.maxOpen = number, op == "<"
	default:
		s.min, s.minOpen = number, op == ">"
	}
	return s
}

// possible returns the values that an expression of n's type can have.
func possible(n ast.Node) valueSet {
	switch nature := n.Nature(); {
	case nature.IsInteger:
		return valueSet{whole: true, numbers: allNumbers}
	case nature.IsFloat:
		return valueSet{numbers: allNumbers, others: true}
	case nature.IsString():
		return valueSet{texts: allTexts}
	}
	return allValues
}

// contradictions finds conditions that can never hold.
type contradictions struct {
	found []warning
}

// findContradictions returns a warning for each condition in the rule that
// can never hold. It returns none for a rule that does not compile.
func findContradictions(expression string) []warning {
	config := conf.CreateNew()
	expr.Env(ruleNames)(config)
	config.Check()
	tree, err := checker.ParseCheck(expression, config)
	if err != nil {
		return nil
	}
	c := &contradictions{}
	c.visit(tree.Node, nil, true)
	slices.SortStableFunc(c.found, func(a, b warning) int { return cmp.Compare(a.at.From, b.at.From) })
	return slices.CompactFunc(c.found, func(a, b warning) bool { return a.at == b.at })
}

// visit checks n where known holds. want is the value of n that makes a difference.
func (c *contradictions) visit(n ast.Node, known facts, want bool) {
	switch n := n.(type) {
	case *ast.UnaryNode:
		if isNot(n) {
			c.visit(n.Node, known, !want)
			return
		}
	case *ast.BinaryNode:
		switch {
		case joins(n, want):
			c.all(n, known, want)
			return
		case joins(n, !want) && want:
			c.visit(n.Left, known, want)
			c.visit(n.Right, known, want)
			return
		case joins(n, !want):
			c.all(n, nil, true) // negating what never holds cannot be meant either
			return
		}
		if cmp, ok := compared(n); ok {
			c.check(n, cmp, known, want)
		}
	case *ast.ConditionalNode:
		c.visit(n.Cond, known, true)
		first, _ := known.and(implied(n.Cond, true))
		second, _ := known.and(implied(n.Cond, false))
		c.visit(n.Exp1, first, want)
		c.visit(n.Exp2, second, want)
		return
	case *ast.VariableDeclaratorNode:
		c.visit(n.Value, nil, true)
		c.visit(n.Expr, known, want)
		return
	case *ast.ArrayNode: // of categories
		for _, item := range n.Nodes {
			c.visit(item, known, want)
		}
		return
	case *ast.BuiltinNode:
		if len(n.Arguments) == 2 && want && (n.Name == "any" || n.Name == "one") {
			if predicate, ok := n.Arguments[1].(*ast.PredicateNode); ok {
				c.visit(n.Arguments[0], nil, true)
				c.visit(predicate.Node, outside(known), true)
				return
			}
		}
	}
	for _, child := range children(n) {
		c.visit(child, nil, true)
	}
}

// all checks the conditions that n joins, which must all have the value want.
func (c *contradictions) all(n ast.Node, known facts, want bool) {
	// Conditions without alternatives come first, since they limit the others.
	var one, several []ast.Node
	for _, n := range joined(n, want) {
		if isAlternative(n, want) {
			several = append(several, n)
		} else {
			one = append(one, n)
		}
	}
	for _, n := range slices.Concat(one, several) {
		c.visit(n, known, want)
		known, _ = known.and(implied(n, want))
	}
}

// joins reports whether n joins conditions that must all have the value want for
// n to have it: && for true, || for false.
func joins(n ast.Node, want bool) bool {
	b, ok := n.(*ast.BinaryNode)
	if !ok {
		return false
	}
	if want {
		return b.Operator == "&&" || b.Operator == "and"
	}
	return b.Operator == "||" || b.Operator == "or"
}

// joined returns the conditions that n joins.
func joined(n ast.Node, want bool) []ast.Node {
	if !joins(n, want) {
		return []ast.Node{n}
	}
	b := n.(*ast.BinaryNode)
	return append(joined(b.Left, want), joined(b.Right, want)...)
}

// isAlternative reports whether n has the value want if one of several conditions
// has it.
func isAlternative(n ast.Node, want bool) bool {
	switch n := n.(type) {
	case *ast.UnaryNode:
		return isNot(n) && isAlternative(n.Node, !want)
	case *ast.ConditionalNode:
		return true
	}
	return joins(n, !want)
}

func isNot(n *ast.UnaryNode) bool { return n.Operator == "!" || n.Operator == "not" }

// implied returns the facts where the condition n has the value want.
func implied(n ast.Node, want bool) facts {
	switch n := n.(type) {
	case *ast.UnaryNode:
		if isNot(n) {
			return implied(n.Node, !want)
		}
	case *ast.BinaryNode:
		switch {
		case joins(n, want):
			both, _ := implied(n.Left, want).and(implied(n.Right, want))
			return both
		case joins(n, !want):
			return implied(n.Left, want).or(implied(n.Right, want))
		}
		if c, ok := compared(n); ok {
			return facts{c.name: c.fact(want)}
		}
	case *ast.ConditionalNode:
		first, firstOK := implied(n.Cond, true).and(implied(n.Exp1, want))
		second, secondOK := implied(n.Cond, false).and(implied(n.Exp2, want))
		switch {
		case !firstOK:
			return second
		case !secondOK:
			return first
		}
		return first.or(second)
	}
	return nil
}

// outside returns the facts in known that also hold in an inner loop: all except those
// about the element of the outer loop.
func outside(known facts) facts {
	out := maps.Clone(known)
	maps.DeleteFunc(out, func(_ string, f fact) bool { return f.local })
	return out
}

// check adds a warning if the comparison cannot have the value want where known holds.
func (c *contradictions) check(n ast.Node, comparison *comparison, known facts, want bool) {
	now := comparison.fact(want)
	parts := now.parts
	if before, ok := known[comparison.name]; ok {
		if !before.values.and(now.values).empty() {
			return
		}
		parts = slices.Concat(before.parts, now.parts)
		for _, p := range before.parts { // one of them often suffices
			if comparison.all.and(p.values).and(now.values).empty() {
				parts = []part{p, now.parts[0]}
				break
			}
		}
	} else if !now.values.empty() {
		return
	}
	real := comparison.all
	real.whole = false
	for _, p := range parts {
		real = real.and(p.values)
	}
	msg := comparison.name
	if !real.empty() {
		msg += " is a whole number and"
	}
	switch len(parts) {
	case 1:
		msg += " cannot be " + parts[0].text
	case 2:
		msg += " cannot be both " + described(parts, " and ")
	default:
		msg += " cannot be " + described(parts, " and ") + " at once"
	}
	c.found = append(c.found, warning{n.Location(), msg + ": this is never true"})
}
