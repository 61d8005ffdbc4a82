package rpc_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

// rawPeer is a peer that writes what it likes after an honest negotiation.
type rawPeer struct {
	*tls.Conn
	opens uint64 // OPEN tokens written
}

// newRawPeer connects to the Tub of f.
func newRawPeer(t testing.TB, f rpc.FURL) *rawPeer {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key.pem")
	tub := newTub(t, rpc.Config{KeyFile: key})
	tub.Close()
	cert, err := tls.LoadX509KeyPair(key, key)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", strings.TrimPrefix(f.Hints[0], "tcp:"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	fmt.Fprintf(nc, "GET /id/%s HTTP/1.1\r\nHost: x\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\n\r\n", f.Tub)
	block := func(r io.Reader) {
		var all []byte
		for one := make([]byte, 1); !bytes.HasSuffix(all, []byte("\r\n\r\n")); all = append(all, one[0]) {
			if _, err := r.Read(one); err != nil {
				t.Fatalf("negotiation: %v after %q", err, all)
			}
		}
	}
	block(nc)
	tc := tls.Client(nc, &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true})
	fmt.Fprintf(tc, "banana-negotiation-range: 3 3\r\ninitial-vocab-table-range: 0 0\r\nlast-connection: none 0\r\nmy-incarnation: x\r\nmy-tub-id: %s\r\n\r\n", tub.ID())
	block(tc)
	if tub.ID() > f.Tub {
		fmt.Fprintf(tc, "banana-decision-version: 3\r\ncurrent-connection: x 1\r\ninitial-vocab-table-index: 0 da39\r\n\r\n")
	} else {
		block(tc)
	}
	return &rawPeer{Conn: tc}
}

// open begins a sequence.
func open(b []byte, n uint64, kind string) []byte {
	return banana.AppendString(banana.AppendToken(b, n, banana.TokenOpen), kind)
}

func closing(b []byte, n uint64) []byte { return banana.AppendToken(b, n, banana.TokenClose) }

// callHead begins a call; arguments, and two closings for n+1 and n, follow.
func callHead(n uint64, id uint64, clid int64, method string, args uint64) []byte {
	b := open(nil, n, "call")
	b = banana.AppendToken(b, id, banana.TokenInt)
	b = banana.AppendInt(b, clid)
	b = banana.AppendString(b, method)
	b = open(b, n+1, "arguments")
	return banana.AppendToken(b, args, banana.TokenInt)
}

// getReference asks for an object by its name.
func (p *rawPeer) getReference(t testing.TB, name string) {
	b := callHead(p.opens, 1, 0, "getReferenceByName", 1)
	b = banana.AppendString(b, name)
	b = closing(closing(b, p.opens+1), p.opens)
	if _, err := p.Write(b); err != nil {
		t.Fatal(err)
	}
}

// until reads until the other side has said want, or has closed the connection, and
// returns what it said.
func (p *rawPeer) until(want string) string {
	p.SetReadDeadline(time.Now().Add(20 * time.Second))
	var said []byte
	for buf := make([]byte, 4096); !bytes.Contains(said, []byte(want)); {
		n, err := p.Read(buf)
		said = append(said, buf[:n]...)
		if err != nil {
			break
		}
	}
	return string(said)
}

// ended waits until the other side has closed the connection, and returns what it said.
func (p *rawPeer) ended(t testing.TB, within time.Duration) string {
	t.Helper()
	p.SetReadDeadline(time.Now().Add(within))
	all, err := io.ReadAll(p)
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		t.Fatalf("the connection still lives after %v; it said %q", within, all)
	}
	return string(all)
}

// honest calls the object until stop, and fails the test if that takes longer than a
// person waits.
func honest(t testing.TB, server *rpc.Tub, f rpc.FURL, stop <-chan struct{}) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			began := time.Now()
			tub, err := rpc.NewTub(rpc.Config{})
			if err != nil {
				t.Error(err)
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			r, err := tub.Connect(ctx, f)
			if err == nil {
				err = r.Call(ctx, "echo", rpc.Pos("hello"), nil)
			}
			took := time.Since(began)
			cancel()
			tub.Close()
			if err != nil || took > 2*time.Second {
				t.Errorf("an honest peer was served after %v: %v", took, err)
				return
			}
		}
	})
	return wg.Wait
}

// returned waits until all memory is given back.
func returned(t testing.TB, server *rpc.Tub) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); rpc.BudgetUsed(server) != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are still charged", rpc.BudgetUsed(server))
		}
	}
}

// TestStranger: a peer that has reached nothing by a swissnum may send little, and a
// holder more.
func TestStranger(t *testing.T) {
	server := newServer(t, rpc.Config{})
	f := register(t, server, newTarget(), "")
	lists := func(n int) []byte {
		b := callHead(0, 1, 0, "getReferenceByName", 1)
		b = open(b, 2, "list")
		for i := range uint64(n) {
			b = closing(open(b, 3+i, "list"), 3+i)
		}
		return closing(closing(closing(b, 2), 1), 0)
	}
	for name, c := range map[string]struct {
		send []byte
		want string
	}{
		"a long name":        {append(callHead(0, 1, 0, "getReferenceByName", 1), banana.AppendString(nil, strings.Repeat("x", 70_000))...), "longer than 65536 bytes"},
		"a long message":     {append(callHead(0, 1, 0, "getReferenceByName", 1), bytes.Repeat(banana.AppendString(nil, strings.Repeat("x", 1000)), 70)...), "longer than 65536 bytes"},
		"many values":        {lists(101), "more than 100 values"},
		"a long length only": {append(callHead(0, 1, 0, "getReferenceByName", 1), banana.AppendToken(nil, 1<<40, banana.TokenString)...), "longer than 65536 bytes"},
	} {
		p := newRawPeer(t, f)
		p.Write(c.send)
		if said := p.until(c.want); !strings.Contains(said, c.want) {
			t.Errorf("%s: the server said %q, want %q", name, said, c.want)
		}
	}
	p := newRawPeer(t, f)
	p.Write(lists(90))
	if said := p.until("must be bytes"); !strings.Contains(said, "must be bytes") {
		t.Errorf("a stranger within the limits: %q", said)
	}
	p.opens = 93
	p.getReference(t, f.Name)
	if said := p.until("my-reference"); !strings.Contains(said, "my-reference") {
		t.Errorf("a stranger that asks for a name: %q", said)
	}
	p.Close()
	returned(t, server)
}

// TestStrangerReferences: a stranger's references are few, a holder's many.
func TestStrangerReferences(t *testing.T) {
	server := newServer(t, rpc.Config{})
	f := register(t, server, newTarget(), "")
	p := newRawPeer(t, f)
	b := callHead(0, 1, 0, "getReferenceByName", 1)
	b = open(b, 2, "list")
	for i := range uint64(9) {
		b = open(b, 3+i, "my-reference")
		b = banana.AppendInt(b, int64(i+1))
		b = closing(banana.AppendString(b, "RIThing"), 3+i)
	}
	p.Write(closing(closing(closing(b, 2), 1), 0))
	if said := p.until("more than 8"); !strings.Contains(said, "more than 8 references") {
		t.Errorf("nine references of a stranger: %q", said)
	}
}

// TestSilentStrangers: sockets that say nothing, more than the process serves, do not
// keep an honest peer out, from the same address.
func TestSilentStrangers(t *testing.T) {
	server := newServer(t, rpc.Config{Limits: rpc.Limits{Strangers: 32, Conns: 64}})
	f := register(t, server, newTarget(), "")
	old := connect(t, newTub(t, rpc.Config{}), f)
	stop := make(chan struct{})
	var silent []net.Conn
	for range 200 {
		nc, err := net.Dial("tcp", strings.TrimPrefix(f.Hints[0], "tcp:"))
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, nc)
		defer nc.Close()
	}
	wait := honest(t, server, f, stop)
	for range 20 { // some come again as soon as they are closed
		for i := range 10 {
			silent[i].Close()
			silent[i], _ = net.Dial("tcp", strings.TrimPrefix(f.Hints[0], "tcp:"))
			if silent[i] == nil {
				t.Fatal("no connection")
			}
			defer silent[i].Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	close(stop)
	wait()
	call(t, old, "echo", 1) // a holder is not a victim
}

// TestStrangerWithoutAMessage: who negotiates and then says nothing is sent away.
func TestStrangerWithoutAMessage(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	t.Parallel()
	server := newServer(t, rpc.Config{})
	f := register(t, server, newTarget(), "")
	speaks := newRawPeer(t, f)
	speaks.getReference(t, f.Name)
	began := time.Now()
	newRawPeer(t, f).ended(t, 15*time.Second)
	if took := time.Since(began); took < 5*time.Second {
		t.Errorf("sent away after %v", took)
	}
	nc, err := net.Dial("tcp", strings.TrimPrefix(f.Hints[0], "tcp:")) // does not even negotiate
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetReadDeadline(time.Now().Add(15 * time.Second))
	if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a socket that says nothing: %v", err)
	}
	speaks.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	speaks.Read(make([]byte, 1000))
	if _, err := speaks.Write(banana.AppendPing(nil, 1, banana.TokenPing)); err != nil {
		t.Errorf("a holder was sent away: %v", err)
	}
}

// TestExpectedAnswer: an answer longer than its caller expects costs that call only.
func TestExpectedAnswer(t *testing.T) {
	server := newServer(t, rpc.Config{})
	r := connect(t, newTub(t, rpc.Config{}), register(t, server, &rpc.Methods{Map: methods{
		"bytes": func(c *rpc.Call) (any, error) { return make([]byte, c.Args.Pos[0].(int64)), nil },
		"lists": func(c *rpc.Call) (any, error) { return make([][]int, c.Args.Pos[0].(int64)), nil },
	}}, ""))
	for _, c := range []struct {
		method string
		n      int
		expect int64
		ok     bool
	}{
		{"bytes", 1_000_000, 0, true}, {"bytes", 1_100_000, 0, false}, {"bytes", 1_100_000, 2 << 20, true}, {"bytes", 8000, 1000, false},
		{"bytes", 100_000, 1000, false}, {"lists", 200_000, 0, false}, {"lists", 200_000, 8 << 20, true}, {"bytes", 10, 100, true},
	} {
		err := r.Call(within(t), c.method, rpc.Pos(c.n).Expecting(c.expect), nil)
		if c.ok != (err == nil) || err != nil && !errors.Is(err, rpc.ErrLimit) {
			t.Errorf("%d %s, expecting %d: %v", c.n, c.method, c.expect, err)
		}
	}
}

// TestMethodLimits: a method gets what it declares, one that declares nothing 1 MiB.
func TestMethodLimits(t *testing.T) {
	server := newServer(t, rpc.Config{})
	var mu sync.Mutex
	running, most := 0, 0
	release := make(chan struct{})
	f := register(t, server, &rpc.Methods{
		Map: methods{
			"small": echo, "large": echo, "other": echo,
			"two": func(*rpc.Call) (any, error) {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				<-release
				mu.Lock()
				defer mu.Unlock()
				running--
				return nil, nil
			},
		},
		Limits: map[string]rpc.MethodLimits{"small": {Size: 1000}, "large": {Size: 4 << 20}, "two": {Calls: 2}},
	}, "")
	r := connect(t, newTub(t, rpc.Config{}), f)
	for _, c := range []struct {
		method string
		size   int
		ok     bool
	}{{"small", 900, true}, {"small", 2000, false}, {"small", 2 << 20, false}, {"other", 1_000_000, true}, {"other", 1_100_000, false},
		{"large", 4_000_000, true}, {"large", 5_000_000, false}, {"small", 1, true}} {
		err := r.Call(within(t), c.method, rpc.Pos(make([]byte, c.size)).Expecting(8<<20), nil)
		if c.ok != (err == nil) || err != nil && !errors.Is(err, rpc.RemoteType("foolscap.tokens.Violation")) {
			t.Errorf("%d bytes for %s: %v", c.size, c.method, err)
		}
	}
	// Two at a time, of all peers; calls of other methods go on.
	var calls []*rpc.Pending
	for range 3 {
		p := connect(t, newTub(t, rpc.Config{}), f)
		calls = append(calls, p.Start("two", rpc.Args{}), p.Start("two", rpc.Args{}))
		if err := p.Call(within(t), "small", rpc.Pos("x"), nil); err != nil {
			t.Error(err)
		}
	}
	close(release)
	for _, c := range calls {
		if err := c.Result(nil); err != nil {
			t.Error(err)
		}
	}
	if most != 2 {
		t.Errorf("%d calls ran at once, want 2", most)
	}
	returned(t, server)
}

// TestBudgetOfHolders: peers with a reference that send what a method takes its time
// over, and peers that do not read their answers, hold no more than the Tub's memory
// beside the guaranteed part of each; an honest peer is served within two seconds; and
// all is given back when they are gone.
func TestBudgetOfHolders(t *testing.T) {
	const memory = 16 << 20
	peers, attackFor := 6, time.Second
	if os.Getenv("FLOG_SOAK") != "" {
		peers, attackFor = 100, 10*time.Second
	}
	attacks := map[string]func(p *rpc.Remote){
		"calls that wait": func(p *rpc.Remote) {
			for {
				if p.Send("slow", rpc.Pos(make([]byte, 900<<10))) != nil {
					return
				}
			}
		},
		"empty lists": func(p *rpc.Remote) {
			for {
				if p.Send("slow", rpc.Pos(make([][]int, 100_000))) != nil {
					return
				}
			}
		},
		"dicts": func(p *rpc.Remote) {
			d := make(banana.Dict, 50_000)
			for i := range d {
				d[i] = banana.Item{Key: int64(i), Value: banana.Dict{}}
			}
			for {
				if p.Send("slow", rpc.Pos(d)) != nil {
					return
				}
			}
		},
		"answers that nobody reads": func(p *rpc.Remote) {
			for range 1000 { // the attackers share the processors with the server here
				p.Start("large", rpc.Pos(int64(900<<10)))
			}
			<-p.Done()
		},
	}
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			server := newServer(t, rpc.Config{Limits: rpc.Limits{Memory: memory}})
			obj := newTarget()
			obj.Limits = nil
			obj.Map["slow"] = func(c *rpc.Call) (any, error) {
				select {
				case <-c.Context().Done():
				case <-time.After(time.Minute):
				}
				return nil, nil
			}
			obj.Map["large"] = func(c *rpc.Call) (any, error) { return make([]byte, c.Args.Pos[0].(int64)), nil }
			f := register(t, server, obj, "")
			stop := make(chan struct{})
			var attackers sync.WaitGroup
			var tubs []*rpc.Tub
			for range peers {
				// A peer that sends and, after its reference, reads nothing.
				tub, err := rpc.NewTub(rpc.Config{Dialers: map[string]func(context.Context, string) (net.Conn, error){
					"tcp": func(ctx context.Context, addr string) (net.Conn, error) {
						nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
						return &deaf{Conn: nc, stop: stop}, err
					},
				}})
				if err != nil {
					t.Fatal(err)
				}
				tubs = append(tubs, tub)
				r, err := tub.Connect(within(t), f)
				if err != nil {
					t.Fatal(err)
				}
				attackers.Go(func() { attack(r) })
			}
			most := int64(0)
			watched := make(chan struct{})
			go func() {
				defer close(watched)
				for {
					most = max(most, rpc.BudgetUsed(server))
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
				}
			}()
			wait := honest(t, server, f, stop)
			time.Sleep(attackFor)
			close(stop)
			wait()
			<-watched
			for _, tub := range tubs {
				attackers.Go(func() { tub.Close() })
			}
			attackers.Wait()
			if limit := int64(memory + (peers+2)*(64<<10)); most > limit {
				t.Errorf("%d bytes were charged, want at most %d", most, limit)
			}
			returned(t, server)
		})
	}
}

// deaf is a connection that reads nothing after the first kilobytes until stop.
type deaf struct {
	net.Conn
	read int
	stop chan struct{}
}

func (d *deaf) Read(b []byte) (int, error) {
	if d.read > 5<<10 {
		<-d.stop
	}
	n, err := d.Conn.Read(b)
	d.read += n
	return n, err
}

// TestMessageOverAllMemory: one message that is larger than all the memory is refused at
// once and does not wait for what can never be.
func TestMessageOverAllMemory(t *testing.T) {
	server := newServer(t, rpc.Config{Limits: rpc.Limits{Memory: 1 << 20}})
	f := register(t, server, newTarget(), "")
	r := connect(t, newTub(t, rpc.Config{}), f)
	if err := r.Call(within(t), "echo", rpc.Pos(make([]byte, 8<<20)), nil); !errors.Is(err, rpc.ErrDeadReference) {
		t.Errorf("a message over all the memory: %v", err)
	}
	call(t, connect(t, newTub(t, rpc.Config{}), f), "echo", 1)
	returned(t, server)
}
