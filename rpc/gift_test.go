package rpc_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/rpc"
)

// party is a Tub with a target that sends and receives gifts.
func party(t *testing.T, kind string) rpc.FURL {
	t.Helper()
	if kind == "Python" {
		_, f := pythonServer(t)
		return f
	}
	server := newServer(t, targetConfig())
	obj := newTarget()
	obj.tub = server
	return register(t, server, obj, "target")
}

// TestGifts: alice sends bob a reference to carol's object. Each of the three is a Tub of
// this package or of the original.
func TestGifts(t *testing.T) {
	var names = [3]string{"alice", "bob", "carol"}
	parties := map[string]rpc.FURL{}
	for _, kind := range []string{"Go", "Python"} {
		for _, name := range names {
			parties[name+kind] = party(t, kind)
		}
	}
	driver := newTub(t, rpc.Config{})
	for i := range 8 {
		var f [3]rpc.FURL
		var label []string
		for j, name := range names {
			kind := []string{"Go", "Python"}[i>>j&1]
			f[j] = parties[name+kind]
			label = append(label, kind)
		}
		t.Run(strings.Join(label, " to ")+" is given", func(t *testing.T) {
			alice, bob := connect(t, driver, f[0]), connect(t, driver, f[1])
			for _, how := range []string{"argument", "nested"} {
				if v := call(t, alice, "give", how, f[1].String(), f[2].String()); v != "hello" {
					t.Errorf("as %s: %v", how, v)
				}
			}
			if v := call(t, bob, "fetch", f[0].String(), f[2].String()); v != "hello" {
				t.Errorf("as a result: %v", v)
			}
		})
	}
}

// TestGiftRefused: gifts are refused by default, and a gift that cannot be resolved is an
// error of its call; the connection stays.
func TestGiftRefused(t *testing.T) {
	carol := newServer(t, rpc.Config{})
	furl := register(t, carol, newTarget(), "target")
	giver := newTub(t, targetConfig())
	gift := connect(t, giver, furl)

	cfg := targetConfig()
	cfg.AcceptGifts = false
	closed := newServer(t, cfg)
	bob := connect(t, giver, register(t, closed, newTarget(), "target"))
	err := bob.Call(within(t), "introduce", rpc.Pos(gift), nil)
	if !errors.Is(err, rpc.RemoteType("foolscap.tokens.Violation")) || !strings.Contains(err.Error(), "gifts are prohibited") {
		t.Errorf("a gift where none is accepted: %v", err)
	}
	if v := call(t, bob, "echo", 5); v != int64(5) {
		t.Errorf("echo after it: %v", v)
	}

	open := newServer(t, targetConfig())
	bob = connect(t, giver, register(t, open, newTarget(), "target"))
	carol.Close()
	before := bob.Start("echo", rpc.Pos("before"))
	err = bob.Call(within(t), "introduce", rpc.Pos(gift), nil)
	if !errors.Is(err, rpc.RemoteType("twisted.internet.error.ConnectionRefusedError")) {
		t.Errorf("a gift that cannot be reached: %v", err)
	}
	if err := before.Result(nil); err != nil {
		t.Error(err)
	}
	if v := call(t, bob, "echo", "after"); v != "after" {
		t.Errorf("echo after it: %v", v)
	}
}

// TestGiftHoldsBack: a call with an unresolved gift delays the calls after it, and
// nothing else.
func TestGiftHoldsBack(t *testing.T) {
	carol := newServer(t, rpc.Config{})
	gift := register(t, carol, newTarget(), "target")
	// Bob's connection to carol waits for the test.
	dial := make(chan struct{})
	cfg := targetConfig()
	cfg.Dialers = slowDialer(dial)
	bobTub := newServer(t, cfg)
	bobTarget := newTarget()
	alice := newTub(t, targetConfig())
	bob := connect(t, alice, register(t, bobTub, bobTarget, "target"))
	given := connect(t, alice, gift)

	introduced := bob.Start("introduce", rpc.Pos(given))
	said := bob.Start("say", rpc.Pos("after"))
	// Calls of the broker are not delayed: a second name can be looked up.
	if _, err := alice.Connect(within(t), register(t, bobTub, newTarget(), "other")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-said.Done():
		t.Error("a call overtook one with a gift")
	default:
	}
	close(dial)
	var reply string
	if err := introduced.Result(&reply); err != nil || reply != "hello" {
		t.Errorf("introduce = %q, %v", reply, err)
	}
	if err := said.Result(nil); err != nil {
		t.Error(err)
	}
}
