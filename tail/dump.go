package tail

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flogtool/flogtool/event/flogfile"
)

// Dump says which files are to be shown and how.
type Dump struct {
	Files    []string  // as [Expand] returns them
	In       io.Reader // for the file "-"
	Style    Style
	Select   *Select  // nil is all
	Follow   bool     // wait for what is added to the files
	Watch    []string // with Follow: directories in which new files are followed too
	Out      io.Writer
	Notes    io.Writer // what concerns the files and not the events
	Progress *Progress // may be nil
}

// Run shows the events. The error is that of writing or of a file that cannot be
// read; if some of it could be, it is a [*flogfile.DamageError], after all that
// could be is shown.
func (d *Dump) Run(ctx context.Context) error {
	if d.Select == nil {
		d.Select = &Select{}
	}
	s := &sources{names: d.Files, in: d.In, want: d.Select.want(), progress: d.Progress}
	var err error
	switch {
	case d.Follow:
		err = d.follow(ctx)
	case len(d.Files) == 1 && d.Style.Form <= FormTemplate && d.Style.Times != Relative && !d.Select.whole():
		err = d.parallel(ctx, s)
	default:
		err = d.sequential(ctx, s)
	}
	return errors.Join(err, s.err(), d.Select.Err())
}

// dumpBlock is what a worker makes of a block: its text, under which incident,
// and the incident that rules after it.
type dumpBlock struct {
	out           []byte
	before, after *incident
	damage        flogfile.DamageError
}

// parallel shows the events of one file in its order.
func (d *Dump) parallel(ctx context.Context, s *sources) error {
	r, err := s.open(d.Files[0])
	if err != nil {
		return err
	}
	defer r.Close()
	// Blocks are worked on in parallel under the incident that was known when
	// they were begun. Headers stand at the start of files; where one does not,
	// the blocks after it are done again.
	var current atomic.Pointer[incident]
	current.Store(&incident{})
	newWork := func() func(flogfile.Block, dumpBlock) dumpBlock {
		p := d.printer(r)
		var line flogfile.Line
		return func(b flogfile.Block, old dumpBlock) dumpBlock { return p.block(&line, b, current.Load(), old.out) }
	}
	again := d.printer(r)
	var line flogfile.Line
	err = flogfile.Map(r, runtime.GOMAXPROCS(0), newWork, func(b flogfile.Block, done dumpBlock) error {
		if done.before != current.Load() {
			done = again.block(&line, b, current.Load(), done.out)
		}
		r.Damage().Merge(&done.damage)
		current.Store(done.after)
		if _, err := d.Out.Write(done.out); err != nil {
			return err
		}
		return ctx.Err()
	})
	return s.fault(err)
}

// printer returns a printer of r's events that are wanted.
func (d *Dump) printer(r *flogfile.Reader) *printer {
	p := newPrinter(d.Style)
	if !d.Select.all() {
		p.sel = d.Select
	}
	p.file = r.Name()
	return p
}

// sequential shows the events of several files, or in a form or by a selection
// that needs their order.
func (d *Dump) sequential(ctx context.Context, s *sources) error {
	var wanted func(r record) bool
	if d.Select.Parents != nil {
		c, err := d.chain(ctx)
		if err != nil {
			return err
		}
		wanted = c.wanted()
	}
	out := bufio.NewWriterSize(d.Out, 256<<10)
	v := d.view(out)
	printers := make(map[*flogfile.Reader]*printer)
	err := s.each(ctx, func(l *flogfile.Line, r *flogfile.Reader) error {
		p := printers[r]
		if p == nil {
			p = d.printer(r)
			p.sel = nil
			p.clock = v.clock // one start for times relative to it
			printers[r] = p
		}
		if l.Kind&flogfile.KindHeader != 0 {
			text := p.header(nil, l, r.Damage())
			// Of merged files the headers would stand between events of others.
			if d.Style.Form == FormText && (len(d.Files) == 1 || d.Style.Verbose) {
				v.text(text)
			}
		}
		if l.Kind&flogfile.KindEvent == 0 {
			return v.err
		}
		if !l.IsObject() {
			r.Damage().AddLost(l, "the event is no object")
			return nil
		}
		if missing := p.missing(l); missing != "" {
			r.Damage().AddIncomplete(l, missing)
		}
		if !d.Select.match(l, p.incident.program) || wanted != nil && !wanted(l) {
			return nil
		}
		return v.event(p, l)
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if err := v.end(); err != nil {
		return err
	}
	return out.Flush()
}

// chain reads the files once for who is whose parent.
func (d *Dump) chain(ctx context.Context) (*chain, error) {
	for _, name := range d.Files {
		if st, err := os.Stat(name); err == nil && !st.Mode().IsRegular() || name == "-" {
			return nil, fmt.Errorf("%s: --parents reads files twice, which this cannot be", name)
		}
	}
	c := &chain{ref: d.Select.Parents}
	first := &sources{names: d.Files}
	err := first.each(ctx, func(l *flogfile.Line, _ *flogfile.Reader) error {
		if l.IsObject() {
			c.add(l)
		}
		return nil
	})
	if err == nil && !c.found {
		err = fmt.Errorf("no event #%d in %s", c.ref.Num, strings.Join(d.Files, ", "))
	}
	return c, err
}

func (d *Dump) view(out *bufio.Writer) *view {
	p := newPrinter(d.Style)
	v := &view{out: out, style: d.Style, clock: p.clock, window: window[kept]{sel: d.Select}}
	switch d.Style.Form {
	case FormTree:
		v.tree = &tree{}
	case FormSummary:
		v.summary = newSummary(p)
	}
	return v
}

// follow shows what is added to the files, until ctx is done. Compressed files do
// not grow: they are shown first. In directories new files are looked for.
func (d *Dump) follow(ctx context.Context) error {
	var done, growing []string
	for _, name := range d.Files {
		if name == "-" || strings.HasSuffix(name, ".flog") || !flogfile.IsName(name) {
			growing = append(growing, name)
		} else {
			done = append(done, name)
		}
	}
	var mu sync.Mutex // around out and the first error
	var first error
	fail := func(err error) {
		if err != nil {
			mu.Lock()
			first = errors.Join(first, err)
			mu.Unlock()
		}
	}
	if len(done) > 0 {
		s := &sources{names: done, want: d.Select.want()}
		fail(d.sequential(ctx, s))
		fail(s.err())
	}
	seen := make(map[string]bool)
	var loops sync.WaitGroup
	start := func(name string) {
		seen[logKey(name)] = true
		loops.Go(func() { fail(d.followFile(ctx, name, &mu)) })
	}
	for _, name := range done {
		seen[logKey(name)] = true
	}
	for _, name := range growing {
		start(name)
	}
	for len(d.Watch) > 0 {
		select {
		case <-ctx.Done():
			loops.Wait()
			return first
		case <-time.After(5 * pollEvery):
		}
		files, err := Expand(d.Watch)
		if err != nil {
			continue // a directory may be gone for a moment, or empty
		}
		for _, name := range files {
			if strings.HasSuffix(name, ".flog") && !seen[logKey(name)] {
				start(name)
			}
		}
	}
	loops.Wait()
	return first
}

// logKey is what stays of a log's name when it is rotated and compressed.
func logKey(name string) string {
	if key, _, ok := strings.Cut(name, "---to-"); ok {
		return key
	}
	key, _, _ := strings.Cut(name, ".flog")
	return key
}

func (d *Dump) followFile(ctx context.Context, name string, mu *sync.Mutex) error {
	for ctx.Err() == nil {
		var f *os.File
		var src io.Reader = d.In
		if name != "-" {
			var err error
			if f, err = os.Open(name); err != nil {
				return err
			}
			src = &growing{ctx: ctx, name: name, file: f}
		}
		r, err := flogfile.NewReader(src, name)
		if err != nil {
			f.Close()
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		p := d.printer(r)
		if len(d.Files) > 1 || len(d.Watch) > 0 {
			p.label = filepath.Base(name) + "| "
		}
		var buf []byte
		for {
			l, err := r.Next()
			if err != nil {
				f.Close()
				if err != io.EOF || name == "-" {
					return notEOF(err)
				}
				break
			}
			buf = p.line(buf[:0], l, r.Damage())
			mu.Lock()
			_, err = d.Out.Write(p.labelled(buf))
			mu.Unlock()
			if err != nil {
				f.Close()
				return err
			}
		}
		if _, err := os.Stat(name); err != nil && ctx.Err() == nil {
			if len(d.Watch) == 0 {
				fmt.Fprintf(d.Notes, "flogtool dump: %s is gone\n", name)
			}
			return nil // rotated: the watch finds the next
		}
	}
	return nil
}

func notEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
