package tail

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// Follow says what is to be followed and how it is shown.
type Follow struct {
	Targets []Target
	CatchUp bool   // buffered events first; Last, Around and Parents of Select imply it
	SaveTo  string // flog file to write the events that are shown to as well; "" is none
	Bzip2   flogfile.Bzip2
	Style   Style
	Select  *Select   // nil is all; see backlog for what concerns several events
	Out     io.Writer // events
	Lines   io.Writer // "Connected" and the like, which the original prints among the events; nil is Out
	Notes   io.Writer // what else concerns the connection
}

// Run follows the targets until ctx is done, or a target turns out to be none.
// Lost connections are made again. The error is nil if ctx ended it.
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

	s := &show{Follow: f, queue: make(chan shown, 256), printers: make(map[string]*printer)}
	if f.SaveTo != "" {
		if s.save, err = flogfile.Create(f.SaveTo, f.Bzip2); err != nil {
			return err
		}
	}
	var followers sync.WaitGroup
	for _, target := range f.Targets {
		followers.Go(func() {
			l := &follower{show: s, target: target, tub: tub, backlog: newBacklog(f.Select)}
			if err := l.run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	closed := make(chan struct{})
	go func() {
		followers.Wait()
		tub.Close() // ends the calls under way, which give events too
		close(s.queue)
		close(closed)
	}()
	err = s.run()
	if err != nil {
		cancel(err)
		for range s.queue { // so that the followers end
		}
	}
	<-closed
	if s.save != nil {
		if serr := s.save.Close(); err == nil {
			err = serr
		}
	}
	if err == nil && !errors.Is(context.Cause(ctx), context.Canceled) {
		if cause := context.Cause(ctx); cause != nil && !isSignal(cause) {
			err = cause
		}
	}
	return err
}

// isSignal reports whether a context ended by a signal, of which signal.Notify
// makes the cause.
func isSignal(err error) bool {
	var sig interface{ Signal() }
	return errors.As(err, &sig) || strings.HasSuffix(err.Error(), " signal received")
}

// shown is one thing to be shown: text as it is, or an event, or a header for
// the file to be saved.
type shown struct {
	target string
	text   string
	event  *live
	header event.Dict

	selected bool // the event is known to be wanted
}

// show is the one goroutine that writes: events of several connections come by
// its queue. While the output is slow, so are the connections, and a publisher
// drops what it cannot hold.
type show struct {
	*Follow
	queue    chan shown
	save     *flogfile.Writer
	printers map[string]*printer
	buf      []byte
	line     []byte
}

func (s *show) run() error {
	out := bufio.NewWriterSize(s.Out, 64<<10)
	for it := range s.queue {
		if err := s.one(out, it); err != nil {
			return err
		}
		if len(s.queue) == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
			if s.save != nil {
				if err := s.save.Flush(); err != nil {
					return err
				}
			}
		}
	}
	return out.Flush()
}

func (s *show) one(out *bufio.Writer, it shown) error {
	switch {
	case it.header != nil:
		if s.save == nil {
			return nil
		}
		_, err := s.save.Write(flogfile.AppendHeader(s.line[:0], it.header))
		return err
	case it.event == nil:
		if s.Lines != nil && s.Lines != s.Out {
			_, err := io.WriteString(s.Lines, s.label(it.target)+it.text+"\n")
			return err
		}
		_, err := out.WriteString(s.label(it.target) + it.text + "\n")
		return err
	}
	if !it.selected && !s.Select.match(it.event, "") {
		return nil
	}
	if s.save != nil {
		d := it.event.AppendEventJSON(nil)
		s.line = flogfile.AppendEvent(s.line[:0], it.event.from, time.Unix(0, int64(it.event.rx*1e9)), d)
		if _, err := s.save.Write(s.line); err != nil {
			return err
		}
	}
	p := s.printers[it.target]
	if p == nil {
		p = newPrinter(s.Style)
		p.live, p.label = true, s.label(it.target)
		s.printers[it.target] = p
	}
	s.buf = p.event(s.buf[:0], it.event)
	_, err := out.Write(p.labelled(s.buf))
	return err
}

// label is what stands before each line when there are several targets.
func (s *show) label(target string) string {
	if len(s.Targets) < 2 {
		return ""
	}
	return target + "| "
}
