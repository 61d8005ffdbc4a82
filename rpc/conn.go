package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/bits"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flogtool/flogtool/rpc/banana"
)

// conn is one connection with another Tub, after its negotiation.
//
// Goroutines. The reader runs as long as the connection. Only the reader reads the
// socket, decodes messages, runs calls of the broker, completes the calls of this
// side, and queues the calls of the peer. Two more goroutines run only while they have
// work. The deliverer runs the peer's calls, one after the other. If a method calls Go,
// its goroutine continues with that method only, and another one becomes the deliverer.
// The writer is the only one to write the socket; each write takes everything that was
// queued since the last. Both run on workers of the Tub. An idle connection has one
// goroutine.
//
// Blocking. The caller of a method encodes its own message without the lock. Under the
// lock it only gets its OPEN numbers and is copied to the output. The caller never
// waits for the socket, but for room if more than Limits.Queue bytes wait to be
// written. The deliverer may block for any reason, since it runs the application's
// code. The reader must not wait for the deliverer or the writer: a method that calls
// back to its caller would then block forever. It blocks in two cases: if more than
// Limits.Pause bytes of calls are queued and no method can be waiting for an answer
// that is yet to be read, and, like any sender, if it sends an answer while more than
// Limits.Queue bytes wait to be written.
//
// The lock. mu guards the tables and is held for memory work only: never while
// something is read, written or decoded, or while code of other packages runs. The
// Tub's lock is never taken while mu is held.
//
// The end. shutdown may be called from any goroutine, any number of times. The first
// cause counts: every pending call fails, the context ends, and a deadline wakes the
// reader and the writer. The reader closes the socket when it returns. The Tub waits
// for all of these goroutines.
type conn struct {
	tub      *Tub
	nc       net.Conn
	under    *corked // the connection below TLS; nil on the loopback
	pre      []byte  // read during the negotiation; used by the reader
	peerID   TubID
	features string
	inbound  bool

	incarnation string // of the peer; "" if it did not send one
	seq         uint64 // of this Tub's decision, if it is the master
	table       int    // vocabulary table
	since       time.Time

	ctx      context.Context // ends with the connection
	cancel   context.CancelCauseFunc
	lastRead atomic.Int64 // when bytes last arrived, in nanoseconds since the Tub began
	held     atomic.Int64 // bytes of the Tub's budget
	progress atomic.Int64 // when it last gave some back, as lastRead
	holder   atomic.Bool  // the peer holds, or held, a reference to an object of this Tub
	spoke    atomic.Bool  // the peer has sent a whole message
	admitted *counted     // of an inbound connection
	self     bool         // an end of the Tub's connection to itself
	reqs     atomic.Uint64

	writer, deliverer func() // writeLoop and deliverLoop

	mu sync.Mutex
	t  tables // guarded by mu
}

type tables struct {
	dead bool

	out      []byte        // to be written
	charged  int64         // bytes of the budget for out
	spare    []byte        // the writer's last buffer
	writing  bool          // the writer runs
	room     chan struct{} // closed when out is taken; nil if nobody waits
	opens    uint64        // OPEN tokens in what was ever queued
	released []*imported   // the writer sends a decref for each

	pending map[uint64]*Pending

	exports    map[int64]*export // objects of this Tub, by clid
	exported   map[Object]*export
	lastExport int64
	imports    map[int64]*imported // the peer's objects, by clid
	giftsOut   map[uint64]*giftOut
	giftsTo    map[*Remote]*giftOut
	lastGift   uint64
	giftsIn    int // being resolved

	queue    []*inbound // calls to be delivered, from head on
	head     int
	queued   int64         // bytes of these calls
	delivers bool          // the deliverer runs
	running  int           // methods that run
	lookups  int           // names being looked up by the application
	resume   sync.Cond     // on mu: the reader may continue
	paused   bool          // the reader waits for resume, or for memory
	probe    *time.Timer   // while paused
	idle     chan struct{} // closed when no method runs or the writer ends; nil if nobody waits
	draining bool          // no new calls are accepted
	closing  bool          // the output is still written, nothing new is queued

	timers []*time.Timer
}

func (t *Tub) newConn(nc net.Conn, peer TubID, table int) *conn {
	c := &conn{tub: t, nc: nc, peerID: peer, table: table, since: time.Now()}
	c.ctx, c.cancel = context.WithCancelCause(t.ctx)
	c.t.resume.L = &c.mu
	if tc, ok := nc.(*tls.Conn); ok {
		if under, ok := tc.NetConn().(*corked); ok {
			c.admitted, _ = under.Conn.(*counted)
		}
	}
	c.writer, c.deliverer = c.writeLoop, c.deliverLoop
	c.t.writing = true // until start, so that nothing is written before
	c.lastRead.Store(t.now())
	return c
}

// now returns the time since the Tub began, on the monotonic clock.
func (t *Tub) now() int64 { return int64(time.Since(t.began)) }

// start starts the reader and the writer.
func (c *conn) start() {
	c.tub.goroutines.Go(c.readLoop)
	c.tub.do(c.writer)
	c.watch()
}

func (c *conn) isDead() bool { return c.ctx.Err() != nil }

// deadErr returns the error with which calls on a dead connection fail.
func (c *conn) deadErr() error { return &deadError{context.Cause(c.ctx)} }

var (
	errHungUp       = errors.New("the peer closed the connection")
	errReplaced     = errors.New("replaced by a newer connection with the same Tub")
	errSilent       = errors.New("the peer was silent for longer than DisconnectTimeout")
	errDisconnected = errors.New("disconnected by this side")
	errStuck        = errors.New("the peer does not read")

	errSilentStranger = errors.New("the peer has sent no message")
)

// shutdown ends the connection for the given cause.
func (c *conn) shutdown(cause error) {
	c.mu.Lock()
	if c.t.dead {
		c.mu.Unlock()
		return
	}
	c.t.dead = true
	pending := c.t.pending
	exports := c.t.exports
	c.t.pending, c.t.exports, c.t.exported, c.t.imports = nil, nil, nil, nil
	c.t.giftsOut, c.t.giftsTo = nil, nil
	queue, charged := c.t.queue[c.t.head:], c.t.charged
	c.t.queue, c.t.head, c.t.queued = nil, 0, 0
	c.t.out, c.t.charged = nil, 0
	for _, timer := range c.t.timers {
		timer.Stop()
	}
	c.makeRoom()
	c.t.resume.Broadcast()
	c.mu.Unlock()

	c.tub.log.LogAttrs(context.Background(), slog.LevelDebug, "connection ended",
		slog.String("tub", string(c.peerID)), slog.Bool("inbound", c.inbound), slog.Any("err", cause))
	c.cancel(cause)
	for _, in := range queue {
		charged += in.charged
	}
	c.tub.budget.give(c, charged)
	c.tub.forget(c) // before a caller sees the end and connects again
	err := c.deadErr()
	for _, p := range pending {
		p.complete(nil, err)
	}
	for _, e := range exports {
		if e.held {
			c.tub.releaseName(e.obj)
		}
	}
	// The deadline wakes the reader, which closes the socket, and the writer.
	c.nc.SetDeadline(time.Unix(1, 0))
}

// Read is the source of the banana.Reader.
func (c *conn) Read(b []byte) (int, error) {
	if len(c.pre) > 0 {
		n := copy(b, c.pre)
		c.pre = c.pre[n:]
		return n, nil
	}
	n, err := c.nc.Read(b)
	if n > 0 {
		c.lastRead.Store(c.tub.now())
	}
	return n, err
}

func (c *conn) readLoop() {
	defer c.nc.Close()
	r := &reading{conn: c}
	lim := c.tub.cfg.Limits
	r.d = banana.NewDecoder(banana.NewReader(c, c.table, banana.Limits{
		Token: lim.Token, Message: lim.Message, Values: lim.Values, Depth: lim.Depth,
	}))
	r.d.OnPing = c.pong
	r.d.Extend = r.extend
	r.d.Copy = r.copyable
	r.d.Charge = r.charge
	r.d.MaxMessage = c.maxMessage
	err := r.run()
	r.release()
	switch _, peer := errors.AsType[*banana.PeerError](err); {
	case err == io.EOF:
		err = errHungUp
	case !peer && !c.isDead() && isProtocol(err):
		c.sendError(err)
	}
	c.shutdown(err)
}

// isProtocol reports whether err is about what the peer sent, rather than about the
// socket.
func isProtocol(err error) bool {
	_, syntax := errors.AsType[*banana.SyntaxError](err)
	return syntax || errors.Is(err, ErrLimit)
}

// sendError sends the peer an ERROR token with the reason for closing the connection.
func (c *conn) sendError(err error) {
	c.mu.Lock()
	if c.t.dead {
		c.mu.Unlock()
		return
	}
	c.t.closing = true
	c.t.out = banana.AppendError(c.t.out, err.Error())
	c.wakeWriter()
	c.mu.Unlock()
	c.flushed(time.Second)
	hangUp(c.nc)
}

// flushed waits at most d until the output is written, and reports whether it is.
func (c *conn) flushed(d time.Duration) bool {
	timeout := time.NewTimer(d)
	defer timeout.Stop()
	c.mu.Lock()
	for c.t.writing && !c.t.dead {
		idle := c.t.idle
		if idle == nil {
			idle = make(chan struct{})
			c.t.idle = idle
		}
		c.mu.Unlock()
		select {
		case <-idle:
		case <-timeout.C:
			return false
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	return !c.t.writing
}

// wakeWriter starts the writer unless it runs. mu is held.
func (c *conn) wakeWriter() {
	if !c.t.writing {
		c.t.writing = true
		c.tub.do(c.writer)
	}
}

// makeRoom wakes the senders that wait for room in the output. mu is held.
func (c *conn) makeRoom() {
	if c.t.room != nil {
		close(c.t.room)
		c.t.room = nil
	}
}

// writeStall is how long a peer may take to read anything of a write. It is a choice.
// Without it a peer that stops reading would keep its output in memory forever.
const writeStall = 2 * time.Minute

// maxSpare is the size in bytes of the largest write buffer that a connection keeps for
// its next write. Buffers up to maxShared go to largeBuffers, which all connections
// share.
const (
	maxSpare  = 64 << 10
	maxShared = 16 << 20
)

var largeBuffers sync.Pool // of *[]byte

// grown returns b with room for n bytes more.
func grown(b []byte, n int) []byte {
	need := len(b) + n
	if need <= cap(b) {
		return b
	}
	if need <= maxSpare {
		return slices.Grow(b, n)
	}
	large, _ := largeBuffers.Get().(*[]byte)
	if large == nil || cap(*large) < need {
		large = new(make([]byte, 0, 1<<bits.Len(uint(need))))
	}
	bigger := append((*large)[:0], b...)
	recycle(b)
	return bigger
}

// recycle returns the buffer that a connection keeps after it has written b: b or nil.
func recycle(b []byte) []byte {
	if cap(b) <= maxSpare {
		return b[:0]
	}
	if cap(b) <= maxShared {
		largeBuffers.Put(&b)
	}
	return nil
}

func (c *conn) writeLoop() {
	var until time.Time // of the write deadline
	var buf []byte
	var charged int64
	for {
		c.tub.budget.give(c, charged)
		c.mu.Lock()
		if buf != nil {
			c.t.spare = recycle(buf)
		}
		if len(c.t.released) > 0 && !c.t.dead {
			c.sendDecrefs()
		}
		buf = c.t.out
		if len(buf) == 0 || c.t.dead {
			c.t.writing = false
			if c.t.idle != nil {
				close(c.t.idle)
				c.t.idle = nil
			}
			c.mu.Unlock()
			return
		}
		c.t.out, c.t.spare = c.t.spare, nil
		charged, c.t.charged = c.t.charged, 0
		c.makeRoom()
		c.mu.Unlock()

		if now := time.Now(); until.Sub(now) < writeStall/2 {
			until = now.Add(writeStall)
			c.nc.SetWriteDeadline(until)
			if c.isDead() { // the deadline of shutdown was just overwritten
				c.nc.Close()
			}
		}
		if err := c.write(buf, &until, &charged); err != nil {
			if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() && !c.isDead() {
				err = errStuck
			}
			c.shutdown(err)
		}
	}
}

// writePiece is the number of bytes written under one deadline.
const writePiece = 1 << 20

// write writes all of b, and gives back what was charged for it as it goes. Each piece gets a new deadline, so that a slow peer is not
// mistaken for one that does not read.
func (c *conn) write(b []byte, until *time.Time, charged *int64) error {
	large := c.under != nil && len(b) > 16<<10
	for {
		piece := b[:min(len(b), writePiece)]
		b = b[len(piece):]
		if large {
			c.under.cork()
		}
		_, err := c.nc.Write(piece)
		if large {
			if e := c.under.uncork(); err == nil {
				err = e
			}
		}
		if err != nil || len(b) == 0 {
			return err
		}
		written := min(*charged, int64(len(piece)))
		c.tub.budget.give(c, written)
		*charged -= written
		*until = time.Now().Add(writeStall)
		c.nc.SetWriteDeadline(*until)
	}
}

// pong answers a PING.
func (c *conn) pong(n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.dead || len(c.t.out) > maxSpare {
		return // a peer that does not read would not see it
	}
	c.t.out = banana.AppendPing(c.t.out, n, banana.TokenPong)
	c.wakeWriter()
}

// message is a message that is being encoded, with the references for its slots.
type message struct {
	banana.Message
	c     *conn
	call  uint64 // OPEN number of the call
	slots []reference
	keep  []*Remote // must not be released before the message is queued
}

// reference is a reference whose form depends on what the peer already has.
type reference struct {
	obj   Object // of this Tub, or nil
	iface string
	furl  string
	held  bool    // the Tub keeps the name in furl for this message
	gift  *Remote // of another Tub, or nil
}

var messages = sync.Pool{New: func() any {
	m := new(message)
	m.Extend = func(_ *banana.Message, v any) (bool, error) { return m.extend(v) }
	return m
}}

func (c *conn) newMessage() *message {
	m := messages.Get().(*message)
	m.c = c
	m.Reset(c.table)
	return m
}

// begin encodes the start of a call. The arguments and the CLOSE of m.call follow.
func (m *message) begin(id uint64, clid int64, method string) {
	m.call = m.Open(banana.KindCall)
	m.Count(id)
	m.Int(clid)
	m.Word(method)
}

// reset discards what was encoded.
func (m *message) reset() {
	for _, s := range m.slots {
		if s.held {
			m.c.tub.releaseName(s.obj)
		}
	}
	clear(m.slots)
	clear(m.keep)
	m.slots, m.keep = m.slots[:0], m.keep[:0]
	m.Reset(m.c.table)
}

// done returns m to the pool and releases names that were kept for it and not sent.
func (m *message) done() {
	m.reset()
	m.c = nil
	messages.Put(m)
}

// queue appends m, which was charged, to the output. mu is held.
func (c *conn) queue(m *message) {
	c.t.charged += int64(m.Len())
	if c.t.out == nil {
		c.t.out = c.t.spare
		c.t.spare = nil
	}
	if n := m.Len(); n > 1<<10 {
		c.t.out = grown(c.t.out, n)
	}
	var slot func([]byte, uint64, int) []byte
	if len(m.slots) > 0 {
		slot = func(dst []byte, open uint64, n int) []byte { return c.slot(dst, open, &m.slots[n]) }
	}
	c.t.out = m.AppendTo(c.t.out, c.t.opens, slot)
	c.t.opens += m.Opens()
	c.wakeWriter()
}

// send queues m and registers p, unless it is nil, for the answer. It blocks until
// there is room in the output or ctx is done.
func (c *conn) send(ctx context.Context, m *message, p *Pending) error {
	size := int64(m.Len())
	if err := c.tub.budget.take(ctx, c, size); err != nil {
		return err
	}
	c.mu.Lock()
	for {
		switch {
		case c.t.dead || c.t.closing:
			c.mu.Unlock()
			c.tub.budget.give(c, size)
			return c.deadErr()
		case int64(len(c.t.out)) <= c.tub.cfg.Limits.Queue:
			if p != nil {
				if c.t.pending == nil {
					c.t.pending = make(map[uint64]*Pending)
				}
				c.t.pending[p.id] = p
				if c.t.running > 0 {
					c.t.resume.Signal() // the reader may have to read the answer of this call
				}
			}
			c.queue(m)
			c.mu.Unlock()
			return nil
		}
		if c.t.room == nil {
			c.t.room = make(chan struct{})
		}
		room := c.t.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			c.tub.budget.give(c, size)
			return context.Cause(ctx)
		}
		c.mu.Lock()
	}
}

// sendNow queues m without waiting for room. It is for small acknowledgements and for
// callers that must not block.
func (c *conn) sendNow(m *message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.dead || c.t.closing {
		return c.deadErr()
	}
	c.tub.budget.force(c, int64(m.Len()))
	c.queue(m)
	return nil
}

// watch starts the timers for keepalive and disconnection, and for the first message of
// a stranger.
func (c *conn) watch() {
	if c.inbound {
		c.after(strangerTime, func() {
			if !c.spoke.Load() && !c.holder.Load() {
				c.shutdown(errSilentStranger)
			}
		})
	}
	ping, cut := c.tub.cfg.KeepaliveTimeout, c.tub.cfg.DisconnectTimeout
	if ping > 0 {
		c.every(ping, func(bool) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.t.dead && len(c.t.out) == 0 {
				c.t.out = banana.AppendPing(c.t.out, 0, banana.TokenPing)
				c.wakeWriter()
			}
		})
	}
	if cut > 0 {
		c.every(cut, func(paused bool) {
			if !paused { // while paused, the peer's bytes are not read
				c.shutdown(errSilent)
			}
		})
	}
}

// after calls f once, unless the connection ends before.
func (c *conn) after(d time.Duration, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.t.dead {
		c.t.timers = append(c.t.timers, time.AfterFunc(d, f))
	}
}

// every calls f whenever nothing was read for d, with whether the reader is paused. It
// ends with the connection.
func (c *conn) every(d time.Duration, f func(paused bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.dead {
		return
	}
	var timer *time.Timer // the function below needs mu, and so runs after it is set
	timer = time.AfterFunc(d, func() {
		c.mu.Lock()
		paused := c.t.paused // read before lastRead, which the end of a pause sets
		c.mu.Unlock()
		left := d - time.Duration(c.tub.now()-c.lastRead.Load())
		if left <= 0 {
			f(paused)
			left = d
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.t.dead {
			timer.Reset(left)
		}
	})
	c.t.timers = append(c.t.timers, timer)
}

// drain waits for running methods until ctx is done, writes the output, and closes the
// connection. It reports whether all methods finished.
func (c *conn) drain(ctx context.Context, cause error) (finished bool) {
	c.mu.Lock()
	c.t.draining = true
	for (c.t.running > 0 || c.t.delivers) && !c.t.dead && ctx.Err() == nil {
		idle := c.t.idle
		if idle == nil {
			idle = make(chan struct{})
			c.t.idle = idle
		}
		c.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
		}
		c.mu.Lock()
	}
	c.t.closing = true
	finished = c.t.running == 0
	c.mu.Unlock()
	// If the peer reads nothing there is no CloseWrite: TLS would wait with its alert
	// until the writer's deadline.
	written := c.flushed(time.Second)
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && written && !c.isDead() {
		// The peer closes when it reads the end. Until then its bytes are read: closing
		// with unread data could destroy what it has not read yet.
		half.CloseWrite()
		select {
		case <-c.ctx.Done():
		case <-time.After(lingerTime):
		}
	}
	c.shutdown(cause)
	return finished
}

// lingerTime is how long a peer may take to close its side after this one.
const lingerTime = 500 * time.Millisecond

func (c *conn) String() string { return fmt.Sprintf("connection with %s", c.peerID) }
