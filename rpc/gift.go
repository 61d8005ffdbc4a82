package rpc

import (
	"context"
	"fmt"
	"reflect"

	"github.com/flogtool/flogtool/rpc/banana"
)

// giftOut is a third Tub's object that we gave to the peer. It is kept until
// the peer has its own reference, so that its owner does not forget it.
type giftOut struct {
	id     uint64
	count  int64
	remote *Remote
}

// gift is a third Tub's object that the peer gave to us. It stands in values
// until it is resolved.
type gift struct {
	id   uint64
	furl string

	done   chan struct{} // closed when one of these is set
	remote *Remote
	err    error
}

// maxGifts is how many gifts of one connection are resolved at a time: each may
// make us dial. It is taste.
const maxGifts = 64

// receiveGift takes a gift, to be resolved when its message is complete.
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

// resolve connects to the gift's owner, and tells the giver that it was done.
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

// giftDone tells the giver that we have no more need of its own reference.
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

// decgift is what the peer tells when a gift of ours is resolved.
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

// unwrapping replaces gifts that are resolved by what they stand for, in
// values that may be shared and cyclic. It is the set of what was visited.
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

// seen notes a container, and reports whether there is nothing to do in it.
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
