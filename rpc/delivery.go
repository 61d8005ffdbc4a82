package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/flogtool/flogtool/rpc/banana"
)

// inbound is a call of the peer, from its decoding to its answer.
type inbound struct {
	conn  *conn
	id    uint64 // request id; 0: no answer
	obj   Object
	call  Call
	gifts []*gift // to be resolved before it runs
	size  int64   // its part of Limits.Pause and Limits.Backlog

	charged int64 // bytes of the budget, given back when it has run

	borrowed []*[]byte // memory that is reused after the answer

	then func() // runs after the answer was queued; may be nil

	detached bool // Call.Go was called; guarded by conn.mu
}

func (in *inbound) context() context.Context { return in.conn.ctx }
func (in *inbound) peer() Peer               { return Peer{in.conn} }

// deliver queues a call. Calls of the broker run at once: they only change tables, and
// a running method may be waiting for them. Only the reader calls it.
func (c *conn) deliver(in *inbound) error {
	if _, ok := in.obj.(*broker); ok {
		if c.tub.cfg.Lookup != nil && in.call.Method == "getReferenceByName" {
			return c.lookUp(in)
		}
		in.run()
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.dead || c.t.draining {
		c.tub.budget.give(c, in.charged)
		return nil
	}
	if c.t.queued+in.size > c.tub.cfg.Limits.Backlog {
		c.tub.budget.give(c, in.charged)
		return fmt.Errorf("rpc: %w: more than %d bytes of calls wait for delivery", ErrLimit, c.tub.cfg.Limits.Backlog)
	}
	c.t.queued += in.size
	if c.t.head > 64 && c.t.head*2 > len(c.t.queue) {
		n := copy(c.t.queue, c.t.queue[c.t.head:])
		clear(c.t.queue[n:])
		c.t.queue, c.t.head = c.t.queue[:n], 0
	}
	c.t.queue = append(c.t.queue, in)
	c.wakeDeliverer()
	return nil
}

// lookUp runs a call that may call Config.Lookup, on a goroutine of its own. At most
// Limits.Calls of them run at a time.
func (c *conn) lookUp(in *inbound) error {
	c.mu.Lock()
	full := c.t.lookups >= c.tub.cfg.Limits.Calls
	if !full {
		c.t.lookups++
	}
	c.mu.Unlock()
	if full {
		defer c.tub.budget.give(c, in.charged)
		in.answer(nil, &Violation{Reason: "too many names are being looked up", Err: ErrLimit})
		return nil
	}
	c.tub.goroutines.Go(func() {
		in.run()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.t.lookups--
	})
	return nil
}

// wakeDeliverer starts the deliverer if there are calls and it does not run. mu is
// held.
func (c *conn) wakeDeliverer() {
	if !c.t.delivers && c.t.head < len(c.t.queue) && c.t.running < c.tub.cfg.Limits.Calls {
		c.t.delivers = true
		c.tub.do(c.deliverer)
	}
}

// next takes the next call from the queue. It returns nil if the deliverer is to end.
func (c *conn) next() *inbound {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.head == len(c.t.queue) || c.t.running >= c.tub.cfg.Limits.Calls {
		c.t.delivers = false
		c.noticeIdle()
		return nil
	}
	in := c.t.queue[c.t.head]
	c.t.queue[c.t.head] = nil
	if c.t.head++; c.t.head == len(c.t.queue) {
		c.t.queue, c.t.head = c.t.queue[:0], 0
		if cap(c.t.queue) > 4096 {
			c.t.queue = nil
		}
	}
	before := c.t.queued
	c.t.queued -= in.size
	if limit := c.tub.cfg.Limits.Pause; before >= limit && c.t.queued < limit {
		c.t.resume.Signal()
	}
	c.t.running++
	return in
}

// noticeIdle wakes drain if no methods run. mu is held.
func (c *conn) noticeIdle() {
	if c.t.idle != nil && c.t.running == 0 && !c.t.delivers {
		close(c.t.idle)
		c.t.idle = nil
	}
}

func (c *conn) deliverLoop() {
	for {
		in := c.next()
		if in == nil {
			return
		}
		in.run()
		c.mu.Lock()
		c.t.running--
		if in.detached {
			c.wakeDeliverer() // Limits.Calls may have stopped it
			c.noticeIdle()
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
	}
}

// detach lets another deliverer take over the queue.
func (in *inbound) detach() {
	c := in.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if in.detached {
		return
	}
	in.detached = true
	c.t.delivers = false
	c.wakeDeliverer()
}

// blockPool holds the memory of borrowed byte strings.
var blockPool = sync.Pool{New: func() any { return new([]byte) }}

// minBlock is the minimum memory of a borrowed byte string in bytes, so that most
// blocks can be reused for the next one.
const minBlock = 64 << 10

// borrow is the Alloc of the banana.Reader while the arguments of a Borrower are read.
func (in *inbound) borrow(n int) []byte {
	b := blockPool.Get().(*[]byte)
	if cap(*b) < n {
		*b = make([]byte, max(n, minBlock))
	}
	in.borrowed = append(in.borrowed, b)
	return (*b)[:n:n]
}

// recycle returns the borrowed memory to the pool. The method has returned, and its
// answer is encoded.
func (in *inbound) recycle() {
	for _, b := range in.borrowed {
		blockPool.Put(b)
	}
	in.borrowed = nil
}

func (in *inbound) run() {
	defer in.conn.tub.budget.give(in.conn, in.charged)
	defer in.recycle()
	if len(in.gifts) > 0 {
		if err := in.unwrapArgs(); err != nil {
			in.answer(nil, err)
			return
		}
	}
	v, err := in.invoke()
	in.answer(v, err)
	if in.then != nil {
		in.then()
	}
}

// unwrapArgs replaces the gifts in the arguments by their references.
func (in *inbound) unwrapArgs() error {
	if err := in.conn.await(in.gifts); err != nil {
		return err
	}
	w := unwrapping{}
	w.list(in.call.Args.Pos)
	for k, v := range in.call.Args.Kw {
		in.call.Args.Kw[k] = w.value(v)
	}
	return nil
}

func (in *inbound) invoke() (v any, err error) {
	defer func() {
		if p := recover(); p != nil {
			in.conn.tub.log.LogAttrs(in.conn.ctx, slog.LevelError, "a method panicked",
				slog.String("method", in.call.Method), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			v, err = nil, Errorf(typeRuntime, "panic: %v", p)
		}
	}()
	return in.conn.tub.invoke(in.obj, &in.call)
}

// fail answers a call that cannot be decoded.
func (in *inbound) fail(err error) { in.answer(nil, err) }

// answer sends the result of a method.
func (in *inbound) answer(v any, err error) {
	if err != nil && in.conn.tub.log.Enabled(in.conn.ctx, slog.LevelDebug) {
		in.conn.tub.log.LogAttrs(in.conn.ctx, slog.LevelDebug, "local failure",
			slog.String("method", in.call.Method), slog.Any("err", err))
	}
	if in.id == 0 {
		return
	}
	m := in.conn.newMessage()
	defer m.done()
	if err == nil {
		open := m.Open(banana.KindAnswer)
		m.Count(in.id)
		if err = m.Value(v); err == nil {
			m.Close(open)
		} else {
			m.reset()
			err = locate(err, "in return value of "+in.call.Method)
		}
	}
	if err != nil {
		m.failure(in.id, err)
	}
	in.conn.send(in.conn.ctx, m, nil) // fails only with the connection
}

// Bounds of a failure's strings, in bytes: foolscap-wire.md section 4.2.
const (
	maxFailureValue     = 1000
	maxFailureType      = 200
	maxFailureTraceback = 2000
)

// noTraceback is the traceback of an error that does not come from Python.
const noTraceback = "Traceback unavailable\n"

// failure makes m an error sequence.
func (m *message) failure(id uint64, err error) {
	f := failureOf(err)
	open := m.Open(banana.KindError)
	m.Count(id)
	inner := m.Open(banana.KindCopyable)
	m.Word(banana.FailureClass)
	m.Word("value")
	m.Word(cut(f.Text, maxFailureValue))
	m.Word("type")
	m.Word(cut(f.Type, maxFailureType))
	m.Word("traceback")
	m.Word(cut(f.Traceback, maxFailureTraceback))
	m.Word("parents")
	list := m.Open(banana.KindList)
	for _, p := range f.Parents {
		m.Word(cut(p, maxFailureType))
	}
	m.Close(list)
	m.Close(inner)
	m.Close(open)
}

// cut shortens s to less than n bytes, at the border of a character.
func cut(s string, n int) string {
	if len(s) < n {
		return s
	}
	s = s[:n-3]
	for len(s) > 0 && s[len(s)-1] >= 0x80 && s[len(s)-1] < 0xc0 {
		s = s[:len(s)-1]
	}
	if len(s) > 0 && s[len(s)-1] >= 0xc0 {
		s = s[:len(s)-1]
	}
	return s + ".."
}
