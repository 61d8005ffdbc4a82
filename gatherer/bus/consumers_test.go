package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/internal/testwait"
)

// TestReaderConsumers: a reader creates 3,000 durable consumers, on each stream, and
// some that ask to be kept for long. None is kept, there are never more than 100, it
// cannot delete another one's, and the gatherer stores and stops as before.
func TestReaderConsumers(t *testing.T) {
	b := openTestBus(t, openTestDir(t), func(cfg *Config) { cfg.Listen, cfg.MaxStore = "127.0.0.1:0", 8<<20 })
	file := make([]byte, 1<<20)
	put := func(i int) {
		t.Helper()
		if stored, err := b.PutObject(t.Context(), fmt.Sprintf("o/%d", i), int64(len(file)), bytes.NewReader(file)); !stored || err != nil {
			t.Fatalf("PutObject = %v, %v", stored, err)
		}
	}
	put(0)
	if _, err := b.Publish(t.Context(), "flog.incident.a.b.c", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect("nats://"+b.Addr(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	inbox := nats.NewInbox()
	for i := range 3000 {
		for _, stream := range []string{streamName, objectStream} {
			name := fmt.Sprintf("hostile%d", i)
			for prefix, config := range map[string]map[string]any{
				"$JS.API.CONSUMER.DURABLE.CREATE.": {"durable_name": name, "ack_policy": "none"},
				"$JS.API.CONSUMER.CREATE.":         {"durable_name": name, "name": name, "ack_policy": "none"},
			} {
				request, _ := json.Marshal(map[string]any{"stream_name": stream, "config": config})
				nc.PublishRequest(prefix+stream+"."+name, inbox+"x", request)
			}
		}
	}
	for i := range 100 { // ephemeral ones, which it may have
		for _, stream := range []string{streamName, objectStream} {
			name := fmt.Sprintf("short%d", i)
			request, _ := json.Marshal(map[string]any{"stream_name": stream, "config": map[string]any{"name": name, "ack_policy": "none"}})
			nc.PublishRequest("$JS.API.CONSUMER.CREATE."+stream+"."+name, inbox+"x", request)
		}
	}
	if err := nc.FlushTimeout(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	count := func(lasting bool) (n int) {
		for _, name := range []string{streamName, objectStream} {
			s, err := b.js.Stream(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			for info := range s.ListConsumers(t.Context()).Info() {
				if !lasting || info.Config.Durable != "" {
					n++
				}
			}
		}
		return n
	}
	if n := count(false); n > 100 {
		t.Errorf("%d consumers, want 100 or fewer", n)
	}
	testwait.Eventually(t, "no durable consumer is left", func() bool { return count(true) == 0 })
	for i := 1; i < 8; i++ { // the store becomes full: makeRoom needs a consumer
		put(i)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	other, err := b.js.CreateConsumer(ctx, streamName, jetstream.ConsumerConfig{Name: "other", InactiveThreshold: time.Minute})
	if err != nil {
		// The readers have used up the consumers of this stream.
		if err := b.sweepConsumers(ctx, streamName, true); err != nil {
			t.Fatal(err)
		}
		if other, err = b.js.CreateConsumer(ctx, streamName, jetstream.ConsumerConfig{Name: "other", InactiveThreshold: time.Minute}); err != nil {
			t.Fatal(err)
		}
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	short, cancelShort := context.WithTimeout(ctx, time.Second)
	defer cancelShort()
	if err := js.DeleteConsumer(short, streamName, "other"); err == nil {
		t.Error("a reader deleted a consumer")
	}
	if _, err := other.Info(ctx); err != nil {
		t.Errorf("the other reader's consumer is gone: %v", err)
	}
	begin := time.Now()
	store, err := js.ObjectStore(ctx, incident.ObjectStore)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := store.GetBytes(ctx, "o/7"); err != nil || len(got) != len(file) {
		t.Errorf("an honest reader got %d bytes, %v", len(got), err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("an honest reader waited %v", took)
	}
	begin = time.Now()
	b.Close()
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("Close took %v", took)
	}
}
