package rpc

import (
	"context"
	"fmt"
	"reflect"

	"github.com/flogtool/flogtool/rpc/banana"
)

// giftOut is a third Tub's object that was sent to the peer. The reference is kept
// until the peer has its own, so that the owner does not drop the object.
type giftOut struct {
	id     uint64
	count  int64
	remote *Remote
}

// gift is a third Tub's object that the peer has sent. It takes the place of the
// Remote in values until it is resolved.
type gift struct {
	id   uint64
	furl string

	done   chan struct{} // closed when one of these is set
	remote *Remote
	err    error
}

// maxGifts is the maximum number of gifts of one connection that are resolved at a
// time: each may need a connection. It is a choice, not measured.
const maxGifts = 64

// receiveGift accepts a gift, which is resolved when its message is complete.
func (c *conn) receiveGift(id uint64, furl string) (*gift, error) {
	if !c.tub.cfg.AcceptGifts {
		return nil, violationf("gifts are prohibited in this Tub")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.giftsIn >= maxGifts {
		return nil, &Violation{Reason: fmt.Sprintf("more than %d gifts at a time", maxGifts), Err: ErrLimit}
	}
	c.t.giftsIn++
	return &gift{id: id, furl: furl, done: make(chan struct{})}, nil
}

// resolve connects to the gift's owner and acknowledges the gift.
func (c *conn) resolve(g *gift) {
	defer close(g.done)
	defer c.giftDone(g)
	f, err := ParseFURL(g.furl)
	if err != nil {
		g.err = err
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.tub.cfg.DialTimeout)
	defer cancel()
	g.remote, g.err = c.tub.Connect(ctx, f)
}

// giftDone acknowledges a gift: the peer need not keep its own reference any longer.
func (c *conn) giftDone(g *gift) {
	c.mu.Lock()
	c.t.giftsIn--
	c.mu.Unlock()
	if g.id == 0 {
		return
	}
	m := c.newMessage()
	defer m.done()
	m.begin(0, 0, "decgift")
	args := m.Open(banana.KindArguments)
	m.Count(0)
	m.Word("count")
	m.Int(1)
	m.Word("giftID")
	m.Count(g.id)
	m.Close(args)
	m.Close(m.call)
	c.sendNow(m)
}

// decgift handles the peer's acknowledgement of a gift.
func (c *conn) decgift(id uint64, count int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.t.giftsOut[id]
	if g == nil {
		return
	}
	if g.count -= count; g.count <= 0 {
		delete(c.t.giftsOut, id)
		delete(c.t.giftsTo, g.remote)
	}
}

// await waits until all gifts are resolved.
func (c *conn) await(gifts []*gift) error {
	for _, g := range gifts {
		select {
		case <-g.done:
			if g.err != nil {
				return g.err
			}
		case <-c.ctx.Done():
			return c.deadErr()
		}
	}
	return nil
}

// unwrapping replaces resolved gifts by their Remotes, in values that may be shared
// and cyclic. It is the set of the containers that were visited.
type unwrapping map[slicePointer]bool

type slicePointer struct {
	data uintptr
	len  int
}

func (w unwrapping) value(v any) any {
	switch v := v.(type) {
	case *gift:
		return v.remote
	case []any:
		w.list(v)
	case banana.Tuple:
		w.list(v)
	case banana.Set:
		w.list(v)
	case banana.FrozenSet:
		w.list(v)
	case banana.Dict:
		w.dict(v)
	case *banana.Copyable:
		w.dict(v.Attrs)
	}
	return v
}

// seen notes a container and reports whether it is empty or was visited before.
func (w unwrapping) seen(v any, n int) bool {
	p := slicePointer{reflect.ValueOf(v).Pointer(), n}
	if n == 0 || w[p] {
		return true
	}
	w[p] = true
	return false
}

func (w unwrapping) list(items []any) {
	if w.seen(items, len(items)) {
		return
	}
	for i := range items {
		items[i] = w.value(items[i])
	}
}

func (w unwrapping) dict(items banana.Dict) {
	if w.seen(items, len(items)) {
		return
	}
	for i := range items {
		items[i].Key, items[i].Value = w.value(items[i].Key), w.value(items[i].Value)
	}
}
