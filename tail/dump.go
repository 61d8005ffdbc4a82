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

// Dump shows the events of flog files: those of one file in its order, those of several
// files by time.
type Dump struct {
	Files    []string  // as [Expand] returns them
	In       io.Reader // content of the file "-"; required if that is among Files
	Style    Style
	Select   *Select   // nil selects all events
	Follow   bool      // wait for more events at the end of plain files, until ctx is done
	Watch    []string  // with Follow, directories whose new files are followed as well
	Out      io.Writer // required
	Notes    io.Writer // remarks about files; nil discards them
	Progress *Progress // may be nil
}

// Run shows the selected events, with Follow until ctx is done. It shows all that can be
// read, and then returns the errors of the files, joined; that of a damaged file is a
// [*flogfile.DamageError]. The error of Out, and without Follow that of ctx, it returns at
// once.
func (d *Dump) Run(ctx context.Context) error {
	if d.Select == nil {
		d.Select = &Select{}
	}
	if d.Notes == nil {
		d.Notes = io.Discard
	}
	s := &sources{names: d.Files, in: d.In, want: d.Select.want(), progress: d.Progress}
	var err error
	switch {
	case d.Follow:
		err = d.follow(ctx)
	case len(d.Files) == 1 && d.Style.Form <= FormTemplate && d.Style.Times != Relative && !d.Select.spansEvents():
		err = d.parallel(ctx, s)
	default:
		err = d.sequential(ctx, s)
	}
	return errors.Join(err, s.err(), d.Select.Err())
}

// dumpBlock is the output for a block of a file.
type dumpBlock struct {
	out           []byte
	before, after *fileHeader // the latest header before the block, and at its end
	damage        flogfile.DamageError
}

// parallel shows the events of one file in its order. Several goroutines format them.
func (d *Dump) parallel(ctx context.Context, s *sources) error {
	r, err := s.open(d.Files[0])
	if err != nil {
		return err
	}
	defer r.Close()
	// A worker formats a block with the header that is the latest when it begins. That is
	// wrong if one of the blocks before, which other workers have, contains a header. It is
	// rare, since headers are at the start of files; such a block is formatted again.
	var current atomic.Pointer[fileHeader]
	current.Store(&fileHeader{})
	newWork := func() func(flogfile.Block, dumpBlock) dumpBlock {
		p := d.printer(r)
		var line flogfile.Line
		return func(b flogfile.Block, old dumpBlock) dumpBlock { return p.block(&line, b, current.Load(), old.out) }
	}
	p := d.printer(r) // to format again
	var line flogfile.Line
	err = flogfile.Map(r, runtime.GOMAXPROCS(0), newWork, func(b flogfile.Block, done dumpBlock) error {
		if done.before != current.Load() {
			done = p.block(&line, b, current.Load(), done.out)
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

// printer returns a printer for the selected events of r.
func (d *Dump) printer(r *flogfile.Reader) *printer {
	p := newPrinter(d.Style)
	if !d.Select.matchesAll() {
		p.sel = d.Select
	}
	p.file = r.Name()
	return p
}

// sequential shows the events on one goroutine: those of several files, or of one if the
// form, the mode of times or the selection depends on their order.
func (d *Dump) sequential(ctx context.Context, s *sources) error {
	var inChain func(r record) bool
	if d.Select.Parents != nil {
		var err error
		if inChain, err = readChain(ctx, d.Files, d.Select.Parents); err != nil {
			return err
		}
	}
	out := bufio.NewWriterSize(d.Out, 256<<10)
	v := d.view(out)
	printers := make(map[*flogfile.Reader]*printer)
	err := s.each(ctx, func(l *flogfile.Line, r *flogfile.Reader) error {
		p := printers[r]
		if p == nil {
			p = d.printer(r)
			p.sel = nil
			p.clock = v.clock
			printers[r] = p
		}
		if l.Kind&flogfile.KindHeader != 0 {
			text := p.header(nil, l, r.Damage())
			// The header of a merged file would be shown between events of others.
			if d.Style.Form == FormText && (len(d.Files) == 1 || d.Style.Verbose) {
				v.text(text)
			}
		}
		if l.Kind&flogfile.KindEvent == 0 {
			return v.err
		}
		if !l.IsObject() {
			r.Damage().AddLost(l, "the event is not an object")
			return nil
		}
		if missing := p.missing(l); missing != "" {
			r.Damage().AddIncomplete(l, missing)
		}
		if !d.Select.match(l, p.head.program) || inChain != nil && !inChain(l) {
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

// view returns a view that writes to out.
func (d *Dump) view(out *bufio.Writer) *view {
	p := newPrinter(d.Style)
	v := &view{out: out, style: d.Style, clock: p.clock, window: window[heldLine]{sel: d.Select}}
	switch d.Style.Form {
	case FormTree:
		v.tree = &tree{}
	case FormSummary:
		v.summary = newSummary(p)
	}
	return v
}

// follow shows the files and what is added to them, until ctx is done. Compressed files do
// not grow, and are shown first.
func (d *Dump) follow(ctx context.Context) error {
	var compressed, plain []string
	for _, name := range d.Files {
		if name == "-" || strings.HasSuffix(name, ".flog") || !flogfile.IsName(name) {
			plain = append(plain, name)
		} else {
			compressed = append(compressed, name)
		}
	}
	var mu sync.Mutex // held while writing to Out, and for failed
	var failed error
	fail := func(err error) {
		if err != nil {
			mu.Lock()
			failed = errors.Join(failed, err)
			mu.Unlock()
		}
	}
	if len(compressed) > 0 {
		s := &sources{names: compressed, want: d.Select.want()}
		fail(d.sequential(ctx, s))
		fail(s.err())
	}
	seen := make(map[string]bool)
	var loops sync.WaitGroup
	start := func(name string) {
		seen[logKey(name)] = true
		loops.Go(func() { fail(d.followFile(ctx, name, &mu)) })
	}
	for _, name := range compressed {
		seen[logKey(name)] = true
	}
	for _, name := range plain {
		start(name)
	}
	for len(d.Watch) > 0 {
		select {
		case <-ctx.Done():
			loops.Wait()
			return failed
		case <-time.After(5 * pollEvery):
		}
		files, err := Expand(d.Watch)
		if err != nil {
			continue // the directory may be missing for a moment, or empty
		}
		for _, name := range files {
			if strings.HasSuffix(name, ".flog") && !seen[logKey(name)] {
				start(name)
			}
		}
	}
	loops.Wait()
	return failed
}

// logKey returns the part of a log's name that does not change when the log is rotated or
// compressed.
func logKey(name string) string {
	if key, _, ok := strings.Cut(name, "---to-"); ok {
		return key
	}
	key, _, _ := strings.Cut(name, ".flog")
	return key
}

// followFile shows what a file has and what is added to it, until ctx is done or the name
// no longer exists. If the file is replaced under its name it continues with the new one.
// It holds mu while it writes.
func (d *Dump) followFile(ctx context.Context, name string, mu *sync.Mutex) error {
	if name == "-" {
		return d.followReader(ctx, name, d.In, mu)
	}
	for ctx.Err() == nil {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = d.followReader(ctx, name, &growing{ctx: ctx, name: name, file: f}, mu)
		f.Close()
		if err != nil {
			return err
		}
		if _, err := os.Stat(name); err != nil && ctx.Err() == nil {
			if len(d.Watch) == 0 {
				fmt.Fprintf(d.Notes, "flogtool dump: %s no longer exists\n", name)
			}
			return nil // with Watch, follow finds the file that replaces it
		}
	}
	return nil
}

// followReader shows the events of src as they come, up to its end.
func (d *Dump) followReader(ctx context.Context, name string, src io.Reader, mu *sync.Mutex) error {
	r, err := flogfile.NewReader(src, name)
	if err != nil {
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
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		buf = p.line(buf[:0], l, r.Damage())
		mu.Lock()
		_, err = d.Out.Write(p.labelled(buf))
		mu.Unlock()
		if err != nil {
			return err
		}
	}
}
