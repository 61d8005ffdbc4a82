package bus

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/internal/testwait"
)

var testConfig = Config{MaxStore: 1 << 30, MaxAge: 30 * 24 * time.Hour, Log: quiet}

var quiet = slog.New(slog.DiscardHandler)

func openTestDir(t *testing.T) *durable.Dir {
	t.Helper()
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

func openTestBus(t *testing.T, dir *durable.Dir, change func(*Config)) *Bus {
	t.Helper()
	cfg := testConfig
	if change != nil {
		change(&cfg)
	}
	b, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// TestBusPublishesOnce: a gatherer killed between publishing and noting it
// publishes again, and the stream still has one message, also after a restart.
func TestBusPublishesOnce(t *testing.T) {
	dir := openTestDir(t)
	const subject = "flog.incident.unknown.02b4.incident-1"
	published := false
	for range 2 {
		b := openTestBus(t, dir, nil)
		for range 2 {
			earlier, err := b.Publish(t.Context(), subject, []byte("{}"))
			if err != nil || (earlier != nil) != published || published && string(earlier) != "{}" {
				t.Fatalf("Publish = %q, %v; want what is there already: %v", earlier, err, published)
			}
			published = true
		}
		b.Close()
	}
	b := openTestBus(t, dir, nil)
	stream, err := b.js.Stream(t.Context(), streamName)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Msgs != 1 {
		t.Errorf("the stream has %d messages, want 1 (%v)", info.State.Msgs, err)
	}
}

func TestBusObjects(t *testing.T) {
	b := openTestBus(t, openTestDir(t), func(cfg *Config) { cfg.MaxStore = 8 << 20 })
	file := make([]byte, 1<<20)
	rand.Read(file)
	// The store has room for three files: the last ones are in it.
	names := []string{"i/1", "i/2", "i/3", "i/4", "i/5", "i/6"}
	for _, name := range names {
		if stored, err := b.PutObject(t.Context(), name, int64(len(file)), bytes.NewReader(file)); err != nil || !stored {
			t.Fatalf("PutObject(%s) = %v, %v", name, stored, err)
		}
	}
	got, err := b.store.GetBytes(t.Context(), "i/6")
	if err != nil || !bytes.Equal(got, file) {
		t.Errorf("GetBytes = %d bytes, %v; want the file", len(got), err)
	}
	if _, err := b.store.GetBytes(t.Context(), "i/1"); err == nil {
		t.Error("the oldest file is still there: nothing has made room")
	}
	if stored, err := b.PutObject(t.Context(), "large", 5<<20, nil); stored || err != nil {
		t.Errorf("PutObject of a file larger than half the store = %v, %v", stored, err)
	}
}

// TestBusRefuses: the error for what NATS refuses is not the one for NATS being away.
func TestBusRefuses(t *testing.T) {
	b := openTestBus(t, openTestDir(t), nil)
	const subject = "flog.incident.a.b.c"
	if _, err := b.Publish(t.Context(), subject, make([]byte, maxPayload+1)); !errors.Is(err, nats.ErrMaxPayload) || unavailable(err) {
		t.Errorf("Publish of a payload that is too long = %v", err)
	}
	broken := errors.New("broken disk")
	if _, err := b.PutObject(t.Context(), "o", 3, struct {
		io.Reader
		io.Seeker
	}{iotest.ErrReader(broken), nil}); !errors.Is(err, broken) || unavailable(err) {
		t.Errorf("PutObject of a file that cannot be read = %v", err)
	}
	if err := b.js.DeleteStream(t.Context(), streamName); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Publish(t.Context(), subject, nil); !unavailable(err) {
		t.Errorf("Publish without the stream = %v", err)
	}
	if _, err := b.Publish(t.Context(), subject, nil); err != nil {
		t.Errorf("Publish does not make the stream again: %v", err)
	}
	if _, err := b.PutObject(t.Context(), "o", 3, strings.NewReader("obj")); err != nil {
		t.Error(err)
	}
}

// TestBusAway: an existing server cannot be reached.
func TestBusAway(t *testing.T) {
	b := openTestBus(t, openTestDir(t), func(cfg *Config) {
		cfg.URL = fmt.Sprintf("nats://127.0.0.1:%d", testwait.FreePort(t))
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := b.Publish(ctx, "flog.incident.a.b.c", make([]byte, 2*maxPayload)); !unavailable(err) {
		t.Errorf("Publish = %v", err)
	}
	if _, err := b.PutObject(ctx, "o", 3, strings.NewReader("obj")); !unavailable(err) {
		t.Errorf("PutObject = %v", err)
	}
}

func unavailable(err error) bool {
	e, ok := errors.AsType[*UnavailableError](err)
	return ok && e.Unavailable()
}

// TestBusStoreInUse: two servers on one directory would both start.
func TestBusStoreInUse(t *testing.T) {
	dir := openTestDir(t)
	openTestBus(t, dir, nil)
	_, err := Open(dir, testConfig)
	if err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("Open = %v, want that the directory is in use", err)
	}
}

func TestBusDoesNotStart(t *testing.T) {
	dir := openTestDir(t)
	if err := dir.Mkdir(natsDir); err != nil {
		t.Fatal(err)
	}
	// A file where the server wants a directory.
	if err := dir.WriteFile("nats/jetstream", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, testConfig)
	if err == nil || !strings.Contains(err.Error(), "embedded NATS server did not start") || strings.Contains(err.Error(), "does not say why") {
		t.Errorf("Open = %v, want why the server did not start", err)
	}
}

// TestBusReaders: subscribers read all that is published and can publish
// nothing in our name.
func TestBusReaders(t *testing.T) {
	dir := openTestDir(t)
	if err := dir.WriteFile("password", []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := openTestBus(t, dir, func(cfg *Config) {
		cfg.Listen, cfg.User, cfg.PasswordFile = "127.0.0.1:0", "reader", "password"
	})
	if _, err := nats.Connect("nats://" + b.Addr()); err == nil {
		t.Error("connected without a password")
	}
	errs := make(chan error, 10)
	nc, err := nats.Connect("nats://"+b.Addr(), nats.UserInfo("reader", "secret"),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync("flog.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go b.Run(ctx)
	b.PublishEvent("t", event.FromDict(event.Dict{{Key: "level", Value: int64(event.Weird)}}), []byte("line\n"))
	if m, err := sub.NextMsg(20 * time.Second); err != nil || string(m.Data) != "line" {
		t.Errorf("NextMsg = %v, %v; want the event", m, err)
	}
	if _, err := b.Publish(ctx, "flog.incident.a.b.c", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if stored, err := b.PutObject(ctx, "o", 3, strings.NewReader("obj")); err != nil || !stored {
		t.Fatal(stored, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, streamName)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stream.GetLastMsgForSubject(ctx, "flog.incident.a.b.c"); err != nil || string(m.Data) != "{}" {
		t.Errorf("GetLastMsgForSubject = %v, %v", m, err)
	}
	store, err := js.ObjectStore(ctx, incident.ObjectStore)
	if err != nil {
		t.Fatal(err)
	}
	if o, err := store.GetBytes(ctx, "o"); err != nil || string(o) != "obj" {
		t.Errorf("GetBytes = %q, %v", o, err)
	}
	nc.Publish("flog.incident.forged.b.c", nil)
	nc.Flush()
	select {
	case err := <-errs:
		if !strings.Contains(err.Error(), "Permissions Violation for Publish") {
			t.Errorf("publishing gave %v, want a permissions violation", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a reader could publish")
	}
	if err := js.DeleteStream(ctx, streamName); err == nil {
		t.Error("a reader could delete the stream")
	}
}

func TestBusListenRules(t *testing.T) {
	dir := openTestDir(t)
	if err := os.WriteFile(filepath.Join(dir.Name(), "open"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{Listen: "0.0.0.0:0"}, "set nats.user"},
		{Config{Listen: "4222"}, "missing port"},
		{Config{Listen: "127.0.0.1:x"}, "is not a port"},
		{Config{Listen: "127.0.0.1:0", User: "u", PasswordFile: "none"}, "no such file"},
		{Config{Listen: "127.0.0.1:0", User: "u", PasswordFile: "open"}, "others can read"},
	} {
		cfg := testConfig
		cfg.Listen, cfg.User, cfg.PasswordFile = tt.cfg.Listen, tt.cfg.User, tt.cfg.PasswordFile
		b, err := Open(dir, cfg)
		if err == nil {
			b.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Open(listen %q) = %v, want an error with %q", tt.cfg.Listen, err, tt.want)
		}
	}
}
