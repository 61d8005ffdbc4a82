package publish

import (
	"context"
	"log/slog"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport/internal/ring"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// Bounds of a subscription by an original peer; logging-semantics.md section 9.
const (
	originalQueue    = 2000     // events that wait
	originalBytes    = 16 << 20 // bytes of them: an event may be large; the original has no such bound
	originalInFlight = 10       // calls that are not answered yet
)

// sendEvents sends the original's `msg` for every event that f gives. At most 10 are
// unanswered at any time. What could not be sent is counted, and reported by an event
// when the queue has drained.
func (p *Publisher) sendEvents(ctx context.Context, observer *rpc.Remote, f *ring.Follower) {
	out := newSender(observer)
	var losses LossReport
	for {
		it, ok := f.Next(ctx, losses.Due(), losses.Timer())
		if !ok {
			out.drain(ctx)
			return
		}
		switch it.Kind {
		case ring.Event:
			e, err := it.Record.Event(it.Num, p.cfg.Incarnation)
			if err == nil && !out.call(ctx, wire.MethodMsg, rpc.Pos(e.Dict())) {
				return
			}
		case ring.Lost:
			p.dropped.Add(it.Loss.Count)
			losses.Add(it.Loss.Count)
		case ring.Idle:
			if n := losses.Take(); n > 0 {
				p.cfg.Report(event.Unusual, "a subscriber was too slow: events dropped",
					slog.Uint64("dropped", n), slog.String("tub", string(observer.Peer().TubID())))
			}
		}
	}
}

// LossReport collects losses and bounds how often they are reported by an event of
// our own, which may itself be lost.
type LossReport struct {
	pending  uint64
	reported time.Time
}

const reportEvery = time.Second

// Add counts n more lost events.
func (r *LossReport) Add(n uint64) { r.pending += n }

// Due reports whether losses may be reported now.
func (r *LossReport) Due() bool { return r.pending > 0 && time.Since(r.reported) >= reportEvery }

// Take returns the number to report now; 0 if there is none or it is too soon.
func (r *LossReport) Take() (n uint64) {
	if !r.Due() {
		return 0
	}
	n, r.pending, r.reported = r.pending, 0, time.Now()
	return n
}

// Timer returns a channel that has a value when pending losses may be reported.
func (r *LossReport) Timer() <-chan time.Time {
	if r.pending == 0 {
		return nil
	}
	return time.After(time.Until(r.reported.Add(reportEvery)))
}

// sender keeps at most 10 calls to one observer under way.
type sender struct {
	observer *rpc.Remote
	calls    chan *rpc.Pending // not known to be answered, oldest first
}

func newSender(observer *rpc.Remote) *sender {
	return &sender{observer: observer, calls: make(chan *rpc.Pending, originalInFlight)}
}

// call calls a method when fewer than 10 calls are unanswered; false ends the
// subscription.
func (s *sender) call(ctx context.Context, method string, args rpc.Args) bool {
	if len(s.calls) == cap(s.calls) && !s.wait(ctx) {
		return false
	}
	s.calls <- s.observer.Start(method, args)
	return true
}

// wait waits for the oldest call's answer.
func (s *sender) wait(ctx context.Context) bool {
	oldest := <-s.calls
	select {
	case <-oldest.Done():
		return oldest.Result(nil) == nil
	case <-ctx.Done():
		return false
	}
}

// drain waits for all answers.
func (s *sender) drain(ctx context.Context) bool {
	for len(s.calls) > 0 {
		if !s.wait(ctx) {
			return false
		}
	}
	return true
}
