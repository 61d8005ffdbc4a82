package rpc

import (
	"cmp"
	"container/list"
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
	// KeyFile is a PEM file with the Tub's CERTIFICATE and PRIVATE KEY. NewTub
	// creates it with mode 0600 if it does not exist. "" makes a key that lasts as
	// long as the Tub.
	KeyFile string

	// Features is the value of the key flog in the hello: words for the layers
	// above, such as "1 batch". One line of at most 500 bytes; "" sends no key.
	Features string

	AcceptGifts bool   // let peers make this Tub dial a third Tub; default off
	Limits      Limits // zero fields mean their defaults

	KeepaliveTimeout   time.Duration // silence after which the peer is pinged; default 240s, negative: never
	DisconnectTimeout  time.Duration // silence after which the connection is closed, while it is being read; default: never
	DialTimeout        time.Duration // for all hints of a FURL together; default 120s
	RetryDelay         time.Duration // before a Reconnector's first retry; default 1s
	NegotiationTimeout time.Duration // from an accepted connection to the end of its negotiation; default 120s

	// HandleOldDuplicates lets a peer that does not say which connection it knows
	// (a listener, or an old Foolscap that has restarted) replace a connection that
	// is at least that old. Default: never.
	HandleOldDuplicates time.Duration

	// Dialers opens connections for hints by their type; the argument is what
	// follows "TYPE:". Without an entry "tcp" is dialled directly and all other
	// types are skipped. A nil function makes its type unusable.
	Dialers map[string]func(ctx context.Context, address string) (net.Conn, error)

	// Lookup finds objects under names that are not registered. It is called on a
	// goroutine of its own and may return nil.
	Lookup func(name string, p Peer) Object

	// ExposeRemoteExceptionTypes false makes calls return a *HiddenError instead of
	// a *RemoteError. nil means true.
	ExposeRemoteExceptionTypes *bool

	Copyables   []CopyableType // Go types that are sent by value: see [Copyable]
	AnyCopyable bool           // receive copyables of other classes as *banana.Copyable; default: refuse them with a Violation
	Interfaces  []*Interface   // remote interfaces whose calls are checked

	Log *slog.Logger // the Tub's diagnostics; default: discarded
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

// A Tub is one endpoint of connections, with a private key. Its methods may be
// called from any goroutine. A Tub must be closed with [Tub.Close] or
// [Tub.Shutdown].
type Tub struct {
	cfg         Config
	identity    // its cert and id
	incarnation string
	began       time.Time
	log         *slog.Logger
	budget      budget
	copies      *copyables
	interfaces  map[string]*Interface

	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	goroutines sync.WaitGroup
	work       chan func() // to an idle worker
	waiting    atomic.Int32

	mu       sync.Mutex // never taken while the lock of a connection is held
	closed   bool
	location []string
	names    map[string]*named
	objects  map[Object]*named

	listeners  []net.Listener
	conns      map[TubID]*conn    // the one connection with each peer
	all        map[*conn]struct{} // these and both ends of the loopback
	loop       *conn              // the calling end of the connection to this Tub itself
	attempts   map[TubID]*attempt // being dialled
	decisions  recent[uint64]     // seqnum of this Tub's last decision for each peer
	forgotten  uint64             // the highest that was dropped from decisions
	last       recent[string]     // current-connection of each peer's last decision
	fromAddr   map[string]int     // inbound connections by address
	inbounds   int
	strangers  list.List // of *counted, the oldest first
	reconnects map[*Reconnector]struct{}
}

// named is an object that peers can ask for by name.
type named struct {
	obj  Object
	name string
	kept bool // registered; otherwise the name lasts while held is above 0
	held int  // connections over which the object was sent
}

// NewTub reads or creates the key and returns a Tub that can connect to others. It
// neither listens nor has a location. The error says what is wrong with cfg or with
// the key file.
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
	t.budget.limit = t.cfg.Limits.Memory
	if t.copies, err = newCopyables(cfg.Copyables, cfg.AnyCopyable); err != nil {
		return nil, err
	}
	if t.interfaces, err = newInterfaces(cfg.Interfaces); err != nil {
		return nil, err
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

// ID returns the Tub's TubID.
func (t *Tub) ID() TubID { return t.id }

// Listen accepts connections at endpoint and returns the address that it listens
// on. An endpoint is "tcp:3117" or "tcp:3117:interface=127.0.0.1", as for Twisted,
// or "tcp:127.0.0.1:0", where port 0 takes a free one. Errors are those of package
// net, or about the form of endpoint, or wrap [ErrClosed].
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
	bad := fmt.Errorf("rpc: %q is not an endpoint: want tcp:PORT, tcp:PORT:interface=ADDRESS or tcp:ADDRESS:PORT", endpoint)
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

// Serve accepts connections from ln in the background. It takes ownership of ln,
// which [Tub.Close] closes. The only error wraps [ErrClosed].
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
			// Most often the process is out of file descriptors for a while.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			t.log.Warn("accept failed", "err", err, "retry", delay)
			select {
			case <-time.After(delay):
			case <-t.ctx.Done():
			}
			continue
		}
		delay = 0
		in, victim, err := t.admit(raw)
		if victim != nil {
			victim.Close()
		}
		if err != nil {
			t.log.Warn("connection refused", "from", raw.RemoteAddr().String(), "err", err)
			raw.Close()
			continue
		}
		t.goroutines.Go(func() {
			stop := context.AfterFunc(t.ctx, func() { raw.Close() })
			defer stop()
			if err := t.accept(in); err != nil {
				t.log.Info("negotiation failed", "from", raw.RemoteAddr().String(), "err", err)
			}
		})
	}
}

// admit counts an inbound connection if the limits allow one more. Strangers have a
// share of the connections: where it is used up, the oldest is the victim, which the
// caller closes; of an address that has more than half the share, its oldest.
func (t *Tub) admit(raw net.Conn) (in, victim *counted, err error) {
	from, _, err := net.SplitHostPort(raw.RemoteAddr().String())
	if err != nil {
		from = raw.RemoteAddr().String()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	lim := t.cfg.Limits
	same := 0
	var oldestSame *counted
	for e := t.strangers.Front(); e != nil; e = e.Next() {
		if other := e.Value.(*counted); other.from == from {
			if same++; oldestSame == nil {
				oldestSame = other
			}
		}
	}
	switch {
	case same > 0 && (same >= max(1, lim.Strangers/2) || t.fromAddr[from] >= lim.PerAddr):
		victim = oldestSame
	case t.strangers.Len() >= lim.Strangers || t.strangers.Len() > 0 && t.inbounds >= lim.Conns:
		victim = t.strangers.Front().Value.(*counted)
	}
	if victim != nil {
		t.uncount(victim)
	}
	switch {
	case t.closed:
		return nil, victim, ErrClosed
	case t.inbounds+len(t.conns) >= 2*lim.Conns || t.inbounds >= lim.Conns:
		return nil, victim, fmt.Errorf("%w: %d connections", ErrLimit, lim.Conns)
	case t.fromAddr[from] >= lim.PerAddr:
		return nil, victim, fmt.Errorf("%w: %d connections from one address", ErrLimit, lim.PerAddr)
	}
	in = &counted{Conn: raw, tub: t, from: from, counts: true}
	in.stranger = t.strangers.PushBack(in)
	t.inbounds++
	t.fromAddr[from]++
	return in, victim, nil
}

// uncount ends the counting of an inbound connection. mu is held.
func (t *Tub) uncount(c *counted) {
	if c.stranger != nil {
		t.strangers.Remove(c.stranger)
		c.stranger = nil
	}
	if !c.counts {
		return
	}
	c.counts = false
	t.inbounds--
	if t.fromAddr[c.from]--; t.fromAddr[c.from] == 0 {
		delete(t.fromAddr, c.from)
	}
}

// counted is an inbound connection that is counted until it is closed.
type counted struct {
	net.Conn
	tub  *Tub
	from string

	counts   bool          // guarded by Tub.mu
	stranger *list.Element // of Tub.strangers, nil once the peer is a holder; guarded by Tub.mu
}

// Close closes the connection.
func (c *counted) Close() error {
	c.tub.mu.Lock()
	c.tub.uncount(c)
	c.tub.mu.Unlock()
	return c.Conn.Close()
}

// accepted notes that the peer is not a stranger any more.
func (c *counted) accepted() {
	c.tub.mu.Lock()
	defer c.tub.mu.Unlock()
	if c.stranger != nil {
		c.tub.strangers.Remove(c.stranger)
		c.stranger = nil
	}
}

func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// SetLocation sets the hints of the FURLs made from now on: one or more, joined by
// commas, such as "tcp:example.org:3117". The error is about their form.
func (t *Tub) SetLocation(hints string) error {
	list, err := parseHints(strings.TrimSpace(hints))
	if err == nil && strings.ContainsAny(hints, "/\r\n") {
		err = errors.New("a hint cannot contain a slash or a line end")
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

// Location returns the hints that SetLocation has set, joined by commas.
func (t *Tub) Location() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.location, ",")
}

// Register offers obj under name, or under a new swissnum if name is "", and
// returns its FURL. An object that is already registered keeps its name.
//
// The error wraps [ErrNoLocation] if SetLocation was not called. Other errors say
// that obj is not comparable, that name has several lines, or that name belongs to
// another object.
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

// RegisterFile is Register with a FURL that lasts: it takes the name from furlfile
// if that exists, and replaces the file with one that has the current location. A
// new file has mode 0600.
//
// In addition to those of Register, the error wraps [ErrWrongTub] if the file holds
// the FURL of another Tub and [ErrBadFURL] if it holds no FURL, or is that of
// reading or writing the file.
func (t *Tub) RegisterFile(obj Object, furlfile string) (FURL, error) {
	return t.RegisterFileName(obj, furlfile, "")
}

// RegisterFileName is RegisterFile with a given name. The error wraps
// [ErrWrongName] if the file holds another one.
func (t *Tub) RegisterFileName(obj Object, furlfile, name string) (FURL, error) {
	switch old, err := ReadFURLFile(furlfile); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return FURL{}, err
	case old.Tub != t.id:
		return FURL{}, fmt.Errorf("rpc: furl file %q: %w: it names %s, this Tub is %s", furlfile, ErrWrongTub, old.Tub, t.id)
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

// Unregister removes name: peers that ask for it get an error. References that
// peers already hold stay usable.
func (t *Tub) Unregister(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.names[name]; n != nil {
		delete(t.names, name)
		delete(t.objects, n.obj)
	}
}

// holdName returns the FURL of an object that is about to be sent, which lets the
// peer introduce third Tubs to it. It makes a name if the object has none. The name
// lasts until releaseName was called as often as holdName has returned true.
func (t *Tub) holdName(obj Object) (furl string, held bool) {
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

func (t *Tub) releaseName(obj Object) {
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

// abbreviate returns the part of a name that the original shows.
func abbreviate(name string) string { return name[:min(2, len(name))] }

// errNoName has the text of the original's KeyError, with its quotes.
func errNoName(name string) error {
	return Errorf(typeKeyError, "\"unable to find reference for name starting with '%s'\"", abbreviate(name))
}

// named returns the object for which a peer asks by name.
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

// Connected returns the peers with which there is a connection now, by ascending
// TubID.
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

// Close ends all connections and waits for all goroutines of the Tub. It sends the
// answers that methods have already returned, cancels the contexts of running
// methods, and waits for these methods: a method must watch its context and must
// not call Close itself. Close always returns nil and may be called again.
func (t *Tub) Close() error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	t.Shutdown(ended)
	return nil
}

// Shutdown is Close, but lets running methods finish until ctx is done. It returns
// the cause of ctx if some did not finish.
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

// maxWaiting is the maximum number of idle workers. It is a choice, not measured.
const maxWaiting = 8

// do runs f on a worker goroutine, an idle one if possible: its stack already has
// the size that TLS needs. Growing a new stack for each write took a seventh of the
// time of a small call (BenchmarkCall).
func (t *Tub) do(f func()) {
	select {
	case t.work <- f:
	default:
		t.goroutines.Go(func() { t.worker(f) })
	}
}

// worker returns when enough other workers are idle, or when the Tub is closed.
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

// recent keeps a value for each of at most maxRecent peers, so that peers with ever
// new keys cannot make it grow.
type recent[V any] struct {
	m map[TubID]V
}

const maxRecent = 4096 // peers; a choice

func (m *recent[V]) set(id TubID, v V) {
	if m.m == nil {
		m.m = make(map[TubID]V)
	}
	if _, ok := m.m[id]; !ok && len(m.m) >= maxRecent {
		for other := range m.m { // any one: the order of a map is random
			delete(m.m, other)
			break
		}
	}
	m.m[id] = v
}
