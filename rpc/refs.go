package rpc

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"weak"

	"github.com/flogtool/flogtool/rpc/banana"
)

// export is an object of this Tub that the peer may call.
type export struct {
	obj   Object
	clid  int64 // negative for a Function
	count int   // how often it was sent and not released
	held  bool  // the Tub keeps a name for it because of this connection
}

// imported is an object of the peer to which this Tub has or had a reference.
type imported struct {
	clid     int64
	iface    string
	furl     FURL
	count    int                  // how often it was received and not released
	remote   weak.Pointer[Remote] // the application's
	gen      int                  // of remote: the cleanup of an earlier one is ignored
	decrefed bool                 // a decref is under way: the entry stays until its answer
}

// A Function is an Object that is called without a method name, as bound methods of
// the original are. The Remote of a peer's function is called with the method "" and
// keyword arguments.
type Function struct {
	F func(c *Call) (any, error) // runs the call
}

// Interface returns "": a function has no interface.
func (f *Function) Interface() string { return "" }

// Invoke calls f.F.
func (f *Function) Invoke(c *Call) (any, error) { return f.F(c) }

// lookup returns the object of this Tub with that clid.
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

// extend encodes the types that package banana does not know.
func (m *message) extend(v any) (bool, error) {
	switch v := v.(type) {
	case *Remote:
		return true, m.remote(v)
	case Object:
		return true, m.object(v)
	}
	return m.reflected(v)
}

// object leaves a slot for an object of this Tub.
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
		return &Violation{Reason: fmt.Sprintf("the peer already holds references to %d objects", m.c.tub.cfg.Limits.Exports), Err: ErrLimit}
	}
	s := reference{obj: obj, iface: obj.Interface()}
	s.furl, s.held = m.c.tub.holdName(obj)
	m.slots = append(m.slots, s)
	m.Slot()
	return nil
}

// remote encodes a reference: for its owner, or as a gift for another Tub.
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
		return violationf("a reference without a FURL cannot be sent to a third Tub")
	}
	m.slots = append(m.slots, reference{gift: r, furl: r.furl.String()})
	m.Slot()
	return nil
}

// slot appends the reference of s as OPEN number open. mu is held.
func (c *conn) slot(dst []byte, open uint64, s *reference) []byte {
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
		c.isHolder()
		s.held = false // e holds the name now
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

// isHolder notes that the peer holds a reference to an object of this Tub. mu is held.
func (c *conn) isHolder() {
	if !c.holder.Swap(true) && c.admitted != nil {
		// The Tub's lock is never taken while mu is held.
		c.tub.do(c.admitted.accepted)
	}
}

func (c *conn) openWord(dst []byte, open uint64, k banana.Kind) []byte {
	dst = banana.AppendToken(dst, open, banana.TokenOpen)
	if c.table == 1 {
		return banana.AppendToken(dst, uint64(k), banana.TokenVocab)
	}
	return banana.AppendString(dst, k.String())
}

// imported returns the Remote for an object that the peer has sent with n strings. A
// Violation costs the message, any other error the connection.
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
		most := c.tub.cfg.Limits.Imports
		if !c.holder.Load() {
			most = min(most, strangerImports)
		}
		if len(c.t.imports) >= most {
			return nil, &Violation{Reason: fmt.Sprintf("more than %d references", most), Err: ErrLimit}
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
	// The cleanup only notes it; the writer tells the peer.
	runtime.AddCleanup(r, func(c *conn) { c.collected(clid, gen) }, c)
	return r, nil
}

// collected notes that the Remote of generation gen was garbage collected.
func (c *conn) collected(clid int64, gen int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if imp := c.t.imports[clid]; imp != nil && imp.gen == gen && !c.t.dead {
		c.t.released = append(c.t.released, imp)
		c.wakeWriter()
	}
}

// release is collected for a Remote that the application has released.
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
	c.wakeWriter()
}

// sendDecrefs queues a decref for each released object that has not arrived again
// since. The writer calls it with mu held.
func (c *conn) sendDecrefs() {
	released := c.t.released
	c.t.released = nil
	for _, imp := range released {
		if imp.remote.Value() != nil || imp.count == 0 || imp.decrefed {
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
		c.tub.budget.force(c, int64(m.Len()))
		c.queue(m)
		m.done()
		imp.count, imp.decrefed = 0, true
	}
}

// decrefAnswered handles the answer of a decref. Everything that the peer sent before
// it has been read, so the peer has dropped an object that has not arrived again, and
// does not use its number again.
func (c *conn) decrefAnswered(imp *imported) {
	c.mu.Lock()
	defer c.mu.Unlock()
	imp.decrefed = false
	switch {
	case c.t.dead || c.t.imports[imp.clid] != imp:
	case imp.count == 0:
		delete(c.t.imports, imp.clid)
	case imp.remote.Value() == nil:
		c.t.released = append(c.t.released, imp) // it arrived again and was released again
		c.wakeWriter()
	}
}

// broker is the object with clid 0 of each side of a connection.
type broker struct{ c *conn }

// Interface returns the name of the interface that the original checks.
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
		return 0, 0, violationf("%s of the broker takes two numbers", call.Method)
	}
	return x, y, nil
}

// asViolation makes a Violation of an error about arguments that an interface
// declares.
func asViolation(err error) error { return violationf("%s", err) }

// decref subtracts from the count of an object of this Tub.
func (c *conn) decref(clid, count int64) error {
	c.mu.Lock()
	e := c.t.exports[clid]
	if e == nil {
		c.mu.Unlock()
		return nil // not an error: foolscap-wire.md section 5.5
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
		c.tub.releaseName(e.obj)
	}
	return nil
}
