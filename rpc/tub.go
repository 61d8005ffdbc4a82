package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net"
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
	DisconnectTimeout  time.Duration // silence after which the connection is closed; default never
	DialTimeout        time.Duration // for all hints of a FURL together; default 120s
	NegotiationTimeout time.Duration // from an accepted connection to the end of its negotiation; default 120s

	Log *slog.Logger // our own diagnostics; default discards
}

// A Tub is one end of RPC connections, with a key.
type Tub struct {
	cfg Config
}

var errNotYet = errors.New("rpc: not built yet")

// NewTub reads or makes the key and returns a Tub that neither listens nor has
// a location: it can already connect to others.
func NewTub(cfg Config) (*Tub, error) { return nil, errNotYet }

// ID returns the Tub's identity.
func (t *Tub) ID() TubID { return "" }

// Listen accepts connections at endpoint, and returns the address it got:
// Twisted's "tcp:3117" and "tcp:3117:interface=127.0.0.1", or "tcp:127.0.0.1:0".
func (t *Tub) Listen(endpoint string) (net.Addr, error) { return nil, errNotYet }

// SetLocation sets the hints that stand in the FURLs made from now on, in the
// form of a location file: "tcp:host:port,tcp:…".
func (t *Tub) SetLocation(hints string) error { return errNotYet }

// Location returns the hints set by SetLocation.
func (t *Tub) Location() string { return "" }

// Register offers obj under name, or under a new swissnum if name is "", and
// returns its FURL. An object already registered keeps its name. Without a
// location the error is ErrNoLocation.
func (t *Tub) Register(obj Object, name string) (FURL, error) { return FURL{}, errNotYet }

// RegisterFile is Register with the name kept in a file that holds the FURL,
// so that the FURL lasts. The file is rewritten with the current location; a
// new one has mode 0600. A file of another Tub is ErrWrongTub.
func (t *Tub) RegisterFile(obj Object, furlfile string) (FURL, error) { return FURL{}, errNotYet }

// Unregister makes name unknown to peers that ask for it. References that
// peers already have stay usable.
func (t *Tub) Unregister(name string) {}

// Connect returns a reference to the object f names, over the connection to
// its Tub that exists or a new one. It is the original's getReference.
func (t *Tub) Connect(ctx context.Context, f FURL) (*Remote, error) { return nil, errNotYet }

// KeepConnected connects to f and, whenever the connection is lost, again,
// with growing delays. For each connection serve runs in a goroutine of its
// own; its context ends with the connection.
func (t *Tub) KeepConnected(f FURL, serve func(ctx context.Context, r *Remote)) *Reconnector {
	return &Reconnector{}
}

// Close ends all connections, waits for all the Tub's goroutines, and may be
// repeated. Answers that methods have returned are still sent.
func (t *Tub) Close() error { return nil }

// A Reconnector keeps one connection up: see [Tub.KeepConnected].
type Reconnector struct{}

// Stop ends it: no new attempt, and the context of a running serve ends.
func (rc *Reconnector) Stop() {}

// Reset makes the next attempt now and starts the delays anew.
func (rc *Reconnector) Reset() {}

// Status says what the reconnector is doing, for display.
func (rc *Reconnector) Status() Status { return Status{} }

// Status is a Reconnector's state.
type Status struct {
	Connected   bool
	Since       time.Time // of the connection, or of the loss of the last one
	Hint        string    // of the connection, or being tried
	LastError   error     // of the last attempt that failed
	NextAttempt time.Time // zero while connected or trying
	Attempts    int       // since the last connection
}

type conn struct {
	peerID   TubID
	features string
	nc       net.Conn
}

type inbound struct{}

func (in *inbound) context() context.Context { return nil }
func (in *inbound) peer() Peer               { return Peer{} }
func (in *inbound) detach()                  {}
