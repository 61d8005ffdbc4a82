// Package bus publishes on NATS: over a server inside this process, or an existing
// one.
//
//	Publish       flog.incident.…   stream FLOG_INCIDENTS, each message once
//	PutObject     the files         object store flog-incidents
//	PublishEvent  flog.event.…      core NATS: for those who are connected
//
// Messages on NATS may be lost; the files that they come from may not. An error of
// Publish or PutObject is an [UnavailableError] if NATS cannot be used now; otherwise
// NATS refuses that one message or file.
//
// It is the only package that imports the NATS server.
//
// Spec: docs/nats.md.
package bus

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/internal/durable"
)

// Config says which server is used, and what is published and kept there.
type Config struct {
	URL    string // of an existing server or cluster; "": the embedded server
	Listen string // host:port at which the embedded server accepts readers; "": none

	// User and the password in PasswordFile are those of the existing server, or
	// those that the embedded server asks its readers for. A relative PasswordFile
	// is in the gatherer's directory; only its owner may be able to read it.
	User, PasswordFile string

	MaxStore int64         // bytes kept of incidents and their files together
	MaxAge   time.Duration // how long incidents and their files are kept

	Events   event.Level // events of this level and above are published
	NoEvents bool        // no events are published

	Log *slog.Logger // our own diagnostics; required
}

// Bus is a connection to NATS. Its methods may be called from any goroutine.
type Bus struct {
	cfg      Config
	log      *slog.Logger
	embedded *server.Server // nil with Config.URL
	lock     *durable.Lock  // of the embedded server's store; it ends when the Lock is garbage
	password string         // for our own connection to the embedded server
	addr     string
	nc       *nats.Conn
	js       jetstream.JetStream

	events  chan eventMessage
	dropped atomic.Int64 // events

	mu    sync.Mutex
	store jetstream.ObjectStore // once it and the stream are known to exist; guarded by mu
}

// Open connects to NATS. Without Config.URL it starts the embedded server, which
// keeps its store in nats/ in the directory dir and needs exclusive use of that. An
// existing server need not be there yet. The caller must call Run and Close.
func Open(dir *durable.Dir, cfg Config) (*Bus, error) {
	b := &Bus{cfg: cfg, log: cfg.Log, events: make(chan eventMessage, eventBacklog), password: rand.Text()}
	if err := b.open(dir); err != nil {
		b.Close()
		return nil, fmt.Errorf("bus: %w", err)
	}
	return b, nil
}

func (b *Bus) open(dir *durable.Dir) error {
	options := []nats.Option{
		nats.Name("flogtool gatherer"),
		nats.MaxReconnects(-1),
		nats.ReconnectJitter(500*time.Millisecond, time.Second),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { b.log.Warn("NATS", "err", err) }),
	}
	switch {
	case b.cfg.URL == "":
		if err := b.startServer(dir); err != nil {
			return err
		}
		options = append(options, nats.InProcessServer(b.embedded), nats.UserInfo(internalUser, b.password))
	case b.cfg.User != "":
		password, err := readPassword(dir, b.cfg.PasswordFile)
		if err != nil {
			return err
		}
		options = append(options, nats.UserInfo(b.cfg.User, password))
		fallthrough
	default:
		options = append(options, nats.RetryOnFailedConnect(true))
	}
	var err error
	if b.nc, err = nats.Connect(b.cfg.URL, options...); err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	if b.js, err = jetstream.New(b.nc); err != nil {
		return fmt.Errorf("JetStream: %w", err)
	}
	if b.embedded == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, stream := range []string{streamName, objectStream} {
		if err := b.sweepConsumers(ctx, stream, false); err != nil {
			b.log.Warn("delete consumers of readers", "stream", stream, "err", err)
		}
	}
	if err := b.watchConsumers(); err != nil {
		return fmt.Errorf("watch consumers: %w", err)
	}
	return nil
}

// Addr returns the host:port at which the embedded server accepts readers; "" if
// it does not.
func (b *Bus) Addr() string { return b.addr }

// Close ends the connection and the embedded server, and waits for that.
func (b *Bus) Close() {
	if b.nc != nil {
		b.nc.FlushTimeout(2 * time.Second)
		b.nc.Close()
	}
	if b.embedded != nil {
		b.embedded.Shutdown()
		b.embedded.WaitForShutdown()
	}
	if b.lock != nil {
		b.lock.Close()
	}
}

// Subscribe calls f with the subject and the payload of each message that matches
// subject, until ctx is done. f may keep the payload.
func (b *Bus) Subscribe(ctx context.Context, subject string, f func(subject string, payload []byte)) error {
	sub, err := b.nc.Subscribe(subject, func(m *nats.Msg) { f(m.Subject, m.Data) })
	if err == nil {
		context.AfterFunc(ctx, func() { sub.Unsubscribe() })
		err = b.nc.FlushTimeout(10 * time.Second)
	}
	if err != nil {
		return fmt.Errorf("bus: subscribe to %q: %w", subject, err)
	}
	return nil
}
