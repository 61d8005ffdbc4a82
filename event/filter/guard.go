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

// What is refused before an expression runs. expr's parser can be driven out of
// stack, its memory budget does not count strings, and nothing interrupts a run,
// so whatever could grow or loop without end is either not in the language or
// goes through meter.go.
const (
	maxSource     = 16 << 10 // bytes; the parser recurses, and a stack overflow stops the process
	maxNodes      = 2000
	maxPredicates = 2 // nesting: two loops over the events of an incident
	maxLets       = 16
)

// allowed are expr's functions that are harmless as they are.
var allowed = []string{
	"all", "none", "any", "one", "filter", "map", "find", "findIndex", "findLast", "findLastIndex", "count", "sum",
	"len", "abs", "ceil", "floor", "round", "int", "float", "trim", "trimPrefix", "trimSuffix", "hasPrefix", "hasSuffix",
	"indexOf", "lastIndexOf", "max", "min", "first", "last", "get",
}

// metered are expr's functions that we replace by ours, which bound what they
// make.
var metered = map[string]string{"lower": nameLower, "upper": nameUpper, "string": nameString}

// use is what an expression refers to, so that no more is computed for it.
type use struct {
	names   map[string]bool // at the top level
	fields  map[string]bool // of an event: level in .level or trigger.level
	attrs   map[string]bool // keys K of attrs.K
	anyAttr bool            // attrs is used in another way
	lines   []warning
}

type warning struct {
	at  file.Location
	msg string
}

// guard walks an expression as it was written.
type guard struct {
	*use
	err  *file.Error
	lets int
}

func (g *guard) reject(n ast.Node, format string, args ...any) {
	if g.err == nil {
		g.err = &file.Error{Location: n.Location(), Message: fmt.Sprintf(format, args...)}
	}
}

// walk visits n; predicates is how many loops it stands in.
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
			if _, ok := n.Right.(*ast.StringNode); !ok {
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

// member visits a.b or a["b"].
func (g *guard) member(n *ast.MemberNode, predicates int) {
	key, literal := n.Property.(*ast.StringNode)
	if isAttrs(n.Node) && literal {
		g.attrs[key.Value] = true
		if similar := near(key.Value); similar != "" {
			g.lines = append(g.lines, warning{n.Location(), fmt.Sprintf("attrs.%s: no event has such a field; is attrs.%s meant?", key.Value, similar)})
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
func compile(source string, names types.Map, options ...expr.Option) (*vm.Program, *use, error) {
	if len(source) > maxSource {
		return nil, nil, &Error{Line: 1, Column: 1, Msg: fmt.Sprintf("an expression of %d bytes, where %d are the limit", len(source), maxSource)}
	}
	if strings.TrimSpace(source) == "" {
		return nil, nil, &Error{Line: 1, Column: 1, Msg: "an empty expression"}
	}
	tree, err := parser.Parse(source)
	if err != nil {
		return nil, nil, newError(err)
	}
	g := &guard{use: &use{names: map[string]bool{}, fields: map[string]bool{}, attrs: map[string]bool{}}}
	if g.walk(tree.Node, 0); g.err != nil {
		return nil, nil, newError(g.err.Bind(tree.Source))
	}
	sources := &sourceCheck{}
	options = append([]expr.Option{expr.Env(names), expr.MaxNodes(2 * maxNodes), expr.Patch(sources), expr.Patch(meterPatch{})}, options...)
	if count := countNodes(tree.Node); count > maxNodes {
		return nil, nil, &Error{Line: 1, Column: 1, Msg: fmt.Sprintf("an expression of %d parts, where %d are the limit", count, maxNodes)}
	}
	program, err := expr.Compile(source, options...)
	if sources.err != nil { // it says more than a mismatch of types
		err = sources.err.Bind(tree.Source)
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

// sourceCheck finds a source that is used as a whole: it was the text that is now
// from or program, and comparing it would be false without a word.
type sourceCheck struct{ err *file.Error }

func (c *sourceCheck) Visit(p *ast.Node) {
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

// meterPatch puts the meter where an expression could run long or grow.
type meterPatch struct{}

func (meterPatch) Visit(p *ast.Node) {
	switch n := (*p).(type) {
	case *ast.BuiltinNode:
		if name, ok := metered[n.Name]; ok {
			ast.Patch(p, &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: n.Arguments})
		}
	case *ast.PredicateNode:
		n.Node = ticked(n.Node)
	case *ast.BinaryNode:
		switch n.Operator {
		case "matches":
			ast.Patch(p, ticked(n))
		case "+":
			if !isNumber(n.Left) || !isNumber(n.Right) {
				ast.Patch(p, &ast.CallNode{Callee: &ast.IdentifierNode{Value: nameAdd}, Arguments: []ast.Node{n.Left, n.Right}})
			}
		}
	}
}

func ticked(n ast.Node) ast.Node {
	tick := &ast.CallNode{Callee: &ast.IdentifierNode{Value: nameTick}}
	tick.SetLocation(n.Location())
	sequence := &ast.SequenceNode{Nodes: []ast.Node{tick, n}}
	sequence.SetLocation(n.Location())
	return sequence
}

func isNumber(n ast.Node) bool {
	nature := n.Nature()
	return nature.IsInteger || nature.IsFloat
}

// near returns the known field that key seems to be a misspelling of, "" if
// there is none.
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

// distance1 reports whether one letter put in, left out, changed or swapped with
// the next makes a to b.
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
