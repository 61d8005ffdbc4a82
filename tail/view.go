package tail

import (
	"bufio"
	"bytes"

	"github.com/flogtool/flogtool/event/flogfile"
)

// view shows events one after the other in a form.
type view struct {
	out   *bufio.Writer
	style Style
	clock *Clock
	err   error
	buf   []byte

	window window[kept]

	rows    [][]string
	tree    *tree
	summary *summary
}

func (v *view) text(text []byte) {
	if v.err == nil {
		_, v.err = v.out.Write(text)
	}
}

// maxRows is how many rows one table has; longer output is several tables, since
// a column's width is known only at the end.
const maxRows = 5000

// event shows one event that is selected, now or when it is known to be wanted.
func (v *view) event(p *printer, l *flogfile.Line) error {
	return v.window.add(l,
		func() kept { return kept{p, p.incident, bytes.Clone(l.Raw)} },
		v.showKept,
		func() error { v.show(p, l); return v.err })
}

// kept is a line that may be shown later.
type kept struct {
	p        *printer
	incident *incident
	raw      []byte
}

func (v *view) showKept(k kept) error {
	now := k.p.incident
	k.p.incident = k.incident
	v.show(k.p, flogfile.ParseLine(k.raw))
	k.p.incident = now
	return v.err
}

// show shows one event in the form.
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
		v.summary.p.incident = p.incident
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

// end shows what could not be shown before.
func (v *view) end() error {
	if err := v.window.end(v.showKept); v.err == nil {
		v.err = err
	}
	switch v.style.Form {
	case FormTable:
		v.flushRows()
	case FormTree:
		v.text(v.tree.append(nil))
	case FormSummary:
		v.text(v.summary.append(nil, Table))
	}
	return v.err
}
