// Package tail shows events: those that files hold, and those of live processes.
//
//	files ───────► flogfile ──┐
//	                          ├──► select ──► show ──► output
//	live process ──► Tub ─────┘
//
// It decides nothing about events and stores none, except that a tail may save
// what it shows.
//
// Spec: cli.md section 2 (dump, tail, filter).
package tail

import (
	"io"
	"runtime"
	"sync/atomic"

	"github.com/flogtool/flogtool/event/flogfile"
)

// dumpBlock is what a worker makes of a block: its text, under which incident,
// and the incident that rules after it.
type dumpBlock struct {
	out           []byte
	before, after *incident
	damage        flogfile.DamageError
}

// Dump writes the events of r in the order of the file. The error is that of
// writing, or a [*flogfile.DamageError] if not all could be read.
func Dump(r *flogfile.Reader, style Style, w io.Writer) error {
	// Blocks are worked on in parallel under the incident that was known when
	// they were begun. Headers stand at the start of files; where one does not,
	// the blocks after it are done again.
	var current atomic.Pointer[incident]
	current.Store(&incident{})
	newWork := func() func(flogfile.Block, dumpBlock) dumpBlock {
		p := newPrinter(style)
		var line flogfile.Line
		return func(b flogfile.Block, old dumpBlock) dumpBlock { return dump(p, &line, b, current.Load(), old.out) }
	}
	again := newPrinter(style)
	var line flogfile.Line
	return flogfile.Map(r, runtime.GOMAXPROCS(0), newWork, func(b flogfile.Block, d dumpBlock) error {
		if d.before != current.Load() {
			d = dump(again, &line, b, current.Load(), d.out)
		}
		r.Damage().Merge(&d.damage)
		current.Store(d.after)
		_, err := w.Write(d.out)
		return err
	})
}

// dump makes the text of a block.
func dump(p *printer, line *flogfile.Line, b flogfile.Block, under *incident, out []byte) dumpBlock {
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
