package tail

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/internal/durable"
)

// Filter copies those lines of flog files that are wanted: headers and lines
// without an event always, events as Select says. Lines are written in the form
// in which the original writes them; what it does not know in them stays.
type Filter struct {
	Files    []string  // as [Expand] returns them; several are merged
	In       io.Reader // for the file "-"
	To       string    // the new file, compressed as its name says; "" replaces the file, "-" is Out
	Bzip2    flogfile.Bzip2
	Select   *Select
	Out      io.Writer                    // for the file "-"
	Seen     func(l *flogfile.Line) error // called for each line as it is read, if not nil
	Progress *Progress

	total, kept int
}

// Counts returns how many lines were read, and how many of them were copied.
func (f *Filter) Counts() (kept, total int) { return f.kept, f.total }

// Run filters. The new file appears under its name when it is whole. If not all
// of the input could be read, the error is a [*flogfile.DamageError]; a new file
// then has what could be, but a file to be replaced stays as it was.
func (f *Filter) Run(ctx context.Context) error {
	if f.Select == nil {
		f.Select = &Select{}
	}
	if f.To == "" && len(f.Files) != 1 {
		return errors.New("only one file can be modified in place")
	}
	s := &sources{names: f.Files, in: f.In, any: true, progress: f.Progress}
	if f.To == "-" {
		out := bufio.NewWriterSize(f.Out, 256<<10)
		w, err := flogfile.NewWriter(out, "", nil)
		if err != nil {
			return err
		}
		return errors.Join(f.copy(ctx, s, w), w.Close(), out.Flush(), s.err(), f.Select.Err())
	}
	return f.toFile(ctx, s)
}

// toFile writes a new file, which takes the place of the target at the end.
func (f *Filter) toFile(ctx context.Context, s *sources) error {
	target := f.To
	mode := os.FileMode(0o666) // less the umask
	if target == "" {
		target = f.Files[0]
		st, err := os.Stat(target)
		if err != nil {
			return err
		}
		mode = st.Mode().Perm()
	}
	// The input is looked at first: what is no flog file leaves no trace.
	for _, name := range f.Files {
		if name == "-" {
			continue
		}
		r, err := flogfile.Open(name)
		if err != nil {
			return err
		}
		r.Close()
	}
	file, err := durable.NewFile(target, mode)
	if err != nil {
		return err
	}
	defer file.Cleanup()
	w, err := flogfile.NewWriter(file, target, f.Bzip2)
	if err != nil {
		return err
	}
	if err := f.copy(ctx, s, w); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	damage := errors.Join(s.err(), f.Select.Err())
	if damage != nil && f.To == "" {
		return errors.Join(damage, fmt.Errorf("%s was left as it is", target))
	}
	if err := file.Commit(); err != nil {
		return err
	}
	return damage
}

// filterBlock is what a worker makes of a block.
type filterBlock struct {
	out         []byte
	total, kept int
	damage      flogfile.DamageError
}

// copy writes the wanted lines to w.
func (f *Filter) copy(ctx context.Context, s *sources, w *flogfile.Writer) error {
	if len(f.Files) != 1 || f.Seen != nil || f.Select.whole() || f.Select.Only != nil && f.Select.Only.Uses("program") {
		return f.sequential(ctx, s, w)
	}
	r, err := s.open(f.Files[0])
	if err != nil {
		return err
	}
	defer r.Close()
	newWork := func() func(flogfile.Block, filterBlock) filterBlock {
		var line flogfile.Line
		return func(b flogfile.Block, old filterBlock) filterBlock {
			d := filterBlock{out: old.out[:0]}
			b.Lines(&line, &d.damage, func(l *flogfile.Line) bool {
				d.total++
				if f.wanted(l, "", &d.damage) {
					d.kept++
					d.out = append(l.AppendLine(d.out), '\n')
				}
				return true
			})
			return d
		}
	}
	err = flogfile.Map(r, runtime.GOMAXPROCS(0), newWork, func(_ flogfile.Block, d filterBlock) error {
		r.Damage().Merge(&d.damage)
		f.total += d.total
		f.kept += d.kept
		if _, err := w.Write(d.out); err != nil {
			return err
		}
		return ctx.Err()
	})
	return s.fault(err)
}

// wanted reports whether a line, of a file of the named program, is to be copied.
func (f *Filter) wanted(l *flogfile.Line, program string, damage *flogfile.DamageError) bool {
	if l.Kind&flogfile.KindEvent == 0 {
		return true
	}
	if f.Select.all() {
		return true
	}
	if !l.IsObject() {
		damage.AddIncomplete(l, "the event is no object: it is kept")
		return true
	}
	if f.Select.After != nil || f.Select.Before != nil {
		if _, ok := l.Seconds(); !ok {
			damage.AddIncomplete(l, "event without a time: it is kept")
		}
	}
	return f.Select.match(l, program)
}

func (f *Filter) sequential(ctx context.Context, s *sources, w *flogfile.Writer) error {
	var inChain func(r record) bool
	if f.Select.Parents != nil {
		d := Dump{Files: f.Files, Select: f.Select}
		c, err := d.chain(ctx)
		if err != nil {
			return err
		}
		inChain = c.wanted()
	}
	var buf []byte
	write := func(line []byte) error {
		f.kept++
		_, err := w.Write(line)
		return err
	}
	chosen := window[[]byte]{sel: f.Select}
	programs := make(map[*flogfile.Reader]string)
	err := s.each(ctx, func(l *flogfile.Line, r *flogfile.Reader) error {
		f.total++
		if f.Seen != nil {
			if err := f.Seen(l); err != nil {
				return err
			}
		}
		if l.Kind&flogfile.KindHeader != 0 {
			programs[r] = flogfile.Program(l.Header())
		}
		if !f.wanted(l, programs[r], r.Damage()) {
			return nil
		}
		isEvent := l.Kind == flogfile.KindEvent
		if isEvent && inChain != nil && !inChain(l) {
			return nil
		}
		buf = append(l.AppendLine(buf[:0]), '\n')
		if !isEvent {
			return write(buf)
		}
		err := chosen.add(l, func() []byte { return bytes.Clone(buf) }, write, func() error { return write(buf) })
		if errors.Is(err, errEnough) {
			return nil // but headers and what else is no event may follow
		}
		return err
	})
	if err != nil {
		return err
	}
	return chosen.end(write)
}
