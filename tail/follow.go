package tail

import (
	"bufio"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// Follow shows the events of live processes as they happen.
//
// Last, Around and Parents of the Select choose among the events that a process has
// buffered. Later events are shown if the other conditions hold.
type Follow struct {
	Targets []Target
	CatchUp bool           // show the buffered events first; Last, Around and Parents imply it
	SaveTo  string         // also write the events that are shown to this flog file; "" is no file
	Bzip2   flogfile.Bzip2 // makes the compressor if SaveTo ends in .bz2; nil refuses that
	Style   Style
	Select  *Select   // nil selects all events
	Out     io.Writer // required
	Status  io.Writer // lines such as "Connected", which the original prints between the events; nil is Out
	Notes   io.Writer // other remarks about connections; nil discards them
}

// Run follows the targets until ctx is done, and connects again when a connection is lost.
// It returns nil if ctx was canceled, also by a signal, and the cause of ctx if not. It
// returns earlier if Out or SaveTo fails, or if the first connection to a target cannot
// succeed however often it is tried, with that error.
//
// One goroutine writes. While Out is slow it takes less from the connections, and a
// publisher drops events that it cannot hold.
func (f *Follow) Run(ctx context.Context) error {
	tub, err := rpc.NewTub(rpc.Config{Features: wire.Features, AnyCopyable: true, KeepaliveTimeout: time.Minute, DisconnectTimeout: 3 * time.Minute, DialTimeout: 30 * time.Second})
	if err != nil {
		return err
	}
	defer tub.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if f.Select == nil {
		f.Select = &Select{}
	}
	if f.Notes == nil {
		f.Notes = io.Discard
	}

	d := &display{Follow: f, items: make(chan item, 256), printers: make(map[string]*printer)}
	if f.SaveTo != "" {
		if d.save, err = flogfile.Create(f.SaveTo, f.Bzip2); err != nil {
			return err
		}
	}
	var followers sync.WaitGroup
	for _, target := range f.Targets {
		followers.Go(func() {
			l := &follower{Follow: f, display: d, target: target, tub: tub, backlog: newBacklog(f.Select)}
			if err := l.run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	closed := make(chan struct{})
	go func() {
		followers.Wait()
		tub.Close() // ends the calls in progress, which send items too
		close(d.items)
		close(closed)
	}()
	err = d.run()
	if err != nil {
		cancel(err)
		for range d.items { // so that the followers do not block
		}
	}
	<-closed
	if d.save != nil {
		if serr := d.save.Close(); err == nil {
			err = serr
		}
	}
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// item is what a follower sends to the display: a status line, an event, or a header for
// the saved file.
type item struct {
	target   string // its name
	status   string
	event    *liveEvent
	selected bool // the event is known to be wanted
	header   event.Dict
}

// display writes what the followers send, on one goroutine.
type display struct {
	*Follow
	items    chan item
	save     *flogfile.Writer    // nil without SaveTo
	printers map[string]*printer // by target
	buf      []byte
	line     []byte // for save
}

// run writes items until the channel is closed. It flushes whenever no more are waiting.
func (d *display) run() error {
	out := bufio.NewWriterSize(d.Out, 64<<10)
	for it := range d.items {
		if err := d.write(out, it); err != nil {
			return err
		}
		if len(d.items) == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
			if d.save != nil {
				if err := d.save.Flush(); err != nil {
					return err
				}
			}
		}
	}
	return out.Flush()
}

func (d *display) write(out *bufio.Writer, it item) error {
	switch {
	case it.header != nil:
		if d.save == nil {
			return nil
		}
		_, err := d.save.Write(flogfile.AppendHeader(d.line[:0], it.header))
		return err
	case it.event == nil:
		if d.Status != nil && d.Status != d.Out {
			_, err := io.WriteString(d.Status, d.label(it.target)+it.status+"\n")
			return err
		}
		_, err := out.WriteString(d.label(it.target) + it.status + "\n")
		return err
	}
	if !it.selected && !d.Select.match(it.event, "") {
		return nil
	}
	if d.save != nil {
		ev := it.event.AppendEventJSON(nil)
		d.line = flogfile.AppendEvent(d.line[:0], it.event.from, time.Unix(0, int64(it.event.rx*1e9)), ev)
		if _, err := d.save.Write(d.line); err != nil {
			return err
		}
	}
	p := d.printers[it.target]
	if p == nil {
		p = newPrinter(d.Style)
		p.live, p.label = true, d.label(it.target)
		d.printers[it.target] = p
	}
	d.buf = p.event(d.buf[:0], it.event)
	_, err := out.Write(p.labelled(d.buf))
	return err
}

// label returns what stands before each line of a target if there are several.
func (f *Follow) label(target string) string {
	if len(f.Targets) < 2 {
		return ""
	}
	return target + "| "
}
