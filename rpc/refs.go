package rpc

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"weak"

	"github.com/flogtool/flogtool/rpc/banana"
)

// export is an object of ours that the peer may call.
type export struct {
	obj   Object
	clid  int64 // negative for a Function
	count int   // how often it was sent and not given back
	held  bool  // the Tub keeps a name for it because of us
}

// imported is an object of the peer that we hold or held.
type imported struct {
	clid   int64
	iface  string
	furl   FURL
	count  int                  // how often it was received and not given back
	remote weak.Pointer[Remote] // what the application has
	gen    int                  // of remote: a cleanup of an earlier one means nothing
	giving bool                 // a decref is under way: the entry stays until its answer
}

// A Function is an Object that is called without a method's name, as the
// original's bound methods are: a peer's Remote for it is called with method
// "" and keyword arguments.
type Function struct{ F func(c *Call) (any, error) }

// Interface returns "": a function has none.
func (f *Function) Interface() string { return "" }

// Invoke calls f.F.
func (f *Function) Invoke(c *Call) (any, error) { return f.F(c) }

// lookup returns our object of that clid.
func (c *conn) lookup(clid int64) (Object, error) {
	if clid == 0 {
		return &broker{c}, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.t.exports[clid]; e != nil {
		return e.obj, nil
	}
	return nil, violationf("unknown CLID %d", clid)
}

// extend encodes what the banana package does not know.
func (m *message) extend(v any) (bool, error) {
	switch v := v.(type) {
	case *Remote:
		return true, m.remote(v)
	case Object:
		return true, m.object(v)
	}
	return m.natural(v)
}

// object leaves a slot for one of our objects.
func (m *message) object(obj Object) error {
	rv := reflect.ValueOf(obj)
	if rv.Kind() == reflect.Pointer && rv.IsNil() {
		m.None()
		return nil
	}
	if b, ok := obj.(*broker); ok && b.c != m.c {
		return violationf("the broker of another connection cannot be sent")
	}
	if !rv.Comparable() {
		return violationf("a %T cannot be sent: an Object must be comparable", obj)
	}
	m.c.mu.Lock()
	full := len(m.c.t.exports)+len(m.slots) >= m.c.tub.cfg.Limits.Exports && m.c.t.exported[obj] == nil
	m.c.mu.Unlock()
	if full {
		return &Violation{Reason: fmt.Sprintf("the peer holds %d objects already", m.c.tub.cfg.Limits.Exports), Err: ErrLimit}
	}
	s := slotted{obj: obj, iface: obj.Interface()}
	s.furl, s.held = m.c.tub.hold(obj)
	m.slots = append(m.slots, s)
	m.Slot()
	return nil
}

// remote encodes a reference: back to its owner, or as a gift to another Tub.
func (m *message) remote(r *Remote) error {
	switch {
	case r == nil:
		m.None()
		return nil
	case r.c == m.c && r.clid < 0:
		return violationf("a function cannot be sent back to its owner")
	case r.c == m.c:
		open := m.Open(banana.KindYourReference)
		m.Int(r.clid)
		m.Close(open)
		m.keep = append(m.keep, r)
		return nil
	case r.furl.IsZero():
		return violationf("a reference without a FURL cannot be given to a third Tub")
	}
	m.slots = append(m.slots, slotted{gift: r, furl: r.furl.String()})
	m.Slot()
	return nil
}

// slot appends the reference s stands for, as OPEN number open. mu is held.
func (c *conn) slot(dst []byte, open uint64, s *slotted) []byte {
	if s.gift != nil {
		g := c.t.giftsTo[s.gift]
		if g == nil {
			if c.t.giftsTo == nil {
				c.t.giftsTo, c.t.giftsOut = make(map[*Remote]*giftOut), make(map[uint64]*giftOut)
			}
			c.t.lastGift++
			g = &giftOut{id: c.t.lastGift, remote: s.gift}
			c.t.giftsTo[s.gift], c.t.giftsOut[g.id] = g, g
		}
		g.count++
		dst = c.openWord(dst, open, banana.KindTheirReference)
		dst = banana.AppendToken(dst, g.id, banana.TokenInt)
		dst = banana.AppendString(dst, s.furl)
		return banana.AppendToken(dst, open, banana.TokenClose)
	}
	e := c.t.exported[s.obj]
	first := e == nil
	if first {
		if c.t.exports == nil {
			c.t.exports, c.t.exported = make(map[int64]*export), make(map[Object]*export)
		}
		c.t.lastExport++
		e = &export{obj: s.obj, clid: c.t.lastExport, held: s.held}
		if _, ok := s.obj.(*Function); ok {
			e.clid = -e.clid
		}
		c.t.exports[e.clid], c.t.exported[s.obj] = e, e
		s.held = false // it is the export's now
	}
	e.count++
	dst = c.openWord(dst, open, banana.KindMyReference)
	dst = banana.AppendInt(dst, e.clid)
	if first {
		dst = banana.AppendString(dst, s.iface)
		if s.furl != "" {
			dst = banana.AppendString(dst, s.furl)
		}
	}
	return banana.AppendToken(dst, open, banana.TokenClose)
}

func (c *conn) openWord(dst []byte, open uint64, k banana.Kind) []byte {
	dst = banana.AppendToken(dst, open, banana.TokenOpen)
	if c.table == 1 {
		return banana.AppendToken(dst, uint64(k), banana.TokenVocab)
	}
	return banana.AppendString(dst, k.String())
}

// imported returns the Remote for an object the peer has sent, with n strings.
// A Violation concerns the message, another error the connection.
func (c *conn) imported(clid int64, iface, furl string, n int) (any, error) {
	var f FURL
	if n == 2 {
		var err error
		if f, err = ParseFURL(furl); err != nil {
			return nil, errors.New("inbound reference with a bad FURL")
		}
		if f.Tub != c.peerID {
			return nil, fmt.Errorf("inbound reference claims bad tubid, %s vs %s", c.peerID, f.Tub)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.dead {
		return nil, violationf("the connection is lost")
	}
	imp := c.t.imports[clid]
	if imp == nil {
		if len(c.t.imports) >= c.tub.cfg.Limits.Imports {
			return nil, &Violation{Reason: fmt.Sprintf("more than %d references", c.tub.cfg.Limits.Imports), Err: ErrLimit}
		}
		if c.t.imports == nil {
			c.t.imports = make(map[int64]*imported)
		}
		imp = &imported{clid: clid}
		c.t.imports[clid] = imp
	}
	if n > 0 {
		imp.iface, imp.furl = iface, f
	}
	imp.count++
	if r := imp.remote.Value(); r != nil {
		return r, nil
	}
	r := &Remote{c: c, clid: clid, iface: imp.iface, furl: imp.furl}
	imp.gen++
	imp.remote = weak.Make(r)
	gen := imp.gen
	// The collector's goroutine only notes it; the writer tells the peer.
	runtime.AddCleanup(r, func(c *conn) { c.collected(clid, gen) }, c)
	return r, nil
}

// collected notes that nobody holds the Remote of generation gen any more.
func (c *conn) collected(clid int64, gen int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if imp := c.t.imports[clid]; imp != nil && imp.gen == gen && !c.t.dead {
		c.t.released = append(c.t.released, imp)
		c.kick()
	}
}

// release is collected for a Remote that its holder gave up.
func (c *conn) release(r *Remote) {
	c.mu.Lock()
	defer c.mu.Unlock()
	imp := c.t.imports[r.clid]
	if imp == nil || imp.remote.Value() != r || c.t.dead {
		return
	}
	imp.gen++
	imp.remote = weak.Pointer[Remote]{}
	c.t.released = append(c.t.released, imp)
	c.kick()
}

// giveBack queues a decref for each released object that did not come again
// meanwhile. It is the writer's; mu is held.
func (c *conn) giveBack() {
	released := c.t.released
	c.t.released = nil
	for _, imp := range released {
		if imp.remote.Value() != nil || imp.count == 0 || imp.giving {
			continue
		}
		p := &Pending{c: c, id: c.reqs.Add(1), method: "decref", imp: imp, done: make(chan struct{})}
		m := c.newMessage()
		m.begin(p.id, 0, "decref")
		args := m.Open(banana.KindArguments)
		m.Count(0)
		m.Word("clid")
		m.Int(imp.clid)
		m.Word("count")
		m.Int(int64(imp.count))
		m.Close(args)
		m.Close(m.call)
		if c.t.pending == nil {
			c.t.pending = make(map[uint64]*Pending)
		}
		c.t.pending[p.id] = p
		c.queue(m)
		m.done()
		imp.count, imp.giving = 0, true
	}
}

// gaveBack is what the answer of a decref means: whatever the peer sent before
// it has been read, so an object that did not come again is forgotten there,
// and its number will not come again.
func (c *conn) gaveBack(imp *imported) {
	c.mu.Lock()
	defer c.mu.Unlock()
	imp.giving = false
	switch {
	case c.t.dead || c.t.imports[imp.clid] != imp:
	case imp.count == 0:
		delete(c.t.imports, imp.clid)
	case imp.remote.Value() == nil:
		c.t.released = append(c.t.released, imp) // it came again and was given up again
		c.kick()
	}
}

// broker is the object with clid 0 that each side of a connection has.
type broker struct{ c *conn }

// Interface names what the original checks its own calls of it against.
func (b *broker) Interface() string { return "RIBroker.foolscap.lothar.com" }

// Invoke runs one of the broker's three methods: foolscap-wire.md section 5.6.
func (b *broker) Invoke(call *Call) (any, error) {
	switch call.Method {
	case "getReferenceByName":
		v, err := call.Require("name")
		if err != nil {
			return nil, asViolation(err)
		}
		name, ok := v[0].([]byte)
		if !ok {
			return nil, violationf("the name of a reference must be bytes")
		}
		return b.c.tub.named(b.c, string(name))
	case "decref":
		clid, count, err := twoInts(call, "clid", "count")
		if err != nil {
			return nil, err
		}
		return nil, b.c.decref(clid, count)
	case "decgift":
		id, count, err := twoInts(call, "giftID", "count")
		if err != nil {
			return nil, err
		}
		b.c.decgift(uint64(id), count)
		return nil, nil
	}
	return nil, violationf("method %q not defined in RIBroker", call.Method)
}

func twoInts(call *Call, a, b string) (x, y int64, err error) {
	v, err := call.Require(a, b)
	if err != nil {
		return 0, 0, asViolation(err)
	}
	x, okx := v[0].(int64)
	y, oky := v[1].(int64)
	if !okx || !oky || y < 0 {
		return 0, 0, violationf("%s of the broker wants two numbers", call.Method)
	}
	return x, y, nil
}

// asViolation makes a Violation of an error about arguments, where an interface
// declares them.
func asViolation(err error) error { return violationf("%s", err) }

// decref subtracts from the count of one of our objects.
func (c *conn) decref(clid, count int64) error {
	c.mu.Lock()
	e := c.t.exports[clid]
	if e == nil {
		c.mu.Unlock()
		return nil // no harm: foolscap-wire.md section 5.5
	}
	if count > int64(e.count) {
		n := e.count
		c.mu.Unlock()
		return Errorf(typeAssertion, "decref(%d) but refcount was %d", count, n)
	}
	e.count -= int(count)
	gone := e.count == 0
	if gone {
		delete(c.t.exports, clid)
		delete(c.t.exported, e.obj)
	}
	c.mu.Unlock()
	if gone && e.held {
		c.tub.letGo(e.obj)
	}
	return nil
}
