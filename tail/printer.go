package tail

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/pytext"
)

// incident is what a header says that concerns the events after it.
type incident struct {
	program string          // the name of the program that recorded them, "" if it is not known
	trigger []byte          // identity of the trigger, nil if there is none
	folded  map[string]bool // identities of the triggers that were folded into it
}

// printer turns events into text. It serves one goroutine.
type printer struct {
	Style
	clock    *Clock
	incident *incident
	scratch  []byte
	sel      *Select // which events are wanted, nil is all
	file     string  // its name, to look for the trailer
	live     bool    // the event's level in place of its sender, as tail shows it
	label    string  // put before each line
}

func newPrinter(s Style) *printer {
	if s.Zone == nil {
		s.Zone = time.Local
	}
	return &printer{Style: s, clock: NewClock(s.Times, s.Zone), incident: &incident{}}
}

// block makes the text of a block.
func (p *printer) block(line *flogfile.Line, b flogfile.Block, under *incident, out []byte) dumpBlock {
	p.incident = under
	d := dumpBlock{before: under, out: out[:0]}
	if d.out == nil {
		d.out = make([]byte, 0, len(b.Data)/2)
	}
	b.Lines(line, &d.damage, func(l *flogfile.Line) bool {
		d.out = p.line(d.out, l, &d.damage)
		return true
	})
	d.after = p.incident
	return d
}

// line appends what a line of a file shows, and notes in damage what is wrong
// with it.
func (p *printer) line(dst []byte, l *flogfile.Line, damage *flogfile.DamageError) []byte {
	if l.Kind&flogfile.KindHeader != 0 {
		start := len(dst)
		dst = p.header(dst, l, damage)
		if p.Form != FormText && !p.Verbose {
			dst = dst[:start]
		}
	}
	if l.Kind&flogfile.KindEvent != 0 {
		if !l.IsObject() {
			damage.AddLost(l, "the event is no object")
			return dst
		}
		if missing := p.missing(l); missing != "" {
			damage.AddIncomplete(l, missing)
		}
		if p.sel == nil || p.sel.match(l, p.incident.program) {
			dst = p.event(dst, l)
		}
	}
	if l.Kind&flogfile.KindTrailer != 0 && p.Verbose {
		dst = append(l.AppendLine(dst), '\n')
	}
	return dst
}

// missing says what an event lacks of what is to be shown.
func (p *printer) missing(l *flogfile.Line) string {
	if _, ok := l.Seconds(); !ok {
		return "event without a time"
	}
	if p.JustNumbers {
		return ""
	}
	if _, ok := l.Num(); !ok {
		if _, ok := appendNum(nil, l); !ok {
			return "event without a number"
		}
	}
	if raw, ok := l.RawWrapper("from"); !ok || raw[0] != '"' {
		return "event without a sender"
	}
	if _, ok := l.RawField("incarnation"); !ok {
		return "event without an incarnation"
	}
	return ""
}

// header appends a header line's text and remembers the trigger it names.
func (p *printer) header(dst []byte, l *flogfile.Line, damage *flogfile.DamageError) []byte {
	h := l.Header()
	if h == nil {
		damage.AddIncomplete(l, "the header is no object")
	}
	if h != nil {
		if program := flogfile.Program(h); program != p.incident.program {
			now := *p.incident
			now.program = program
			p.incident = &now
		}
		if kind, ok := h.Get("type"); !ok {
			damage.AddIncomplete(l, "header without a type")
		} else if kind == "incident" {
			if inc := newIncident(h); inc != nil {
				if _, ok := h.Get("trailer"); !ok {
					inc.foldFrom(p.file, h)
				}
				p.incident = inc
			} else {
				damage.AddIncomplete(l, "incident header without a trigger")
			}
		}
	}
	switch {
	case p.Verbose:
		raw, _ := l.RawWrapper("header")
		dst = append(dst, `{"header": `...)
		dst = flogfile.AppendCanonical(dst, raw)
		return append(dst, "}\n"...)
	case p.JustNumbers:
		return dst
	}
	if versions, ok := h.Get("versions"); ok {
		dst = append(dst, "Application versions (embedded in logfile):\n"...)
		if d, ok := versions.(event.Dict); ok {
			dst = appendVersions(dst, d, "")
		} else {
			damage.AddIncomplete(l, "the header's versions are no object")
			dst = append(pytext.AppendStr(dst, versions), '\n')
		}
	}
	if pid, ok := h.Get("pid"); ok {
		dst = append(dst, "PID: "...)
		dst = append(pytext.AppendStr(dst, pid), '\n')
	}
	return append(dst, '\n')
}

// appendVersions appends one line for each component: its name, right-aligned
// unless there is an indent, and its version.
func appendVersions(dst []byte, versions event.Dict, indent string) []byte {
	names := make([]string, len(versions))
	width := 0
	for i, item := range versions {
		names[i] = string(pytext.AppendStr(nil, item.Key))
		width = max(width, utf8.RuneCountInString(names[i]))
	}
	slices.Sort(names)
	for _, name := range names {
		dst = append(dst, indent...)
		if indent == "" {
			for range width - utf8.RuneCountInString(name) {
				dst = append(dst, ' ')
			}
		}
		dst = append(append(dst, name...), ": "...)
		version, _ := versions.Get(name)
		dst = append(pytext.AppendStr(dst, version), '\n')
	}
	return dst
}

// newIncident returns what an incident's header says; nil if it names no
// trigger.
func newIncident(h event.Dict) *incident {
	v, _ := h.Get("trigger")
	trigger, ok := v.(event.Dict)
	if !ok {
		return nil
	}
	inc := &incident{program: flogfile.Program(h), trigger: identity(nil, event.FromDict(trigger))}
	if trailer, ok := h.Get("trailer"); ok {
		inc.fold(trailer, event.FromDict(trigger))
	}
	return inc
}

// foldFrom notes the triggers that the trailer at the end of the incident's file
// names. Incidents are small, so that reading them twice does no harm.
func (inc *incident) foldFrom(file string, h event.Dict) {
	if st, err := os.Stat(file); err != nil || !st.Mode().IsRegular() {
		return
	}
	r, err := flogfile.Open(file)
	if err != nil {
		return
	}
	defer r.Close()
	v, _ := h.Get("trigger")
	trigger, _ := v.(event.Dict)
	for {
		l, err := r.Next()
		if err != nil {
			return // what is wrong with the file says who shows it
		}
		if l.Kind&flogfile.KindTrailer != 0 {
			inc.fold(l.Trailer(), event.FromDict(trigger))
		}
	}
}

// fold notes the triggers that a trailer names: those of the trigger's process.
func (inc *incident) fold(trailer any, trigger *event.Event) {
	d, _ := trailer.(event.Dict)
	v, _ := d.Get("folded")
	list, _ := v.([]any)
	for _, item := range list {
		f, _ := item.(event.Dict)
		num, ok := f.Get("num")
		if !ok {
			continue
		}
		one := event.Event{Fields: []event.Field{{Key: "num", Value: num}}}
		if incarnation, ok := trigger.Get("incarnation"); ok {
			one.Set("incarnation", incarnation)
		}
		if inc.folded == nil {
			inc.folded = make(map[string]bool)
		}
		inc.folded[string(identity(nil, &one))] = true
	}
}

// identity appends what makes an event known across files: incarnation and
// number.
func identity(dst []byte, e event.View) []byte {
	incarnation, _ := e.Get("incarnation")
	num, _ := e.Get("num")
	dst = event.AppendJSON(dst, incarnation)
	dst = append(dst, '#')
	return event.AppendJSON(dst, num)
}

// marks appends the marks of triggers.
func (p *printer) marks(dst []byte, r record) []byte {
	if p.incident.trigger == nil {
		return dst
	}
	p.scratch = identity(p.scratch[:0], r)
	switch {
	case bytes.Equal(p.scratch, p.incident.trigger):
		return append(dst, " [INCIDENT-TRIGGER]"...)
	case p.incident.folded[string(p.scratch)]:
		return append(dst, " [FOLDED-TRIGGER]"...)
	}
	return dst
}

// event appends an event as dump shows it.
func (p *printer) event(dst []byte, r record) []byte {
	switch p.Form {
	case FormJSON:
		return p.json(dst, r)
	case FormTemplate:
		start := len(dst)
		return p.finish(p.template(dst, r), start, r.Level())
	}
	if p.JustNumbers && !p.live {
		dst = append(p.time(dst, r), ' ')
		dst, _ = appendNumOr(dst, r, "None")
		return append(dst, '\n')
	}
	start := len(dst)
	if p.live {
		return p.liveEvent(dst, r)
	}
	from := r.From()
	dst = append(dst, from[:min(len(from), shortLen(from))]...)
	if from == "" {
		dst = append(dst, '?')
	}
	dst = append(dst, '#')
	dst, _ = appendNum(dst, r)
	dst = append(dst, ' ')
	if p.RxTime {
		dst = append(dst, "rx("...)
		if rx, ok := r.RxTime(); ok {
			dst = p.clock.Append(dst, rx)
		} else {
			dst = append(dst, '?')
		}
		dst = append(dst, ") emit("...)
		dst = append(p.time(dst, r), ')')
	} else {
		dst = p.time(dst, r)
	}
	dst = append(dst, ": "...)
	dst = r.AppendText(dst)
	if p.Verbose {
		dst = append(dst, ": "...)
		dst = r.AppendEventJSON(dst)
	}
	dst = p.marks(dst, r)
	dst = append(dst, '\n')
	dst = p.failure(dst, r)
	return p.finish(dst, start, r.Level())
}

// liveEvent appends an event as tail shows it.
func (p *printer) liveEvent(dst []byte, r record) []byte {
	start := len(dst)
	if p.Verbose {
		dst = append(r.AppendEventJSON(dst), '\n')
	} else {
		dst = append(p.time(dst, r), " L"...)
		dst = strconv.AppendInt(dst, int64(r.Level()), 10)
		dst = append(dst, " []#"...)
		dst, _ = appendNum(dst, r)
		dst = append(dst, ' ')
		dst = append(r.AppendText(dst), '\n')
		dst = p.failure(dst, r)
	}
	return p.finish(dst, start, r.Level())
}

// labelled returns text with the label before each line.
func (p *printer) labelled(text []byte) []byte {
	if p.label == "" {
		return text
	}
	var out []byte
	for line := range bytes.Lines(text) {
		out = append(append(out, p.label...), line...)
	}
	return out
}

// shortLen returns how many bytes the first 8 characters of from have.
func shortLen(from string) int {
	n := 0
	for i := range from {
		if n == 8 {
			return i
		}
		n++
	}
	return len(from)
}

func appendNumOr(dst []byte, r record, none string) ([]byte, bool) {
	if _, ok := r.Get("num"); !ok {
		return append(dst, none...), false
	}
	return appendNum(dst, r)
}

func (p *printer) time(dst []byte, r record) []byte {
	if t, ok := r.Seconds(); ok {
		return p.clock.Append(dst, t)
	}
	if v, ok := r.Get("time"); ok {
		return pytext.AppendStr(dst, v)
	}
	return append(dst, '?')
}

// failure appends the lines of an event's failure, if it has one.
func (p *printer) failure(dst []byte, r record) []byte {
	v, ok := r.Get("failure")
	if !ok {
		return dst
	}
	dst = append(dst, " FAILURE:\n"...)
	for line := range bytes.SplitSeq([]byte(failureText(v)), []byte("\n")) {
		dst = append(dst, ' ')
		dst = append(append(dst, line...), '\n')
	}
	return dst
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

// sgr are the colours of the levels, by band: grey below OPERATIONAL, yellow,
// red, and bold red.
var sgr = [len(event.Levels)]string{"90", "", "33", "33", "33", "31", "31", "1;31"}

// finish makes the text from start on fit to be written: lone surrogates, which
// no UTF-8 has, are shown as escapes, and for a terminal so are control
// characters; then the level's colour is put around it.
func (p *printer) finish(dst []byte, start int, level event.Level) []byte {
	if p.Terminal || bytes.IndexByte(dst[start:], 0xed) >= 0 {
		dst = append(dst[:start], visible(dst[start:], p.Terminal)...)
	}
	if color := sgr[level.Band()]; p.Color && color != "" {
		text := bytes.Clone(dst[start:])
		dst = dst[:start]
		for line := range bytes.Lines(text) { // each, since pagers end colours with the line
			dst = append(append(append(dst, "\x1b["...), color...), 'm')
			dst = append(append(dst, bytes.TrimSuffix(line, []byte("\n"))...), "\x1b[0m\n"...)
		}
	}
	return dst
}

// visible returns text with what cannot be written shown as escapes: lone
// surrogates and bytes that are no UTF-8; if controls is set, control characters
// too, except for the line's end and the tab.
func visible(text []byte, controls bool) []byte {
	out := make([]byte, 0, len(text)+16)
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			if i+3 <= len(text) && text[i] == 0xed && text[i+1] >= 0xa0 {
				unit := 0xd000 | int(text[i+1]&0x3f)<<6 | int(text[i+2]&0x3f)
				out = append(out, `\u`...)
				out = strconv.AppendInt(out, int64(unit), 16)
				i += 3
				continue
			}
			out = append(append(out, `\x`...), hexByte(text[i])...)
		case controls && (r < ' ' && r != '\n' && r != '\t' || r == 0x7f):
			out = append(append(out, `\x`...), hexByte(byte(r))...)
		case controls && r >= 0x80 && r < 0xa0:
			out = append(append(out, `\x`...), hexByte(byte(r))...)
		default:
			out = append(out, text[i:i+size]...)
		}
		i += size
	}
	return out
}

func hexByte(b byte) string {
	s := strconv.FormatInt(int64(b), 16)
	if len(s) == 1 {
		s = "0" + s
	}
	return s
}
