package rpc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flogtool/flogtool/rpc"
)

type dialers = map[string]func(context.Context, string) (net.Conn, error)

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// slowDialer dials when gate is closed.
func slowDialer(gate <-chan struct{}) dialers {
	return dialers{"tcp": func(ctx context.Context, address string) (net.Conn, error) {
		select {
		case <-gate:
			return dialTCP(ctx, address)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}}
}

func TestHints(t *testing.T) {
	server := newServer(t, rpc.Config{})
	f := register(t, server, newTarget(), "")
	good := f.Hints[0]
	address := strings.TrimPrefix(good, "tcp:")
	silent := silentListener(t)
	for _, tt := range []struct {
		name  string
		hints []string
	}{
		{"tcp", []string{good}},
		{"legacy", []string{address}},
		{"unknown types first", []string{"i2p:whatever", "tor:abc.onion:80", "strange", good}},
		{"malformed first", []string{"tcp:", "tcp:host", "tcp:h o:1", "tcp:host:99999", "tcp:[::1", good}},
		{"a closed port first", []string{"tcp:127.0.0.1:1", good}},
		{"a silent listener first", []string{"tcp:" + silent, good}},
		{"the same again", []string{good, good, good}},
		{"by name", []string{"tcp:localhost:" + address[strings.LastIndex(address, ":")+1:]}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client := newTub(t, rpc.Config{})
			g := f
			g.Hints = tt.hints
			start := time.Now()
			if v := call(t, connect(t, client, g), "echo", 1); v != int64(1) {
				t.Errorf("echo = %v", v)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	for _, tt := range []struct {
		name  string
		hints []string
		want  error
	}{
		{"none", nil, rpc.ErrNoHints},
		{"none usable", []string{"i2p:x", "tcp:nonsense"}, rpc.ErrNoHints},
	} {
		client := newTub(t, rpc.Config{})
		g := f
		g.Hints = tt.hints
		if _, err := client.Connect(within(t), g); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		// Without hints an existing connection can be used.
		connect(t, client, f)
		connect(t, client, g)
	}
}

// silentListener accepts connections and sends nothing.
func silentListener(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { io.Copy(io.Discard, c); c.Close() })
		}
	})
	t.Cleanup(func() { ln.Close(); conns.Wait() })
	return ln.Addr().String()
}

func TestIPv6(t *testing.T) {
	server := newTub(t, rpc.Config{})
	addr, err := server.Listen(`tcp:0:interface=\:\:1`)
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	if err := server.SetLocation("tcp:" + addr.String()); err != nil {
		t.Fatal(err)
	}
	f := register(t, server, newTarget(), "")
	if !strings.HasPrefix(f.Hints[0], "tcp:[::1]:") {
		t.Errorf("hint %q", f.Hints[0])
	}
	connect(t, newTub(t, rpc.Config{}), f)
}

// TestDialers: Config.Dialers can add a way to connect, replace the built-in one, and
// forbid it.
func TestDialers(t *testing.T) {
	server := newServer(t, rpc.Config{})
	f := register(t, server, newTarget(), "")
	address := strings.TrimPrefix(f.Hints[0], "tcp:")
	var asked atomic.Value
	client := newTub(t, rpc.Config{Dialers: dialers{
		"tcp": nil,
		"tor": func(ctx context.Context, onion string) (net.Conn, error) {
			asked.Store(onion)
			return dialTCP(ctx, address)
		},
	}})
	if _, err := client.Connect(within(t), f); !errors.Is(err, rpc.ErrNoHints) {
		t.Errorf("tcp where it is forbidden: %v", err)
	}
	f.Hints = append(f.Hints, "tor:abcdef.onion:80")
	connect(t, client, f)
	if asked.Load() != "abcdef.onion:80" {
		t.Errorf("the dialer was asked for %v", asked.Load())
	}
}

// TestBadFURLs: an error in a FURL is reported by the call that connects, and does not
// affect later calls.
func TestBadFURLs(t *testing.T) {
	server := newServer(t, rpc.Config{})
	good := register(t, server, newTarget(), "")
	other := newServer(t, rpc.Config{})
	wrongTub := good
	wrongTub.Tub = other.ID()
	wrongName := good
	wrongName.Name = "no-such-name"
	unreachable := good
	unreachable.Tub, unreachable.Hints = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", []string{"tcp:127.0.0.1:1"}
	client := newTub(t, rpc.Config{})
	for _, tt := range []struct {
		name string
		f    rpc.FURL
		want string
	}{
		{"zero", rpc.FURL{}, "empty"},
		{"wrong TubID", wrongTub, "unknown TubID"},
		{"unreachable", unreachable, "refused"},
		{"wrong name", wrongName, "unable to find reference for name starting with 'no'"},
		{"good", good, ""},
	} {
		_, err := client.Connect(within(t), tt.f)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && tt.f.Name != "" && strings.Contains(err.Error(), tt.f.Name) {
			t.Errorf("%s: the error shows the permission: %v", tt.name, err)
		}
	}
}

// TestWrongKey: a listener answers for a TubID whose key it does not have.
func TestWrongKey(t *testing.T) {
	server := newServer(t, rpc.Config{})
	f := register(t, server, newTarget(), "")
	// A relay that replaces the requested TubID by that of the real Tub.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var relays sync.WaitGroup
	relays.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			relays.Go(func() {
				defer c.Close()
				block := make([]byte, 4096)
				if n, err := c.Read(block); err != nil || n == 0 {
					return
				}
				s, err := net.Dial("tcp", strings.TrimPrefix(f.Hints[0], "tcp:"))
				if err != nil {
					return
				}
				defer s.Close()
				io.WriteString(s, "GET /id/"+string(f.Tub)+" HTTP/1.1\r\n\r\n")
				relays.Go(func() { io.Copy(s, c); s.Close() })
				io.Copy(c, s)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); relays.Wait() })
	forged := f
	forged.Tub, forged.Hints = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", []string{"tcp:" + ln.Addr().String()}
	client := newTub(t, rpc.Config{})
	if _, err := client.Connect(within(t), forged); !errors.Is(err, rpc.ErrWrongTub) {
		t.Errorf("connect: %v, want ErrWrongTub", err)
	}
}

// TestConnectCancelled: an attempt ends when no caller waits for it any more.
func TestConnectCancelled(t *testing.T) {
	silent := silentListener(t)
	client := newTub(t, rpc.Config{})
	f := rpc.FURL{Tub: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Hints: []string{"tcp:" + silent}, Name: "x"}
	ctx, cancel := context.WithCancel(within(t))
	short, cancelShort := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancelShort()
	long := make(chan error, 1)
	go func() { _, err := client.Connect(ctx, f); long <- err }()
	if _, err := client.Connect(short, f); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("short: %v", err)
	}
	cancel()
	if err := <-long; !errors.Is(err, context.Canceled) {
		t.Errorf("long: %v", err)
	}
	client = newTub(t, rpc.Config{DialTimeout: 20 * time.Millisecond})
	if _, err := client.Connect(within(t), f); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("DialTimeout: %v", err)
	}
}

// TestLoopback: a Tub reaches its own objects without the network, with references
// that behave like any others.
func TestLoopback(t *testing.T) {
	cfg := targetConfig()
	cfg.Dialers = dialers{"tcp": nil}
	tub := newTub(t, cfg)
	if err := tub.SetLocation("tcp:127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	f := register(t, tub, newTarget(), "")
	r := connect(t, tub, f)
	for _, row := range interopRows {
		t.Run(row.name, func(t *testing.T) { row.run(t, r) })
	}
	if r.RemoteTubID() != tub.ID() {
		t.Errorf("RemoteTubID = %s", r.RemoteTubID())
	}
	if again := connect(t, tub, f); again != r {
		t.Error("the same object is another Remote")
	}
}

func TestFeatures(t *testing.T) {
	server := newServer(t, rpc.Config{Features: "1 batch"})
	seen := make(chan string, 1)
	f := register(t, server, &rpc.Methods{Map: methods{
		"who": func(c *rpc.Call) (any, error) { seen <- c.Peer().Features(); return nil, nil },
	}}, "")
	r := connect(t, newTub(t, rpc.Config{Features: "2 batch filter"}), f)
	if r.Peer().Features() != "1 batch" {
		t.Errorf("features of the listener: %q", r.Peer().Features())
	}
	call(t, r, "who")
	if got := <-seen; got != "2 batch filter" {
		t.Errorf("features of the initiator: %q", got)
	}
	_, py := pythonServer(t)
	if got := connect(t, newTub(t, rpc.Config{Features: "1 batch"}), py).Peer().Features(); got != "" {
		t.Errorf("features of the original: %q", got)
	}
}

// TestBothDial: two Tubs that dial each other at the same time end up with one
// connection, and no call fails silently.
func TestBothDial(t *testing.T) {
	for range 20 {
		a, b := newServer(t, rpc.Config{}), newServer(t, rpc.Config{})
		fa, fb := register(t, a, newTarget(), ""), register(t, b, newTarget(), "")
		var both sync.WaitGroup
		for _, side := range []struct {
			tub *rpc.Tub
			f   rpc.FURL
		}{{a, fb}, {b, fa}} {
			for range 3 {
				both.Go(func() {
					r, err := side.tub.Connect(within(t), side.f)
					if err != nil {
						t.Errorf("connect: %v", err)
						return
					}
					var n int
					if err := r.Call(within(t), "echo", rpc.Pos(7), &n); err != nil && !errors.Is(err, rpc.ErrDeadReference) {
						t.Errorf("echo: %v", err)
					}
				})
			}
		}
		both.Wait()
		if n, m := len(a.Connected()), len(b.Connected()); n != 1 || m != 1 {
			t.Errorf("%d and %d connections, want one", n, m)
		}
		a.Close()
		b.Close()
	}
}
