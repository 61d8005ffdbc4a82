package rpc

import (
	"crypto/tls"
	"strconv"
	"strings"
	"time"
)

// There is at most one connection between two Tubs. The master decides which of two
// connections stays, by incarnations and sequence numbers: foolscap-wire.md section
// 2.7.

// decide installs a new connection as this Tub's connection with the peer, instead of
// an older one, or refuses it. This Tub is the master.
func (t *Tub) decide(tc *tls.Conn, h hello, inbound bool) (*conn, error) {
	c := t.newConn(tc, h.tub, h.table)
	c.features, c.incarnation, c.inbound = h.features, h.incarnation, inbound
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		c.cancel(ErrClosed)
		return nil, refusal("this Tub is closed")
	}
	old := t.conns[h.tub]
	if old != nil && !t.mayReplace(old, h) {
		t.mu.Unlock()
		c.cancel(errReplaced)
		return nil, refusal(textDuplicate)
	}
	c.seq = max(t.decisions.m[h.tub], t.forgotten) + 1
	t.remember(h.tub, c.seq)
	t.install(c)
	t.mu.Unlock()
	if old != nil {
		old.shutdown(errReplaced)
	}
	return c, nil
}

// remember notes the number of a decision. If that drops the numbers of other peers,
// their next numbers start above all dropped ones, so that they still ascend.
func (t *Tub) remember(id TubID, seq uint64) {
	if _, ok := t.decisions.m[id]; !ok && len(t.decisions.m) >= maxRecent {
		for _, other := range t.decisions.m {
			t.forgotten = max(t.forgotten, other)
		}
		clear(t.decisions.m)
	}
	t.decisions.set(id, seq)
}

// mayReplace applies the rules, in their order, to a hello from a peer with which there
// is a connection. mu is held.
func (t *Tub) mayReplace(old *conn, h hello) bool {
	if old.isDead() {
		return true
	}
	if h.incarnation == "" || h.last == "" {
		return t.cfg.HandleOldDuplicates > 0 && time.Since(old.since) >= t.cfg.HandleOldDuplicates
	}
	if h.incarnation != old.incarnation {
		return true // the peer restarted
	}
	incarnation, number, _ := strings.Cut(h.last, " ")
	switch {
	case incarnation == "none":
		return false // a parallel attempt
	case incarnation != t.incarnation:
		return true
	}
	seq, err := strconv.ParseUint(strings.TrimSpace(number), 10, 64)
	if err != nil || seq > old.seq {
		t.log.Warn("a peer names a connection that never existed", "tub", string(h.tub), "seq", number, "ours", old.seq)
		return false
	}
	return seq == old.seq // it knows the connection and connects again
}

// adopt installs a new connection as this Tub's connection with the peer, which is the
// master and has accepted it.
func (t *Tub) adopt(tc *tls.Conn, h hello, d decision, inbound bool) (*conn, error) {
	c := t.newConn(tc, h.tub, d.table)
	c.features, c.incarnation, c.inbound = h.features, h.incarnation, inbound
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		c.cancel(ErrClosed)
		return nil, ErrClosed
	}
	if d.current != "" && len(d.current) <= 64 {
		t.last.set(h.tub, d.current)
	}
	old := t.conns[h.tub]
	t.install(c)
	t.mu.Unlock()
	if old != nil {
		old.shutdown(errReplaced)
	}
	return c, nil
}

// install makes c the connection with its peer. An inbound connection also completes
// the attempt to dial the peer; an outbound one is the result of that attempt. mu is
// held.
func (t *Tub) install(c *conn) {
	t.conns[c.peerID] = c
	t.all[c] = struct{}{}
	if a := t.attempts[c.peerID]; a != nil && c.inbound {
		a.succeed(c)
	}
}

// lastConnection returns the value of last-connection for the hello to target. It must
// be called before an attempt begins, while there is no connection: a hello that names a
// connection made in the meantime would tell the master that this Tub has lost it.
func (t *Tub) lastConnection(target TubID) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.last.m[target]; ok {
		return last
	}
	return "none 0"
}
