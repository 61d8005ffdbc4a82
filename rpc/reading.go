package rpc

import (
	"fmt"
	"log/slog"

	"github.com/flogtool/flogtool/rpc/banana"
)

// reading is what the reader of a connection does: everything in this file runs
// on its goroutine.
type reading struct {
	conn  *conn
	d     *banana.Decoder
	gifts []*gift // in the message being read
}

// run reads messages until the connection or the protocol ends.
func (r *reading) run() error {
	for {
		r.conn.mayRead()
		t, err := r.d.Next()
		if err != nil {
			return err
		}
		if t.Type != banana.TokenOpen {
			return r.d.Syntax("top-level must be OPEN")
		}
		from := r.d.Offset()
		r.d.Begin()
		if err := r.message(from); err != nil {
			return err
		}
	}
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
	// Anything else is skipped without a word, as the original does.
	return r.skip(err)
}

// skip drops the rest of a message because of err, which it returns if it ends
// the connection.
func (r *reading) skip(err error) error {
	for _, g := range r.gifts {
		r.conn.giftDone(g) // its giver must not keep it for us
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

// takeGifts begins to resolve the gifts of a message that was read whole.
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
		return 0, r.d.Syntax("%v where %s must be", t.Type, what)
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
	return 0, r.d.Syntax("%v where %s must be", t.Type, what)
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
		return nil, r.d.Syntax("%v where %s must be", t.Type, what)
	}
	return t.Body, nil
}

const maxName = 1000 // bytes of the name of a method or argument; taste

// call reads: INT reqid, INT or NEG clid, STRING method, arguments, CLOSE.
func (r *reading) call(from int64) error {
	id, err := r.number("a request id")
	if err != nil {
		return r.skip(err)
	}
	in := &inbound{conn: r.conn, id: id}
	if err := r.rest(in); err != nil {
		if err == banana.ErrAborted || !concernsMessage(err) {
			return r.skip(err) // an aborted call is forgotten without an answer
		}
		in.fail(err)
		return r.skip(err)
	}
	in.size = r.d.Offset() - from + messageCost
	in.gifts = r.takeGifts()
	return r.conn.deliver(in)
}

// messageCost is what a call in the queue takes beside its bytes on the wire.
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
	t, err := r.d.Next()
	if err != nil {
		return err
	}
	if t.Type != banana.TokenOpen {
		return r.d.Syntax("%v where arguments must be", t.Type)
	}
	switch k, err := r.d.Kind(); {
	case err != nil:
		return err
	case k != banana.KindArguments:
		return r.d.Syntax("%v where arguments must be", k)
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
			return r.d.Syntax("%v where the name of an argument must be", t.Type)
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

// copyable turns a copyable into what it stands for here. A gift stands in
// values until it is resolved, which is after a Go struct has got them: so
// there must be none before one.
func (r *reading) copyable(c *banana.Copyable) (any, error) {
	if _, ok := r.conn.tub.copies.byClass[c.Class]; ok && len(r.gifts) > 0 {
		return nil, violationf("a %q in a message with a gift before it", c.Class)
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
			return nil, violationf("%v where a my-reference must end", t.Type)
		case !t.IsString():
			return nil, r.d.Syntax("%v in a my-reference", t.Type)
		case len(t.Body) > maxFURL:
			return nil, violationf("a my-reference with a string of %d bytes", len(t.Body))
		}
		words[i] = string(t.Body)
	}
}

// maxFURL is how many bytes a FURL from a peer may have. FURLs have no limit;
// this one keeps a peer from making us remember what it likes.
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

// mayRead waits while too many calls wait for delivery and none of the methods
// that run can be waiting for an answer. The peer's silence counts from then on.
func (c *conn) mayRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.t.queued >= c.tub.cfg.Limits.Pause && !c.t.dead && !(c.t.running > 0 && len(c.t.pending) > 0) {
		c.t.paused = true
		c.t.resume.Wait()
	}
	if c.t.paused {
		c.t.paused = false
		c.heard.Store(c.tub.now())
	}
}

// take returns the call that waits for answer id, once.
func (c *conn) take(id uint64) *Pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.t.pending[id]
	delete(c.t.pending, id)
	return p
}

// remoteError makes an error of what came in an error sequence.
func (t *Tub) remoteError(v any) error {
	f, ok := v.(*banana.Copyable)
	if !ok || f.Class != banana.FailureClass {
		return violationf("the peer reported an error in the form of a %T", v)
	}
	e := AsRemoteError(f)
	t.log.Debug("remote failure", slog.String("type", e.Type), slog.String("text", e.Text))
	if t.cfg.ExposeRemoteExceptionTypes != nil && !*t.cfg.ExposeRemoteExceptionTypes {
		return &HiddenError{Remote: e}
	}
	return e
}

// AsRemoteError returns the exception that a [banana.Copyable] of
// [banana.FailureClass] holds, such as stands in log events.
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

// locate says where a Violation was found.
func locate(err error, where string) error {
	if v, ok := err.(*Violation); ok && v.Where == "" {
		return &Violation{Where: where, Reason: v.Reason, Err: v.Err}
	}
	return fmt.Errorf("%s: %w", where, err)
}
