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

// fileHeader is what the latest header of a file says about the events after it.
type fileHeader struct {
	program string          // the program that recorded them; "" if the header does not say it
	trigger []byte          // identity of the trigger; nil if the file is not an incident
	folded  map[string]bool // identities of the triggers that were folded into it
}

// printer formats events of one file or process. Only one goroutine may use it.
type printer struct {
	Style
	clock   *clock
	head    *fileHeader // of the events that follow
	scratch []byte
	sel     *Select // which events line shows; nil is all
	file    string  // name of the file, whose trailer header reads
	live    bool    // show events as the original's tail does, not its dump
	label   string  // stands before each line
}

func newPrinter(s Style) *printer {
	if s.Zone == nil {
		s.Zone = time.Local
	}
	return &printer{Style: s, clock: newClock(s.Times, s.Zone), head: &fileHeader{}}
}

// block returns the output for a block of a file. Before is the latest header before it. It
// reuses line and the memory of out.
func (p *printer) block(line *flogfile.Line, b flogfile.Block, before *fileHeader, out []byte) dumpBlock {
	p.head = before
	d := dumpBlock{before: before, out: out[:0]}
	if d.out == nil {
		d.out = make([]byte, 0, len(b.Data)/2)
	}
	b.Lines(line, &d.damage, func(l *flogfile.Line) bool {
		d.out = p.line(d.out, l, &d.damage)
		return true
	})
	d.after = p.head
	return d
}

// line appends the output for a line of a file, and adds to damage what is wrong with the
// line.
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
			damage.AddLost(l, "the event is not an object")
			return dst
		}
		if missing := p.missing(l); missing != "" {
			damage.AddIncomplete(l, missing)
		}
		if p.sel == nil || p.sel.match(l, p.head.program) {
			dst = p.event(dst, l)
		}
	}
	if l.Kind&flogfile.KindTrailer != 0 && p.Verbose {
		dst = append(l.AppendLine(dst), '\n')
	}
	return dst
}

// missing returns what is wrong with an event that lacks a field of the output; "" if it
// has them all.
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
		return "event without from"
	}
	if _, ok := l.RawField("incarnation"); !ok {
		return "event without an incarnation"
	}
	return ""
}

// header appends the output for a header, and sets p.head.
func (p *printer) header(dst []byte, l *flogfile.Line, damage *flogfile.DamageError) []byte {
	h := l.Header()
	if h == nil {
		damage.AddIncomplete(l, "the header is not an object")
	}
	if h != nil {
		if program := flogfile.Program(h); program != p.head.program {
			now := *p.head
			now.program = program
			p.head = &now
		}
		if kind, ok := h.Get("type"); !ok {
			damage.AddIncomplete(l, "header without a type")
		} else if kind == "incident" {
			if inc := newIncident(h); inc != nil {
				if _, ok := h.Get("trailer"); !ok {
					inc.readTrailer(p.file, h)
				}
				p.head = inc
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
			damage.AddIncomplete(l, "the header's versions are not an object")
			dst = append(pytext.AppendStr(dst, versions), '\n')
		}
	}
	if pid, ok := h.Get("pid"); ok {
		dst = append(dst, "PID: "...)
		dst = append(pytext.AppendStr(dst, pid), '\n')
	}
	return append(dst, '\n')
}

// appendVersions appends a line for each component, sorted by name: indent, the name, and
// the version. If indent is "", the names are right-aligned.
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

// newIncident returns what the header h of an incident says, or nil if it has no trigger.
func newIncident(h event.Dict) *fileHeader {
	v, _ := h.Get("trigger")
	trigger, ok := v.(event.Dict)
	if !ok {
		return nil
	}
	inc := &fileHeader{program: flogfile.Program(h), trigger: identity(nil, event.FromDict(trigger))}
	if trailer, ok := h.Get("trailer"); ok {
		inc.addFolded(trailer, event.FromDict(trigger))
	}
	return inc
}

// readTrailer adds the folded triggers that the trailer at the end of the incident's file
// lists. Incidents are small, so that reading them twice costs little.
func (inc *fileHeader) readTrailer(file string, h event.Dict) {
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
			return // damage is reported when the events are read
		}
		if l.Kind&flogfile.KindTrailer != 0 {
			inc.addFolded(l.Trailer(), event.FromDict(trigger))
		}
	}
}

// addFolded adds the folded triggers that a trailer lists. They are events of the same
// incarnation as trigger.
func (inc *fileHeader) addFolded(trailer any, trigger *event.Event) {
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

// identity appends the incarnation and the number, which together identify an event.
func identity(dst []byte, e event.View) []byte {
	incarnation, _ := e.Get("incarnation")
	num, _ := e.Get("num")
	dst = event.AppendJSON(dst, incarnation)
	dst = append(dst, '#')
	return event.AppendJSON(dst, num)
}

// marks appends the mark of an event that is a trigger of its incident.
func (p *printer) marks(dst []byte, r record) []byte {
	if p.head.trigger == nil {
		return dst
	}
	p.scratch = identity(p.scratch[:0], r)
	switch {
	case bytes.Equal(p.scratch, p.head.trigger):
		return append(dst, " [INCIDENT-TRIGGER]"...)
	case p.head.folded[string(p.scratch)]:
		return append(dst, " [FOLDED-TRIGGER]"...)
	}
	return dst
}

// event appends the output for an event, in the forms that have an output for each event.
func (p *printer) event(dst []byte, r record) []byte {
	switch p.Form {
	case FormJSON:
		return p.json(dst, r)
	case FormTemplate:
		start := len(dst)
		return p.decorate(p.template(dst, r), start, r.Level())
	}
	if p.JustNumbers && !p.live {
		dst = append(p.time(dst, r), ' ')
		dst, _ = appendNumOr(dst, r, "None")
		return append(dst, '\n')
	}
	start := len(dst)
	if p.live {
		return p.liveText(dst, r)
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
			dst = p.clock.append(dst, rx)
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
	return p.decorate(dst, start, r.Level())
}

// liveText appends an event as the original's tail shows it.
func (p *printer) liveText(dst []byte, r record) []byte {
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
	return p.decorate(dst, start, r.Level())
}

// labelled returns text with p.label before each line.
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

// shortLen returns the length in bytes of the first 8 characters of from.
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

// appendNumOr is appendNum with another text for an event without a number.
func appendNumOr(dst []byte, r record, none string) ([]byte, bool) {
	if _, ok := r.Get("num"); !ok {
		return append(dst, none...), false
	}
	return appendNum(dst, r)
}

// time appends the event's time; ? if it has none.
func (p *printer) time(dst []byte, r record) []byte {
	if t, ok := r.Seconds(); ok {
		return p.clock.append(dst, t)
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

// template appends the output of p.Template and a newline, or the error of the template.
func (p *printer) template(dst []byte, r record) []byte {
	num, _ := appendNumOr(nil, r, "")
	seconds, _ := r.Seconds()
	e := TemplateEvent{
		Time: string(p.time(nil, r)), Seconds: seconds, From: r.From(), Num: string(num), Level: int(r.Level()), Name: r.Level().String(),
		Facility: r.Facility(), Text: string(r.AppendText(nil)), JSON: string(r.AppendEventJSON(nil)), Attrs: make(map[string]any),
	}
	if rx, ok := r.RxTime(); ok {
		e.RxTime = string(p.clock.append(nil, rx))
	}
	if v, ok := r.Get("failure"); ok {
		e.Failure = failureText(v)
	}
	for _, item := range r.Dict() {
		if key, ok := item.Key.(string); ok {
			e.Attrs[key] = templateValue(item.Value)
		}
	}
	w := appendWriter{dst}
	if err := p.Template.Execute(&w, &e); err != nil {
		w.b = fmt.Appendf(dst, "%s", strings.TrimPrefix(err.Error(), "template: "))
	}
	return append(w.b, '\n')
}

// appendWriter is an io.Writer that appends.
type appendWriter struct{ b []byte }

func (a *appendWriter) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// templateValue returns a value for a template: numbers and texts as they are, all else
// as JSON.
func templateValue(v any) any {
	switch v := v.(type) {
	case nil:
		return ""
	case bool, int64, float64, string:
		return v
	}
	return string(event.AppendJSON(nil, v))
}

// json appends an event as the line of a flog file, with the key "text" added.
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

// row returns an event as a row of FormTable.
func (p *printer) row(r record) []string {
	num, _ := appendNum(nil, r)
	text := string(escape(r.AppendText(nil), true))
	if m := string(p.marks(nil, r)); m != "" {
		text += m
	}
	if v, ok := r.Get("failure"); ok {
		text = strings.TrimSpace(text + " FAILURE: " + lastLine(failureText(v)))
	}
	return []string{string(p.time(nil, r)), r.From()[:shortLen(r.From())] + "#" + string(num), r.Level().String(), r.Facility(), text}
}

// lastLine returns the last line of a traceback, which says what happened.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n]"), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// colors has the parameters of the terminal's SGR sequence for each band of levels: grey
// for NOISY, none for OPERATIONAL, then yellow, red, and bold red.
var colors = [len(event.Levels)]string{"90", "", "33", "33", "33", "31", "31", "1;31"}

// decorate escapes what dst has from start on and puts the level's colour around it. It
// escapes lone surrogates, which UTF-8 does not have, and for a terminal also control
// characters.
func (p *printer) decorate(dst []byte, start int, level event.Level) []byte {
	if p.Terminal || bytes.IndexByte(dst[start:], 0xed) >= 0 {
		dst = append(dst[:start], escape(dst[start:], p.Terminal)...)
	}
	if color := colors[level.Band()]; p.Color && color != "" {
		text := bytes.Clone(dst[start:])
		dst = dst[:start]
		for line := range bytes.Lines(text) { // pagers end colours with the line
			dst = append(append(append(dst, "\x1b["...), color...), 'm')
			dst = append(append(dst, bytes.TrimSuffix(line, []byte("\n"))...), "\x1b[0m\n"...)
		}
	}
	return dst
}

// escape returns text with escapes for lone surrogates and for bytes that are not UTF-8,
// and, if controls is set, for control characters other than newline and tab.
func escape(text []byte, controls bool) []byte {
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
