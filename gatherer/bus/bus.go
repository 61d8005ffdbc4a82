package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/internal/durable"
)

const (
	natsDir        = "nats"
	incidentStream = "FLOG_INCIDENTS"
	objectBucket   = "flog-incidents"

	// maxPayload is NATS's own default: what is published stays below it.
	maxPayload = 1 << 20

	// eventBacklog is how many events wait for NATS while it is slow. More are
	// dropped, and counted: the log files have them.
	eventBacklog = 4096
)

// Config says which NATS server is used, and how much it keeps.
type Config struct {
	URL          string // "": the embedded server
	Listen       string // where the embedded server listens for others; "": nowhere
	User         string
	PasswordFile string
	MaxStore     int64 // bytes
	MaxAge       time.Duration
}

// Bus is NATS as the gatherer uses it: the server inside this process or one
// elsewhere. What it carries can be lost; the files cannot.
type Bus struct {
	cfg      Config
	log      *slog.Logger
	embedded *server.Server // nil with nats.url
	lock     *durable.Lock  // of the embedded server's store; a collected one would be dropped
	password string         // of the embedded server's own connections
	nc       *nats.Conn
	js       jetstream.JetStream
	addr     string // where the embedded server listens; "" nowhere

	events  chan busEvent
	dropped atomic.Int64 // events

	mu     sync.Mutex
	stream jetstream.Stream      // once it is known to exist; guarded by mu
	store  jetstream.ObjectStore // as stream
}

type busEvent struct {
	subject string
	line    []byte
}

// Open starts the embedded server, or begins to connect to the one at
// cfg.URL, which may come later.
func Open(base *durable.Dir, cfg Config, log *slog.Logger) (_ *Bus, err error) {
	b := &Bus{cfg: cfg, log: log, events: make(chan busEvent, eventBacklog), password: rand.Text()}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	options := []nats.Option{
		nats.Name("flogtool gatherer"),
		nats.MaxReconnects(-1),
		nats.ReconnectJitter(500*time.Millisecond, time.Second),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("NATS", "err", err) }),
	}
	url := cfg.URL
	if url == "" {
		if err := b.startServer(base); err != nil {
			return nil, err
		}
		options = append(options, nats.InProcessServer(b.embedded), nats.UserInfo(internalUser, b.password))
	} else {
		options = append(options, nats.RetryOnFailedConnect(true))
		if cfg.User != "" {
			password, err := readPassword(base, cfg.PasswordFile)
			if err != nil {
				return nil, err
			}
			options = append(options, nats.UserInfo(cfg.User, password))
		}
	}
	if b.nc, err = nats.Connect(url, options...); err != nil {
		return nil, fmt.Errorf("bus: connect to NATS: %w", err)
	}
	if b.js, err = jetstream.New(b.nc); err != nil {
		return nil, fmt.Errorf("bus: JetStream: %w", err)
	}
	return b, nil
}

// Users of the embedded server: we ourselves; those that the settings name, who
// may read; and, only where nobody but this machine can connect, anybody.
const (
	internalUser  = "gatherer"
	anonymousUser = "anonymous"
)

// readers may subscribe and read streams and objects, and change nothing of
// what we publish.
var readers = &server.Permissions{
	Subscribe: &server.SubjectPermission{Allow: []string{"flog.>", "_INBOX.>", "$O." + objectBucket + ".>"}},
	Publish: &server.SubjectPermission{Allow: []string{
		"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*",
		"$JS.API.DIRECT.GET.>", "$JS.API.CONSUMER.>", "$JS.ACK.>", "$JS.FC.>",
	}},
}

func (b *Bus) startServer(base *durable.Dir) error {
	if err := base.Mkdir(natsDir); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	dir := filepath.Join(base.Name(), natsDir)
	// Two servers on one store both start, and ruin it.
	lock, err := base.LockFile(path.Join(natsDir, "lock"))
	if errors.Is(err, durable.ErrInUse) {
		return fmt.Errorf("bus: %s is %w", dir, durable.ErrInUse)
	}
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	b.lock = lock
	options := &server.Options{
		ServerName: "flogtool", DontListen: true, NoSigs: true, DisableJetStreamBanner: true,
		JetStream: true, StoreDir: dir, SyncInterval: time.Second, MaxPayload: maxPayload,
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: b.cfg.MaxStore,
		Users: []*server.User{{Username: internalUser, Password: b.password}},
	}
	if b.cfg.Listen != "" {
		if err := b.listenOptions(base, options); err != nil {
			return err
		}
	}
	s, err := server.NewServer(options)
	if err != nil {
		return fmt.Errorf("bus: embedded NATS server: %w", err)
	}
	b.embedded = s
	said := &serverLog{log: b.log}
	s.SetLoggerV2(said, false, false, false)
	s.Start()
	ready := false
	for end := time.Now().Add(10 * time.Second); !ready && !said.fatal.Load() && time.Now().Before(end); {
		ready = s.ReadyForConnections(100 * time.Millisecond)
	}
	if !ready || !s.JetStreamEnabled() {
		return fmt.Errorf("bus: embedded NATS server did not start: %s", said.worst())
	}
	if b.cfg.Listen != "" {
		b.addr = s.Addr().String()
	}
	return nil
}

// listenOptions lets others connect to the embedded server.
func (b *Bus) listenOptions(base *durable.Dir, options *server.Options) error {
	host, port, err := net.SplitHostPort(b.cfg.Listen)
	if err != nil {
		return fmt.Errorf("bus: nats.listen: %w", err)
	}
	options.DontListen = false
	options.Host = host
	options.Port, err = strconv.Atoi(port)
	if err != nil || options.Port < 0 || options.Port > 65535 {
		return fmt.Errorf("bus: nats.listen: %q is no port", port)
	}
	if options.Port == 0 {
		options.Port = server.RANDOM_PORT
	}
	if b.cfg.User != "" {
		password, err := readPassword(base, b.cfg.PasswordFile)
		if err != nil {
			return err
		}
		options.Users = append(options.Users, &server.User{Username: b.cfg.User, Password: password, Permissions: readers})
		return nil
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("bus: nats.listen: others can reach %s: set nats.user and nats.password_file too", b.cfg.Listen)
	}
	options.Users = append(options.Users, &server.User{Username: anonymousUser, Permissions: readers})
	options.NoAuthUser = anonymousUser
	return nil
}

func readPassword(base *durable.Dir, name string) (string, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(base.Name(), name)
	}
	st, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("bus: nats.password_file: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("bus: nats.password_file: others can read %s: chmod 600 it", name)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("bus: nats.password_file: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// Addr returns where the embedded server listens; "" nowhere.
func (b *Bus) Addr() string { return b.addr }

// Close ends the connection and the embedded server, and waits for it.
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

// streams returns the stream of incidents and the bucket of their files, and
// makes them if need be.
func (b *Bus) streams(ctx context.Context) (jetstream.ObjectStore, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stream != nil && b.store != nil {
		return b.store, nil
	}
	// The store is divided: what is published is small, the files are not.
	total := b.cfg.MaxStore
	stream, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        incidentStream,
		Description: "incidents, stored and classified",
		Subjects:    []string{incident.IncidentSubjects},
		MaxBytes:    total / 4,
		MaxAge:      b.cfg.MaxAge,
		Discard:     jetstream.DiscardOld,
	})
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", incidentStream, err)
	}
	store, err := b.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
		Bucket:      objectBucket,
		Description: "the files of incidents",
		MaxBytes:    total / 2,
		TTL:         b.cfg.MaxAge,
	})
	if err != nil {
		return nil, fmt.Errorf("object store %s: %w", objectBucket, err)
	}
	b.stream, b.store = stream, store
	return store, nil
}

// Publish publishes payload on subject once: if a message is there already,
// that is success.
func (b *Bus) Publish(ctx context.Context, subject string, payload []byte) error {
	_, err := b.js.Publish(ctx, subject, payload, jetstream.WithExpectLastSequencePerSubject(0))
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch api.ErrorCode {
		case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant:
			return nil
		}
	}
	return err
}

// Put stores the file r under name, unless it is there. A full bucket gives up
// its oldest objects.
func (b *Bus) Put(ctx context.Context, name string, size int64, r io.ReadSeeker) error {
	store, err := b.streams(ctx)
	if err != nil {
		return err
	}
	if info, err := store.GetInfo(ctx, name); err == nil && info.Size == uint64(size) {
		return nil
	}
	for range 2 {
		_, err = store.Put(ctx, jetstream.ObjectMeta{Name: name}, r)
		api, ok := errors.AsType[*jetstream.APIError](err)
		if !ok || api.ErrorCode != errCodeStoreFull {
			return err
		}
		if err := b.makeRoom(ctx, store, size); err != nil {
			return err
		}
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	return err
}

const errCodeStoreFull jetstream.ErrorCode = 10077 // "maximum bytes exceeded"

// makeRoom deletes the oldest objects until size bytes, and a tenth of the
// bucket, are free.
func (b *Bus) makeRoom(ctx context.Context, store jetstream.ObjectStore, size int64) error {
	objects, err := store.List(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(objects, func(x, y *jetstream.ObjectInfo) int { return x.ModTime.Compare(y.ModTime) })
	want := uint64(size) + uint64(b.cfg.MaxStore/20)
	for _, o := range objects {
		if err := store.Delete(ctx, o.Name); err != nil {
			return err
		}
		if o.Size >= want {
			return nil
		}
		want -= o.Size
	}
	return nil
}

// Event hands on an event to be published, without waiting: a slow NATS loses
// its events and holds up nobody.
func (b *Bus) Event(subject string, line []byte) {
	if len(line) > maxPayload-4096 {
		b.dropped.Add(1)
		return
	}
	select {
	case b.events <- busEvent{subject, line}:
	default:
		b.dropped.Add(1)
	}
}

// Run publishes the events handed on until ctx is done, and reports
// those it had to drop.
func (b *Bus) Run(ctx context.Context) {
	report := time.NewTicker(time.Second)
	defer report.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-b.events:
			if err := b.nc.Publish(e.subject, e.line); err != nil {
				b.dropped.Add(1)
			}
		case <-report.C:
			if n := b.dropped.Swap(0); n > 0 {
				b.log.Warn("events not published on NATS, which is too slow or away", "dropped", n)
			}
		}
	}
}

// Subscribe calls f with each message whose subject matches until ctx is done.
func (b *Bus) Subscribe(ctx context.Context, subject string, f func(subject string, data []byte)) error {
	sub, err := b.nc.Subscribe(subject, func(m *nats.Msg) { f(m.Subject, m.Data) })
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { sub.Unsubscribe() })
	return b.nc.FlushTimeout(10 * time.Second)
}

// serverLog passes on what the embedded server says, and keeps the last error:
// the server itself returns none.
type serverLog struct {
	log   *slog.Logger
	fatal atomic.Bool // the server has given up

	mu   sync.Mutex
	last string // guarded by mu
}

func (l *serverLog) worst() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == "" {
		return "it does not say why"
	}
	return l.last
}

func (l *serverLog) keep(format string, v []any) string {
	text := fmt.Sprintf(format, v...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = text
	return text
}

func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug("NATS server", "says", fmt.Sprintf(format, v...))
}
func (l *serverLog) Warnf(format string, v ...any) {
	if strings.HasPrefix(format, "Plaintext passwords") {
		return // they are in memory only: no configuration of the server has them
	}
	l.log.Warn("NATS server", "says", fmt.Sprintf(format, v...))
}
func (l *serverLog) Errorf(format string, v ...any) {
	l.log.Error("NATS server", "says", l.keep(format, v))
}
func (l *serverLog) Fatalf(format string, v ...any) {
	l.log.Error("NATS server", "says", l.keep(format, v))
	l.fatal.Store(true)
}
func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
