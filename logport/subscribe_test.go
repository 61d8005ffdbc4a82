package logport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/internal/testwait"
	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// connect returns a reference to lp's publisher, from a Tub of its own.
func connect(t testing.TB, lp *logport.Logport) *rpc.Remote {
	t.Helper()
	tub, err := rpc.NewTub(rpc.Config{Features: wire.Features})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tub.Close() })
	text, err := lp.FURL()
	if err != nil {
		t.Fatal(err)
	}
	furl, err := rpc.ParseFURL(text)
	if err != nil {
		t.Fatal(err)
	}
	r, err := tub.Connect(t.Context(), furl)
	if err != nil {
		t.Fatal(err)
	}
	if !wire.SupportsExtensions(r.Peer()) {
		t.Fatalf("the peer's features are %q", r.Peer().Features())
	}
	return r
}

// tally counts what a subscription got and checks that it is in order.
type tally struct {
	mu                           sync.Mutex
	delivered, filtered, dropped uint64
	first, next                  event.Num // of the first event accounted for; behind the last one
	messages                     []string
	wrong                        error
}

func (c *tally) take(b *wire.Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filtered += b.Filtered
	c.dropped += b.Dropped
	for num, rec := range b.Records() {
		if c.delivered > 0 && num < c.next {
			c.wrong = fmt.Errorf("event %d came after %d", num, c.next-1)
		}
		if c.delivered == 0 {
			c.first = num
		}
		c.next = num + 1
		c.delivered++
		if len(c.messages) < 1000 {
			m, _ := rec.Message()
			c.messages = append(c.messages, m)
		}
	}
	return nil
}

func (c *tally) sum() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.delivered + c.filtered + c.dropped
}

// subscribe runs a subscription until the test ends.
func subscribe(t testing.TB, lp *logport.Logport, o wire.SubscribeOptions, handle func(*wire.Batch) error) {
	t.Helper()
	r := connect(t, lp)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	before := lp.Stats().Subscribers
	go func() { done <- wire.Subscribe(ctx, r, o, handle) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	testwait.Eventually(t, "the subscription", func() bool {
		select {
		case err := <-done:
			done <- err
			t.Fatal(err)
		default:
		}
		return lp.Stats().Subscribers > before
	})
}

func TestSubscribeAccountsForEveryEvent(t *testing.T) {
	lp := open(t, logport.Config{})
	var all, some tally
	subscribe(t, lp, wire.SubscribeOptions{CatchUp: true}, all.take)
	subscribe(t, lp, wire.SubscribeOptions{CatchUp: true, Level: event.Operational, Filter: `attrs.i != nil && attrs.i % 3 == 0`}, some.take)
	before := lp.Stats().Events
	const each, goroutines = 6_000, 4
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := range each {
				level := slog.LevelInfo
				if i%2 == 1 {
					level = slog.LevelDebug
				}
				lp.Log(context.Background(), level, "event", slog.Int("i", i))
			}
		})
	}
	wg.Wait()
	for _, c := range []*tally{&all, &some} {
		testwait.Eventually(t, "all events to be accounted for", func() bool { return c.sum() >= lp.Stats().Events })
		if c.wrong != nil {
			t.Error(c.wrong)
		}
		if c.sum() != lp.Stats().Events {
			t.Errorf("delivered %d + filtered %d + dropped %d is not %d logged", c.delivered, c.filtered, c.dropped, lp.Stats().Events)
		}
	}
	if all.filtered != 0 {
		t.Errorf("%d events were filtered out without a filter", all.filtered)
	}
	if some.dropped == 0 && all.dropped == 0 {
		want := uint64(0)
		for i := range each {
			if i%2 == 0 && i%3 == 0 {
				want += goroutines
			}
		}
		if some.delivered != want {
			t.Errorf("%d events passed the filter, want %d", some.delivered, want)
		}
	}
	_ = before
}

func TestSubscribeCatchesUpInOrder(t *testing.T) {
	lp := open(t, logport.Config{})
	for i := range 200 {
		lp.Log(context.Background(), slog.LevelInfo, fmt.Sprint("old ", i), logport.Facility(fmt.Sprint("f", i%5)))
	}
	var c tally
	subscribe(t, lp, wire.SubscribeOptions{CatchUp: true, Filter: `message startsWith "old" || message startsWith "new"`}, c.take)
	for i := range 50 {
		lp.Log(context.Background(), slog.LevelInfo, fmt.Sprint("new ", i))
	}
	testwait.Eventually(t, "250 events", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.delivered == 250 })
	for i, m := range c.messages {
		want := fmt.Sprint("old ", i)
		if i >= 200 {
			want = fmt.Sprint("new ", i-200)
		}
		if m != want {
			t.Fatalf("event %d is %q, want %q", i, m, want)
		}
	}
}

// TestStalledSubscriberCostsItsQueue: a subscriber that does not answer loses
// events, each of them counted, and hears of it at the place of the gap.
func TestStalledSubscriberCostsItsQueue(t *testing.T) {
	lp := open(t, logport.Config{RingBytes: 4 << 20})
	var c tally
	release := make(chan struct{})
	var stalled atomic.Bool
	subscribe(t, lp, wire.SubscribeOptions{}, func(b *wire.Batch) error {
		stalled.Store(true)
		<-release
		return c.take(b)
	})
	before := lp.Stats().Events
	for range 200_000 {
		lp.Log(context.Background(), slog.LevelInfo, "flood", slog.String("pad", strings.Repeat("x", 100)))
	}
	testwait.Eventually(t, "the stall", stalled.Load)
	close(release)
	testwait.Eventually(t, "all events to be accounted for", func() bool { return c.sum() >= lp.Stats().Events-before })
	if c.wrong != nil {
		t.Error(c.wrong)
	}
	if c.sum() != lp.Stats().Events-before {
		t.Errorf("delivered %d + dropped %d is not %d logged", c.delivered, c.dropped, lp.Stats().Events-before)
	}
	if c.dropped == 0 || c.delivered < 5000 {
		t.Errorf("delivered %d, dropped %d: want the queue's worth delivered and the rest dropped", c.delivered, c.dropped)
	}
	if got := lp.Stats().SubscriberDropped; got != c.dropped {
		t.Errorf("Stats counts %d dropped events, the subscriber counted %d", got, c.dropped)
	}
}

func TestBadFilterIsRefused(t *testing.T) {
	lp := open(t, logport.Config{})
	r := connect(t, lp)
	for _, source := range []string{"level >", "nosuchname == 1", "1 + 1", strings.Repeat("(", 1<<20), `repeat("x", 1000000) == ""`} {
		err := wire.Subscribe(t.Context(), r, wire.SubscribeOptions{Filter: source}, func(*wire.Batch) error { return nil })
		if _, ok := errors.AsType[*rpc.RemoteError](err); !ok {
			t.Errorf("the filter %.30q gives %v, want the publisher's refusal", source, err)
		}
	}
	if !r.IsConnected() {
		t.Error("a bad filter cost the connection")
	}
}

func TestHandlerEndsTheSubscription(t *testing.T) {
	lp := open(t, logport.Config{})
	r := connect(t, lp)
	enough := errors.New("enough")
	lp.Log(context.Background(), slog.LevelInfo, "one")
	err := wire.Subscribe(t.Context(), r, wire.SubscribeOptions{CatchUp: true}, func(*wire.Batch) error { return enough })
	if !errors.Is(err, enough) {
		t.Errorf("Subscribe returned %v", err)
	}
	testwait.Eventually(t, "the publisher to notice", func() bool { return lp.Stats().Subscribers == 0 })
}

func TestCloseDeliversWhatIsQueued(t *testing.T) {
	lp, err := logport.Open(logport.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var c tally
	subscribe(t, lp, wire.SubscribeOptions{CatchUp: true}, c.take)
	for range 5000 {
		lp.Log(context.Background(), slog.LevelInfo, "last")
	}
	n := lp.Stats().Events
	lp.Close()
	if c.sum() < n {
		t.Errorf("%d of %d events were delivered before Close returned", c.sum(), n)
	}
}

// TestIncidentsToOurs: a trigger is reported at once, the complete incident when it
// is there; its file is read in pieces, from anywhere.
func TestIncidentsToOurs(t *testing.T) {
	lp := open(t, logport.Config{Dir: t.TempDir()})
	r := connect(t, lp)
	told := make(chan string, 10)
	observer := &rpc.Methods{Name: "RILogObserver.foolscap.lothar.com", Map: map[string]func(*rpc.Call) (any, error){
		"incident_began": func(c *rpc.Call) (any, error) {
			told <- "began " + event.FromDict(c.Args.Pos[0].(event.Dict)).Text("message")
			return nil, nil
		},
		"new_incident": func(c *rpc.Call) (any, error) {
			told <- string(c.Args.Pos[0].([]byte))
			return nil, nil
		},
		"done_with_incident_catchup": func(*rpc.Call) (any, error) { told <- "done"; return nil, nil },
	}}
	var subscription *rpc.Remote
	if err := r.Call(t.Context(), "flog_incidents", rpc.Pos(observer, event.Dict{{Key: "catch_up", Value: true}}), &subscription); err != nil {
		t.Fatal(err)
	}
	next := func() string {
		select {
		case s := <-told:
			return s
		case <-time.After(30 * time.Second):
			t.Fatal("nothing was reported")
			return ""
		}
	}
	if s := next(); s != "done" {
		t.Errorf("told %q, want the end of the catch-up", s)
	}
	lp.DeclareIncident(t.Context(), "that was weird")
	if s := next(); s != "began that was weird" {
		t.Errorf("told %q first, want the trigger", s)
	}
	lp.Flush(t.Context())
	name := next()

	var parts []any
	if err := r.Call(t.Context(), "flog_parts", rpc.Pos(name), &parts); err != nil || len(parts) != 1 {
		t.Fatalf("parts %v, %v", parts, err)
	}
	size := parts[0].(event.Tuple)[1].(int64)
	file := filepath.Join(t.TempDir(), name+".flog.zst")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	read := int64(0)
	for {
		var piece []byte
		if err := r.Call(t.Context(), "flog_read", rpc.Pos(name, "flog", read, 100), &piece); err != nil {
			t.Fatal(err)
		}
		if len(piece) == 0 {
			break
		}
		f.Write(piece)
		read += int64(len(piece))
	}
	f.Close()
	if read != size {
		t.Errorf("read %d bytes, want %d", read, size)
	}
	fr, err := flogfile.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer fr.Close()
	for {
		if _, err := fr.Next(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range []rpc.Args{rpc.Pos("../../etc/passwd", "flog", 0, 1), rpc.Pos(name, "../x", 0, 1), rpc.Pos(name, "flog", -1, 1),
		rpc.Pos(name, "flog", 0, 0), rpc.Pos("incident-none", "flog", 0, 1), rpc.Pos(1, 2, 3, 4), rpc.Pos()} {
		if err := r.Call(t.Context(), "flog_read", args, nil); err == nil {
			t.Errorf("flog_read(%v) is answered", args.Pos)
		}
	}
}

func posArgs(v ...any) rpc.Args { return rpc.Pos(v...) }

// faultyProxy passes connections on, and cuts, stalls or slows each of them after
// a while. It returns its address and the number of connections so far.
func faultyProxy(t *testing.T, target string) (addr string, connections *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections = new(atomic.Int64)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			n := connections.Add(1)
			out, err := net.Dial("tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			cut := context.AfterFunc(ctx, func() { in.Close(); out.Close() })
			rng := rand.New(rand.NewPCG(uint64(n), 7))
			wg.Go(func() { io.Copy(out, in); out.Close(); in.Close() })
			wg.Go(func() {
				defer cut()
				defer in.Close()
				defer out.Close()
				limit := 20_000 + rng.IntN(60_000) // beyond the negotiation
				buf := make([]byte, 4096)
				for passed := 0; passed < limit; {
					k, err := out.Read(buf)
					if err != nil {
						return
					}
					if n%3 == 1 { // slow
						time.Sleep(time.Millisecond)
					}
					if _, err := in.Write(buf[:k]); err != nil {
						return
					}
					passed += k
				}
				if n%3 == 2 { // stall, then cut
					time.Sleep(50 * time.Millisecond)
				}
			})
		}
	})
	return l.Addr().String(), connections
}

// TestFollowAcrossFaults: over a connection that is cut, stalled and slowed again
// and again, every event is delivered once and in order, or reported dropped.
func TestFollowAcrossFaults(t *testing.T) {
	faults := int64(15)
	if os.Getenv("FLOG_SOAK") != "" {
		faults = 100
	}
	lp := open(t, logport.Config{RingBytes: 2 << 20})
	text, _ := lp.FURL()
	furl, err := rpc.ParseFURL(text)
	if err != nil {
		t.Fatal(err)
	}
	target := strings.TrimPrefix(furl.Hints[0], "tcp:")
	proxy, connections := faultyProxy(t, target)
	furl.Hints = []string{"tcp:" + proxy}
	tub, err := rpc.NewTub(rpc.Config{Features: wire.Features, RetryDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer tub.Close()

	stop := make(chan struct{})
	var logging sync.WaitGroup
	logging.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			lp.Log(context.Background(), slog.LevelInfo, "event", slog.Int("i", i), slog.String("pad", "some bytes that fill the wire"))
			if i%20 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	})
	var c tally
	var started atomic.Bool
	var accounted atomic.Uint64 // Until of the last batch
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- wire.Follow(ctx, tub, furl, wire.SubscribeOptions{CatchUp: true, Filter: "attrs.i == nil || attrs.i % 5 != 0"}, func(b *wire.Batch) error {
			started.Store(true)
			accounted.Store(uint64(b.Until))
			return c.take(b)
		}, nil)
	}()
	testwait.Eventually(t, "the faults", func() bool { return connections.Load() >= faults })
	close(stop)
	logging.Wait()
	testwait.Eventually(t, "all events to be accounted for", func() bool { return accounted.Load() >= lp.Stats().Events })
	cancel()
	<-done
	if c.wrong != nil {
		t.Error(c.wrong)
	}
	if n := lp.Stats().Events; c.sum() != n {
		t.Errorf("delivered %d + filtered %d + dropped %d is not %d logged", c.delivered, c.filtered, c.dropped, n)
	}
	if c.delivered < 1000 {
		t.Errorf("only %d events were delivered", c.delivered)
	}
}

// TestCaughtUp: a catch-up ends with one batch that says so, at once and before
// anything new, whether or not there was something to send.
func TestCaughtUp(t *testing.T) {
	for name, buffered := range map[string]int{"nothing": 0, "some": 5000} {
		t.Run(name, func(t *testing.T) {
			lp := open(t, logport.Config{})
			for i := range buffered {
				lp.Log(context.Background(), slog.LevelInfo, "old", slog.Int("i", i))
			}
			batches := make(chan *wire.Batch, 1000)
			held := int(lp.Stats().Events)
			// Nothing is filtered out: no batch is sent for the sake of counts.
			subscribe(t, lp, wire.SubscribeOptions{CatchUp: true}, func(b *wire.Batch) error {
				c := *b
				batches <- &c
				return nil
			})
			count := 0
			for b := range batches {
				if count += b.Count; b.CaughtUp {
					break
				}
			}
			if count != held {
				t.Errorf("%d events came before the end of the catch-up, want %d", count, held)
			}
			lp.Log(context.Background(), slog.LevelInfo, "new")
			if b := <-batches; b.CaughtUp || b.Count != 1 {
				t.Errorf("the next batch has %d events, caught up: %v", b.Count, b.CaughtUp)
			}
		})
	}
}
