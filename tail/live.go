package tail

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/pytext"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

// Target is a live process to be followed.
type Target struct {
	Name string // as the user named it
	FURL rpc.FURL
}

// ParseTarget returns the target that text names: a FURL, a file that holds one,
// or a directory with a file logport.furl.
func ParseTarget(text string) (Target, error) {
	if strings.HasPrefix(text, "pb:") {
		furl, err := rpc.ParseFURL(text)
		if err != nil {
			return Target{}, err
		}
		return Target{Name: string(furl.Tub), FURL: furl}, nil
	}
	st, err := os.Stat(text)
	if err != nil {
		return Target{}, fmt.Errorf("can't use tail target %q: it is no FURL, and no file or directory of that name: %w", text, errors.Unwrap(err))
	}
	file := text
	if st.IsDir() {
		file = filepath.Join(text, "logport.furl")
	}
	furl, err := rpc.ReadFURLFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return Target{}, fmt.Errorf("can't use tail target %q: there is no logport.furl in that directory", text)
	}
	if err != nil {
		return Target{}, fmt.Errorf("can't use tail target %q: %w", text, err)
	}
	return Target{Name: text, FURL: furl}, nil
}

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

// follower follows one target.
type follower struct {
	*show
	target  Target
	tub     *rpc.Tub
	backlog *backlog
	at      wire.Position // up to where a publisher that supports the extensions was followed

	mu   sync.Mutex
	seen seen // guarded by mu
}

// seen is up to where the target's events were shown.
type seen struct {
	incarnation string
	last        event.Num
	any         bool
	rejoined    bool // connected again: what was shown before is not shown again
	noted       bool // the gap was stated
}

// retryMin and retryMax bound the wait between attempts to connect; taste.
const (
	retryMin = 500 * time.Millisecond
	retryMax = 15 * time.Second
)

func (l *follower) say(text string) { l.queue <- shown{target: l.target.Name, text: text} }

func (l *follower) note(format string, args ...any) {
	fmt.Fprintf(l.Notes, "flogtool tail: %s%s\n", l.label(l.target.Name), fmt.Sprintf(format, args...))
}

// run connects until ctx is done. The error says that the target cannot be
// followed ever.
func (l *follower) run(ctx context.Context) error {
	l.say("Connecting..")
	wait := retryMin
	said, connected := "", false
	for ctx.Err() == nil {
		began := time.Now()
		remote, err := l.tub.Connect(ctx, l.target.FURL)
		if err == nil {
			said, connected = "", true
			if err = l.follow(ctx, remote); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return nil
			}
			l.say("Disconnected")
			if time.Since(began) > retryMax {
				wait = retryMin // it was a connection, not an attempt
			}
			began = time.Now()
		} else {
			if ctx.Err() != nil {
				return nil
			}
			if hopeless(err, connected) {
				return fmt.Errorf("%s: %w", l.target.FURL.Masked(), err)
			}
			if text := err.Error(); text != said {
				said = text
				l.note("cannot connect: %s; trying again", text)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(max(0, wait-time.Since(began)/2) + rand.N(wait/2)):
		}
		wait = min(2*wait, retryMax)
	}
	return nil
}

// hopeless reports whether connecting again cannot help. A target that was there
// before may be back with what it says now, so that only the first attempts end
// because of what the other end is.
func hopeless(err error, connected bool) bool {
	if connected {
		return false
	}
	if _, ok := errors.AsType[*rpc.NegotiationError](err); ok {
		return true
	}
	if errors.Is(err, rpc.ErrWrongTub) || errors.Is(err, rpc.ErrNoHints) {
		return true
	}
	if remote, ok := errors.AsType[*rpc.RemoteError](err); ok {
		return remote.Type == "builtins.KeyError" // no object of that name
	}
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// follow subscribes and shows events until the connection is lost.
func (l *follower) follow(ctx context.Context, remote *rpc.Remote) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, remote.Release)
	defer stop()

	var pid any
	if err := remote.Call(ctx, wire.MethodGetPID, rpc.Args{}, &pid); err == nil {
		l.say("Connected (to pid " + string(pytext.AppendStr(nil, pid)) + ")")
	} else if remote.IsConnected() {
		pid = nil
		l.say("Connected (unable to get pid)") // very old ones have no such method
	} else {
		return nil
	}
	var raw any
	if err := remote.Call(ctx, wire.MethodGetVersions, rpc.Args{}, &raw); err != nil {
		if !remote.IsConnected() {
			return nil
		}
		l.note("get_versions: %v", err)
	}
	versions := textDict(raw)
	l.say(strings.TrimSuffix("Remote Versions:\n"+string(appendVersions(nil, versions, " ")), "\n"))
	l.queue <- shown{header: event.Dict{{Key: "type", Value: "tail"}, {Key: "versions", Value: versions}, {Key: "pid", Value: pid}}}

	l.mu.Lock()
	rejoined := l.seen.any
	l.seen.rejoined, l.seen.noted = rejoined, false
	l.mu.Unlock()
	defer l.showBacklog(ctx) // of what came before the connection was lost
	if wire.SupportsExtensions(remote.Peer()) {
		return l.batches(ctx, remote, rejoined)
	}
	observer := wire.EventObserver(func(_ context.Context, ev *event.Event) error {
		l.msg(ctx, ev)
		return nil
	})
	args := []any{observer}
	// After a lost connection the buffered events are asked for too: those that were
	// shown are skipped, and the gap is as small as can be.
	choosing := l.backlog.isOpen()
	if l.CatchUp || rejoined || choosing {
		args = append(args, true)
	}
	pending := remote.Start(wire.MethodSubscribeToAll, rpc.Pos(args...))
	if choosing {
		wait := l.awaitBacklog(ctx, remote)
		defer wait()
	}
	select {
	case <-pending.Done():
	case <-ctx.Done():
		return nil
	}
	var subscription any // not kept: it lasts as long as the connection
	if err := pending.Result(&subscription); err != nil {
		if !remote.IsConnected() || ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("%s: subscribe: %w", l.target.FURL.Masked(), err)
	}
	select {
	case <-remote.Done():
	case <-ctx.Done():
	}
	return nil
}

// batches follows a publisher of ours: it selects, sends many events at once, and
// says exactly what was lost.
func (l *follower) batches(ctx context.Context, remote *rpc.Remote, rejoined bool) error {
	l.mu.Lock()
	l.seen.any = true // what is missing after a lost connection is known otherwise
	l.mu.Unlock()
	level, expression, rest := l.Select.pushed()
	options := wire.SubscribeOptions{CatchUp: l.CatchUp || rejoined || l.backlog.isOpen(), Level: level, Filter: expression, After: l.at}
	tub := string(l.target.FURL.Tub)
	from := tub[:min(len(tub), shortTub)]
	err := wire.Subscribe(ctx, remote, options, func(b *wire.Batch) error {
		if rejoined && l.at.Incarnation != "" && b.Incarnation != l.at.Incarnation {
			l.say("(the process was started anew)")
			rejoined = false
		}
		if b.Dropped > 0 {
			among := ""
			if uint64(b.DroppedUntil-b.DroppedFrom) != b.Dropped {
				among = "among " // others of that range had been overwritten before
			}
			l.say(fmt.Sprintf("%d events dropped here, %snumbers %d-%d", b.Dropped, among, b.DroppedFrom, b.DroppedUntil-1))
		}
		rx := flogfile.Seconds(time.Now())
		for num, rec := range b.Records() {
			ev, err := rec.Event(num, b.Incarnation)
			if err != nil {
				return err
			}
			it := &live{ev: ev, tub: tub, from: from, rx: rx}
			if l.backlog.hold(it, rest) || !rest.match(it, "") {
				continue
			}
			if err := l.push(ctx, it, true); err != nil {
				return err
			}
		}
		l.at = b.Position()
		if b.CaughtUp {
			l.showBacklog(ctx)
		}
		return nil
	})
	if ctx.Err() != nil || !remote.IsConnected() {
		return nil
	}
	return fmt.Errorf("%s: %w", l.target.FURL.Masked(), err)
}

// textDict returns names and versions as text: peers send them as bytes.
func textDict(v any) event.Dict {
	d, _ := v.(event.Dict)
	out := make(event.Dict, 0, len(d))
	for _, item := range d {
		name, ok := banana.Text(item.Key)
		version, ok2 := banana.Text(item.Value)
		if ok && ok2 {
			out = append(out, event.Item{Key: name, Value: version})
		}
	}
	slices.SortFunc(out, func(a, b event.Item) int { return strings.Compare(a.Key.(string), b.Key.(string)) })
	return out
}

// shortTub is how many characters of a TubID stand for it in a saved file.
const shortTub = 8

// msg takes one event of an original publisher.
func (l *follower) msg(ctx context.Context, ev *event.Event) {
	show, missed := l.came(ev)
	if missed != "" {
		l.say(missed)
	}
	if !show {
		return
	}
	tub := string(l.target.FURL.Tub)
	it := &live{ev: ev, tub: tub, from: tub[:min(len(tub), shortTub)], rx: flogfile.Seconds(time.Now())}
	if !l.backlog.hold(it, l.Select) {
		l.push(ctx, it, false) // fails only when all ends
	}
}

// push gives an event to the goroutine that writes.
func (l *follower) push(ctx context.Context, it *live, selected bool) error {
	select {
	case l.queue <- shown{target: l.target.Name, event: it, selected: selected}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// came notes that an event came. It reports whether it is to be shown, and
// after a lost connection what is missing between the last event shown and this
// one.
func (l *follower) came(ev *event.Event) (show bool, missed string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.seen
	num, ok := ev.Num()
	if !ok {
		return true, ""
	}
	incarnation := ev.Incarnation()
	if !s.any || incarnation != s.incarnation {
		if s.any && s.rejoined && !s.noted {
			s.noted = true
			missed = "(the process was started anew)"
		}
		s.any, s.incarnation, s.last = true, incarnation, num
		return true, missed
	}
	if s.rejoined && num <= s.last {
		return false, ""
	}
	if s.rejoined && !s.noted {
		s.noted = true
		if gap := num - s.last - 1; gap > 0 {
			missed = fmt.Sprintf("%d events dropped here, numbers %d-%d", gap, s.last+1, num-1)
		}
	}
	s.last = max(s.last, num)
	return true, missed
}
