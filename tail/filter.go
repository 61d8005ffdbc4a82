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

// Filter copies lines of flog files to a new file: events that are selected, and all
// headers and other lines. It writes a line in the form in which the original writes it,
// and keeps keys that it does not know.
type Filter struct {
	Files    []string                     // as [Expand] returns them; several are merged by time
	In       io.Reader                    // content of the file "-"; required if that is among Files
	To       string                       // the new file, compressed as its name says; "-" is Out; "" replaces the file
	Bzip2    flogfile.Bzip2               // makes the compressor for names in .bz2; nil refuses them
	Select   *Select                      // nil selects all events
	Out      io.Writer                    // required if To is "-"
	Seen     func(l *flogfile.Line) error // called for each line as it is read; its error ends Run; may be nil
	Progress *Progress                    // may be nil

	total, kept int
}

// Counts returns the number of lines that were copied, and of those that were read. It may
// be called when Run has returned.
func (f *Filter) Counts() (kept, total int) { return f.kept, f.total }

// Run copies the lines. A new file appears under its name when it is complete. If a part of
// the input cannot be read, or Select.Only cannot be evaluated for some events, Run copies
// the rest and returns the reasons, joined; for a damaged file that is a
// [*flogfile.DamageError]. It then makes a new file, but does not replace one. After any
// other error there is no new file.
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

// toFile writes a new file, which replaces the target at the end.
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
	// Input that is not a flog file is refused before anything is written.
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
		return errors.Join(damage, fmt.Errorf("%s is not changed", target))
	}
	if err := file.Commit(); err != nil {
		return err
	}
	return damage
}

// filterBlock is the output for a block of a file.
type filterBlock struct {
	out         []byte
	total, kept int
	damage      flogfile.DamageError
}

// copy writes the wanted lines to w. Several goroutines select them if the selection allows
// it.
func (f *Filter) copy(ctx context.Context, s *sources, w *flogfile.Writer) error {
	if len(f.Files) != 1 || f.Seen != nil || f.Select.spansEvents() || f.Select.Only != nil && f.Select.Only.Uses("program") {
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

// wanted reports whether a line is to be copied. Program is the name of the program that
// recorded the line's file, or "" if it is not known.
func (f *Filter) wanted(l *flogfile.Line, program string, damage *flogfile.DamageError) bool {
	if l.Kind&flogfile.KindEvent == 0 {
		return true
	}
	if f.Select.matchesAll() {
		return true
	}
	if !l.IsObject() {
		damage.AddIncomplete(l, "the event is not an object, and is kept")
		return true
	}
	if f.Select.After != nil || f.Select.Before != nil {
		if _, ok := l.Seconds(); !ok {
			damage.AddIncomplete(l, "event without a time, which is kept")
		}
	}
	return f.Select.match(l, program)
}

// sequential copies the lines on one goroutine, in their order.
func (f *Filter) sequential(ctx context.Context, s *sources, w *flogfile.Writer) error {
	var inChain func(r record) bool
	if f.Select.Parents != nil {
		var err error
		if inChain, err = readChain(ctx, f.Files, f.Select.Parents); err != nil {
			return err
		}
	}
	var buf []byte
	write := func(line []byte) error {
		f.kept++
		_, err := w.Write(line)
		return err
	}
	held := window[[]byte]{sel: f.Select}
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
		err := held.add(l, func() []byte { return bytes.Clone(buf) }, write, func() error { return write(buf) })
		if errors.Is(err, errEnough) {
			return nil // headers and other lines may follow
		}
		return err
	})
	if err != nil {
		return err
	}
	return held.end(write)
}
