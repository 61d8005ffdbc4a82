package rpc

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/flogtool/flogtool/rpc/banana"
)

// reading is the state of a connection's reader. Its methods run on the reader's
// goroutine.
type reading struct {
	conn  *conn
	d     *banana.Decoder
	gifts []*gift // in the message being read

	charged int64 // bytes of the budget for the message being read
}

// charge is the Charge of the banana.Reader. While it waits, the peer's silence does
// not count.
func (r *reading) charge(n int64) error {
	c := r.conn
	if !c.tub.budget.try(c, n) {
		c.pause(true)
		err := c.tub.budget.wait(c.ctx, c, n)
		c.pause(false)
		if err != nil {
			return err
		}
	}
	r.charged += n
	return nil
}

// release gives back what the message that was read has been charged.
func (r *reading) release() {
	r.conn.tub.budget.give(r.conn, r.charged)
	r.charged = 0
}

// pause notes whether the reader waits. While it does, it cannot see that the peer has
// left, so the peer is pinged.
func (c *conn) pause(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t.pause(c, on)
}

// pause is conn.pause with mu held.
func (t *tables) pause(c *conn, on bool) {
	switch {
	case t.paused == on:
	case on:
		t.probe = time.AfterFunc(probeEvery, c.probe)
	default:
		t.probe.Stop()
		c.lastRead.Store(c.tub.now())
	}
	t.paused = on
}

// probeEvery is how often a peer whose messages are not being read is pinged.
const probeEvery = time.Second

// probe pings the peer: writing to one that has left fails.
func (c *conn) probe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.dead || !c.t.paused {
		return
	}
	if len(c.t.out) == 0 {
		c.t.out = banana.AppendPing(c.t.out, 0, banana.TokenPing)
		c.wakeWriter()
	}
	c.t.probe.Reset(probeEvery)
}

// run reads messages until reading fails or the peer violates the protocol.
func (r *reading) run() error {
	for {
		r.conn.waitToRead()
		t, err := r.d.Next()
		if err != nil {
			return err
		}
		if t.Type != banana.TokenOpen {
			return r.d.Syntax("top-level must be OPEN")
		}
		from := r.d.Offset()
		r.d.Begin()
		// Until it is known what the message is for, it may be as long as a
		// stranger's.
		r.d.Allow(strangerMessage)
		if !r.conn.holder.Load() {
			r.d.AllowValues(strangerValues)
		}
		err = r.message(from)
		r.release()
		if err != nil {
			return err
		}
		r.conn.spoke.Store(true)
	}
}

// maxMessage returns how many bytes the next message may have in any case. A stranger
// that sends more is not worth the reading, unless it was asked for something. A peer that
// this Tub has dialled is not one.
func (c *conn) maxMessage() int64 {
	if !c.inbound || c.holder.Load() || c.self {
		return c.tub.cfg.Limits.Message
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.t.pending) > 0 {
		return c.tub.cfg.Limits.Message
	}
	return min(strangerMessage, c.tub.cfg.Limits.Message)
}

// message reads one top-level sequence whose OPEN has been read.
func (r *reading) message(from int64) error {
	k, err := r.d.Kind()
	if err == nil {
		switch k {
		case banana.KindCall:
			return r.call(from)
		case banana.KindAnswer, banana.KindError:
			return r.answer(k)
		}
	}
	// Other sequences are skipped without an error, as in the original.
	return r.skip(err)
}

// skip drops the rest of a message because of err. It returns err if the connection
// must end.
func (r *reading) skip(err error) error {
	for _, g := range r.gifts {
		r.conn.giftDone(g) // the peer must not keep it for this Tub
	}
	r.gifts = nil
	if err != nil && !concernsMessage(err) {
		return err
	}
	return r.d.Skip(0)
}

// concernsMessage reports whether the connection survives err.
func concernsMessage(err error) bool {
	_, ok := err.(*Violation)
	return ok
}

// takeGifts starts to resolve the gifts of a message that was read whole.
func (r *reading) takeGifts() []*gift {
	gifts := r.gifts
	r.gifts = nil
	for _, g := range gifts {
		r.conn.tub.goroutines.Go(func() { r.conn.resolve(g) })
	}
	return gifts
}

// number reads an INT token.
func (r *reading) number(what string) (uint64, error) {
	t, err := r.d.Next()
	switch {
	case err != nil:
		return 0, err
	case t.Type == banana.TokenAbort:
		return 0, banana.ErrAborted
	case t.Type != banana.TokenInt || t.Big != nil:
		return 0, r.d.Syntax("%v where %s is expected", t.Type, what)
	}
	return t.Num, nil
}

// id reads an INT or NEG token that fits an int64.
func (r *reading) id(what string) (int64, error) {
	t, err := r.d.Next()
	switch {
	case err != nil:
		return 0, err
	case t.Type == banana.TokenAbort:
		return 0, banana.ErrAborted
	case t.Big == nil && t.Num < 1<<62 && t.Type == banana.TokenInt:
		return int64(t.Num), nil
	case t.Big == nil && t.Num < 1<<62 && t.Type == banana.TokenNeg:
		return -int64(t.Num), nil
	}
	return 0, r.d.Syntax("%v where %s is expected", t.Type, what)
}

// word reads a byte string, which is valid until the next token.
func (r *reading) word(what string) ([]byte, error) {
	t, err := r.d.Next()
	switch {
	case err != nil:
		return nil, err
	case t.Type == banana.TokenAbort:
		return nil, banana.ErrAborted
	case !t.IsString():
		return nil, r.d.Syntax("%v where %s is expected", t.Type, what)
	}
	return t.Body, nil
}

const maxName = 1000 // bytes of the name of a method or argument; a choice

// call reads: INT reqid, INT or NEG clid, STRING method, arguments, CLOSE.
func (r *reading) call(from int64) error {
	id, err := r.number("a request id")
	if err != nil {
		return r.skip(err)
	}
	in := &inbound{conn: r.conn, id: id}
	if err := r.rest(in); err != nil {
		if err == banana.ErrAborted || !concernsMessage(err) {
			return r.skip(err) // an aborted call gets no answer
		}
		in.fail(err)
		return r.skip(err)
	}
	if err := r.d.ChargeDue(); err != nil {
		return err
	}
	in.charged, r.charged = r.charged, 0
	in.size = r.d.Offset() - from + messageCost
	in.gifts = r.takeGifts()
	return r.conn.deliver(in)
}

// messageCost is the size of a call in the queue in addition to its bytes on the wire.
const messageCost = 256

func (r *reading) rest(in *inbound) error {
	clid, err := r.id("a clid")
	if err != nil {
		return err
	}
	if in.obj, err = r.conn.lookup(clid); err != nil {
		return err
	}
	if b, ok := in.obj.(Borrower); ok && b.Borrows() {
		r.d.Alloc = in.borrow
		defer func() { r.d.Alloc = nil }()
	}
	name, err := r.word("a method")
	if err != nil {
		return err
	}
	if len(name) > maxName {
		return violationf("the name of a method has %d bytes", len(name))
	}
	in.call.Method = string(name)
	in.call.in = in
	if clid != 0 {
		r.d.Allow(sizeOf(in.obj, in.call.Method) + messageCost)
	}
	t, err := r.d.Next()
	if err != nil {
		return err
	}
	if t.Type != banana.TokenOpen {
		return r.d.Syntax("%v where arguments are expected", t.Type)
	}
	switch k, err := r.d.Kind(); {
	case err != nil:
		return err
	case k != banana.KindArguments:
		return r.d.Syntax("%v where arguments are expected", k)
	}
	if err := r.arguments(&in.call.Args); err != nil {
		return err
	}
	return r.d.End("call")
}

// arguments reads: INT count, values, (STRING name, value)..., CLOSE.
func (r *reading) arguments(a *Args) error {
	count, err := r.number("a count")
	if err != nil {
		return err
	}
	if count > 0 {
		a.Pos = make([]any, 0, min(count, 8))
	}
	for range count {
		v, err := r.d.Value()
		if err != nil {
			return err
		}
		a.Pos = append(a.Pos, v)
	}
	for {
		t, err := r.d.Next()
		switch {
		case err != nil:
			return err
		case t.Type == banana.TokenClose:
			return nil
		case t.Type == banana.TokenAbort:
			return banana.ErrAborted
		case !t.IsString():
			return r.d.Syntax("%v where the name of an argument is expected", t.Type)
		case len(t.Body) > maxName:
			return violationf("the name of an argument has %d bytes", len(t.Body))
		}
		name := string(t.Body)
		v, err := r.d.Value()
		if err != nil {
			return err
		}
		if a.Kw == nil {
			a.Kw = make(map[string]any)
		}
		a.Kw[name] = v
	}
}

// answer reads: INT reqid, value, CLOSE.
func (r *reading) answer(k banana.Kind) error {
	id, err := r.number("a request id")
	if err != nil {
		return r.skip(err)
	}
	p := r.conn.take(id)
	if p == nil {
		return r.skip(nil)
	}
	if k == banana.KindAnswer {
		r.d.Allow(p.expect + messageCost)
		r.d.AllowValues(r.conn.tub.cfg.Limits.Values)
	}
	if p.into != nil {
		r.d.Alloc = p.alloc
		defer func() { r.d.Alloc = nil }()
	}
	v, err := r.d.Value()
	if err == nil {
		err = r.d.End("answer")
	}
	if err != nil {
		if !concernsMessage(err) {
			p.complete(nil, &deadError{err})
			return err
		}
		p.complete(nil, locate(err, "in the answer of "+p.method))
		return r.skip(err)
	}
	if k == banana.KindError {
		p.complete(nil, r.conn.tub.remoteError(v))
		return r.skip(nil)
	}
	gifts := r.takeGifts()
	if len(gifts) == 0 {
		p.complete(v, nil)
		return nil
	}
	r.conn.tub.goroutines.Go(func() { // ends when the gifts are here or the connection is gone
		if err := r.conn.await(gifts); err != nil {
			p.complete(nil, err)
			return
		}
		w := unwrapping{}
		p.complete(w.value(v), nil)
	})
	return nil
}

// copyable converts a copyable that has arrived. Gifts are resolved later, when they
// can no longer be replaced in the fields of a Go struct: a message must not have a
// gift before a copyable of a Go type.
func (r *reading) copyable(c *banana.Copyable) (any, error) {
	if _, ok := r.conn.tub.copies.byClass[c.Class]; ok && len(r.gifts) > 0 {
		return nil, violationf("a %q after a gift in the same message", c.Class)
	}
	return r.conn.tub.copies.fromWire(c)
}

// extend reads the references.
func (r *reading) extend(d *banana.Decoder, k banana.Kind) (any, error) {
	switch k {
	case banana.KindMyReference:
		return r.theirObject()
	case banana.KindYourReference:
		return r.ourObject()
	case banana.KindTheirReference:
		return r.thirdObject()
	}
	return nil, violationf("unknown OPEN type %q", k)
}

// theirObject reads: INT or NEG clid, [ STRING interface, [ STRING furl ] ], CLOSE.
func (r *reading) theirObject() (any, error) {
	clid, err := r.id("a clid")
	if err != nil {
		return nil, err
	}
	var words [2]string
	for i := 0; ; i++ {
		t, err := r.d.Next()
		switch {
		case err != nil:
			return nil, err
		case t.Type == banana.TokenClose:
			v, err := r.conn.imported(clid, words[0], words[1], i)
			if err != nil && !concernsMessage(err) {
				return nil, r.d.Syntax("%v", err)
			}
			return v, err
		case t.Type == banana.TokenAbort:
			return nil, banana.ErrAborted
		case i == len(words):
			return nil, violationf("%v where the my-reference should end", t.Type)
		case !t.IsString():
			return nil, r.d.Syntax("%v in a my-reference", t.Type)
		case len(t.Body) > maxFURL:
			return nil, violationf("a my-reference with a string of %d bytes", len(t.Body))
		}
		words[i] = string(t.Body)
	}
}

// maxFURL is the maximum size in bytes of a FURL from a peer. The protocol has no
// limit; this one bounds what a peer can make this Tub store.
const maxFURL = 256 << 10

// ourObject reads: INT clid, CLOSE.
func (r *reading) ourObject() (any, error) {
	clid, err := r.id("a clid")
	if err != nil {
		return nil, err
	}
	if err := r.d.End("your-reference"); err != nil {
		return nil, err
	}
	return r.conn.lookup(clid)
}

// thirdObject reads: INT giftID, STRING furl, CLOSE.
func (r *reading) thirdObject() (any, error) {
	id, err := r.number("a gift's number")
	if err != nil {
		return nil, err
	}
	word, err := r.word("a gift's FURL")
	if err != nil {
		return nil, err
	}
	if len(word) > maxFURL {
		return nil, violationf("a gift with a FURL of %d bytes", len(word))
	}
	furl := string(word)
	if err := r.d.End("their-reference"); err != nil {
		return nil, err
	}
	g, err := r.conn.receiveGift(id, furl)
	if err != nil {
		return nil, err
	}
	r.gifts = append(r.gifts, g)
	return g, nil
}

// waitToRead blocks while too many calls are queued, unless a running method may be
// waiting for an answer that is yet to be read. The peer's silence counts from the end
// of the wait.
func (c *conn) waitToRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.t.queued >= c.tub.cfg.Limits.Pause && !c.t.dead && !(c.t.running > 0 && len(c.t.pending) > 0) {
		c.t.pause(c, true)
		c.t.resume.Wait()
	}
	c.t.pause(c, false)
}

// take removes and returns the call that waits for the answer with this id, or nil.
func (c *conn) take(id uint64) *Pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.t.pending[id]
	delete(c.t.pending, id)
	return p
}

// remoteError returns the error that an error sequence holds.
func (t *Tub) remoteError(v any) error {
	f, ok := v.(*banana.Copyable)
	if !ok || f.Class != banana.FailureClass {
		return violationf("the peer reported an error as a %T", v)
	}
	e := AsRemoteError(f)
	t.log.Debug("remote failure", slog.String("type", cut(e.Type, maxLogged)), slog.String("text", cut(e.Text, maxLogged)))
	if t.cfg.ExposeRemoteExceptionTypes != nil && !*t.cfg.ExposeRemoteExceptionTypes {
		return &HiddenError{Remote: e}
	}
	return e
}

// maxLogged bounds what a peer wrote in a line of the log, in bytes.
const maxLogged = 1000

// AsRemoteError returns the exception in a [banana.Copyable] of
// [banana.FailureClass], which log events contain.
func AsRemoteError(f *banana.Copyable) *RemoteError {
	text := func(key string) string {
		v, _ := f.Attrs.Get(key)
		s, _ := banana.Text(v)
		return s
	}
	e := &RemoteError{Type: text("type"), Text: text("value"), Traceback: text("traceback")}
	parents, _ := f.Attrs.Get("parents")
	list, _ := parents.([]any)
	for _, p := range list {
		if s, ok := banana.Text(p); ok {
			e.Parents = append(e.Parents, s)
		}
	}
	return e
}

// locate adds the place to an error.
func locate(err error, where string) error {
	if v, ok := err.(*Violation); ok && v.Where == "" {
		return &Violation{Where: where, Reason: v.Reason, Err: v.Err}
	}
	return fmt.Errorf("%s: %w", where, err)
}
