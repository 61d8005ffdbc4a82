package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flogtool/flogtool/rpc"
)

// TestDisconnectDuringCall: whichever side disconnects, the call fails with
// ErrDeadReference and the contexts of the connection end.
func TestDisconnectDuringCall(t *testing.T) {
	t.Run("a Go server goes", func(t *testing.T) {
		server := newServer(t, rpc.Config{})
		r := connect(t, newTub(t, rpc.Config{}), register(t, server, newTarget(), ""))
		p := r.Start("never", rpc.Args{})
		call(t, r, "echo", 1) // so the method never is running
		server.Close()
		dead(t, r, p)
	})
	t.Run("a Go client goes", func(t *testing.T) {
		started, ended := make(chan struct{}), make(chan error, 1)
		server := newServer(t, rpc.Config{})
		f := register(t, server, &rpc.Methods{Map: methods{"never": func(c *rpc.Call) (any, error) {
			close(started)
			<-c.Context().Done()
			ended <- context.Cause(c.Context())
			return nil, nil
		}}}, "")
		client := newTub(t, rpc.Config{})
		r := connect(t, client, f)
		p := r.Start("never", rpc.Args{})
		<-started
		client.Close()
		dead(t, r, p)
		if err := <-ended; err == nil {
			t.Error("the method's context did not end with a cause")
		}
	})
	t.Run("a Python server goes", func(t *testing.T) {
		proc, f := pythonServer(t)
		r := connect(t, newTub(t, rpc.Config{}), f)
		p := r.Start("never", rpc.Args{})
		call(t, r, "echo", 1)
		proc.Kill()
		dead(t, r, p)
	})
	t.Run("a Python client goes", func(t *testing.T) {
		started, ended := make(chan struct{}), make(chan struct{})
		server := newServer(t, rpc.Config{})
		f := register(t, server, &rpc.Methods{Map: methods{"never": func(c *rpc.Call) (any, error) {
			close(started)
			<-c.Context().Done()
			close(ended)
			return nil, nil
		}}}, "")
		proc := pythonClient(t, f, true, `
    yield target.callRemote("never")
`)
		<-started
		proc.Kill()
		<-ended
	})
	t.Run("we go, Python sees it", func(t *testing.T) {
		server := newServer(t, rpc.Config{})
		f := register(t, server, newTarget(), "")
		proc := pythonClient(t, f, false, `
    target.notifyOnDisconnect(say, "notified")
    d = target.callRemote("never")
    yield target.callRemote("echo", 1)
    say("waiting")
    d.addErrback(lambda f: say("failed", f.check(DeadReferenceError) is not None))
    yield d
`)
		proc.Expect(t, "waiting")
		server.Close()
		proc.Expect(t, "notified|failed True") // in any order
		proc.Expect(t, "notified|failed True")
	})
}

// dead checks that a reference and a pending call fail.
func dead(t *testing.T, r *rpc.Remote, p *rpc.Pending) {
	t.Helper()
	if err := p.Result(nil); !errors.Is(err, rpc.ErrDeadReference) {
		t.Errorf("the call that waits: %v", err)
	}
	select {
	case <-r.Done():
	case <-within(t).Done():
		t.Fatal("Done is not closed")
	}
	if r.IsConnected() || !errors.Is(r.Err(), rpc.ErrDeadReference) {
		t.Errorf("IsConnected %v, Err %v", r.IsConnected(), r.Err())
	}
	if err := r.Call(within(t), "echo", rpc.Pos(1), nil); !errors.Is(err, rpc.ErrDeadReference) {
		t.Errorf("a later call: %v", err)
	}
	if err := r.Start("echo", rpc.Pos(1)).Result(nil); !errors.Is(err, rpc.ErrDeadReference) {
		t.Errorf("a later Start: %v", err)
	}
	r.Release() // harmless
}

// TestKeepConnected: to a Go server and a Python server that are stopped and started
// again with the same FURL.
func TestKeepConnected(t *testing.T) {
	key, _ := keyFile(t, "", true)
	var server *rpc.Tub
	addr := ""
	start := func() rpc.FURL {
		server = newTub(t, rpc.Config{KeyFile: key})
		a, err := server.Listen("tcp:127.0.0.1:" + cmpOr(addr, "0"))
		if err != nil {
			t.Fatal(err)
		}
		_, addr, _ = net.SplitHostPort(a.String())
		if err := server.SetLocation("tcp:" + a.String()); err != nil {
			t.Fatal(err)
		}
		return register(t, server, newTarget(), "target")
	}
	f := start()
	client := newTub(t, rpc.Config{})
	got := make(chan *rpc.Remote)
	ended := make(chan struct{})
	rc := client.KeepConnected(f, func(ctx context.Context, r *rpc.Remote) {
		got <- r
		<-ctx.Done()
		ended <- struct{}{}
	})
	first := <-got
	if s := rc.Status(); !s.Connected || s.Hint == "" || s.Attempts != 0 {
		t.Errorf("status while connected: %+v", s)
	}
	server.Close()
	<-ended
	<-first.Done()
	f2 := start()
	if !f2.Same(f) {
		t.Fatalf("the FURL changed")
	}
	second := <-got
	if second == first {
		t.Error("a reference came back to life")
	}
	if v := call(t, second, "echo", 1); v != int64(1) {
		t.Errorf("echo = %v", v)
	}
	go func() { <-ended }()
	rc.Stop()
	rc.Stop()
	if !second.IsConnected() {
		t.Error("Stop closed the connection")
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// TestPythonReconnects: the original's reconnector finds a restarted Go server, and our
// Reconnector finds a Python server that was killed.
func TestPythonReconnects(t *testing.T) {
	key, id := keyFile(t, "", true)
	var served atomic.Int32
	server := func(port string) (*rpc.Tub, string) {
		tub := newTub(t, rpc.Config{KeyFile: key})
		a, err := tub.Listen("tcp:127.0.0.1:" + port)
		if err != nil {
			t.Fatal(err)
		}
		tub.SetLocation("tcp:" + a.String())
		register(t, tub, &rpc.Methods{Map: methods{"hello": func(*rpc.Call) (any, error) { served.Add(1); return "hi", nil }}}, "target")
		_, port, _ = net.SplitHostPort(a.String())
		return tub, port
	}
	tub, port := server("0")
	p := pythonProgram(t, `
def connected(ref):
    say("connected")
    ref.notifyOnDisconnect(say, "lost")
    ref.callRemote("hello").addCallback(lambda v: say("hello", v))
def setup():
    tub = newTub()
    tub.connectTo(sys.argv[1], connected)
run(setup)
`, "pb://"+string(id)+"@tcp:127.0.0.1:"+port+"/target")
	p.Expect(t, "hello hi")
	tub.Close()
	p.Expect(t, "lost")
	server(port)
	p.Expect(t, "hello hi")
	if served.Load() != 2 {
		t.Errorf("%d calls", served.Load())
	}
}

// TestReconnectDelays: the delays grow as in the original, Reset restarts them, and
// Status reports the state.
func TestReconnectDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // the race detector does not know the order of the bubble
		var tried []time.Time
		attempts := func() int { mu.Lock(); defer mu.Unlock(); return len(tried) }
		refuse := errors.New("refused by the test")
		tub, err := rpc.NewTub(rpc.Config{Dialers: dialers{"tcp": func(context.Context, string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			tried = append(tried, time.Now())
			return nil, refuse
		}}})
		if err != nil {
			t.Fatal(err)
		}
		defer tub.Close()
		f := rpc.FURL{Tub: someTub, Hints: []string{"tcp:h:1"}, Name: "x"}
		rc := tub.KeepConnected(f, func(context.Context, *rpc.Remote) { t.Error("connected") })
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		mu.Lock()
		want := 2.718
		for i := 1; i < len(tried); i++ {
			got := tried[i].Sub(tried[i-1]).Seconds()
			if got > 3600 || got < want/2 || got > want*2 {
				t.Errorf("delay %d was %.1f s, want about %.1f", i, got, want)
			}
			want = min(got*2.718, 3600)
		}
		mu.Unlock()
		if n := attempts(); n < 40 || n > 70 {
			t.Errorf("%d attempts in two days", n)
		}
		s := rc.Status()
		if s.Connected || !errors.Is(s.LastError, refuse) || s.Attempts != attempts() || !s.NextAttempt.After(time.Now()) {
			t.Errorf("status %+v after %d attempts", s, attempts())
		}
		before := attempts()
		rc.Reset()
		synctest.Wait()
		if attempts() != before+1 {
			t.Error("Reset did not try at once")
		}
		time.Sleep(10 * time.Second)
		if attempts() < before+2 {
			t.Error("Reset did not start the delays anew")
		}
		rc.Stop()
		time.Sleep(3 * time.Hour)
		if n := attempts(); n > before+5 {
			t.Errorf("%d attempts after Stop", n-before)
		}
	})
}

// TestKeepalive: a silent peer is pinged, and dropped if the Config says so; a peer that
// answers stays connected. The clock is that of a bubble.
func TestKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tub, err := rpc.NewTub(rpc.Config{KeepaliveTimeout: 2 * time.Second, DisconnectTimeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer tub.Close()
		tub.SetLocation("tcp:h:1")
		f, err := tub.Register(newTarget(), "")
		if err != nil {
			t.Fatal(err)
		}
		r, err := tub.Connect(context.Background(), f) // the loopback: it answers pings
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if !r.IsConnected() {
			t.Errorf("a peer that answers was dropped: %v", r.Err())
		}
	})
	// A peer that does not answer.
	server := newServer(t, rpc.Config{KeepaliveTimeout: 20 * time.Millisecond, DisconnectTimeout: 500 * time.Millisecond})
	f := register(t, server, newTarget(), "")
	cert, id := rawKey(t, f.Tub, false)
	r := dialRaw(t, f, cert, id)
	r.hello("0123456789abcdef", "none 0")
	r.block()
	start := time.Now()
	got := r.rest()
	if n := strings.Count(got, "\x8e"); n < 3 || len(got) != n {
		t.Errorf("a mute peer got %q, want only pings", got)
	}
	if took := time.Since(start); took < 400*time.Millisecond {
		t.Errorf("dropped after %v", took)
	}
}

// TestKeepalivePaused: a peer that is not read because its calls wait for a method does
// not count as silent; when it is read again its silence counts.
func TestKeepalivePaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := slowOverPipe(t, rpc.Config{KeepaliveTimeout: -1}, rpc.Config{
			KeepaliveTimeout: time.Minute, DisconnectTimeout: 3 * time.Minute, Limits: rpc.Limits{Pause: 1 << 10},
		})
		var calls []*rpc.Pending
		for range 3 { // one runs, one fills the queue, one is not read
			calls = append(calls, r.Start("slow", rpc.Pos(make([]byte, 2<<10))))
		}
		for i, c := range calls {
			if err := c.Result(nil); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		}
		time.Sleep(time.Hour) // pings are answered
		if !r.IsConnected() {
			t.Errorf("an idle peer was dropped: %v", r.Err())
		}
	})
}

// TestPingDuringCall: a ping is answered at once while a method runs.
func TestPingDuringCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := slowOverPipe(t, rpc.Config{KeepaliveTimeout: time.Minute, DisconnectTimeout: time.Minute + time.Millisecond}, rpc.Config{})
		if err := r.Call(context.Background(), "slow", rpc.Args{}, nil); err != nil {
			t.Errorf("a call of an hour: %v", err)
		}
	})
}

// slowOverPipe returns a reference, in a bubble, to an object whose method slow takes an
// hour.
func slowOverPipe(t *testing.T, clientConfig, serverConfig rpc.Config) *rpc.Remote {
	t.Helper()
	// The garbage collector would run cleanups of a bubble's Tub outside of the bubble.
	percent := debug.SetGCPercent(-1)
	t.Cleanup(func() { debug.SetGCPercent(percent) })
	ln := make(pipes)
	clientConfig.Dialers = dialers{"tcp": func(ctx context.Context, _ string) (net.Conn, error) { return ln.dial(ctx) }}
	server, client := newTub(t, serverConfig), newTub(t, clientConfig)
	if err := errors.Join(server.Serve(ln), server.SetLocation("tcp:h:1")); err != nil {
		t.Fatal(err)
	}
	slow := func(*rpc.Call) (any, error) { time.Sleep(time.Hour); return nil, nil }
	return connect(t, client, register(t, server, &rpc.Methods{Map: methods{"slow": slow}}, ""))
}

// pipes is a listener whose connections are pipes: waiting for a socket would stop the
// clock of the bubble.
type pipes chan net.Conn

func (p pipes) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p <- newQueued(far):
		return newQueued(near), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// queued is one end of a pipe whose writes do not wait for the other end, which may be
// writing too.
type queued struct {
	net.Conn
	out    chan []byte
	closed chan struct{}
	once   sync.Once
}

func newQueued(c net.Conn) *queued {
	q := &queued{Conn: c, out: make(chan []byte, 1000), closed: make(chan struct{})}
	go func() { // ends with Close
		for {
			select {
			case b := <-q.out:
				q.Conn.Write(b)
			case <-q.closed:
				return
			}
		}
	}()
	return q
}

func (q *queued) Write(b []byte) (int, error) {
	select {
	case q.out <- bytes.Clone(b):
		return len(b), nil
	case <-q.closed:
		return 0, net.ErrClosed
	}
}

// Queued bytes are written when the other end reads.
func (q *queued) SetWriteDeadline(time.Time) error { return nil }
func (q *queued) SetDeadline(t time.Time) error    { return q.SetReadDeadline(t) }

func (q *queued) Close() error {
	q.once.Do(func() { close(q.closed) })
	return q.Conn.Close()
}

// TestNegotiationTimeout: a connection on which the peer sends nothing is closed.
func TestNegotiationTimeout(t *testing.T) {
	server := newServer(t, rpc.Config{NegotiationTimeout: 50 * time.Millisecond})
	f := register(t, server, newTarget(), "")
	nc := dialPlain(t, f)
	if b, err := io.ReadAll(nc); err != nil || len(b) != 0 {
		t.Errorf("a silent initiator got %q, %v", b, err)
	}
}

// TestShutdown: pending answers are sent, and running methods may finish.
func TestShutdown(t *testing.T) {
	server := newServer(t, rpc.Config{})
	release := make(chan struct{})
	running := make(chan struct{}, 1)
	f := register(t, server, &rpc.Methods{Map: methods{
		"slow": func(c *rpc.Call) (any, error) {
			c.Go()
			running <- struct{}{}
			<-release
			return bytes.Repeat([]byte("x"), 1<<20), nil
		},
		"quick": echo,
	}}, "")
	r := connect(t, newTub(t, rpc.Config{}), f)
	p := r.Start("slow", rpc.Args{Expect: 2 << 20})
	<-running
	done := make(chan error, 1)
	go func() { done <- server.Shutdown(within(t)) }()
	close(release)
	var v []byte
	if err := p.Result(&v); err != nil || len(v) != 1<<20 {
		t.Errorf("an answer in flight: %d bytes, %v", len(v), err)
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	<-r.Done()
	if _, err := server.Connect(within(t), f); !errors.Is(err, rpc.ErrClosed) {
		t.Errorf("a closed Tub connects: %v", err)
	}
	if err := server.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
}

// TestNobodyLeft: after a thousand connections to one Tub that made calls and were
// dropped, goroutines and memory are back at their earlier level.
func TestNobodyLeft(t *testing.T) {
	n := 1000
	if raceEnabled {
		n = 100 // the race detector makes each key and handshake ten times slower
	}
	ctx := within(t)
	server := newServer(t, rpc.Config{})
	f := register(t, server, newTarget(), "")
	// The first one, so that everything that is made once exists.
	warm := newTub(t, rpc.Config{})
	connect(t, warm, f)
	warm.Close()
	goroutines, memory := runtime.NumGoroutine(), inUse()

	clients := make([]*rpc.Tub, n)
	refs := make([]*rpc.Remote, n)
	var dials sync.WaitGroup
	for w := range 8 {
		dials.Go(func() {
			for i := w; i < n; i += 8 {
				tub, err := rpc.NewTub(rpc.Config{})
				if err != nil {
					t.Error(err)
					return
				}
				clients[i] = tub
				if refs[i], err = tub.Connect(ctx, f); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	dials.Wait()
	if t.Failed() {
		t.FailNow()
	}
	if got := len(server.Connected()); got != n {
		t.Fatalf("%d connections", got)
	}
	var calls sync.WaitGroup
	for _, r := range refs {
		calls.Go(func() {
			for i := range 10 {
				var v int
				if err := r.Call(ctx, "echo", rpc.Pos(i), &v); err != nil || v != i {
					t.Errorf("echo = %d, %v", v, err)
				}
			}
		})
	}
	calls.Wait()
	t.Logf("%d connections, both ends: %d KiB and %.1f goroutines each", n, (inUse()-memory)/1024/n,
		float64(runtime.NumGoroutine()-goroutines)/float64(n))
	var closes sync.WaitGroup
	for _, c := range clients {
		closes.Go(func() { c.Close() })
	}
	closes.Wait()
	for _, r := range refs {
		<-r.Done()
	}
	clear(clients)
	clear(refs)
	for range 500 {
		if runtime.NumGoroutine() <= goroutines+10 && len(server.Connected()) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got := runtime.NumGoroutine(); got > goroutines+10 { // some workers are idle
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines, at the start %d:\n%s", got, goroutines, buf[:runtime.Stack(buf, true)])
	}
	if grown := inUse() - memory; grown > 4<<20 {
		t.Errorf("%d KiB more in use than at the start", grown/1024)
	}
}

// inUse returns the bytes of live heap objects.
func inUse() int {
	for range 3 { // cleanups and finalizers need a round each
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
