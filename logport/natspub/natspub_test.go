package natspub_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/logport/natspub"
)

// startServer runs a NATS server on port, 0 for any.
func startServer(t *testing.T, port int, dir string) *server.Server {
	t.Helper()
	if port == 0 {
		port = -1
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoSigs: true,
		JetStream: true, StoreDir: dir, JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

func newLogport(t *testing.T) *logport.Logport {
	t.Helper()
	lp, err := logport.Open(logport.Config{Name: "shop", TrailingDelay: -1, RingBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lp.Close() })
	return lp
}

func start(t *testing.T, lp *logport.Logport, cfg natspub.Config) *natspub.Publisher {
	t.Helper()
	p, err := natspub.Start(lp, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func next(t *testing.T, sub *nats.Subscription) *nats.Msg {
	t.Helper()
	m, err := sub.NextMsg(20 * time.Second)
	if err != nil {
		t.Fatalf("%s: %v", sub.Subject, err)
	}
	return m
}

func TestPublishesEventsAndIncidents(t *testing.T) {
	s := startServer(t, 0, t.TempDir())
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, _ := jetstream.New(nc)
	ctx := t.Context()
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "flog", Subjects: []string{"flog.>"}, MaxBytes: 32 << 20}); err != nil {
		t.Fatal(err)
	}
	store, err := js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: incident.ObjectStore, MaxBytes: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	events, _ := nc.SubscribeSync("flog.event.>")
	triggers, _ := nc.SubscribeSync("flog.trigger.>")
	incidents, _ := nc.SubscribeSync("flog.incident.>")
	nc.Flush()

	lp := newLogport(t)
	start(t, lp, natspub.Config{URL: s.ClientURL(), JetStream: true, Level: event.Unusual})
	lp.Log(ctx, slog.LevelInfo, "below", logport.Facility("shop"))
	lp.Log(ctx, slog.LevelWarn, "disk full on /dev/sda", logport.Facility("shop.disk writer"), slog.Int("free", 0))
	lp.Flush(ctx)

	m := next(t, events)
	if want := "flog.event." + lp.TubID() + ".WEIRD.shop.disk%20writer"; m.Subject != want {
		t.Errorf("the event's subject is %q, want %q", m.Subject, want)
	}
	var line struct {
		From string
		D    map[string]any
	}
	if err := json.Unmarshal(m.Data, &line); err != nil || line.From != lp.TubID() || line.D["message"] != "disk full on /dev/sda" {
		t.Errorf("the event is %s, %v", m.Data, err)
	}
	if m := next(t, triggers); !strings.Contains(string(m.Data), "disk full") {
		t.Errorf("the trigger is %s", m.Data)
	}
	m = next(t, incidents)
	var sum struct {
		Name, Incarnation, Program, Sha256, Object string
		Events, Size                               int
		Categories                                 []string
	}
	if err := json.Unmarshal(m.Data, &sum); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("flog.incident.unknown.%s.%s", lp.Incarnation(), sum.Name); m.Subject != want || sum.Program != "shop" || sum.Events < 2 || len(sum.Sha256) != 64 {
		t.Errorf("the incident is %s on %q, want %q", m.Data, m.Subject, want)
	}
	data, err := store.GetBytes(ctx, sum.Object)
	if err != nil || len(data) != sum.Size {
		t.Errorf("the object %q has %d bytes, %v; want %d", sum.Object, len(data), err, sum.Size)
	}
}

// TestServerAway: logging goes on while the server is away; when it is back, all
// that was logged has come or is reported lost.
func TestServerAway(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, 0, dir)
	port := s.Addr().(interface{ String() string }).String()
	var portNumber int
	fmt.Sscanf(port[strings.LastIndexByte(port, ':')+1:], "%d", &portNumber)
	s.Shutdown()
	s.WaitForShutdown()

	lp := newLogport(t)
	p := start(t, lp, natspub.Config{URL: fmt.Sprintf("nats://127.0.0.1:%d", portNumber), Level: event.Noisy,
		Filter: `facility == "shop"`, Options: []nats.Option{nats.ReconnectWait(20 * time.Millisecond)}})
	const logged = 60_000
	slowest := time.Duration(0)
	for i := range logged {
		begin := time.Now()
		lp.Log(context.Background(), slog.LevelInfo, "an event of some length, so that the queue is soon full", logport.Facility("shop"), slog.Int("i", i))
		slowest = max(slowest, time.Since(begin))
	}
	if slowest > 2*time.Second {
		t.Errorf("a call took %v while the server was away", slowest)
	}
	startServer(t, portNumber, dir)
	watcher, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", portNumber))
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	var mu sync.Mutex
	gaps := uint64(0)
	watcher.Subscribe("flog.gap.>", func(m *nats.Msg) {
		var g struct{ Dropped uint64 }
		json.Unmarshal(m.Data, &g)
		mu.Lock()
		defer mu.Unlock()
		gaps += g.Dropped
	})
	watcher.Flush()
	deadline := time.Now().Add(60 * time.Second)
	for {
		published, dropped := p.Stats()
		mu.Lock()
		told := gaps
		mu.Unlock()
		// Dropped may count the recorder's own events as well: they were not
		// looked at.
		if published+dropped >= logged && told == dropped {
			if published < 1000 || dropped == 0 {
				t.Errorf("%d published, %d dropped: want the rings' and the queue's worth, and the rest dropped", published, dropped)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d published + %d dropped (%d told) of %d", published, dropped, told, logged)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestBadConfig(t *testing.T) {
	lp := newLogport(t)
	if p, err := natspub.Start(lp, natspub.Config{URL: "nats://127.0.0.1:1", Filter: "level >"}); err == nil {
		p.Close()
		t.Error("a bad filter is accepted")
	}
	if p, err := natspub.Start(lp, natspub.Config{URL: "ftp://x y"}); err == nil {
		p.Close()
		t.Error("a bad URL is accepted")
	}
}
