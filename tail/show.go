package tail

import (
	"fmt"
	"strings"
	"text/template"

	"github.com/flogtool/flogtool/event"
)

// Form is the form in which events are shown.
type Form int

const (
	FormText     Form = iota // the original's line
	FormJSON                 // one object a line: the file's, with the text added
	FormTemplate             // Style.Template for each event
	FormTable                // a table
	FormTree                 // below their parents
	FormSummary              // counts of all of them
)

// ParseTemplate reads a template of package text/template for one event. It has
// the fields of [TemplateEvent]: "{{.Time}} {{.Level}} {{.Text}}".
func ParseTemplate(text string) (*template.Template, error) {
	t, err := template.New("template").Option("missingkey=zero").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--template: %s", strings.TrimPrefix(err.Error(), "template: "))
	}
	if err := t.Execute(discard{}, &TemplateEvent{Attrs: map[string]any{}}); err != nil {
		return nil, fmt.Errorf("--template: %s", strings.TrimPrefix(err.Error(), "template: "))
	}
	return t, nil
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// TemplateEvent is an event as templates see it.
type TemplateEvent struct {
	Time     string         // as -t says
	RxTime   string         // as -t says, "" if there is none
	Seconds  float64        // since 1970
	From     string         // who recorded it
	Num      string         //
	Level    int            //
	Name     string         // of the level, or its number
	Facility string         //
	Text     string         // for people
	JSON     string         // the whole event
	Failure  string         // "" if there is none
	Attrs    map[string]any // every field, by its name
}

// template appends what the template makes of an event, as a line.
func (p *printer) template(dst []byte, r record) []byte {
	num, _ := appendNumOr(nil, r, "")
	seconds, _ := r.Seconds()
	e := TemplateEvent{
		Time: string(p.time(nil, r)), Seconds: seconds, From: r.From(), Num: string(num), Level: int(r.Level()), Name: r.Level().String(),
		Facility: r.Facility(), Text: string(r.AppendText(nil)), JSON: string(r.AppendEventJSON(nil)), Attrs: make(map[string]any),
	}
	if rx, ok := r.RxTime(); ok {
		e.RxTime = string(p.clock.Append(nil, rx))
	}
	if v, ok := r.Get("failure"); ok {
		e.Failure = failureText(v)
	}
	for _, item := range r.Dict() {
		if key, ok := item.Key.(string); ok {
			e.Attrs[key] = shownValue(item.Value)
		}
	}
	w := appender{dst}
	if err := p.Template.Execute(&w, &e); err != nil {
		w.b = fmt.Appendf(dst, "%s", strings.TrimPrefix(err.Error(), "template: "))
	}
	return append(w.b, '\n')
}

type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// shownValue returns a value as templates print it: numbers and texts as they
// are, all else as JSON.
func shownValue(v any) any {
	switch v := v.(type) {
	case nil:
		return ""
	case bool, int64, float64, string:
		return v
	}
	return string(event.AppendJSON(nil, v))
}

// json appends an event as one JSON object: the wrapper line of the file, and
// its text.
func (p *printer) json(dst []byte, r record) []byte {
	dst = append(dst, `{"from": `...)
	dst = event.AppendJSONString(dst, r.From())
	dst = append(dst, `, "rx_time": `...)
	if rx, ok := r.RxTime(); ok {
		dst = event.AppendJSONFloat(dst, rx)
	} else {
		dst = append(dst, "null"...)
	}
	dst = append(dst, `, "d": `...)
	dst = r.AppendEventJSON(dst)
	dst = append(dst, `, "text": `...)
	dst = event.AppendJSONString(dst, string(r.AppendText(nil)))
	return append(dst, "}\n"...)
}

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

// row returns an event as a row of the table.
func (p *printer) row(r record) []string {
	num, _ := appendNum(nil, r)
	text := string(visible(r.AppendText(nil), true))
	if m := string(p.marks(nil, r)); m != "" {
		text += m
	}
	if v, ok := r.Get("failure"); ok {
		text = strings.TrimSpace(text + " FAILURE: " + lastLine(failureText(v)))
	}
	return []string{string(p.time(nil, r)), r.From()[:shortLen(r.From())] + "#" + string(num), r.Level().String(), r.Facility(), text}
}

// lastLine returns the line of a traceback that says what happened.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n]"), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// tableHeader are the names of the table's columns.
var tableHeader = []string{"time", "event", "level", "facility", "text"}
