package tail

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
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

// follower follows one target, over one connection after the other, and sends its events
// to the display.
type follower struct {
	*Follow
	display *display
	target  Target
	tub     *rpc.Tub
	backlog *backlog
	next    wire.Position // where to continue with a publisher that supports the extensions

	mu   sync.Mutex
	seen seen // guarded by mu
}

// The wait between attempts to connect; taste. It doubles with each attempt, and up to half
// of it is added at random.
const (
	retryMin = 500 * time.Millisecond
	retryMax = 15 * time.Second
)

// shortTub is the number of characters of a TubID that stand for it in a saved file.
const shortTub = 8

// status sends a status line to the display.
func (l *follower) status(text string) {
	l.display.items <- item{target: l.target.Name, status: text}
}

// note writes a remark to Notes.
func (l *follower) note(format string, args ...any) {
	fmt.Fprintf(l.Notes, "flogtool tail: %s%s\n", l.label(l.target.Name), fmt.Sprintf(format, args...))
}

// send sends an event to the display. It returns the error of ctx if that ends first.
func (l *follower) send(ctx context.Context, ev *liveEvent, selected bool) error {
	select {
	case l.display.items <- item{target: l.target.Name, event: ev, selected: selected}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// received returns ev as an event that the target sent and that arrived at rx.
func (l *follower) received(ev *event.Event, rx float64) *liveEvent {
	tub := string(l.target.FURL.Tub)
	return &liveEvent{ev: ev, tub: tub, from: tub[:min(len(tub), shortTub)], rx: rx}
}

// run connects again and again until ctx is done. It returns an error if the target can
// never be followed.
func (l *follower) run(ctx context.Context) error {
	l.status("Connecting..")
	wait := retryMin
	noted, connected := "", false
	for ctx.Err() == nil {
		began := time.Now()
		remote, err := l.tub.Connect(ctx, l.target.FURL)
		if err == nil {
			noted, connected = "", true
			if err = l.attach(ctx, remote); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return nil
			}
			l.status("Disconnected")
			if time.Since(began) > retryMax {
				wait = retryMin // the connection worked for a while
			}
			began = time.Now()
		} else {
			if ctx.Err() != nil {
				return nil
			}
			if isPermanent(err, connected) {
				return fmt.Errorf("%s: %w", l.target.FURL.Masked(), err)
			}
			if text := err.Error(); text != noted {
				noted = text
				l.note("cannot connect, retrying: %s", text)
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

// isPermanent reports whether an attempt to connect would fail again with err. No error is
// permanent for a target that has been connected: it may come back.
func isPermanent(err error, connected bool) bool {
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
		return remote.Type == "builtins.KeyError" // the swissnum is unknown
	}
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// attach subscribes over one connection and sends events to the display until the
// connection is lost or ctx is done. It returns an error if the publisher cannot be
// followed.
func (l *follower) attach(ctx context.Context, remote *rpc.Remote) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, remote.Release)
	defer stop()

	if !l.introduce(ctx, remote) {
		return nil
	}
	l.mu.Lock()
	reconnected := l.seen.any
	l.seen.reconnected, l.seen.gapReported = reconnected, false
	l.mu.Unlock()
	defer l.showBacklog(ctx) // if the connection is lost before all of it has arrived
	if wire.SupportsExtensions(remote.Peer()) {
		return l.subscribe(ctx, remote, reconnected)
	}
	return l.subscribeOriginal(ctx, remote, reconnected)
}

// introduce asks the process for its pid and versions and shows them. It returns false if
// the connection is lost.
func (l *follower) introduce(ctx context.Context, remote *rpc.Remote) bool {
	var pid any
	if err := remote.Call(ctx, wire.MethodGetPID, rpc.Args{}, &pid); err == nil {
		l.status("Connected (to pid " + string(pytext.AppendStr(nil, pid)) + ")")
	} else if remote.IsConnected() {
		pid = nil
		l.status("Connected (unable to get pid)") // very old publishers do not have the method
	} else {
		return false
	}
	var raw any
	if err := remote.Call(ctx, wire.MethodGetVersions, rpc.Args{}, &raw); err != nil {
		if !remote.IsConnected() {
			return false
		}
		l.note("get_versions: %v", err)
	}
	versions := textDict(raw)
	l.status(strings.TrimSuffix("Remote Versions:\n"+string(appendVersions(nil, versions, " ")), "\n"))
	l.display.items <- item{header: event.Dict{{Key: "type", Value: "tail"}, {Key: "versions", Value: versions}, {Key: "pid", Value: pid}}}
	return true
}

// textDict returns a dict of versions sorted by name, with names and versions as text.
// Peers send them as bytes or text.
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

// subscribe follows a publisher that supports the extensions: it selects the events, sends
// many at once, and reports exactly which were lost.
func (l *follower) subscribe(ctx context.Context, remote *rpc.Remote, reconnected bool) error {
	l.mu.Lock()
	l.seen.any = true
	l.mu.Unlock()
	level, expression, rest := l.Select.forPublisher()
	options := wire.SubscribeOptions{CatchUp: l.CatchUp || reconnected || l.backlog.isOpen(), Level: level, Filter: expression, After: l.next}
	err := wire.Subscribe(ctx, remote, options, func(b *wire.Batch) error {
		if reconnected && l.next.Incarnation != "" && b.Incarnation != l.next.Incarnation {
			l.status(restarted)
			reconnected = false
		}
		if b.Dropped > 0 {
			among := ""
			if uint64(b.DroppedUntil-b.DroppedFrom) != b.Dropped {
				among = "among " // the range also has events that were not dropped here
			}
			l.status(fmt.Sprintf("%d events dropped here, %snumbers %d-%d", b.Dropped, among, b.DroppedFrom, b.DroppedUntil-1))
		}
		rx := flogfile.Seconds(time.Now())
		for num, rec := range b.Records() {
			ev, err := rec.Event(num, b.Incarnation)
			if err != nil {
				return err
			}
			received := l.received(ev, rx)
			if l.backlog.add(received, rest) || !rest.match(received, "") {
				continue
			}
			if err := l.send(ctx, received, true); err != nil {
				return err
			}
		}
		l.next = b.Position()
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

// subscribeOriginal follows a publisher with the original's methods, which sends all
// events, one by one.
func (l *follower) subscribeOriginal(ctx context.Context, remote *rpc.Remote, reconnected bool) error {
	observer := wire.EventObserver(func(_ context.Context, ev *event.Event) error {
		l.msg(ctx, ev)
		return nil
	})
	args := []any{observer}
	// After a lost connection the buffered events close the gap as far as possible. Those
	// that were shown before are skipped.
	buffered := l.backlog.isOpen()
	if l.CatchUp || reconnected || buffered {
		args = append(args, true)
	}
	pending := remote.Start(wire.MethodSubscribeToAll, rpc.Pos(args...))
	if buffered {
		wait := l.awaitBacklog(ctx, remote)
		defer wait()
	}
	select {
	case <-pending.Done():
	case <-ctx.Done():
		return nil
	}
	var subscription any // not kept: it ends with the connection
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

// msg takes one event of an original publisher.
func (l *follower) msg(ctx context.Context, ev *event.Event) {
	l.mu.Lock()
	show, gap := l.seen.add(ev)
	l.mu.Unlock()
	if gap != "" {
		l.status(gap)
	}
	if !show {
		return
	}
	received := l.received(ev, flogfile.Seconds(time.Now()))
	if !l.backlog.add(received, l.Select) {
		l.send(ctx, received, false) // fails only if ctx is done
	}
}

// showBacklog closes the backlog, all of which has arrived, and shows the events that are
// wanted.
func (l *follower) showBacklog(ctx context.Context) {
	due, err := l.backlog.close()
	if ctx.Err() != nil {
		return
	}
	for _, ev := range due {
		if l.send(ctx, ev, true) != nil {
			return
		}
	}
	if err != nil {
		l.note("%v", err)
	}
}

// awaitBacklog calls showBacklog when an original publisher has sent all that it had
// buffered. The publisher does not say when that is, but it serves subscribers in turn: the
// first event of a second subscription comes after the last buffered event of the first.
// There is such an event, because connecting to the original logs some. The function
// returned waits for the goroutine that awaitBacklog starts, which ends with the
// connection at the latest.
func (l *follower) awaitBacklog(ctx context.Context, remote *rpc.Remote) (wait func()) {
	var once sync.Once
	observer := wire.EventObserver(func(context.Context, *event.Event) error {
		once.Do(func() { l.showBacklog(ctx) })
		return nil
	})
	pending := remote.Start(wire.MethodSubscribeToAll, rpc.Pos(observer, true))
	var goroutine sync.WaitGroup
	goroutine.Go(func() {
		select {
		case <-pending.Done():
		case <-ctx.Done():
			return
		}
		var subscription *rpc.Remote
		if pending.Result(&subscription) == nil {
			subscription.Send(wire.MethodUnsubscribe, rpc.Args{}) // the buffered events are sent all the same
		}
	})
	return goroutine.Wait
}

// restarted is the status line for a target with a new incarnation.
const restarted = "(the process was restarted)"

// seen is the state of following a target: up to where its events have been shown.
// Publishers that support the extensions keep count themselves; for them only any is used.
type seen struct {
	any         bool // there has been an event or a subscription
	incarnation string
	last        event.Num
	reconnected bool // the connection is not the first: skip events up to last
	gapReported bool // what was missed between the connections has been determined
}

// add takes the number of an event that has arrived. It reports whether the event is to be
// shown, and for the first one after a reconnection what was missed before it: a status
// line, or "".
func (s *seen) add(ev *event.Event) (show bool, gap string) {
	num, ok := ev.Num()
	if !ok {
		return true, ""
	}
	incarnation := ev.Incarnation()
	if !s.any || incarnation != s.incarnation {
		if s.any && s.reconnected && !s.gapReported {
			s.gapReported = true
			gap = restarted
		}
		s.any, s.incarnation, s.last = true, incarnation, num
		return true, gap
	}
	if s.reconnected && num <= s.last {
		return false, ""
	}
	if s.reconnected && !s.gapReported {
		s.gapReported = true
		if missed := num - s.last - 1; missed > 0 {
			gap = fmt.Sprintf("%d events dropped here, numbers %d-%d", missed, s.last+1, num-1)
		}
	}
	s.last = max(s.last, num)
	return true, gap
}
