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

// showBacklog closes the backlog, whose events have all come, and shows what was
// chosen.
func (l *follower) showBacklog(ctx context.Context) {
	due, err := l.backlog.close()
	if ctx.Err() != nil {
		return
	}
	for _, it := range due {
		if l.push(ctx, it, true) != nil {
			return
		}
	}
	if err != nil {
		l.note("%v", err)
	}
}

// awaitBacklog has [follower.showBacklog] called when an original publisher has sent
// what it had buffered. Such a publisher does not say when; but it sends that to one
// subscriber after the other, so that the first event of a second subscription comes
// after the last buffered one of the first. There is one: connecting to the original
// logs events. The function returned waits for the goroutine to end.
func (l *follower) awaitBacklog(ctx context.Context, remote *rpc.Remote) (wait func()) {
	var once sync.Once
	observer := wire.EventObserver(func(context.Context, *event.Event) error {
		once.Do(func() { l.showBacklog(ctx) })
		return nil
	})
	pending := remote.Start(wire.MethodSubscribeToAll, rpc.Pos(observer, true))
	var ended sync.WaitGroup
	ended.Go(func() {
		select {
		case <-pending.Done():
		case <-ctx.Done():
			return
		}
		var subscription *rpc.Remote
		if pending.Result(&subscription) == nil {
			subscription.Send(wire.MethodUnsubscribe, rpc.Args{}) // the buffered events are sent in any case
		}
	})
	return ended.Wait
}
