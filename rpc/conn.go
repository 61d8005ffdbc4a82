package rpc

import (
	"context"
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
// Who runs what. A connection has one goroutine for its whole life, the reader:
// it alone reads the socket, decodes, answers what is addressed to the broker
// itself, completes the calls this side made, and puts the calls of the peer in
// the queue. Two more exist only while there is work for them: the deliverer,
// which runs the peer's calls one after the other (when a method says Go, its
// goroutine goes on with that method alone and another becomes the deliverer),
// and the writer, which alone writes the socket, and takes everything that was
// queued meanwhile in one write. An idle connection is one goroutine. Both run
// on the Tub's workers, a few of which stay for the next who needs one.
//
// Who may wait for whom. Whoever makes a call encodes it himself, without the
// lock, into a banana.Message; only giving it its place in the stream, numbers
// and the copy into the output, is done under the lock. He never waits for the
// socket, but for room if more than Limits.Queue bytes wait to be written. The
// deliverer may wait for anything, since it runs what the application wrote.
// The reader must never wait for the deliverer or the writer, or a method that
// calls back to its caller would wait for ever: it waits only when more than
// Limits.Pause bytes of calls are queued and no method can be waiting for what
// is yet to be read, and, like everybody, when it has something to answer itself
// and the peer has not read Limits.Queue bytes of earlier answers.
//
// What the lock covers. mu guards tables and is held for memory work only:
// never while something is read, written, decoded, or called outside of this
// package. The Tub's lock is never taken under it.
//
// How it ends. shutdown may be called from anywhere and any number of times:
// the first cause counts, every pending call fails, the context ends, the
// reader and the writer find the socket dead. The reader closes the socket when
// it returns, and is waited for by the Tub.
type conn struct {
	tub      *Tub
	nc       net.Conn
	under    *corked // what is below TLS; nil on the loopback
	pre      []byte  // read with the negotiation; the reader's
	peerID   TubID
	features string
	inbound  bool

	incarnation string // the peer's; "" if it did not say
	seq         uint64 // of our decision for it, if we are the master
	table       int    // vocabulary
	since       time.Time

	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
	heard  atomic.Int64 // when the last bytes came, in nanoseconds since the Tub began
	reqs   atomic.Uint64

	writer, deliverer func() // writeLoop and deliverLoop

	mu sync.Mutex
	t  tables // guarded by mu; its methods neither block nor call out of this package
}

type tables struct {
	dead bool

	out      []byte        // to be written
	spare    []byte        // the writer's last buffer
	writing  bool          // the writer runs
	room     chan struct{} // closed when out is taken; nil if nobody waits
	opens    uint64        // OPEN tokens in what was ever queued
	released []*imported   // to be given back to the peer by the writer

	pending map[uint64]*Pending

	exports    map[int64]*export // our objects, by clid
	exported   map[Object]*export
	lastExport int64
	imports    map[int64]*imported // the peer's objects, by clid
	giftsOut   map[uint64]*giftOut
	giftsTo    map[*Remote]*giftOut
	lastGift   uint64
	giftsIn    int // being resolved

	queue     []*inbound // calls to be delivered, from head on
	head      int
	queued    int64         // bytes of these calls
	delivers  bool          // the deliverer runs
	running   int           // methods that run
	lookups   int           // names being looked up by the application
	resume    sync.Cond     // on mu: the reader may go on
	paused    bool          // the reader waits for that
	idle      chan struct{} // closed when methods or writes have come to an end; nil if nobody waits
	draining  bool          // no new calls are accepted
	lingering bool          // what is queued may still be written, nothing new

	timers []*time.Timer
}

func (t *Tub) newConn(nc net.Conn, peer TubID, table int) *conn {
	c := &conn{tub: t, nc: nc, peerID: peer, table: table, since: time.Now()}
	c.ctx, c.cancel = context.WithCancelCause(t.ctx)
	c.t.resume.L = &c.mu
	c.writer, c.deliverer = c.writeLoop, c.deliverLoop
	c.t.writing = true // until start: what is queued before waits
	c.heard.Store(t.now())
	return c
}

// now returns the time since the Tub began, on the monotonic clock.
func (t *Tub) now() int64 { return int64(time.Since(t.began)) }

// start begins to read, and to write what was queued.
func (c *conn) start() {
	c.tub.goroutines.Go(c.readLoop)
	c.tub.do(c.writer)
	c.watch()
}

func (c *conn) isDead() bool { return c.ctx.Err() != nil }

// deadErr is what calls on a dead connection fail with.
func (c *conn) deadErr() error { return &deadError{context.Cause(c.ctx)} }

var (
	errHungUp       = errors.New("the peer closed it")
	errReplaced     = errors.New("replaced by a newer connection with the same Tub")
	errSilent       = errors.New("the peer was silent for longer than DisconnectTimeout")
	errDisconnected = errors.New("this side disconnected")
	errStuck        = errors.New("the peer does not read what it is sent")
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
	c.t.queue, c.t.head, c.t.queued = nil, 0, 0
	c.t.out = nil
	for _, timer := range c.t.timers {
		timer.Stop()
	}
	c.makeRoom()
	c.t.resume.Broadcast()
	c.mu.Unlock()

	c.tub.log.LogAttrs(context.Background(), slog.LevelDebug, "connection ended",
		slog.String("tub", string(c.peerID)), slog.Bool("inbound", c.inbound), slog.Any("err", cause))
	c.cancel(cause)
	c.tub.forget(c) // before anyone learns of it and connects again
	err := c.deadErr()
	for _, p := range pending {
		p.complete(nil, err)
	}
	for _, e := range exports {
		if e.held {
			c.tub.letGo(e.obj)
		}
	}
	// The reader wakes and closes the socket; so does the writer, if it is in
	// the middle of a write.
	c.nc.SetDeadline(time.Unix(1, 0))
}

// Read is the reader's source of bytes.
func (c *conn) Read(b []byte) (int, error) {
	if len(c.pre) > 0 {
		n := copy(b, c.pre)
		c.pre = c.pre[n:]
		return n, nil
	}
	n, err := c.nc.Read(b)
	if n > 0 {
		c.heard.Store(c.tub.now())
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
	err := r.run()
	switch _, peer := errors.AsType[*banana.PeerError](err); {
	case err == io.EOF:
		err = errHungUp
	case !peer && !c.isDead() && isProtocol(err):
		c.lastWords(err)
	}
	c.shutdown(err)
}

// isProtocol reports whether err is about what the peer sent, and not about the
// socket.
func isProtocol(err error) bool {
	_, syntax := errors.AsType[*banana.SyntaxError](err)
	return syntax || errors.Is(err, ErrLimit)
}

// lastWords tells the peer why it is about to lose the connection.
func (c *conn) lastWords(err error) {
	c.mu.Lock()
	if c.t.dead {
		c.mu.Unlock()
		return
	}
	c.t.lingering = true
	c.t.out = banana.AppendError(c.t.out, err.Error())
	c.kick()
	c.mu.Unlock()
	c.flushed(time.Second)
	hangUp(c.nc)
}

// flushed waits until everything queued is written, for at most d, and reports
// whether it is.
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

// kick sees to it that what was queued is written. mu is held.
func (c *conn) kick() {
	if !c.t.writing {
		c.t.writing = true
		c.tub.do(c.writer)
	}
}

// makeRoom wakes those who wait to queue something. mu is held.
func (c *conn) makeRoom() {
	if c.t.room != nil {
		close(c.t.room)
		c.t.room = nil
	}
}

// writeStall is how long a peer may take to read anything at all of what is
// written to it. It is taste; without it a peer that stops reading would keep
// its queue for ever.
const writeStall = 2 * time.Minute

// maxSpare is the largest write buffer that a connection keeps for its next write;
// larger ones are shared by all, in largeBuffers, up to maxShared.
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

// recycle returns what a connection keeps of a buffer that it has written: itself
// or nothing.
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
	for {
		c.mu.Lock()
		if buf != nil {
			c.t.spare = recycle(buf)
		}
		if len(c.t.released) > 0 && !c.t.dead {
			c.giveBack()
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
		c.makeRoom()
		c.mu.Unlock()

		if now := time.Now(); until.Sub(now) < writeStall/2 {
			until = now.Add(writeStall)
			c.nc.SetWriteDeadline(until)
			if c.isDead() { // shutdown's deadline came before ours
				c.nc.Close()
			}
		}
		if err := c.write(buf, &until); err != nil {
			if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() && !c.isDead() {
				err = errStuck
			}
			c.shutdown(err)
		}
	}
}

// writePiece is how much is written under one deadline.
const writePiece = 1 << 20

// write writes all of b. The deadline is moved on whenever a piece of it is
// through, so that a slow peer is not taken for one that does not read.
func (c *conn) write(b []byte, until *time.Time) error {
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
		*until = time.Now().Add(writeStall)
		c.nc.SetWriteDeadline(*until)
	}
}

// pong answers a PING.
func (c *conn) pong(n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.dead || int64(len(c.t.out)) > c.tub.cfg.Limits.Queue {
		return // a peer that does not read cannot tell
	}
	c.t.out = banana.AppendPing(c.t.out, n, banana.TokenPong)
	c.kick()
}

// message is a message being made, with what goes into its slots.
type message struct {
	banana.Message
	c     *conn
	call  uint64 // OPEN number of the call
	slots []slotted
	keep  []*Remote // what it refers to, which must not be given back before it is queued
}

// slotted is a reference whose form depends on what the peer knows already.
type slotted struct {
	obj   Object // ours
	iface string
	furl  string
	held  bool    // the Tub keeps the name in furl for us
	gift  *Remote // another Tub's
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

// begin starts a call message: the arguments and the CLOSE of m.call follow.
func (m *message) begin(id uint64, clid int64, method string) {
	m.call = m.Open(banana.KindCall)
	m.Count(id)
	m.Int(clid)
	m.Word(method)
}

// reset forgets what was encoded.
func (m *message) reset() {
	for _, s := range m.slots {
		if s.held {
			m.c.tub.letGo(s.obj)
		}
	}
	clear(m.slots)
	clear(m.keep)
	m.slots, m.keep = m.slots[:0], m.keep[:0]
	m.Reset(m.c.table)
}

// done gives m back. Names that were kept for it and not sent are let go.
func (m *message) done() {
	m.reset()
	m.c = nil
	messages.Put(m)
}

// queue appends m to the output. mu is held.
func (c *conn) queue(m *message) {
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
	c.kick()
}

// send queues m and registers p, if there is one, as what waits for its answer.
// If there is no room it waits for it until ctx is done.
func (c *conn) send(ctx context.Context, m *message, p *Pending) error {
	c.mu.Lock()
	for {
		switch {
		case c.t.dead || c.t.lingering:
			c.mu.Unlock()
			return c.deadErr()
		case int64(len(c.t.out)) <= c.tub.cfg.Limits.Queue:
			if p != nil {
				if c.t.pending == nil {
					c.t.pending = make(map[uint64]*Pending)
				}
				c.t.pending[p.id] = p
				if c.t.running > 0 {
					c.t.resume.Signal() // the reader may have to read this call's answer
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
			return context.Cause(ctx)
		}
		c.mu.Lock()
	}
}

// sendNow queues m whether there is room or not: it is for small messages that
// answer something, and for those who must not wait.
func (c *conn) sendNow(m *message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.dead || c.t.lingering {
		return c.deadErr()
	}
	c.queue(m)
	return nil
}

// watch starts the timers of keepalive and disconnection.
func (c *conn) watch() {
	ping, cut := c.tub.cfg.KeepaliveTimeout, c.tub.cfg.DisconnectTimeout
	if ping > 0 {
		c.every(ping, func(bool) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.t.dead && len(c.t.out) == 0 {
				c.t.out = banana.AppendPing(c.t.out, 0, banana.TokenPing)
				c.kick()
			}
		})
	}
	if cut > 0 {
		c.every(cut, func(paused bool) {
			if !paused { // or it may well have spoken
				c.shutdown(errSilent)
			}
		})
	}
}

// every calls f whenever nothing was heard for d, and says whether that is
// because the reader is paused. It ends with the connection.
func (c *conn) every(d time.Duration, f func(paused bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.dead {
		return
	}
	var timer *time.Timer // set before the function below gets the lock
	timer = time.AfterFunc(d, func() {
		c.mu.Lock()
		paused := c.t.paused // asked before heard, which the end of a pause sets
		c.mu.Unlock()
		left := d - time.Duration(c.tub.now()-c.heard.Load())
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

// drain lets methods that run finish until ctx is done, writes what is queued,
// and closes the connection. It reports whether all methods finished.
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
	c.t.lingering = true
	finished = c.t.running == 0
	c.mu.Unlock()
	// A peer that reads nothing is given no polite end: TLS would wait to say it
	// until the writer's own deadline.
	written := c.flushed(time.Second)
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && written && !c.isDead() {
		// The peer closes when it sees the end; until then its own last bytes
		// are read, so that ours are not lost.
		half.CloseWrite()
		select {
		case <-c.ctx.Done():
		case <-time.After(lingerTime):
		}
	}
	c.shutdown(cause)
	return finished
}

// lingerTime is how long a peer may take to close its side after ours.
const lingerTime = 500 * time.Millisecond

func (c *conn) String() string { return fmt.Sprintf("connection with %s", c.peerID) }
