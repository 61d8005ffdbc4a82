package wire_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// connect returns a reference to what is behind a FURL, over a connection of its own.
func connect(t *testing.T, furl string) *rpc.Remote {
	t.Helper()
	parsed, err := rpc.ParseFURL(furl)
	if err != nil {
		t.Fatal(err)
	}
	tub, err := rpc.NewTub(rpc.Config{Features: wire.Features})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tub.Close() })
	r, err := tub.Connect(t.Context(), parsed)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func open(t *testing.T) *logport.Logport {
	t.Helper()
	lp, err := logport.Open(logport.Config{Name: "orders", TrailingDelay: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lp.Close() })
	return lp
}

func TestControl(t *testing.T) {
	lp := open(t)
	lp.SetThreshold("db", event.Unusual)
	furl, err := lp.ControlFURL()
	if err != nil {
		t.Fatal(err)
	}
	control, ctx := connect(t, furl), t.Context()
	if !wire.IsControl(control) {
		t.Error("IsControl is false for the control object")
	}
	if err := wire.SetThreshold(ctx, control, wire.Threshold{Facility: "web", Level: event.Weird}, time.Hour); err != nil {
		t.Fatal(err)
	}
	got, err := wire.Thresholds(ctx, control)
	want := []wire.Threshold{{Facility: "", Level: event.Noisy}, {Facility: "db", Level: event.Unusual}, {Facility: "web", Level: event.Weird}}
	if err != nil || !slices.Equal(got, want) || lp.Threshold("web") != event.Weird {
		t.Errorf("the thresholds are %v, %v, want %v", got, err, want)
	}
	// The shortest time: the setting from before comes back by itself.
	if err := wire.SetThreshold(ctx, control, wire.Threshold{Facility: "db", Level: event.Noisy}, time.Second); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); lp.Threshold("db") != event.Unusual; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the threshold has not fallen back")
		}
	}
	for name, c := range map[string]struct {
		threshold wire.Threshold
		hold      time.Duration
	}{
		"a long name":  {wire.Threshold{Facility: strings.Repeat("x", 201)}, time.Minute},
		"a high level": {wire.Threshold{Level: 1001}, time.Minute},
		"a low level":  {wire.Threshold{Level: -1}, time.Minute},
		"no time":      {wire.Threshold{Level: event.Noisy}, time.Millisecond},
		"too long":     {wire.Threshold{Level: event.Noisy}, wire.MaxThresholdFor + time.Second},
	} {
		var remote *rpc.RemoteError
		if err := wire.SetThreshold(ctx, control, c.threshold, c.hold); !errors.As(err, &remote) || remote.Type != "builtins.ValueError" {
			t.Errorf("%s: error %v, want a ValueError", name, err)
		}
	}
	num, err := wire.DeclareIncident(ctx, control, "that was weird")
	if err != nil || num == event.NoNum {
		t.Fatalf("DeclareIncident: %d, %v", num, err)
	}
	if lp.Flush(ctx); lp.Stats().Incidents != 1 {
		t.Errorf("%d incidents, want the one declared", lp.Stats().Incidents)
	}
}

// TestTooManyThresholds: a holder of the FURL cannot make the process remember any
// number of names.
func TestTooManyThresholds(t *testing.T) {
	lp := open(t)
	furl, _ := lp.ControlFURL()
	control, ctx := connect(t, furl), t.Context()
	var err error
	n := 0
	for ; n < 1000 && err == nil; n++ {
		err = wire.SetThreshold(ctx, control, wire.Threshold{Facility: strings.Repeat("f", 1+n/10) + string(rune('0'+n%10)), Level: event.Noisy}, time.Hour)
	}
	if n != 101 || err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("%d thresholds were changed before %v, want 100", n-1, err)
	}
}

func TestReadingGivesNoControl(t *testing.T) {
	lp := open(t)
	furl, err := lp.FURL()
	if err != nil {
		t.Fatal(err)
	}
	reading := connect(t, furl)
	if wire.IsControl(reading) {
		t.Error("IsControl is true for a logport")
	}
	if err := wire.SetThreshold(t.Context(), reading, wire.Threshold{Level: event.Bad}, time.Minute); err == nil || lp.Threshold("") != event.Noisy {
		t.Errorf("a logport's FURL changed a threshold: %v", err)
	}
}

// TestIncidentsOverTheWire: a reader hears of an incident when it begins and when it is
// complete, fetches it, and reads its parts as they are on disk.
func TestIncidentsOverTheWire(t *testing.T) {
	lp := open(t)
	furl, _ := lp.FURL()
	publisher, ctx := connect(t, furl), t.Context()
	began, complete, caughtUp := make(chan *event.Event, 1), make(chan string, 1), make(chan bool, 1)
	subscription, err := wire.SubscribeIncidents(ctx, publisher, wire.IncidentOptions{CatchUp: true}, wire.IncidentObserver{
		Began:    func(trigger *event.Event) { began <- trigger },
		New:      func(name string, _ *event.Event) error { complete <- name; return nil },
		CaughtUp: func() { caughtUp <- true },
	})
	if err != nil {
		t.Fatal(err)
	}
	<-caughtUp
	num := lp.DeclareIncident(ctx, "that was weird")
	if n, _ := (<-began).Num(); n != num {
		t.Errorf("incident %d began, want %d", n, num)
	}
	name := <-complete
	header, events, err := wire.GetIncident(ctx, publisher, name, 64<<20)
	if program, _ := header.Get("program"); err != nil || program != "orders" || len(events) == 0 {
		t.Errorf("GetIncident: %v, %d events, %v", header, len(events), err)
	}
	parts, err := wire.ListParts(ctx, publisher, name)
	if err != nil || len(parts) != 1 || parts[0].Name != "flog" || parts[0].Size == 0 {
		t.Fatalf("ListParts: %v, %v", parts, err)
	}
	var file strings.Builder
	if err := wire.ReadPart(ctx, publisher, name, parts[0], &file); err != nil || int64(file.Len()) != parts[0].Size {
		t.Errorf("ReadPart gave %d bytes of %d, %v", file.Len(), parts[0].Size, err)
	}
	parts[0].Size++
	if err := wire.ReadPart(ctx, publisher, name, parts[0], &file); err == nil {
		t.Error("ReadPart of a file that is shorter than was said gives no error")
	}
	const unknown = "incident-2026-01-01--00-00-00Z-aaaaaaa"
	if _, _, err := wire.GetIncident(ctx, publisher, unknown, 1<<20); !errors.Is(err, wire.ErrGone) {
		t.Errorf("GetIncident of one that is not there: %v, want ErrGone", err)
	}
	if err := subscription.Call(ctx, wire.MethodUnsubscribe, rpc.Args{}, nil); err != nil {
		t.Error(err)
	}
}

// TestFollowWithoutExtensions: Follow says when a publisher has the original's methods
// only.
func TestFollowWithoutExtensions(t *testing.T) {
	tub, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer tub.Close()
	addr, err := tub.Listen("tcp:127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tub.SetLocation("tcp:" + addr.String())
	furl, err := tub.Register(&rpc.Methods{Name: wire.RILogPublisher}, "")
	if err != nil {
		t.Fatal(err)
	}
	reader, err := rpc.NewTub(rpc.Config{Features: wire.Features})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err = wire.Follow(ctx, reader, furl, wire.SubscribeOptions{}, func(*wire.Batch) error { return nil }, nil)
	if !errors.Is(err, wire.ErrNoExtensions) {
		t.Errorf("Follow: %v, want ErrNoExtensions", err)
	}
}
