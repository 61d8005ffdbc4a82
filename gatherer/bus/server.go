package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/internal/durable"
)

// natsDir is the directory of the embedded server's store.
const natsDir = "nats"

// maxPayload bounds a message of the embedded server, in bytes: NATS's own default.
const maxPayload = 1 << 20

// The users of the embedded server: this process; the readers that the settings
// name; and, if only this machine can connect, readers without a name.
const (
	internalUser  = "gatherer"
	anonymousUser = "anonymous"
)

// readers may subscribe, and read streams and objects. They may not publish, and
// may not change what is published.
var readers = &server.Permissions{
	Subscribe: &server.SubjectPermission{Allow: []string{"flog.>", "_INBOX.>", "$O." + incident.ObjectStore + ".>"}},
	Publish: &server.SubjectPermission{Allow: append(consumerSubjects(),
		"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*",
		"$JS.API.DIRECT.GET.>",
	)},
}

func (b *Bus) startServer(dir *durable.Dir) error {
	if err := dir.Mkdir(natsDir); err != nil {
		return err
	}
	storeDir := filepath.Join(dir.Name(), natsDir)
	// Two servers on one store both start, and damage it.
	lock, err := dir.LockFile(path.Join(natsDir, "lock"))
	if errors.Is(err, durable.ErrInUse) {
		return fmt.Errorf("%s is %w", storeDir, durable.ErrInUse)
	}
	if err != nil {
		return err
	}
	b.lock = lock
	options := &server.Options{
		ServerName: "flogtool", DontListen: true, NoSigs: true, DisableJetStreamBanner: true,
		JetStream: true, StoreDir: storeDir, SyncInterval: time.Second, MaxPayload: maxPayload,
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: b.cfg.MaxStore,
		Users: []*server.User{{Username: internalUser, Password: b.password}},

		// Not a limit of the streams: that of an existing stream cannot be changed.
		JetStreamLimits: server.JSLimitOpts{DefaultMaxConsumers: maxConsumers},
	}
	if b.cfg.Listen != "" {
		if err := b.listenOptions(dir, options); err != nil {
			return err
		}
	}
	s, err := server.NewServer(options)
	if err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	b.embedded = s
	logger := &serverLog{log: b.log}
	s.SetLoggerV2(logger, false, false, false)
	s.Start()
	ready := false
	for end := time.Now().Add(10 * time.Second); !ready && !logger.fatal.Load() && time.Now().Before(end); {
		ready = s.ReadyForConnections(100 * time.Millisecond)
	}
	if !ready || !s.JetStreamEnabled() {
		return fmt.Errorf("embedded NATS server did not start: %s", logger.worst())
	}
	if b.cfg.Listen != "" {
		b.addr = s.Addr().String()
	}
	return nil
}

// listenOptions lets others connect to the embedded server.
func (b *Bus) listenOptions(dir *durable.Dir, options *server.Options) error {
	host, port, err := net.SplitHostPort(b.cfg.Listen)
	if err != nil {
		return fmt.Errorf("nats.listen: %w", err)
	}
	options.DontListen = false
	options.Host = host
	options.Port, err = strconv.Atoi(port)
	if err != nil || options.Port < 0 || options.Port > 65535 {
		return fmt.Errorf("nats.listen: %q is not a port", port)
	}
	if options.Port == 0 {
		options.Port = server.RANDOM_PORT
	}
	if b.cfg.User != "" {
		password, err := readPassword(dir, b.cfg.PasswordFile)
		if err != nil {
			return err
		}
		options.Users = append(options.Users, &server.User{Username: b.cfg.User, Password: password, Permissions: readers})
		return nil
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("nats.listen: others can reach %s: set nats.user and nats.password_file too", b.cfg.Listen)
	}
	options.Users = append(options.Users, &server.User{Username: anonymousUser, Permissions: readers})
	options.NoAuthUser = anonymousUser
	return nil
}

func readPassword(dir *durable.Dir, name string) (string, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir.Name(), name)
	}
	st, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("nats.password_file: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("nats.password_file: others can read %s: chmod 600 it", name)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("nats.password_file: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// serverLog logs what the embedded server logs, and keeps the last error, which
// the server does not return.
type serverLog struct {
	log   *slog.Logger
	fatal atomic.Bool // the server cannot start

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
