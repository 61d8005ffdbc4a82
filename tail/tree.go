package tail

import (
	"strings"

	"github.com/flogtool/flogtool/event"
)

// tree collects events and shows each below its parent.
type tree struct {
	p     *printer
	nodes []node
	byKey map[nodeKey]int // index of the first event with that number
}

type nodeKey struct {
	incarnation string
	num         event.Num
}

type node struct {
	text      string // as FormText shows the event, without the final newline
	key       nodeKey
	parent    event.Num
	hasParent bool
	children  []int
}

func (t *tree) add(r record) {
	n := node{text: strings.TrimSuffix(string(t.p.event(nil, r)), "\n")}
	num, ok := r.Num()
	n.key = nodeKey{r.Incarnation(), num}
	n.parent, n.hasParent = r.Parent()
	if ok {
		if t.byKey == nil {
			t.byKey = make(map[nodeKey]int)
		}
		if _, dup := t.byKey[n.key]; !dup {
			t.byKey[n.key] = len(t.nodes)
		}
	}
	t.nodes = append(t.nodes, n)
}

// append appends the whole tree. An event is a root if it has no parent, if its parent is
// not in the tree, or if its ancestors form a circle.
func (t *tree) append(dst []byte) []byte {
	var roots []int
	for i := range t.nodes {
		n := &t.nodes[i]
		parent, ok := t.byKey[nodeKey{n.key.incarnation, n.parent}]
		if !n.hasParent || !ok || parent == i || t.below(parent, i) {
			roots = append(roots, i)
			continue
		}
		t.nodes[parent].children = append(t.nodes[parent].children, i)
	}
	for _, i := range roots {
		dst = t.node(dst, i, "", "")
	}
	return dst
}

// below reports whether top is an ancestor of i. If the ancestors of i form a circle, it
// returns true.
func (t *tree) below(i, top int) bool {
	for range len(t.nodes) {
		n := &t.nodes[i]
		up, ok := t.byKey[nodeKey{n.key.incarnation, n.parent}]
		if !n.hasParent || !ok || up == i {
			return false
		}
		if i = up; i == top {
			return true
		}
	}
	return true
}

// maxIndent is the depth up to which the tree is indented; taste.
const maxIndent = 40

// node appends event i and all below it. The first line begins with first, the others
// with rest.
func (t *tree) node(dst []byte, i int, first, rest string) []byte {
	n := &t.nodes[i]
	for j, line := range strings.Split(n.text, "\n") {
		if j == 0 {
			dst = append(dst, first...)
		} else {
			dst = append(dst, rest...)
			if len(n.children) > 0 {
				dst = append(dst, "│  "...)
			}
		}
		dst = append(append(dst, line...), '\n')
	}
	for j, child := range n.children {
		branch, below := "├─ ", "│  "
		if j == len(n.children)-1 {
			branch, below = "└─ ", "   "
		}
		if len(rest) > maxIndent*3 {
			dst = t.node(dst, child, rest, rest)
			continue
		}
		dst = t.node(dst, child, rest+branch, rest+below)
	}
	return dst
}
