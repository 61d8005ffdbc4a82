package filter

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/pytext"
	"github.com/flogtool/flogtool/rpc/banana"
)

// Event is an event in an expression. Only the fields that the expression uses are
// set.
type Event struct {
	Num      int            `expr:"num"`      // -1 without one
	Time     float64        `expr:"time"`     // seconds since 1970, 0 without one
	Level    int            `expr:"level"`    // OPERATIONAL without one
	Message  string         `expr:"message"`  // the text for people, with format and args filled in
	Facility string         `expr:"facility"` // "" without one
	Umid     string         `expr:"umid"`     // "" without one
	Parent   any            `expr:"parent"`   // an int, nil without one
	Failure  string         `expr:"failure"`  // the exception with its traceback, "" without one
	From     string         `expr:"from"`     // as Origin.From
	Program  string         `expr:"program"`  // as Origin.Program
	Source   *Source        `expr:"source"`   // the log statement; never nil if the expression uses it
	Attrs    map[string]any `expr:"attrs"`    // every field as it is

	ev event.View
}

// Origin says where an event comes from, which the event itself does not hold.
type Origin struct {
	From    string // who recorded it: a TubID, or what its file says, such as "local"; "" if unknown
	Program string // the name of the program that recorded it, "" if unknown
}

// Source is the place of a log statement in its program. An event has it as text in its
// field source: "dir/file.go:12".
type Source struct {
	File string `expr:"file"` // "" if the event does not have it
	Line int    `expr:"line"` // from 1, 0 if the event does not have it
}

func sourceOf(e event.View) *Source {
	text := textField(e, "source")
	if file, digits, ok := cutLast(text, ":"); ok {
		if line, err := strconv.Atoi(digits); err == nil && line >= 0 {
			return &Source{file, line}
		}
	}
	return &Source{File: text}
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// eventTypes are the types of the names of one event at the top level, and of the
// functions.
var eventTypes = types.Map{
	"num": types.Int, "time": types.Float64, "level": types.Int, "message": types.String, "facility": types.String,
	"umid": types.String, "parent": types.Any, "failure": types.String,
	"from": types.String, "program": types.String, "source": types.TypeOf((*Source)(nil)),
	"attrs": types.TypeOf(map[string]any(nil)), "event": types.TypeOf((*Event)(nil)),
	"fmt": types.TypeOf((func(*Event) string)(nil)),

	nameTick: types.TypeOf((func() bool)(nil)), nameText: types.TypeOf((func() bool)(nil)),
	nameList: types.TypeOf((func() bool)(nil)), nameWork: types.TypeOf((func(int) bool)(nil)),
	nameMatches: types.TypeOf((func(any, any) bool)(nil)),
	nameAdd:     types.TypeOf((func(any, any) any)(nil)), nameTrim: types.TypeOf((func(any, any) string)(nil)),
	nameLower: types.TypeOf((func(string) string)(nil)), nameUpper: types.TypeOf((func(string) string)(nil)),
	nameString: types.TypeOf((func(any) string)(nil)),
}

// filterNames are the names in a filter, ruleNames those in a rule.
var (
	filterNames = withNames(nil)
	ruleNames   = withNames(types.Map{
		"trigger": types.TypeOf((*Event)(nil)), "header": types.TypeOf(map[string]any(nil)),
		"versions": types.TypeOf(map[string]any(nil)), "tub": types.String,
		"events": types.TypeOf([]*Event(nil)), "before": types.TypeOf((func(string) []*Event)(nil)),
	})
)

func withNames(more types.Map) types.Map {
	m := types.Map{}
	maps.Copy(m, eventTypes)
	for _, level := range event.Levels {
		m[level.String()] = types.Int
	}
	maps.Copy(m, more)
	return m
}

// scope is what one goroutine needs to evaluate expressions.
type scope struct {
	vm    vm.VM
	env   map[string]any
	meter meter
	one   Event // the event of a filter
}

func newScope() *scope {
	s := &scope{}
	s.env = map[string]any{
		nameTick: s.meter.tick, nameText: s.meter.text, nameList: s.meter.list, nameWork: s.meter.step,
		nameMatches: s.meter.matches, nameAdd: s.meter.add, nameTrim: s.meter.trim,
		nameLower: s.meter.lower, nameUpper: s.meter.upper, nameString: s.meter.string, "fmt": s.format,
	}
	for _, level := range event.Levels {
		s.env[level.String()] = int(level)
	}
	return s
}

// run evaluates a program in s until ctx ends or the limit is over.
func (s *scope) run(ctx context.Context, program *vm.Program, limit time.Duration) (any, error) {
	s.meter.reset(ctx, limit)
	v, err := s.vm.Run(program, s.env)
	s.meter.ctx = nil
	if err != nil {
		return nil, newError(err)
	}
	return v, nil
}

// format is fmt(event).
func (s *scope) format(e *Event) string {
	if e == nil {
		return ""
	}
	s.meter.does(listWork)
	text := messageOf(e.ev)
	s.meter.made(len(text))
	return text
}

// setEvent sets those names of an event that u uses.
func (s *scope) setEvent(u *use, e event.View, origin Origin) {
	for name := range u.names {
		switch name {
		case "event":
			s.one.fill(u, e, origin)
			s.env[name] = &s.one
		case "attrs":
			s.env[name] = attrsOf(u, e)
		default:
			if v, ok := fieldOf(name, e, origin); ok {
				s.env[name] = v
			}
		}
	}
}

// fill sets those fields of x that u uses.
func (x *Event) fill(u *use, e event.View, origin Origin) {
	x.fillFrom(u, e, origin, &converter{maxAttrs})
}

// fillFrom is fill with a converter for the attributes.
func (x *Event) fillFrom(u *use, e event.View, origin Origin, c *converter) {
	*x = Event{ev: e}
	for name := range u.fields {
		switch name {
		case "num":
			x.Num = numOf(e)
		case "time":
			x.Time = timeOf(e)
		case "level":
			x.Level = levelOf(e)
		case "message":
			x.Message = messageOf(e)
		case "facility":
			x.Facility = textField(e, "facility")
		case "umid":
			x.Umid = textField(e, "umid")
		case "parent":
			x.Parent = parentOf(e)
		case "failure":
			x.Failure = failureOf(e)
		case "from":
			x.From = origin.From
		case "program":
			x.Program = origin.Program
		case "source":
			x.Source = sourceOf(e)
		case "attrs":
			x.Attrs = c.attrs(u, e)
		}
	}
}

// fieldOf returns the value of a name of an event; false if it is not one.
func fieldOf(name string, e event.View, origin Origin) (any, bool) {
	switch name {
	case "num":
		return numOf(e), true
	case "time":
		return timeOf(e), true
	case "level":
		return levelOf(e), true
	case "message":
		return messageOf(e), true
	case "facility", "umid":
		return textField(e, name), true
	case "parent":
		return parentOf(e), true
	case "failure":
		return failureOf(e), true
	case "from":
		return origin.From, true
	case "program":
		return origin.Program, true
	case "source":
		return sourceOf(e), true
	}
	return nil, false
}

// only returns an event with no other field of e than key, unless e is decoded.
func only(e event.View, key string) event.Event {
	if whole, ok := e.(*event.Event); ok {
		return *whole
	}
	v, ok := e.Get(key)
	if !ok {
		return event.Event{}
	}
	return event.Event{Fields: []event.Field{{Key: key, Value: v}}}
}

func numOf(e event.View) int {
	one := only(e, "num")
	if n, ok := one.Num(); ok && int(n) >= 0 {
		return int(n)
	}
	return -1
}

func parentOf(e event.View) any {
	one := only(e, "parent")
	if n, ok := one.Parent(); ok && int(n) >= 0 {
		return int(n)
	}
	return nil
}

func timeOf(e event.View) float64 {
	one := only(e, "time")
	t, _ := one.Seconds()
	return t
}

func levelOf(e event.View) int {
	one := only(e, "level")
	return int(one.Level())
}

func textField(e event.View, key string) string {
	v, _ := e.Get(key)
	s, _ := banana.Text(v)
	return cut(s)
}

func messageOf(e event.View) string { return cut(string(pytext.AppendTextMax(nil, e, maxText))) }

// failureOf returns the text of the event's exception as dump shows it, then the
// traceback if the event has it.
func failureOf(e event.View) string {
	v, ok := e.Get("failure")
	if !ok || v == nil {
		return ""
	}
	d, ok := v.(event.Dict)
	if !ok {
		return cut(string(pytext.AppendStrMax(nil, v, maxText)))
	}
	s, _ := d.Get("str")
	text := cut(string(pytext.AppendStrMax(nil, s, maxText)))
	if traceback, ok := d.Get("traceback"); ok {
		if tb, _ := banana.Text(traceback); tb != "" {
			text += "\n" + cut(tb)
		}
	}
	return cut(text)
}

// cut limits the size of a text, and with it the time that searching it takes.
func cut(s string) string { return s[:min(len(s), maxText)] }

// These limits apply to what an expression sees of an event.
const (
	maxAttrs  = 4 << 20  // bytes that the attributes of one event may take; no honest event has as much
	maxLoaded = 32 << 20 // bytes that the texts and attributes of all events of an incident may take
	valueSize = 48       // bytes that a value takes beside its text, about
)

// converter makes values that expr handles of those of an event, until they take as much
// memory as they may. Then lists and maps lack the rest.
type converter struct {
	left int // bytes
}

func attrsOf(u *use, e event.View) map[string]any {
	c := converter{maxAttrs}
	return c.attrs(u, e)
}

func (c *converter) attrs(u *use, e event.View) map[string]any {
	if u.anyAttr {
		d := e.Dict()
		m := make(map[string]any, min(len(d), c.left/valueSize))
		for _, item := range d {
			if c.left <= 0 {
				break
			}
			if key, ok := item.Key.(string); ok {
				m[key] = c.value(item.Value)
			}
		}
		return m
	}
	m := make(map[string]any, len(u.attrs))
	for key := range u.attrs {
		if v, ok := e.Get(key); ok && c.left > 0 {
			m[key] = c.value(v)
		}
	}
	return m
}

// value returns a value of package banana as one of the types that expr handles.
func (c *converter) value(v any) any {
	c.left -= valueSize
	switch v := v.(type) {
	case int64:
		return int(v)
	case uint64:
		if v > 1<<63-1 {
			return float64(v)
		}
		return int(v)
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return f
	case string:
		return c.text(v)
	case []byte:
		return c.text(string(v[:min(len(v), maxText)]))
	case banana.Decimal:
		return c.text(string(v))
	case []any:
		return c.list(v)
	case event.Tuple:
		return c.list(v)
	case banana.Set:
		return c.list(v)
	case banana.FrozenSet:
		return c.list(v)
	case event.Dict:
		return c.dict(v)
	case *banana.Copyable:
		m := c.dict(v.Attrs)
		m["repr"] = c.text(string(pytext.AppendReprMax(nil, v, max(0, min(maxText, c.left)))))
		m["str"] = c.text(string(pytext.AppendStrMax(nil, v, max(0, min(maxText, c.left)))))
		return m
	}
	return v
}

// text returns s as far as an expression sees it.
func (c *converter) text(s string) string {
	s = cut(s)
	c.left -= len(s)
	return s
}

func (c *converter) list(list []any) []any {
	out := make([]any, 0, max(0, min(len(list), c.left/valueSize)))
	for _, v := range list {
		if c.left <= 0 {
			break
		}
		out = append(out, c.value(v))
	}
	return out
}

func (c *converter) dict(d event.Dict) map[string]any {
	m := make(map[string]any, max(0, min(len(d), c.left/valueSize)))
	for _, item := range d {
		if c.left <= 0 {
			break
		}
		key, ok := banana.Text(item.Key)
		if !ok {
			key = string(pytext.AppendReprMax(nil, item.Key, maxText))
		}
		key = c.text(key)
		m[key] = c.value(item.Value)
	}
	return m
}

// plainMap returns the entries of a header.
func plainMap(d event.Dict) map[string]any {
	c := converter{maxAttrs}
	return c.dict(d)
}

// appendPlain appends a value that a converter made, as fmt.Sprint has it, up to end
// bytes or little more.
func appendPlain(dst []byte, v any, end int) []byte {
	if len(dst) > end {
		return dst
	}
	switch v := v.(type) {
	case string:
		return append(dst, v...)
	case []any:
		dst = append(dst, '[')
		for i, item := range v {
			if len(dst) > end {
				break
			}
			if i > 0 {
				dst = append(dst, ' ')
			}
			dst = appendPlain(dst, item, end)
		}
		return append(dst, ']')
	case map[string]any:
		dst = append(dst, "map["...)
		for i, key := range slices.Sorted(maps.Keys(v)) {
			if len(dst) > end {
				break
			}
			if i > 0 {
				dst = append(dst, ' ')
			}
			dst = append(append(dst, key...), ':')
			dst = appendPlain(dst, v[key], end)
		}
		return append(dst, ']')
	}
	return fmt.Append(dst, v)
}

// parseDuration returns the duration in s, in Go's form: "1m30s". It panics if s is
// not one; expr recovers and returns the error.
func parseDuration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(err)
	}
	return d
}
