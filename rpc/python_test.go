package rpc_test

import (
	"testing"

	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/foolscaptest"
)

// pythonTub is the start of every Python peer: a Tub that listens and has a location, and
// an object with the methods that the interop table uses.
const pythonTub = `
import sys, decimal, json, os
from twisted.internet import reactor, defer, task
from twisted.python import log, failure
from foolscap.api import (Tub, Referenceable, RemoteInterface, Violation, DeadReferenceError,
    Copyable, RemoteCopy, registerRemoteCopy, fireEventually, RemoteException)
from foolscap import schema
from foolscap.schema import Any, ListOf, DictOf, TupleOf, SetOf, ChoiceOf
from zope.interface import implementer

def say(*a):
    print(*a, flush=True)

def newTub(**options):
    tub = Tub(certFile=options.pop("certFile", None))
    for k, v in options.items():
        tub.setOption(k.replace("_", "-") if k not in ("keepaliveTimeout", "disconnectTimeout") else k, v)
    tub.startService()
    port = tub.listenOn("tcp:0:interface=127.0.0.1")
    tub.setLocation("tcp:127.0.0.1:%d" % port.getPortnum())
    return tub

class Point(Copyable):
    typeToCopy = copytype = "org.example.Point"
    def __init__(self, x=0, y=0):
        self.x, self.y = x, y
    def getStateToCopy(self):
        return {"x": self.x, "y": self.y}

class RemotePoint(RemoteCopy):
    copytype = "org.example.Point"
    def setCopyableState(self, state):
        self.x, self.y = state["x"], state["y"]
    def __repr__(self):
        return "Point(%r, %r)" % (self.x, self.y)


def values():
    s = [1, 2]
    cycle = [1]
    cycle.append(cycle)
    return {
        "none": None, "true": True, "false": False, "zero": 0, "small": 127, "two": 128,
        "int31": 2**31-1, "int32": 2**31, "int64": 2**63-1, "int64+": 2**63, "big": 2**200, "neg": -1,
        "neg31": -2**31, "neg32": -2**31-1, "neg64": -2**63, "negbig": -2**200,
        "float": 1.5, "inf": float("inf"), "tiny": 5e-324, "bytes": b"\x00\xff bytes", "emptybytes": b"", "word": b"list",
        "text": u"h\u00e9llo \U0001F600", "emptytext": u"", "wordtext": u"none",
        "list": [1, [2, []]], "tuple": (1, (2, ())), "dict": {u"a": 1, u"b": [True]}, "intdict": {1: u"one"},
        "tuplekey": {(1, u"x"): 2}, "set": set([3]), "frozenset": frozenset([4]), "decimal": decimal.Decimal("1.50"),
        "shared": (s, s), "cycle": cycle,
    }

class RIPlus(RemoteInterface):
    __remote_name__ = "RIPlus.example.org"
    def add(a=int, b=schema.Optional(int, 100)):
        return int

class RIAdder(RemoteInterface):
    __remote_name__ = "RIAdder.example.org"
    def add(a=int, b=schema.Optional(int, 100)):
        return int
    def concat(parts=ListOf(str)):
        return str
    def use(other=RIPlus):
        return int
    def wrong():
        return int
    def missing():
        return None

@implementer(RIAdder)
class Adder(Referenceable):
    def remote_add(self, a, b=100):
        return a + b
    def remote_concat(self, parts):
        return u"".join(parts)
    def remote_use(self, other):
        return other.callRemote("add", 20, 3)
    def remote_wrong(self):
        return u"not an int"

@implementer(RIPlus)
class Plus(Referenceable):
    def remote_add(self, a, b=100):
        return a + b

class Target(Referenceable):
    def __init__(self):
        self.held = []
        self.tub = None
    def remote_echo(self, v):
        return v
    def remote_add(self, a, b=100):
        return a + b
    def remote_value(self, name):
        return values()[name if isinstance(name, str) else name.decode()]
    def remote_check(self, name, v):
        want = values()[name]
        if name == "cycle":
            return v[0] == 1 and v[1] is v
        if name == "shared":
            return v == want and v[0] is v[1]
        return type(v) is type(want) and repr(v) == repr(want)
    def remote_raise(self, kind, text):
        raise {"KeyError": KeyError, "ValueError": ValueError, "RuntimeError": RuntimeError}[kind](text)
    def remote_violation(self):
        raise Violation("on purpose")
    def remote_point(self):
        return Point(3, u"four")
    def remote_pointed(self, p):
        return repr(p)
    def remote_object(self):
        t = Target()
        self.made = t
        return t
    def remote_is_made(self, t):
        return t is self.made
    def remote_call_back(self, cb, method, *args):
        return cb.callRemote(method, *args)
    def remote_hold(self, ref):
        self.held.append(ref)
        ref.notifyOnDisconnect(lambda: say("disconnected"))
        return len(self.held)
    def remote_drop(self):
        del self.held[:]
    def remote_poke(self, method, *args):
        return self.held[-1].callRemote(method, *args)
    def remote_same(self, ref):
        return ref is self.held[-1]
    def remote_later(self, seconds, v):
        return task.deferLater(reactor, seconds, lambda: v)
    def remote_never(self):
        return defer.Deferred()
    def remote_say(self, what):
        say("said", what)
    def remote_adder(self):
        return Adder()
    def remote_plus(self):
        return Plus()
    def remote_call_function(self, f, v):
        return f.callRemote(v=v)
    def remote_function(self):
        return self.remote_echo
    def remote_hello(self):
        return u"hello"
    def remote_introduce(self, other):
        return other.callRemote("hello")
    def remote_last(self):
        return self.held[-1]
    # gifts: bob is given, carol is what he is given
    @defer.inlineCallbacks
    def remote_give(self, how, bob, carol):
        b = yield self.tub.getReference(bob)
        c = yield self.tub.getReference(carol)
        if how == "argument":
            v = yield b.callRemote("introduce", c)
        elif how == "nested":
            v = yield b.callRemote("introduce_nested", [1, {u"k": (c, c)}], after=2)
        return v
    def remote_introduce_nested(self, v, after):
        c, d = v[1][u"k"]
        assert c is d and after == 2
        return c.callRemote("hello")
    def remote_obtain(self, furl):
        return self.tub.getReference(furl)
    @defer.inlineCallbacks
    def remote_fetch(self, alice, carol):
        a = yield self.tub.getReference(alice)
        c = yield a.callRemote("obtain", carol)
        v = yield c.callRemote("hello")
        return v

def run(setup):
    def start():
        d = defer.maybeDeferred(setup)
        d.addErrback(lambda f: (say("FAILED", f.type.__name__, f.getErrorMessage()), f.printTraceback(file=sys.stderr)))
    reactor.callWhenRunning(start)
    reactor.run()
`

// pythonServer starts a Python Tub with a Target, and returns the Target's FURL.
// A line on its standard input is evaluated, and the value printed.
func pythonServer(t testing.TB) (*foolscaptest.Proc, rpc.FURL) {
	t.Helper()
	p := foolscaptest.Start(t, pythonTub+`
from twisted.internet import stdio
from twisted.protocols.basic import LineReceiver
class Commands(LineReceiver):
    delimiter = b"\n"
    def lineReceived(self, line):
        d = defer.maybeDeferred(eval, line.decode(), globals())
        d.addCallbacks(lambda v: say("=", v), lambda f: say("!", f.type, f.getErrorMessage()))
def setup():
    global tub, target
    tub = newTub()
    target = Target()
    target.tub = tub
    say("furl", tub.registerReference(target, "target"))
    stdio.StandardIO(Commands())
run(setup)
`)
	f, err := rpc.ParseFURL(p.Expect(t, "furl (.*)")[1])
	if err != nil {
		t.Fatal(err)
	}
	return p, f
}

// pythonClient is a Python program that connects to the FURL in its first
// argument and runs body, one deferred after the other. The test has made its key, so
// that it can choose the master.
func pythonClient(t testing.TB, f rpc.FURL, master bool, body string) *foolscaptest.Proc {
	t.Helper()
	key, _ := keyFile(t, f.Tub, master)
	return foolscaptest.Start(t, pythonTub+`
@defer.inlineCallbacks
def setup():
    tub = newTub(certFile=sys.argv[2])
    target = yield tub.getReference(sys.argv[1])
    say("connected")
`+body+`
    say("done")
    yield tub.stopService()
    reactor.stop()
run(setup)
`, f.String(), key)
}

// pythonProgram runs body with the definitions of every Python peer.
func pythonProgram(t testing.TB, body string, args ...string) *foolscaptest.Proc {
	t.Helper()
	return foolscaptest.Start(t, pythonTub+body, args...)
}
