package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flogtool/flogtool/rpc"
)

// TestPause: the calls of a peer are not read faster than they run; nothing is lost and the
// connection stays.
func TestPause(t *testing.T) {
	server := newServer(t, rpc.Config{Limits: rpc.Limits{Pause: 256 << 10, Backlog: 2 << 20}})
	gate := make(chan struct{})
	var got atomic.Int64
	f := register(t, server, &rpc.Methods{Map: methods{
		"take": func(c *rpc.Call) (any, error) {
			<-gate
			got.Add(int64(len(c.Args.Pos[0].([]byte))))
			return nil, nil
		},
	}}, "")
	r := connect(t, newTub(t, rpc.Config{}), f)
	chunk := make([]byte, 32<<10)
	const n = 500 // 16 MiB: more than Backlog and all buffers of the network
	for range n {
		if err := r.Send("take", rpc.Pos(chunk)); err != nil {
			t.Fatal(err)
		}
	}
	last := r.Start("take", rpc.Pos(chunk))
	close(gate)
	if err := last.Result(nil); err != nil || got.Load() != (n+1)*int64(len(chunk)) {
		t.Errorf("%d bytes arrived, %v", got.Load(), err)
	}
}

// TestCloseUnread: closing does not wait for a peer that reads nothing.
func TestCloseUnread(t *testing.T) {
	server := newServer(t, rpc.Config{Limits: rpc.Limits{Pause: 1 << 10}})
	release := make(chan struct{})
	defer close(release)
	f := register(t, server, &rpc.Methods{Map: methods{"wait": func(*rpc.Call) (any, error) { <-release; return nil, nil }}}, "")
	client := newTub(t, rpc.Config{})
	r := connect(t, client, f)
	for _, size := range []int{0, 2 << 10, 64 << 20} { // one runs, one fills the queue, one stays in the sockets
		if err := r.Send("wait", rpc.Pos(make([]byte, size))); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	client.Close()
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("Close took %v", took)
	}
}

// TestPauseLetsAnswersThrough: a method that calls back to its caller gets its answer, even
// if more calls than Limits.Pause precede it.
func TestPauseLetsAnswersThrough(t *testing.T) {
	server := newServer(t, rpc.Config{Limits: rpc.Limits{Pause: 64 << 10}})
	burst := make(chan struct{})
	f := register(t, server, &rpc.Methods{Map: methods{
		"back": func(c *rpc.Call) (any, error) {
			<-burst
			var v any
			err := c.Args.Pos[0].(*rpc.Remote).Call(c.Context(), "echo", rpc.Pos("answer"), &v)
			return v, err
		},
		"take": func(*rpc.Call) (any, error) { return nil, nil },
	}}, "")
	r := connect(t, newTub(t, rpc.Config{}), f)
	p := r.Start("back", rpc.Pos(newTarget()))
	chunk := make([]byte, 32<<10)
	for range 200 {
		if err := r.Send("take", rpc.Pos(chunk)); err != nil {
			t.Fatal(err)
		}
	}
	close(burst)
	var v string
	if err := p.Result(&v); err != nil || v != "answer" {
		t.Errorf("back = %q, %v", v, err)
	}
}

// TestBacklog: a peer that exceeds Limits.Backlog while a method waits for its answer loses
// the connection, and other connections are not affected.
func TestBacklog(t *testing.T) {
	server := newServer(t, rpc.Config{Limits: rpc.Limits{Pause: 64 << 10, Backlog: 1 << 20}})
	f := register(t, server, &rpc.Methods{Map: methods{
		"back": func(c *rpc.Call) (any, error) {
			return nil, c.Args.Pos[0].(*rpc.Remote).Call(c.Context(), "never", rpc.Args{}, nil)
		},
		"take": func(*rpc.Call) (any, error) { return nil, nil },
	}}, "")
	other := connect(t, newTub(t, rpc.Config{}), f)
	r := connect(t, newTub(t, rpc.Config{}), f)
	p := r.Start("back", rpc.Pos(newTarget()))
	chunk := make([]byte, 32<<10)
	for range 1000 {
		if err := r.Send("take", rpc.Pos(chunk)); err != nil {
			break
		}
	}
	err := p.Result(nil)
	if !errors.Is(err, rpc.ErrDeadReference) {
		t.Errorf("back: %v", err)
	}
	<-r.Done()
	call(t, other, "take")
}

func TestConnectionLimits(t *testing.T) {
	server := newServer(t, rpc.Config{Limits: rpc.Limits{PerAddr: 2}})
	f := register(t, server, newTarget(), "")
	a, b := newTub(t, rpc.Config{}), newTub(t, rpc.Config{})
	ra, rb := connect(t, a, f), connect(t, b, f)
	if _, err := newTub(t, rpc.Config{}).Connect(within(t), f); err == nil {
		t.Error("a third connection from one address was accepted")
	}
	call(t, ra, "echo", 1)
	call(t, rb, "echo", 1)
	a.Close()
	for { // a connection is possible again when the server has seen the end
		if _, err := newTub(t, rpc.Config{}).Connect(within(t), f); err == nil {
			break
		}
		runtime.Gosched()
	}
}

// TestMessageLimits: a message that is too large is refused or ends its connection.
func TestMessageLimits(t *testing.T) {
	server := newServer(t, rpc.Config{Limits: rpc.Limits{Token: 1 << 20, Message: 4 << 20, Values: 10000, Depth: 50, Imports: 20, Exports: 20}})
	obj := newTarget()
	obj.Map["many"] = func(c *rpc.Call) (any, error) {
		many := make([]any, 30)
		for i := range many {
			many[i] = newTarget()
		}
		return many, nil
	}
	f := register(t, server, obj, "")
	other := connect(t, newTub(t, rpc.Config{}), f)
	r := connect(t, newTub(t, rpc.Config{}), f)
	var deep any = int64(1)
	for range 60 {
		deep = []any{deep}
	}
	objects := make([]any, 30)
	for i := range objects {
		objects[i] = newTarget()
	}
	for name, v := range map[string]any{
		"a long string":   make([]byte, 2<<20),
		"many values":     make([]int, 20000),
		"deep nesting":    deep,
		"many references": objects,
	} {
		err := r.Call(within(t), "echo", rpc.Pos(v), nil)
		if !errors.Is(err, rpc.RemoteType("foolscap.tokens.Violation")) {
			t.Errorf("%s: %v, want a Violation", name, err)
		}
	}
	if err := r.Call(within(t), "many", rpc.Args{}, nil); !errors.Is(err, rpc.RemoteType("foolscap.tokens.Violation")) {
		t.Errorf("many objects of the server: %v", err)
	}
	call(t, r, "echo", 1)
	half := make([]byte, 900<<10)
	err := r.Call(within(t), "echo", rpc.Pos(half, half, half, half, half, half), nil)
	if !errors.Is(err, rpc.ErrDeadReference) || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a long message: %v, want the peer's reason and a dead reference", err)
	}
	call(t, other, "echo", 1)
}

// TestWide: the default limits suffice for the original's users.
func TestWide(t *testing.T) {
	server := newServer(t, rpc.Config{})
	f := register(t, server, newTarget(), strings.Repeat("n", 60_000))
	r := connect(t, newTub(t, rpc.Config{}), f)
	large := make([]byte, 64<<20)
	if raceEnabled {
		large = large[:8<<20]
	}
	var back []byte
	if err := r.Call(within(t), "echo", rpc.Pos(large).Expecting(65<<20), &back); err != nil || len(back) != len(large) {
		t.Errorf("64 MiB: %d bytes, %v", len(back), err)
	}
}

// TestCallsLimit: at most Limits.Calls methods run at once; the next call waits.
func TestCallsLimit(t *testing.T) {
	server := newServer(t, rpc.Config{Limits: rpc.Limits{Calls: 3}})
	entered, release := make(chan struct{}), make(chan struct{})
	var running atomic.Int32
	f := register(t, server, &rpc.Methods{Map: methods{"run": func(c *rpc.Call) (any, error) {
		c.Go()
		if n := running.Add(1); n > 3 {
			t.Errorf("%d methods run at once, want 3 at most", n)
		}
		entered <- struct{}{}
		<-release
		running.Add(-1)
		return nil, nil
	}}}, "")
	r := connect(t, newTub(t, rpc.Config{}), f)
	var all []*rpc.Pending
	for range 20 {
		all = append(all, r.Start("run", rpc.Args{}))
	}
	for range 3 { // this many run at once
		<-entered
	}
	for range 17 {
		release <- struct{}{}
		<-entered
	}
	for range 3 {
		release <- struct{}{}
	}
	for _, p := range all {
		if err := p.Result(nil); err != nil {
			t.Error(err)
		}
	}
}

// TestQueueFull: sending more than the peer reads blocks until the context ends, and the
// connection is not affected.
func TestQueueFull(t *testing.T) {
	server := newServer(t, rpc.Config{Limits: rpc.Limits{Pause: 1 << 10}})
	gate := make(chan struct{})
	var once sync.Once
	open := func() { once.Do(func() { close(gate) }) }
	defer open()
	f := register(t, server, &rpc.Methods{Map: methods{"take": func(*rpc.Call) (any, error) { <-gate; return nil, nil }}}, "")
	r := connect(t, newTub(t, rpc.Config{Limits: rpc.Limits{Queue: 1 << 20}}), f)
	ctx, cancel := context.WithTimeout(within(t), 200*time.Millisecond)
	defer cancel()
	chunk := make([]byte, 256<<10)
	var waiting sync.WaitGroup
	for range 100 {
		waiting.Go(func() {
			if err := r.Call(ctx, "take", rpc.Pos(chunk), nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("take: %v", err)
			}
		})
	}
	waiting.Wait()
	open()
	call(t, r, "take", 1)
}

// TestGarbage: bytes that are not the protocol, before, during and after the negotiation,
// get an answer and end that connection only.
func TestGarbage(t *testing.T) {
	server := newServer(t, rpc.Config{})
	f := register(t, server, newTarget(), "")
	other := connect(t, newTub(t, rpc.Config{}), f)
	junk := strings.Repeat("\x16\x03\x01\xff\x8b\x00", 2000)

	nc := dialPlain(t, f)
	io.WriteString(nc, junk)
	io.Copy(io.Discard, nc)

	nc = dialPlain(t, f)
	io.WriteString(nc, "GET /id/"+string(f.Tub)+" HTTP/1.1\r\n\r\n"+junk)
	io.Copy(io.Discard, nc)

	cert, id := rawKey(t, f.Tub, false)
	r := dialRaw(t, f, cert, id)
	r.send(junk)
	r.rest()

	for i, tt := range []struct{ name, in, want string }{
		{"an unknown token", "\x8b", "unknown token"},
		{"no sequence", "\x05\x81", "top-level must be OPEN"},
		{"a long header", strings.Repeat("\x01", 100), "limited to 64 bytes"},
		{"a bad call", "\x00\x88\x0b\x87\x03\x82abc\x00\x89", "where a request id is expected"},
		{"lost sync", "\x00\x88\x0b\x87\x01\x81\x00\x81\x01\x82x\x01\x88\x0c\x87\x00\x81\x07\x89", "lost sync"},
	} {
		r := dialRaw(t, f, cert, id)
		r.hello(fmt.Sprintf("0123456789abcde%d", i), "none 0") // a new one each time, so that it is not a duplicate
		r.block()
		r.send(tt.in)
		if got := r.rest(); !strings.Contains(got, "\x8d") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: answered %q, want an ERROR with %q", tt.name, got, tt.want)
		}
	}
	call(t, other, "echo", 1)
}

// TestReferenceCounts: objects that both sides send and release at the same time, as fast
// as possible, are not lost or confused.
func TestReferenceCounts(t *testing.T) {
	server := newServer(t, targetConfig())
	objects := make([]rpc.Object, 5)
	for i := range objects {
		objects[i] = &rpc.Methods{Map: methods{"who": func(*rpc.Call) (any, error) { return i, nil }}}
	}
	f := register(t, server, &rpc.Methods{Map: methods{
		"get": func(c *rpc.Call) (any, error) { return objects[c.Args.Pos[0].(int64)], nil },
		"is":  func(c *rpc.Call) (any, error) { return c.Args.Pos[1] == objects[c.Args.Pos[0].(int64)], nil },
	}}, "")
	r := connect(t, newTub(t, targetConfig()), f)
	ctx := within(t)
	var workers sync.WaitGroup
	for i := range objects {
		workers.Go(func() {
			for n := range 300 {
				var o *rpc.Remote
				if err := r.Call(ctx, "get", rpc.Pos(i), &o); err != nil {
					t.Errorf("get: %v", err)
					return
				}
				var who int
				if err := o.Call(ctx, "who", rpc.Args{}, &who); err != nil || who != i {
					t.Errorf("who = %d, %v; want %d", who, err, i)
					return
				}
				is := r.Start("is", rpc.Pos(i, o))
				if n%3 != 0 {
					o.Release()
				} // otherwise the garbage collector releases it
				if n%50 == 0 {
					runtime.GC()
				}
				var same bool
				if err := is.Result(&same); err != nil || !same {
					t.Errorf("is = %v, %v", same, err)
					return
				}
			}
		})
	}
	workers.Wait()
}

// TestStartInto: an answer that fits uses the given memory, another one its own, and the
// bytes are right in both cases.
func TestStartInto(t *testing.T) {
	f := register(t, newServer(t, rpc.Config{}), &rpc.Methods{Map: methods{"echo": echo}}, "")
	r := connect(t, newTub(t, rpc.Config{}), f)
	for _, c := range []struct {
		answer, memory int
		given          bool
	}{
		{answer: 100_000, memory: 100_000, given: true},
		{answer: 256 << 10, memory: 256 << 10, given: true},
		{answer: 5000, memory: 100_000, given: true},
		{answer: 100_001, memory: 100_000},
		{answer: 300_000, memory: 300_000},
		{answer: 10, memory: 100_000},
		{answer: 0, memory: 100_000},
	} {
		want := bytes.Repeat([]byte{0xa5}, c.answer)
		into := make([]byte, c.memory)
		p := r.StartInto("echo", rpc.Pos(want), into)
		var got []byte
		if err := p.Result(&got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("an answer of %d bytes: %d bytes, %v", c.answer, len(got), err)
		}
		if given := len(got) > 0 && &got[0] == &into[0]; given != c.given {
			t.Errorf("an answer of %d bytes is in the %d bytes it was given: %v", c.answer, c.memory, given)
		}
	}
}

// TestBorrow: the byte strings of a Borrower are intact while its method runs and in its
// answer, however many calls share the memory.
func TestBorrow(t *testing.T) {
	server := newServer(t, rpc.Config{})
	f := register(t, server, &rpc.Methods{Borrow: true, Map: methods{
		"echo": echo,
		"slow": func(c *rpc.Call) (any, error) {
			c.Go()
			b := c.Args.Pos[0].([]byte)
			first := b[0]
			runtime.Gosched()
			for _, v := range b {
				if v != first {
					return false, nil
				}
			}
			return true, nil
		},
	}}, "")
	r := connect(t, newTub(t, rpc.Config{}), f)
	ctx := within(t)
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for n := range 30 {
				block := bytes.Repeat([]byte{byte(i + n)}, 5000+i*20000)
				var back []byte
				if err := r.Call(ctx, "echo", rpc.Pos(block), &back); err != nil || !bytes.Equal(back, block) {
					t.Errorf("echo of %d bytes: %d bytes, %v", len(block), len(back), err)
				}
				var whole bool
				if err := r.Call(ctx, "slow", rpc.Pos(block), &whole); err != nil || !whole {
					t.Errorf("slow: %v, %v", whole, err)
				}
			}
		})
	}
	callers.Wait()
}
