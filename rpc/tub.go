package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config says how a Tub behaves. The zero value is useful.
type Config struct {
	// KeyFile is a PEM file with the Tub's CERTIFICATE and PRIVATE KEY, made
	// with mode 0600 if it does not exist. "" makes an identity for this run.
	KeyFile string

	// Features is sent as the key flog of the hello: words for the layers
	// above, such as "1 batch". "" sends no such key. One line.
	Features string

	AcceptGifts bool   // let peers make us dial a third Tub; default off
	Limits      Limits // zero fields mean their defaults

	KeepaliveTimeout   time.Duration // silence after which the peer is pinged; default 240s, negative never
	DisconnectTimeout  time.Duration // silence while it is read after which the connection is closed; default never
	DialTimeout        time.Duration // for all hints of a FURL together; default 120s
	RetryDelay         time.Duration // before a Reconnector's first retry; default 1s
	NegotiationTimeout time.Duration // from an accepted connection to the end of its negotiation; default 120s

	// HandleOldDuplicates lets a peer that does not say which connection it
	// knows of (one that restarted with an old Foolscap, or a listener) replace
	// a connection that is at least that old. Default: never.
	HandleOldDuplicates time.Duration

	// Dialers opens connections for hints by their type; the argument is what
	// follows "TYPE:". Without an entry "tcp" is dialled directly and all other
	// types are skipped; a nil function makes its type unusable.
	Dialers map[string]func(ctx context.Context, address string) (net.Conn, error)

	// Lookup finds objects for names that were never registered. It runs on a
	// goroutine of its own and may return nil.
	Lookup func(name string, p Peer) Object

	// ExposeRemoteExceptionTypes false makes calls return a *HiddenError where
	// they would return a *RemoteError. nil means true.
	ExposeRemoteExceptionTypes *bool

	Copyables   []CopyableType // Go types that travel by value: see [Copyable]
	AnyCopyable bool           // let copyables of other classes arrive as *banana.Copyable; default: a Violation
	Interfaces  []*Interface   // remote interfaces whose calls are checked

	Log *slog.Logger // our own diagnostics; default discards
}

func (cfg Config) withDefaults() Config {
	cfg.Limits = cfg.Limits.withDefaults()
	cfg.KeepaliveTimeout = cmp.Or(cfg.KeepaliveTimeout, 240*time.Second)
	cfg.DialTimeout = cmp.Or(cfg.DialTimeout, 120*time.Second)
	cfg.RetryDelay = cmp.Or(cfg.RetryDelay, time.Second)
	cfg.NegotiationTimeout = cmp.Or(cfg.NegotiationTimeout, 120*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// A Tub is one end of RPC connections, with a key. Its methods are safe for use
// by several goroutines.
type Tub struct {
	cfg         Config
	identity    // its cert and id
	incarnation string
	began       time.Time
	log         *slog.Logger
	copies      *copyables
	interfaces  map[string]*Interface

	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	goroutines sync.WaitGroup
	work       chan func() // to a worker that waits
	waiting    atomic.Int32

	mu       sync.Mutex // never taken while a connection's is held
	closed   bool
	location []string
	names    map[string]*named
	objects  map[Object]*named

	listeners  []net.Listener
	conns      map[TubID]*conn    // the one connection with each peer
	all        map[*conn]struct{} // these and both ends of the loopback
	loop       *conn              // our end of the connection to ourselves
	attempts   map[TubID]*attempt // being dialled
	decisions  memory[uint64]     // seqnum of our last decision for each peer
	forgotten  uint64             // the highest that was forgotten
	last       memory[string]     // current-connection of each peer's last decision
	fromAddr   map[string]int     // inbound connections by address
	inbounds   int
	incoming   int
	reconnects map[*Reconnector]struct{}
}

// named is an object that peers can ask for by name.
type named struct {
	obj  Object
	name string
	kept bool // registered; else it lasts as long as something holds it
	held int  // connections over which it was sent
}

// NewTub reads or makes the key and returns a Tub that neither listens nor has
// a location: it can already connect to others.
func NewTub(cfg Config) (*Tub, error) {
	if strings.ContainsAny(cfg.Features, "\r\n") || len(cfg.Features) > 500 {
		return nil, errors.New("rpc: Config.Features is not one line of at most 500 bytes")
	}
	ident, err := loadIdentity(cfg.KeyFile)
	if err != nil {
		return nil, err
	}
	t := &Tub{
		cfg:         cfg.withDefaults(),
		identity:    ident,
		incarnation: newIncarnation(),
		began:       time.Now(),
		names:       make(map[string]*named),
		objects:     make(map[Object]*named),
		conns:       make(map[TubID]*conn),
		all:         make(map[*conn]struct{}),
		attempts:    make(map[TubID]*attempt),
		fromAddr:    make(map[string]int),
		reconnects:  make(map[*Reconnector]struct{}),
		work:        make(chan func()),
	}
	t.log = t.cfg.Log
	if t.copies, err = newCopyables(cfg.Copyables, cfg.AnyCopyable); err != nil {
		return nil, err
	}
	if t.interfaces, err = newInterfaces(cfg.Interfaces); err != nil {
		return nil, err
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

// ID returns the Tub's identity.
func (t *Tub) ID() TubID { return t.id }

// Listen accepts connections at endpoint, and returns the address it got:
// Twisted's "tcp:3117" and "tcp:3117:interface=127.0.0.1", or "tcp:127.0.0.1:0".
func (t *Tub) Listen(endpoint string) (net.Addr, error) {
	address, err := listenAddress(endpoint)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("rpc: %w", err)
	}
	if err := t.Serve(ln); err != nil {
		return nil, err
	}
	return ln.Addr(), nil
}

// listenAddress turns an endpoint into an address of package net.
func listenAddress(endpoint string) (string, error) {
	bad := fmt.Errorf("rpc: %q is no endpoint: tcp:PORT, tcp:PORT:interface=ADDRESS, or tcp:ADDRESS:PORT", endpoint)
	rest := strings.TrimPrefix(endpoint, "tcp:")
	head, options, _ := strings.Cut(rest, ":interface=")
	if _, err := strconv.ParseUint(head, 10, 16); err == nil {
		host := strings.ReplaceAll(options, `\:`, ":") // Twisted's way to write an IPv6 address
		return net.JoinHostPort(strings.Trim(host, "[]"), head), nil
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return "", bad
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", bad
	}
	return net.JoinHostPort(host, port), nil
}

// Serve accepts connections from ln, which the Tub closes with itself.
func (t *Tub) Serve(ln net.Listener) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		ln.Close()
		return fmt.Errorf("rpc: %w", ErrClosed)
	}
	t.listeners = append(t.listeners, ln)
	t.goroutines.Go(func() { t.acceptLoop(ln) })
	return nil
}

// acceptLoop ends when Close closes ln.
func (t *Tub) acceptLoop(ln net.Listener) {
	delay := time.Duration(0)
	for {
		raw, err := ln.Accept()
		if err != nil {
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, most often: it passes.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			t.log.Warn("accepting a connection", "err", err, "retry", delay)
			select {
			case <-time.After(delay):
			case <-t.ctx.Done():
			}
			continue
		}
		delay = 0
		from, err := t.admit(raw)
		if err != nil {
			t.log.Warn("connection refused", "from", raw.RemoteAddr().String(), "err", err)
			raw.Close()
			continue
		}
		t.goroutines.Go(func() {
			defer t.negotiated()
			stop := context.AfterFunc(t.ctx, func() { raw.Close() })
			defer stop()
			if err := t.accept(&counted{Conn: raw, tub: t, from: from}); err != nil {
				t.log.Info("negotiation failed", "from", raw.RemoteAddr().String(), "err", err)
			}
		})
	}
}

// admit counts an inbound connection, if there may be one more.
func (t *Tub) admit(raw net.Conn) (from string, err error) {
	from, _, err = net.SplitHostPort(raw.RemoteAddr().String())
	if err != nil {
		from = raw.RemoteAddr().String()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	lim := t.cfg.Limits
	switch {
	case t.closed:
		return "", ErrClosed
	case t.inbounds+len(t.conns) >= 2*lim.Conns || t.inbounds >= lim.Conns:
		return "", fmt.Errorf("%w: %d connections", ErrLimit, lim.Conns)
	case t.fromAddr[from] >= lim.PerAddr:
		return "", fmt.Errorf("%w: %d connections from one address", ErrLimit, lim.PerAddr)
	case t.incoming >= lim.Incoming:
		return "", fmt.Errorf("%w: %d connections being negotiated", ErrLimit, lim.Incoming)
	}
	t.inbounds++
	t.incoming++
	t.fromAddr[from]++
	return from, nil
}

func (t *Tub) negotiated() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.incoming--
}

// counted is an inbound connection that is counted until it is closed.
type counted struct {
	net.Conn
	tub  *Tub
	from string
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() {
		c.tub.mu.Lock()
		defer c.tub.mu.Unlock()
		c.tub.inbounds--
		if c.tub.fromAddr[c.from]--; c.tub.fromAddr[c.from] == 0 {
			delete(c.tub.fromAddr, c.from)
		}
	})
	return c.Conn.Close()
}

func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// SetLocation sets the hints that stand in the FURLs made from now on, in the
// form of a location file: "tcp:host:port,tcp:…".
func (t *Tub) SetLocation(hints string) error {
	list, err := parseHints(strings.TrimSpace(hints))
	if err == nil && strings.ContainsAny(hints, "/\r\n") {
		err = errors.New("a hint has neither slashes nor line ends")
	}
	if err == nil && list == nil {
		err = errors.New("it is empty")
	}
	if err != nil {
		return fmt.Errorf("rpc: location %q: %w", hints, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.location = list
	return nil
}

// Location returns the hints set by SetLocation.
func (t *Tub) Location() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.location, ",")
}

// Register offers obj under name, or under a new swissnum if name is "", and
// returns its FURL. An object already registered keeps its name. Without a
// location the error is ErrNoLocation.
func (t *Tub) Register(obj Object, name string) (FURL, error) {
	if obj == nil || !reflect.ValueOf(obj).Comparable() {
		return FURL{}, fmt.Errorf("rpc: a %T cannot be registered: it is not comparable", obj)
	}
	if strings.ContainsAny(name, "\r\n") {
		return FURL{}, fmt.Errorf("rpc: the name %q has more than one line", name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.location) == 0 {
		return FURL{}, fmt.Errorf("rpc: %w", ErrNoLocation)
	}
	n := t.objects[obj]
	if n == nil {
		name = cmp.Or(name, NewSwissnum())
		if other := t.names[name]; other != nil {
			if name == "" {
				return FURL{}, errors.New("rpc: no name")
			}
			return FURL{}, fmt.Errorf("rpc: another object is registered under %q", abbreviate(name))
		}
		n = &named{obj: obj, name: name}
		t.names[name], t.objects[obj] = n, n
	}
	n.kept = true
	return t.furl(n.name), nil
}

// furl returns the FURL of a name. mu is held.
func (t *Tub) furl(name string) FURL {
	return FURL{Tub: t.id, Hints: slices.Clone(t.location), Name: name}
}

// RegisterFile is Register with the name kept in a file that holds the FURL,
// so that the FURL lasts. The file is rewritten with the current location; a
// new one has mode 0600. A file of another Tub is ErrWrongTub.
func (t *Tub) RegisterFile(obj Object, furlfile string) (FURL, error) {
	return t.RegisterFileName(obj, furlfile, "")
}

// RegisterFileName is RegisterFile with a name of the caller's choice. A file
// that holds another name is ErrWrongName.
func (t *Tub) RegisterFileName(obj Object, furlfile, name string) (FURL, error) {
	switch old, err := ReadFURLFile(furlfile); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return FURL{}, err
	case old.Tub != t.id:
		return FURL{}, fmt.Errorf("rpc: furl file %q: %w: it is %s and this Tub is %s", furlfile, ErrWrongTub, old.Tub, t.id)
	case name != "" && old.Name != name:
		return FURL{}, fmt.Errorf("rpc: furl file %q: %w", furlfile, ErrWrongName)
	default:
		name = old.Name
	}
	f, err := t.Register(obj, name)
	if err != nil {
		return FURL{}, err
	}
	if err := writeFURLFile(furlfile, f); err != nil {
		return FURL{}, fmt.Errorf("rpc: furl file: %w", err)
	}
	return f, nil
}

// Unregister makes name unknown to peers that ask for it. References that
// peers already have stay usable.
func (t *Tub) Unregister(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.names[name]; n != nil {
		delete(t.names, name)
		delete(t.objects, n.obj)
	}
}

// hold returns the FURL of an object that is about to be sent, for which a name
// is made if it has none: that is how third Tubs can be introduced to it. The
// name lasts until letGo was called as often as hold returned true.
func (t *Tub) hold(obj Object) (furl string, held bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.location) == 0 {
		return "", false
	}
	n := t.objects[obj]
	if n == nil {
		n = &named{obj: obj, name: NewSwissnum()}
		t.names[n.name], t.objects[obj] = n, n
	}
	n.held++
	return t.furl(n.name).String(), true
}

func (t *Tub) letGo(obj Object) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.objects[obj]
	if n == nil {
		return
	}
	if n.held--; n.held <= 0 && !n.kept {
		delete(t.names, n.name)
		delete(t.objects, obj)
	}
}

// abbreviate shows as much of a name as the original shows.
func abbreviate(name string) string { return name[:min(2, len(name))] }

// errNoName has the text of the original's KeyError, quotes included.
func errNoName(name string) error {
	return Errorf(typeKeyError, "\"unable to find reference for name starting with '%s'\"", abbreviate(name))
}

// named returns the object a peer asks for by name.
func (t *Tub) named(c *conn, name string) (any, error) {
	t.mu.Lock()
	n := t.names[name]
	t.mu.Unlock()
	if n != nil {
		return n.obj, nil
	}
	if t.cfg.Lookup != nil {
		if obj := t.cfg.Lookup(name, Peer{c}); obj != nil {
			return obj, nil
		}
	}
	return nil, errNoName(name)
}

// Connected returns the peers there is a connection with now.
func (t *Tub) Connected() []Peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	peers := make([]Peer, 0, len(t.conns))
	for _, c := range t.conns {
		peers = append(peers, Peer{c})
	}
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.TubID(), b.TubID()) })
	return peers
}

// Close ends all connections, waits for all the Tub's goroutines, and may be
// repeated. Answers that methods have returned are still sent; the contexts of
// methods that run end, and Close waits for them too: so a method must heed its
// context, and must not call Close itself.
func (t *Tub) Close() error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	t.Shutdown(ended)
	return nil
}

// Shutdown is Close that lets the methods that run finish until ctx is done: if
// some did not, it returns ctx's error.
func (t *Tub) Shutdown(ctx context.Context) error {
	t.mu.Lock()
	t.closed = true
	listeners := t.listeners
	t.listeners = nil
	conns := make([]*conn, 0, len(t.all))
	for c := range t.all {
		conns = append(conns, c)
	}
	var stopping []*Reconnector
	for rc := range t.reconnects {
		stopping = append(stopping, rc)
	}
	attempts := make([]*attempt, 0, len(t.attempts))
	for _, a := range t.attempts {
		attempts = append(attempts, a)
	}
	t.mu.Unlock()

	for _, ln := range listeners {
		ln.Close()
	}
	for _, a := range attempts {
		a.cancel(ErrClosed)
	}
	for _, rc := range stopping {
		rc.stopAttempts()
	}
	var drains sync.WaitGroup
	var cut atomic.Bool
	for _, c := range conns {
		drains.Go(func() {
			if !c.drain(ctx, ErrClosed) {
				cut.Store(true)
			}
		})
	}
	drains.Wait()
	t.cancel()
	t.goroutines.Wait()
	if cut.Load() {
		return context.Cause(ctx)
	}
	return nil
}

// maxWaiting is how many workers wait for work. It is taste.
const maxWaiting = 8

// do runs f on a goroutine, if possible on one that has done such work before:
// its stack has the size that TLS needs, and growing one for each write took a
// seventh of the time of a small call (BenchmarkCall).
func (t *Tub) do(f func()) {
	select {
	case t.work <- f:
	default:
		t.goroutines.Go(func() { t.worker(f) })
	}
}

// worker ends when enough others wait, or with the Tub.
func (t *Tub) worker(f func()) {
	for {
		f()
		if t.waiting.Add(1) > maxWaiting {
			t.waiting.Add(-1)
			return
		}
		select {
		case f = <-t.work:
			t.waiting.Add(-1)
		case <-t.ctx.Done():
			t.waiting.Add(-1)
			return
		}
	}
}

// forget removes a dead connection.
func (t *Tub) forget(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, c)
	if t.conns[c.peerID] == c {
		delete(t.conns, c.peerID)
	}
	if t.loop == c {
		t.loop = nil
	}
}

// memory keeps a value for each of the last few thousand peers, so that peers
// with ever new keys cannot make it grow.
type memory[V any] struct {
	m map[TubID]V
}

const maxMemory = 4096 // peers; taste

func (m *memory[V]) set(id TubID, v V) {
	if m.m == nil {
		m.m = make(map[TubID]V)
	}
	if _, ok := m.m[id]; !ok && len(m.m) >= maxMemory {
		for other := range m.m { // any one: a map's order is random
			delete(m.m, other)
			break
		}
	}
	m.m[id] = v
}
