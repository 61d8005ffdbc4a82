package rpc

import (
	"crypto/tls"
	"strconv"
	"strings"
	"time"
)

// There is at most one connection between two Tubs. Which of two stays is the
// master's decision, by incarnations and sequence numbers:
// foolscap-wire.md section 2.7.

// decide makes a new connection this Tub's connection with the peer, in the
// place of an older one, or refuses it. This Tub is the master.
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

// remember notes the number of a decision. If that of another peer is forgotten
// for it, later numbers for that peer start above, so that they ascend anyway.
func (t *Tub) remember(id TubID, seq uint64) {
	if _, ok := t.decisions.m[id]; !ok && len(t.decisions.m) >= maxMemory {
		for _, other := range t.decisions.m {
			t.forgotten = max(t.forgotten, other)
		}
		clear(t.decisions.m)
	}
	t.decisions.set(id, seq)
}

// mayReplace applies the rules, in their order, to a hello from a peer there is
// a connection with. mu is held.
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
		t.log.Warn("a peer knows of a connection that never was", "tub", string(h.tub), "seq", number, "ours", old.seq)
		return false
	}
	return seq == old.seq // it knows of ours and still came back
}

// adopt makes a new connection this Tub's connection with a peer that is the
// master and has decided for it.
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

// install makes c the connection with its peer, for everyone who waits for one
// that the peer opened; our own attempt learns of its success by itself. mu is
// held.
func (t *Tub) install(c *conn) {
	t.conns[c.peerID] = c
	t.all[c] = struct{}{}
	if a := t.attempts[c.peerID]; a != nil && c.inbound {
		a.succeed(c)
	}
}

// lastConnection is what this Tub says in its hello to target. It must be asked
// before an attempt begins, while there is no connection: a hello that names a
// connection which came up meanwhile would tell the master that we lost it.
func (t *Tub) lastConnection(target TubID) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.last.m[target]; ok {
		return last
	}
	return "none 0"
}
