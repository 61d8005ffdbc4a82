package filter

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"
)

// These limits are checked at compile time. expr's parser can overflow the stack, its
// memory budget does not count strings, and nothing interrupts an evaluation. So what
// could grow or loop without end is not in the language, or meter.go limits it.
const (
	maxExpression = 16 << 10 // bytes; the parser recurses, and a stack overflow ends the process
	maxNodes      = 2000
	maxBrackets   = 2000 // in the source; the parser takes a kilobyte of stack for each that is open
	maxPredicates = 2    // nested loops over the events of an incident
	maxLets       = 16
)

// allowed are the functions of expr that need no limit.
var allowed = []string{
	"all", "none", "any", "one", "filter", "map", "find", "findIndex", "findLast", "findLastIndex", "count", "sum",
	"len", "abs", "ceil", "floor", "round", "int", "float", "trim", "trimPrefix", "trimSuffix", "hasPrefix", "hasSuffix",
	"indexOf", "lastIndexOf", "max", "min", "first", "last", "get",
}

// metered are the functions of expr that meterPatch replaces by limited ones.
var metered = map[string]string{"lower": nameLower, "upper": nameUpper, "string": nameString}

// use says what an expression refers to, so that nothing else is computed for it.
type use struct {
	names    map[string]bool // at the top level
	fields   map[string]bool // of an event: level in .level or trigger.level
	attrs    map[string]bool // keys K of attrs.K
	anyAttr  bool            // attrs is used in another way
	warnings []warning
}

// warning is about what is allowed but cannot be meant.
type warning struct {
	at  file.Location
	msg string
}

// guard checks an expression as it was written.
type guard struct {
	*use
	err      *file.Error
	lets     int
	patterns int // instructions
	classes  int // in patterns
}

func (g *guard) reject(n ast.Node, format string, args ...any) {
	if g.err == nil {
		g.err = &file.Error{Location: n.Location(), Message: fmt.Sprintf(format, args...)}
	}
}

// walk visits n, which is within as many loops as predicates says.
func (g *guard) walk(n ast.Node, predicates int) {
	if n == nil || g.err != nil {
		return
	}
	switch n := n.(type) {
	case *ast.IdentifierNode:
		if strings.HasPrefix(n.Value, "__") {
			g.reject(n, "unknown name %s", n.Value)
		}
		g.names[n.Value] = true
		if n.Value == "attrs" {
			g.anyAttr = true
		}
	case *ast.MemberNode:
		g.member(n, predicates)
		return
	case *ast.BuiltinNode:
		if _, ok := metered[n.Name]; !ok && !slices.Contains(allowed, n.Name) {
			g.reject(n, "the function %s is not in this language", n.Name)
		}
	case *ast.CallNode:
		if _, ok := n.Callee.(*ast.IdentifierNode); !ok {
			g.reject(n, "methods cannot be called")
		}
	case *ast.PredicateNode:
		if predicates++; predicates > maxPredicates {
			g.reject(n, "loops are nested deeper than %d", maxPredicates)
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "matches":
			if pattern, ok := n.Right.(*ast.StringNode); ok {
				g.pattern(n, pattern)
			} else {
				g.reject(n.Right, "the pattern of matches must be a text in quotes")
			}
		case "..":
			g.reject(n, "ranges are not in this language")
		}
	case *ast.VariableDeclaratorNode:
		if g.lets++; g.lets > maxLets {
			g.reject(n, "more than %d variables", maxLets)
		}
	}
	for _, child := range children(n) {
		g.walk(child, predicates)
	}
}

// pattern visits the pattern of n.
func (g *guard) pattern(n *ast.BinaryNode, pattern *ast.StringNode) {
	if g.classes += classes(pattern.Value); g.classes > maxClasses {
		g.reject(pattern, "the patterns of matches have %d classes and more, the limit is %d", g.classes, maxClasses)
		return
	}
	size, err := patternSize(pattern.Value)
	if err != nil {
		g.reject(n, "%v", err)
		return
	}
	if g.patterns += size; g.patterns > maxPatterns {
		g.reject(pattern, "the patterns of matches compile to %d instructions and more, the limit is %d", g.patterns, maxPatterns)
	}
}

// member visits a.b or a["b"].
func (g *guard) member(n *ast.MemberNode, predicates int) {
	key, literal := n.Property.(*ast.StringNode)
	if isAttrs(n.Node) && literal {
		g.attrs[key.Value] = true
		if similar := near(key.Value); similar != "" {
			g.warnings = append(g.warnings, warning{n.Location(), fmt.Sprintf("attrs.%s is not a known field: do you mean attrs.%s?", key.Value, similar)})
		}
		if base, ok := n.Node.(*ast.MemberNode); ok {
			g.fields["attrs"] = true
			g.walk(base.Node, predicates)
		} else {
			g.names["attrs"] = true
		}
		return
	}
	if literal {
		g.fields[key.Value] = true
		if isAttrs(n) {
			g.anyAttr = true
		}
	}
	g.walk(n.Node, predicates)
	if !literal {
		g.walk(n.Property, predicates)
	}
}

// isAttrs reports whether n is attrs, or the attrs of some event.
func isAttrs(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return n.Value == "attrs"
	case *ast.MemberNode:
		key, ok := n.Property.(*ast.StringNode)
		return ok && key.Value == "attrs"
	case *ast.ChainNode:
		return isAttrs(n.Node)
	}
	return false
}

// children returns the nodes below n.
func children(n ast.Node) []ast.Node {
	switch n := n.(type) {
	case *ast.UnaryNode:
		return []ast.Node{n.Node}
	case *ast.BinaryNode:
		return []ast.Node{n.Left, n.Right}
	case *ast.ChainNode:
		return []ast.Node{n.Node}
	case *ast.MemberNode:
		return []ast.Node{n.Node, n.Property}
	case *ast.SliceNode:
		return present(n.Node, n.From, n.To)
	case *ast.CallNode:
		return append([]ast.Node{n.Callee}, n.Arguments...)
	case *ast.BuiltinNode:
		return present(n.Arguments...)
	case *ast.PredicateNode:
		return []ast.Node{n.Node}
	case *ast.ConditionalNode:
		return []ast.Node{n.Cond, n.Exp1, n.Exp2}
	case *ast.VariableDeclaratorNode:
		return []ast.Node{n.Value, n.Expr}
	case *ast.SequenceNode:
		return n.Nodes
	case *ast.ArrayNode:
		return n.Nodes
	case *ast.MapNode:
		return n.Pairs
	case *ast.PairNode:
		return []ast.Node{n.Key, n.Value}
	}
	return nil
}

func present(nodes ...ast.Node) []ast.Node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n ast.Node) bool { return n == nil })
}

// compile checks and compiles an expression over names.
func compile(expression string, names types.Map, options ...expr.Option) (*vm.Program, *use, error) {
	if len(expression) > maxExpression {
		return nil, nil, &Error{Line: 1, Column: 1, Msg: fmt.Sprintf("the expression has %d bytes, more than the limit of %d", len(expression), maxExpression)}
	}
	if strings.TrimSpace(expression) == "" {
		return nil, nil, &Error{Line: 1, Column: 1, Msg: "the expression is empty"}
	}
	if count := strings.Count(expression, "(") + strings.Count(expression, "[") + strings.Count(expression, "{"); count > maxBrackets {
		return nil, nil, &Error{Line: 1, Column: 1, Msg: fmt.Sprintf("the expression has %d brackets, more than the limit of %d", count, maxBrackets)}
	}
	tree, err := parser.Parse(expression)
	if err != nil {
		return nil, nil, newError(err)
	}
	g := &guard{use: &use{names: map[string]bool{}, fields: map[string]bool{}, attrs: map[string]bool{}}}
	if g.walk(tree.Node, 0); g.err != nil {
		return nil, nil, newError(g.err.Bind(tree.Source))
	}
	check := &typeCheck{}
	options = append([]expr.Option{expr.Env(names), expr.MaxNodes(2 * maxNodes), expr.Patch(check), expr.Patch(&meterPatch{check: check})}, options...)
	if count := countNodes(tree.Node); count > maxNodes {
		return nil, nil, &Error{Line: 1, Column: 1, Msg: fmt.Sprintf("the expression has %d parts, more than the limit of %d", count, maxNodes)}
	}
	program, err := expr.Compile(expression, options...)
	if check.err != nil { // clearer than the mismatch of types in err
		err = check.err.Bind(tree.Source)
	}
	if err != nil {
		return nil, nil, newError(err)
	}
	return program, g.use, nil
}

func countNodes(n ast.Node) int {
	count := 1
	for _, child := range children(n) {
		count += countNodes(child)
	}
	return count
}

// typeCheck finds a source that is used as a whole. It was the text that is now from
// or program, and comparing it with a text could be false without an error. It also adds
// up the weight of all nodes.
type typeCheck struct {
	err    *file.Error
	weight int
}

func (c *typeCheck) Visit(p *ast.Node) {
	c.weight += weight(*p)
	for i, child := range children(*p) {
		switch (*p).(type) {
		case *ast.MemberNode, *ast.VariableDeclaratorNode:
			if i == 0 {
				continue // source.file, let s = source
			}
		}
		if c.err == nil && child.Type() == reflect.TypeFor[*Source]() {
			c.err = &file.Error{Location: child.Location(), Message: "source is the log statement, with source.file and source.line: " +
				"write from for who recorded the event, program for the program's name"}
		}
	}
}

// maxUnticked is the weight up to which an expression needs no ticks outside of loops.
const maxUnticked = 16 * textWork

// meterPatch inserts calls of the meter where an evaluation could take long or grow.
type meterPatch struct {
	check *typeCheck
}

func (m *meterPatch) Visit(p *ast.Node) {
	heavy := weight(*p)
	switch n := (*p).(type) {
	case *ast.BuiltinNode:
		if name, ok := metered[n.Name]; ok {
			ast.Patch(p, &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: n.Arguments})
			return
		}
		if n.Name == "trim" && len(n.Arguments) == 2 {
			ast.Patch(p, &ast.CallNode{Callee: &ast.IdentifierNode{Value: nameTrim}, Arguments: n.Arguments})
			return
		}
	case *ast.PredicateNode:
		n.Node = ticked(n.Node, weightWithin(n.Node))
		return
	case *ast.BinaryNode:
		switch n.Operator {
		case "matches":
			source, ok := n.Right.(*ast.StringNode)
			if !ok || !maybeText(n.Left) {
				return // the type checker reports it
			}
			if pattern, err := newPattern(source.Value); err == nil {
				ast.Patch(p, &ast.CallNode{Callee: &ast.IdentifierNode{Value: nameMatches}, Arguments: []ast.Node{n.Left, &ast.ConstantNode{Value: pattern}}})
			}
			return
		case "+":
			if !isNumber(n.Left) || !isNumber(n.Right) {
				ast.Patch(p, &ast.CallNode{Callee: &ast.IdentifierNode{Value: nameAdd}, Arguments: []ast.Node{n.Left, n.Right}})
				return
			}
		}
	}
	if heavy >= textWork && m.check.weight > maxUnticked {
		ast.Patch(p, ticked(*p, heavy))
	}
}

// ticked returns n after a tick with about this weight.
func ticked(n ast.Node, weight int) ast.Node {
	name := nameTick
	switch {
	case weight > listWork:
		name = nameWork
	case weight > textWork:
		name = nameList
	case weight > 4*compareWork:
		name = nameText
	}
	tick := &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}}
	if name == nameWork { // without an argument a call takes less time
		tick.Arguments = []ast.Node{&ast.IntegerNode{Value: weight}}
	}
	tick.SetLocation(n.Location())
	sequence := &ast.SequenceNode{Nodes: []ast.Node{tick, n}}
	sequence.SetLocation(n.Location())
	return sequence
}

// weight returns the work of evaluating n beside that of its children, 0 if it is little
// or the meter counts it.
func weight(n ast.Node) int {
	switch n := n.(type) {
	case *ast.BinaryNode:
		switch n.Operator {
		case "contains":
			return textWork
		case "==", "!=":
			switch {
			case isLiteral(n.Left) || isLiteral(n.Right) || isScalar(n.Left) || isScalar(n.Right):
				return 0
			case isText(n.Left) || isText(n.Right):
				return compareWork
			}
			return listWork
		case "in":
			nature := n.Right.Nature()
			if _, ok := n.Right.(*ast.ArrayNode); ok || nature.IsMap() {
				return compareWork
			}
			return listWork
		}
	case *ast.BuiltinNode:
		switch n.Name {
		case "indexOf", "lastIndexOf", "trim", "int", "float":
			return textWork
		case "sum", "min", "max":
			return listWork
		case "count":
			if len(n.Arguments) == 1 {
				return listWork
			}
		}
	}
	return 0
}

// weightWithin returns the weight of n and of what is below it, except in loops.
func weightWithin(n ast.Node) int {
	if _, ok := n.(*ast.PredicateNode); ok {
		return 0
	}
	sum := weight(n)
	for _, child := range children(n) {
		sum += weightWithin(child)
	}
	return sum
}

func isScalar(n ast.Node) bool {
	nature := n.Nature()
	return nature.IsInteger || nature.IsFloat || nature.IsBool()
}

func isText(n ast.Node) bool {
	nature := n.Nature()
	return nature.IsString()
}

// maybeText reports whether n can be a text when it is evaluated.
func maybeText(n ast.Node) bool {
	t := n.Type()
	return t == nil || t.Kind() == reflect.String || t.Kind() == reflect.Interface
}

func isNumber(n ast.Node) bool {
	nature := n.Nature()
	return nature.IsInteger || nature.IsFloat
}

// near returns the known field of which key seems to be a misspelling, or "".
func near(key string) string {
	if slices.Contains(knownFields, key) {
		return ""
	}
	if len(key) < 4 {
		return ""
	}
	for _, field := range knownFields {
		if distance1(key, field) {
			return field
		}
	}
	return ""
}

var knownFields = []string{
	"num", "time", "level", "message", "args", "format", "facility", "incarnation", "parent", "failure", "isError", "why",
	"stacktrace", "umid", "tubID", "system", "log_namespace",
}

// distance1 reports whether inserting, removing or changing one letter, or swapping
// two, turns a into b.
func distance1(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch len(b) - len(a) {
	case 0:
		return i < len(a) && (a[i+1:] == b[i+1:] || i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:])
	case 1:
		return a[i:] == b[i+1:]
	}
	return false
}
