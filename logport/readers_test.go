package logport_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flogtool/flogtool/internal/testwait"
	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// connectMore returns a connection of its own to the logport.
func connectMore(t testing.TB, lp *logport.Logport) (*rpc.Tub, *rpc.Remote) {
	t.Helper()
	text, err := lp.FURL()
	if err != nil {
		t.Fatal(err)
	}
	furl, err := rpc.ParseFURL(text)
	if err != nil {
		t.Fatal(err)
	}
	tub, err := rpc.NewTub(rpc.Config{Features: wire.Features})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tub.Close() })
	r, err := tub.Connect(t.Context(), furl)
	if err != nil {
		t.Fatal(err)
	}
	return tub, r
}

// TestReadersThatComeAndGo: readers that subscribe with all that the rings hold, and
// leave at once, over and over, do not hold up a logging call: one of them at a time
// copies one segment.
func TestReadersThatComeAndGo(t *testing.T) {
	lp := open(t, logport.Config{RingBytes: 8 << 20})
	l := slog.New(lp.Handler())
	for i := range 60_000 {
		l.Info("an event that fills the rings", "facility", []string{"a", "b", "c"}[i%3], "i", i)
	}
	connections, d := 4, time.Second
	if os.Getenv("FLOG_SOAK") != "" {
		connections, d = 8, 20*time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var subscribed atomic.Int64
	var readers sync.WaitGroup
	for range connections {
		_, r := connectMore(t, lp)
		readers.Go(func() {
			observer := wire.EventObserver(nil)
			for ctx.Err() == nil {
				var s *rpc.Remote
				if err := r.Call(ctx, wire.MethodFlogSubscribe, rpc.Pos(observer, nil), &s); err == nil {
					subscribed.Add(1)
					s.Send(wire.MethodUnsubscribe, rpc.Args{})
				}
			}
		})
	}
	var took []time.Duration
	for ctx.Err() == nil {
		began := time.Now()
		l.Info("an event meanwhile", "facility", "a")
		took = append(took, time.Since(began))
		time.Sleep(50 * time.Microsecond)
	}
	readers.Wait()
	slices.Sort(took)
	median, p99, worst := took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
	t.Logf("%d subscriptions; a call took %v, 99 %% at most %v, all at most %v", subscribed.Load(), median, p99, worst)
	if subscribed.Load() < 100 {
		t.Errorf("%d subscriptions: the test tests nothing", subscribed.Load())
	}
	// The processors are shared with the readers: the worst call may wait for one.
	if p99 > 2*time.Millisecond || worst > 200*time.Millisecond {
		t.Errorf("99 %% of the calls took at most %v, the slowest %v", p99, worst)
	}
}

// TestSubscriptionsAreFew: a connection gets 8, a logport has 64; what ends makes room.
func TestSubscriptionsAreFew(t *testing.T) {
	lp := open(t, logport.Config{})
	subscribe := func(r *rpc.Remote) (*rpc.Remote, error) {
		var s *rpc.Remote
		err := r.Call(t.Context(), wire.MethodFlogSubscribe, rpc.Pos(wire.EventObserver(nil), nil), &s)
		return s, err
	}
	var refused *rpc.RemoteError
	var first *rpc.Remote
	all := 0
	for range 9 {
		_, r := connectMore(t, lp)
		for i := range 9 {
			s, err := subscribe(r)
			switch {
			case all == 64 || i == 8:
				if !errors.As(err, &refused) || !strings.Contains(refused.Text, "subscriptions and") {
					t.Fatalf("subscription %d, %d of its connection: %v, want it refused", all, i, err)
				}
			case err != nil:
				t.Fatalf("subscription %d, %d of its connection: %v", all, i, err)
			default:
				if all++; first == nil {
					first = s
				}
			}
		}
	}
	if all != 64 {
		t.Errorf("%d subscriptions, want 64", all)
	}
	_, r := connectMore(t, lp)
	if _, err := subscribe(r); err == nil {
		t.Error("one more was accepted")
	}
	first.Call(t.Context(), wire.MethodUnsubscribe, rpc.Args{}, nil)
	testwait.Eventually(t, "room for one more", func() bool { _, err := subscribe(r); return err == nil })
}

// TestFileReadsWait: hundreds of calls that read files, of one peer and of many, run two
// at a time, and the process goes on.
func TestFileReadsWait(t *testing.T) {
	lp := open(t, logport.Config{TrailingDelay: -1, RingBytes: 4 << 20})
	for i := range 4_000 {
		lp.Log(t.Context(), slog.LevelInfo, "what led to it", slog.Int("i", i), slog.String("pad", strings.Repeat("x", 100)))
	}
	lp.DeclareIncident(t.Context(), "that was weird")
	lp.Flush(t.Context())
	_, r := connectMore(t, lp)
	var names map[string]any
	if err := r.Call(t.Context(), wire.MethodListIncidents, rpc.Args{}, &names); err != nil || len(names) != 1 {
		t.Fatalf("list_incidents: %v, %v", names, err)
	}
	var calls []*rpc.Pending
	for name := range names {
		for range 4 {
			_, r := connectMore(t, lp)
			for range 6 {
				calls = append(calls, r.Start(wire.MethodGetIncident, rpc.Pos([]byte(name)).Expecting(64<<20)))
			}
		}
	}
	began := time.Now()
	if err := r.Call(t.Context(), wire.MethodGetPID, rpc.Args{}, nil); err != nil || time.Since(began) > 2*time.Second {
		t.Errorf("get_pid meanwhile took %v: %v", time.Since(began), err)
	}
	for _, c := range calls {
		if err := c.Result(nil); err != nil {
			t.Errorf("get_incident: %v", err)
			break
		}
	}
}
