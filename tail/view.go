package tail

import (
	"bufio"
	"bytes"

	"github.com/flogtool/flogtool/event/flogfile"
)

// view shows events in a form. Output that needs all events is made by end.
type view struct {
	out   *bufio.Writer
	style Style
	clock *clock // one for all files, for times relative to the first event
	err   error
	buf   []byte

	window window[heldLine]

	rows    [][]string
	tree    *tree
	summary *summary
}

func (v *view) text(text []byte) {
	if v.err == nil {
		_, v.err = v.out.Write(text)
	}
}

// maxRows is the number of rows of one table. The width of a column is known only at the
// end of a table, so longer output is several tables.
const maxRows = 5000

// event takes a selected event, and shows it at once or when Last or Around of the
// Select are known to want it.
func (v *view) event(p *printer, l *flogfile.Line) error {
	return v.window.add(l,
		func() heldLine { return heldLine{p, p.head, bytes.Clone(l.Raw)} },
		v.showHeld,
		func() error { v.show(p, l); return v.err })
}

// heldLine is a line of a file that may be shown later.
type heldLine struct {
	p    *printer
	head *fileHeader // the latest header before the line
	raw  []byte
}

func (v *view) showHeld(h heldLine) error {
	current := h.p.head
	h.p.head = h.head
	v.show(h.p, flogfile.ParseLine(h.raw))
	h.p.head = current
	return v.err
}

// show shows one event.
func (v *view) show(p *printer, r record) {
	switch v.style.Form {
	case FormTable:
		if v.rows = append(v.rows, p.row(r)); len(v.rows) == maxRows {
			v.flushRows()
		}
	case FormTree:
		v.tree.p = p
		v.tree.add(r)
	case FormSummary:
		v.summary.p.head = p.head
		v.summary.add(r)
	default:
		v.buf = p.event(v.buf[:0], r)
		v.text(v.buf)
	}
}

func (v *view) flushRows() {
	if len(v.rows) > 0 {
		v.text([]byte(Table(tableHeader, v.rows)))
		v.rows = nil
	}
}

// end shows what remains when all events have been read.
func (v *view) end() error {
	if err := v.window.end(v.showHeld); v.err == nil {
		v.err = err
	}
	switch v.style.Form {
	case FormTable:
		v.flushRows()
	case FormTree:
		v.text(v.tree.append(nil))
	case FormSummary:
		v.text(v.summary.append(nil))
	}
	return v.err
}
