package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/rpc"
)

// newTubBeside returns a Tub whose TubID is greater than other, which makes it the
// master, or less.
func newTubBeside(t testing.TB, cfg rpc.Config, other rpc.TubID, greater bool) *rpc.Tub {
	t.Helper()
	for {
		tub, err := rpc.NewTub(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if (tub.ID() > other) == greater {
			t.Cleanup(func() { tub.Close() })
			return tub
		}
		tub.Close()
	}
}

// servers runs f against the two kinds of Tubs that offer a target.
func servers(t *testing.T, f func(t *testing.T, furl rpc.FURL)) {
	t.Run("Go", func(t *testing.T) {
		server := newServer(t, targetConfig())
		f(t, register(t, server, newTarget(), "target"))
	})
	t.Run("Python", func(t *testing.T) {
		_, furl := pythonServer(t)
		f(t, furl)
	})
}

// TestInterop runs the interop table with a Go client.
func TestInterop(t *testing.T) {
	servers(t, func(t *testing.T, furl rpc.FURL) {
		for _, master := range []bool{true, false} {
			t.Run(fmt.Sprintf("master=%v", master), func(t *testing.T) {
				client := newTubBeside(t, targetConfig(), furl.Tub, master)
				r := connect(t, client, furl)
				for _, row := range interopRows {
					t.Run(row.name, func(t *testing.T) { row.run(t, r) })
				}
				// Whatever happened, the connection is the same.
				if !r.IsConnected() {
					t.Fatalf("the connection was lost: %v", r.Err())
				}
			})
		}
	})
}

var interopRows = []struct {
	name string
	run  func(t *testing.T, r *rpc.Remote)
}{
	{"values", testValues},
	{"arguments", testArguments},
	{"exceptions", testExceptions},
	{"violations", testViolations},
	{"copyables", testCopyables},
	{"references", testReferences},
	{"callbacks", testCallbacks},
	{"interfaces", testInterfaces},
	{"order", testOrder},
	{"large", testLarge},
}

func testValues(t *testing.T, r *rpc.Remote) {
	all := values()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if v := call(t, r, "value", name); !sameValue(name, v) {
			t.Errorf("the peer's %s arrived as %#v", name, v)
		}
		if v := call(t, r, "check", name, all[name]); v != true {
			t.Errorf("our %s did not arrive as what it is", name)
		}
		if v := call(t, r, "echo", all[name]); !sameValue(name, v) {
			t.Errorf("%s came back as %#v", name, v)
		}
	}
}

func testArguments(t *testing.T, r *rpc.Remote) {
	var n int
	for _, tt := range []struct {
		args rpc.Args
		want int
	}{
		{rpc.Pos(1, 2), 3},
		{rpc.Pos(1), 101},
		{rpc.Args{Pos: []any{1}, Kw: map[string]any{"b": 5}}, 6},
		{rpc.Kw(map[string]any{"b": 5, "a": 2}), 7},
	} {
		if err := r.Call(within(t), "add", tt.args, &n); err != nil || n != tt.want {
			t.Errorf("add(%v) = %d, %v; want %d", tt.args, n, err, tt.want)
		}
	}
	for _, args := range []rpc.Args{rpc.Pos(1, 2, 3), rpc.Kw(map[string]any{"a": 1, "c": 2}), {Pos: []any{1}, Kw: map[string]any{"a": 2}}} {
		err := r.Call(within(t), "add", args, &n)
		if !errors.Is(err, rpc.RemoteType("builtins.TypeError")) {
			t.Errorf("add(%v): %v, want a TypeError", args, err)
		}
	}
	if err := r.Send("say", rpc.Pos("no answer wanted")); err != nil {
		t.Errorf("Send: %v", err)
	}
}

func testExceptions(t *testing.T, r *rpc.Remote) {
	err := r.Call(within(t), "raise", rpc.Pos("KeyError", "gone"), nil)
	e, ok := errors.AsType[*rpc.RemoteError](err)
	if !ok || e.Type != "builtins.KeyError" || !strings.Contains(e.Text, "gone") || e.Traceback == "" {
		t.Fatalf("raise: %#v", err)
	}
	if !errors.Is(err, rpc.RemoteType("builtins.LookupError")) || errors.Is(err, rpc.RemoteType("builtins.ValueError")) {
		t.Errorf("%v: is and is not what it should", err)
	}
	for _, ours := range []error{rpc.ErrDeadReference, rpc.ErrClosed, rpc.ErrLimit, context.Canceled} {
		if errors.Is(err, ours) {
			t.Errorf("%v is %v", err, ours)
		}
	}
	long := strings.Repeat("é", 3000)
	err = r.Call(within(t), "raise", rpc.Pos("ValueError", long), nil)
	if !errors.Is(err, rpc.RemoteType("builtins.ValueError")) {
		t.Errorf("an exception with a long text: %v", err)
	}
	err = r.Call(within(t), "zzz", rpc.Args{}, nil)
	if !errors.Is(err, rpc.RemoteType("builtins.AttributeError")) {
		t.Errorf("an unknown method: %v", err)
	}
}

func testViolations(t *testing.T, r *rpc.Remote) {
	err := r.Call(within(t), "violation", rpc.Args{}, nil)
	if !errors.Is(err, rpc.RemoteType("foolscap.tokens.Violation")) || !strings.Contains(err.Error(), "on purpose") {
		t.Errorf("a Violation of the peer: %v", err)
	}
	if _, ok := errors.AsType[*rpc.Violation](err); ok {
		t.Error("a Violation the peer reports counts as one of ours")
	}
	// A value that cannot be sent is found before anything is sent.
	for _, v := range []any{make(chan int), func() {}, []any{1, make(chan int)}, rpc.Missing} {
		err := r.Call(within(t), "echo", rpc.Pos(v), nil)
		if _, ok := errors.AsType[*rpc.Violation](err); !ok {
			t.Errorf("sending a %T: %v, want a Violation", v, err)
		}
	}
	// Answers that do not fit the reply.
	var n int8
	if err := r.Call(within(t), "echo", rpc.Pos(1000), &n); err == nil {
		t.Error("1000 was stored in an int8")
	}
	var s struct{}
	err = r.Call(within(t), "echo", rpc.Pos("text"), &s)
	if _, ok := errors.AsType[*rpc.Violation](err); !ok {
		t.Errorf("text into a struct: %v, want a Violation", err)
	}
	// Afterwards references still work: shared values are still shared.
	testSharing(t, r)
}

func testSharing(t *testing.T, r *rpc.Remote) {
	t.Helper()
	for _, name := range []string{"shared", "cycle"} {
		if v := call(t, r, "check", name, values()[name]); v != true {
			t.Errorf("after a Violation: our %s did not arrive as what it is", name)
		}
		if v := call(t, r, "value", name); !sameValue(name, v) {
			t.Errorf("after a Violation: the peer's %s arrived as %#v", name, v)
		}
	}
}

func testCopyables(t *testing.T, r *rpc.Remote) {
	var p *point
	if err := r.Call(within(t), "point", rpc.Args{}, &p); err != nil || p.X != int64(3) || p.Y != "four" {
		t.Errorf("point: %+v, %v", p, err)
	}
	if v := call(t, r, "pointed", point{1, "two"}); v != "Point(1, 'two')" {
		t.Errorf("pointed = %q", v)
	}
}

func testReferences(t *testing.T, r *rpc.Remote) {
	made := call(t, r, "object").(*rpc.Remote)
	if v := call(t, made, "add", 1, 1); v != int64(2) {
		t.Errorf("add of a returned object = %v", v)
	}
	if v := call(t, r, "is_made", made); v != true {
		t.Error("an object sent back to its owner is not the owner's")
	}
	if again := call(t, r, "echo", made); again != made {
		t.Errorf("the same object is another Remote: %v, %v", again, made)
	}
	if made.RemoteTubID() != r.RemoteTubID() || made.Peer().TubID() != r.RemoteTubID() {
		t.Error("RemoteTubID and Peer do not agree")
	}
	furl, ok := made.SturdyFURL()
	if !ok || furl.Tub != r.RemoteTubID() || !slices.Equal(made.LocationHints(), furl.Hints) {
		t.Errorf("SturdyFURL = %v, %v", furl.Masked(), ok)
	}
	if names := fmt.Sprint(furl.LogValue()); strings.Contains(names, furl.Name) {
		t.Errorf("the log would show the permission: %s", names)
	}

	mine := newTarget()
	if v := call(t, r, "hold", mine); v != int64(1) {
		t.Errorf("hold = %v", v)
	}
	if back := call(t, r, "last"); back != rpc.Object(mine) {
		t.Errorf("our object came back as %v", back)
	}
	if v := call(t, r, "same", mine); v != true {
		t.Error("our object sent twice is two objects there")
	}
	call(t, r, "drop")
	// It can be sent again, whenever the peer's decref arrives.
	if v := call(t, r, "hold", mine); v != int64(1) {
		t.Errorf("hold = %v", v)
	}
	if v := call(t, r, "poke", "add", 3, 4); v != int64(7) {
		t.Errorf("poke = %v", v)
	}
	call(t, r, "drop")
	made.Release()
	if v := call(t, r, "add", 1, 1); v != int64(2) {
		t.Errorf("after Release: %v", v)
	}
}

func testCallbacks(t *testing.T, r *rpc.Remote) {
	mine := newTarget()
	if v := call(t, r, "call_back", mine, "add", 3, 4); v != int64(7) {
		t.Errorf("call_back = %v", v)
	}
	// From the peer, to this side, and back again.
	if v := call(t, r, "call_back", mine, "echo", []any{int64(1), "x"}); !banana2(v) {
		t.Errorf("call_back = %v", v)
	}
	err := r.Call(within(t), "call_back", rpc.Pos(mine, "raise", "ValueError", "from afar"), nil)
	if err == nil || !strings.Contains(err.Error(), "from afar") {
		t.Errorf("an exception through two Tubs: %v", err)
	}
	// A Function, which is called by its number only.
	f := &rpc.Function{F: echo}
	if v := call(t, r, "call_function", f, 5); v != int64(5) {
		t.Errorf("call_function = %v", v)
	}
	theirs := call(t, r, "function").(*rpc.Remote)
	var n int
	if err := theirs.Call(within(t), "", rpc.Kw(map[string]any{"v": 6}), &n); err != nil || n != 6 {
		t.Errorf("a function of the peer = %d, %v", n, err)
	}
	if v := call(t, r, "add", 1, 2); v != int64(3) {
		t.Errorf("add = %v", v)
	}
}

func banana2(v any) bool {
	l, ok := v.([]any)
	return ok && len(l) == 2 && l[0] == int64(1) && l[1] == "x"
}

func testInterfaces(t *testing.T, r *rpc.Remote) {
	a := call(t, r, "adder").(*rpc.Remote)
	if a.Interface() != adder.Name {
		t.Errorf("Interface = %q", a.Interface())
	}
	if v := call(t, a, "add", 1); v != int64(101) {
		t.Errorf("add = %v", v)
	}
	if v := call(t, a, "concat", []string{"a", "b"}); v != "ab" {
		t.Errorf("concat = %v", v)
	}
	if v := call(t, a, "use", newAdder(plus.Name)); v != int64(23) {
		t.Errorf("use = %v", v)
	}
	for _, tt := range []struct {
		method string
		args   rpc.Args
		want   string
	}{
		{"add", rpc.Pos("one"), "argument a"},
		{"add", rpc.Pos(1, 2, 3), "too many positional"},
		{"add", rpc.Args{}, "missing required argument 'a'"},
		{"add", rpc.Kw(map[string]any{"a": 1, "c": 2}), "unknown argument 'c'"},
		{"add", rpc.Args{Pos: []any{1}, Kw: map[string]any{"a": 2}}, "multiple values"},
		{"concat", rpc.Pos([]any{"a", 1}), "element 1"},
		{"use", rpc.Pos(newTarget()), "reference"},
		{"zzz", rpc.Args{}, "not defined"},
	} {
		err := a.Call(within(t), tt.method, tt.args, nil)
		if _, ok := errors.AsType[*rpc.Violation](err); !ok || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s%v: %v, want a Violation with %q", tt.method, tt.args, err, tt.want)
		}
	}
	// A result that violates the declaration: the callee finds it first.
	err := a.Call(within(t), "wrong", rpc.Args{}, nil)
	if !errors.Is(err, rpc.RemoteType("foolscap.tokens.Violation")) {
		t.Errorf("wrong: %v", err)
	}
	testSharing(t, r)
}

// testOrder: calls start in the order in which they were sent, and a missing answer does
// not delay the answers of later calls.
func testOrder(t *testing.T, r *rpc.Remote) {
	slow := r.Start("later", rpc.Pos(0.3, "slow"))
	var pending []*rpc.Pending
	for i := range 50 {
		pending = append(pending, r.Start("echo", rpc.Pos(i)))
	}
	for i, p := range pending {
		var n int
		if err := p.Result(&n); err != nil || n != i {
			t.Errorf("echo %d = %d, %v", i, n, err)
		}
	}
	select {
	case <-slow.Done():
		t.Error("the slow call was answered before the quick ones")
	default:
	}
	var s string
	if err := slow.Result(&s); err != nil || s != "slow" {
		t.Errorf("later = %q, %v", s, err)
	}
	ctx, cancel := context.WithTimeout(within(t), 10*time.Millisecond)
	defer cancel()
	if err := r.Call(ctx, "never", rpc.Args{}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call whose context ends: %v", err)
	}
}

// testLarge: large messages in both directions, while other calls are answered.
func testLarge(t *testing.T, r *rpc.Remote) {
	large := make([]byte, 4<<20)
	many := make([]any, 2000)
	if raceEnabled {
		large, many = large[:1<<20], many[:500] // the race detector makes each byte ten times slower
	}
	for i := range large {
		large[i] = byte(i * 7)
	}
	p := r.Start("echo", rpc.Pos(large).Expecting(2*int64(len(large))))
	if v := call(t, r, "add", 1, 2); v != int64(3) {
		t.Errorf("add = %v", v)
	}
	var back []byte
	if err := p.Result(&back); err != nil || !slices.Equal(back, large) {
		t.Errorf("%d bytes came back as %d, %v", len(large), len(back), err)
	}
	for i := range many {
		many[i] = []any{int64(i), "text"}
	}
	var list [][]any
	if err := r.Call(within(t), "echo", rpc.Pos(many), &list); err != nil || len(list) != len(many) {
		t.Errorf("%d lists came back as %d, %v", len(many), len(list), err)
	}
}

// TestInteropFromPython runs the interop table with a Python client.
func TestInteropFromPython(t *testing.T) {
	server := newServer(t, targetConfig())
	f := register(t, server, newTarget(), "target")
	for _, master := range []bool{true, false} {
		p := pythonClient(t, f, master, `
    say("id", tub.tubID)
    def eq(what, got, want):
        say("ok" if got == want else "BAD", what, repr(got))
    def fails(what, d, kind, text):
        return d.addCallbacks(lambda v: say("BAD", what, repr(v)),
            lambda f: say("ok" if f.check(kind) and text in f.getErrorMessage() else "BAD", what, f.type, f.getErrorMessage()))
    c = target.callRemote
    all = values()
    for name in sorted(all):
        v = yield c("echo", all[name])
        eq("echo " + name, Target().remote_check(name, v), True)
        v = yield c("value", name)
        eq("value " + name, Target().remote_check(name, v), True)
        v = yield c("check", name, all[name])
        eq("check " + name, v, True)
    eq("keywords", (yield c("add", a=1, b=2)), 3)
    eq("mixed", (yield c("add", 1, b=5)), 6)
    eq("default", (yield c("add", 1)), 101)
    yield fails("too many", c("add", 1, 2, 3), "builtins.TypeError", "at most")
    yield fails("unknown keyword", c("add", a=1, c=3), "builtins.TypeError", "no argument")
    yield fails("exception", c("raise", u"KeyError", u"gone"), "builtins.KeyError", "gone")
    yield fails("long exception", c("raise", u"ValueError", u"\u00e9" * 3000), "builtins.ValueError", u"\u00e9")
    yield fails("no method", c("zzz"), "builtins.AttributeError", "zzz")
    yield fails("violation", c("violation"), "foolscap.tokens.Violation", "on purpose")
    class Unknown(Copyable):
        typeToCopy = "org.example.Unknown"
        def getStateToCopy(self): return {"x": 1}
    yield fails("unknown copyable", c("echo", Unknown()), "foolscap.tokens.Violation", "unknown RemoteCopy")
    yield fails("unserializable", c("echo", [1, [object()]]), Violation, "")
    s = [1, 2]
    eq("shared after violations", (yield c("check", u"shared", (s, s))), True)
    eq("point", repr((yield c("point"))), "Point(3, 'four')")
    eq("pointed", (yield c("pointed", Point(1, u"two"))), "Point(1, 'two')")
    made = yield c("object")
    eq("made", (yield c("is_made", made)), True)
    eq("same", (yield c("object")) is made, False)
    eq("add of made", (yield made.callRemote("add", 1, 1)), 2)
    eq("furl of made", made.getSturdyRef().getTubRef().getTubID() == sys.argv[1][5:37], True)
    del made
    mine = Target()
    eq("hold", (yield c("hold", mine)), 1)
    eq("last", (yield c("last")) is mine, True)
    eq("held", (yield c("same", mine)), True)
    yield c("drop")
    eq("hold again", (yield c("hold", mine)), 1)
    eq("poke", (yield c("poke", u"add", 3, 4)), 7)
    yield c("drop")
    eq("call back", (yield c("call_back", mine, u"echo", [1, u"x"])), [1, u"x"])
    yield fails("exception through us", c("call_back", mine, u"raise", u"ValueError", u"from afar"), "builtins.ValueError", "from afar")
    eq("call function", (yield c("call_function", mine.remote_echo, 5)), 5)
    f = yield c("function")
    eq("function", (yield f.callRemote(v=6)), 6)
    adder = yield c("adder")
    eq("adder", (yield adder.callRemote("add", 1)), 101)
    eq("concat", (yield adder.callRemote("concat", [u"a", u"b"])), u"ab")
    eq("use", (yield adder.callRemote("use", Plus())), 23)
    yield fails("wrong result", adder.callRemote("wrong"), "foolscap.tokens.Violation", "")
    yield fails("refused by us", adder.callRemote("add", u"one", _resultConstraint=None, _useSchema=False), "foolscap.tokens.Violation", "argument a")
    slow = c("later", 0.3, u"slow")
    eq("order", (yield defer.gatherResults([c("echo", i) for i in range(50)])), list(range(50)))
    eq("slow", (slow.called, (yield slow)), (False, u"slow"))
    target.callRemoteOnly("say", u"no answer wanted")
    big = os.urandom(1000000)
    eq("large", (yield c("echo", big)) == big, True)
`)
		id := p.Expect(t, "id (.*)")[1]
		if rpc.TubID(id) > server.ID() != master {
			t.Errorf("the original has not the TubID of our key file: %s", id)
		}
		rows := 0
		for {
			line := p.Line(t)
			if line == "done" {
				break
			}
			rows++
			if !strings.HasPrefix(line, "ok ") {
				t.Errorf("from Python: %s", line)
			}
			if strings.HasPrefix(line, "FAILED") {
				return
			}
		}
		if rows < 100 {
			t.Errorf("only %d rows", rows)
		}
		p.Wait(t)
	}
}
