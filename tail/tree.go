package tail

import (
	"strings"

	"github.com/flogtool/flogtool/event"
)

// tree collects events and shows them below their parents.
type tree struct {
	p     *printer
	nodes []node
	byKey map[nodeKey]int // of the first event with that number
}

type nodeKey struct {
	incarnation string
	num         event.Num
}

type node struct {
	text     string // as the line is, without its end
	key      nodeKey
	parent   event.Num
	has      bool // a parent
	children []int
}

func (t *tree) add(r record) {
	n := node{text: strings.TrimSuffix(string(t.p.event(nil, r)), "\n")}
	num, ok := r.Num()
	n.key = nodeKey{r.Incarnation(), num}
	n.parent, n.has = r.Parent()
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

// append appends the whole tree. An event whose parent was not selected, which
// is its own, or whose parents go in a circle, is a root.
func (t *tree) append(dst []byte) []byte {
	var roots []int
	for i := range t.nodes {
		n := &t.nodes[i]
		parent, ok := t.byKey[nodeKey{n.key.incarnation, n.parent}]
		if !n.has || !ok || parent == i || t.below(parent, i) {
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

// below reports whether going up from i leads to top.
func (t *tree) below(i, top int) bool {
	for range len(t.nodes) {
		n := &t.nodes[i]
		up, ok := t.byKey[nodeKey{n.key.incarnation, n.parent}]
		if !n.has || !ok || up == i {
			return false
		}
		if i = up; i == top {
			return true
		}
	}
	return true
}

// maxIndent is how deep the tree is drawn; what is deeper stands at that depth.
const maxIndent = 40

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
