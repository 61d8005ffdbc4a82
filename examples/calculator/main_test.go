package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/foolscaptest"
)

// startServer runs serve as main would and returns the FURL it prints.
func startServer(t *testing.T, furlfile string) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r, w := io.Pipe()
	done := make(chan int, 1)
	var errs bytes.Buffer
	go func() {
		code := run(ctx, []string{"serve", "--furlfile", furlfile}, w, &errs)
		w.Close()
		done <- code
	}()
	t.Cleanup(func() {
		stop()
		if code := <-done; code != 0 {
			t.Errorf("serve ended with %d: %s", code, errs.String())
		}
	})
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("serve printed no FURL: %s", errs.String())
	}
	return strings.TrimSpace(line)
}

func TestCall(t *testing.T) {
	furlfile := filepath.Join(t.TempDir(), "calculator.furl")
	furl := startServer(t, furlfile)
	if kept, err := os.ReadFile(furlfile); err != nil || strings.TrimSpace(string(kept)) != furl {
		t.Errorf("the furl file holds %q, %v", kept, err)
	}
	other := startServer(t, filepath.Join(t.TempDir(), "other.furl"))
	for _, tt := range []struct {
		args      string
		out, errs string
		code      int
	}{
		{"add 1 2", "3\n", "", 0},
		{"add 100000000000000000000 1", "100000000000000000001\n", "", 0},
		{"add 0.5 1", "1.5\n", "", 0},
		{`add 1 "x"`, "", "calculator: remote builtins.TypeError: add() takes two numbers\n", 1},
		{`echo [1,2.5,"three",null,true,{"k":[]}]`, "[1,2.5,\"three\",null,true,{\"k\":[]}]\n", "", 0},
		{`fail "on purpose"`, "", "calculator: remote builtins.Exception: on purpose\n", 1},
		{"push 5", "0\n", "", 0},
		{"introduce " + other, "", "no method \"hello\"", 1},
		{"zzz", "", "no method", 1},
		{"add nonsense 1", "", "is not JSON", 1},
	} {
		method, rest, _ := strings.Cut(tt.args, " ")
		args := []string{"call", furl, method}
		if rest != "" {
			sep := " "
			if strings.Contains(rest, "\"on ") {
				sep = "\x00"
			}
			args = append(args, strings.Split(rest, sep)...)
		}
		var out, errs bytes.Buffer
		code := run(t.Context(), args, &out, &errs)
		if code != tt.code || out.String() != tt.out || !strings.Contains(errs.String(), tt.errs) || strings.Count(errs.String(), "\n") > 1 {
			t.Errorf("%s: exit %d, %q, %q; want %d, %q, %q", tt.args, code, out.String(), errs.String(), tt.code, tt.out, tt.errs)
		}
	}
	var errs bytes.Buffer
	if code := run(t.Context(), []string{"call", "nonsense", "add"}, io.Discard, &errs); code != 1 {
		t.Errorf("a bad FURL: exit %d, %q", code, errs.String())
	}
	if code := run(t.Context(), []string{"call"}, io.Discard, io.Discard); code != 2 {
		t.Errorf("wrong usage: exit %d", code)
	}
}

// TestObserver: an observer in Go and one in Python are notified of each push, an observer
// that has disconnected is dropped, and the server can call an object in another process.
func TestObserver(t *testing.T) {
	furl := startServer(t, filepath.Join(t.TempDir(), "calculator.furl"))
	p := foolscaptest.Start(t, `
import sys
from twisted.internet import reactor, defer
from foolscap.api import Tub, Referenceable
class Observer(Referenceable):
    def remote_notify(self, value):
        print("notified", repr(value), flush=True)
    def remote_hello(self):
        return u"hello from Python"
tub = Tub()
tub.startService()
port = tub.listenOn("tcp:0:interface=127.0.0.1")
tub.setLocation("tcp:127.0.0.1:%d" % port.getPortnum())
@defer.inlineCallbacks
def main():
    calc = yield tub.getReference(sys.argv[1])
    v = yield calc.callRemote("add", 40, 2)
    print("sum", v, flush=True)
    o = Observer()
    print("furl", tub.registerReference(o), flush=True)
    yield calc.callRemote("subscribe", o)
    v = yield calc.callRemote("introduce", o)
    print("introduced", v, flush=True)
    print("subscribed", flush=True)
reactor.callWhenRunning(main)
reactor.run()
`, furl)
	p.Expect(t, "sum 42")
	theirs := p.Expect(t, "furl (.*)")[1]
	p.Expect(t, "introduced hello from Python")
	p.Expect(t, "subscribed")

	tub, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer tub.Close()
	f, err := rpc.ParseFURL(furl)
	if err != nil {
		t.Fatal(err)
	}
	calc, err := tub.Connect(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan any, 1)
	observer := &rpc.Methods{Map: map[string]func(*rpc.Call) (any, error){
		"notify": func(c *rpc.Call) (any, error) { heard <- c.Args.Pos[0]; return nil, nil },
	}}
	if err := calc.Call(t.Context(), "subscribe", rpc.Pos(observer), nil); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := calc.Call(t.Context(), "push", rpc.Pos("first"), &n); err != nil || n != 2 {
		t.Errorf("push reached %d observers, %v; want 2", n, err)
	}
	if v := <-heard; v != "first" {
		t.Errorf("notified of %v", v)
	}
	p.Expect(t, "notified 'first'")

	// A gift: the object is in the Python process, and the server calls it.
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"call", furl, "introduce", theirs}, &out, &errs); code != 0 || out.String() != "\"hello from Python\"\n" {
		t.Errorf("introduce: exit %d, %q, %q", code, out.String(), errs.String())
	}
	p.Kill()
	for n = 2; n != 1; { // until the server has noticed that it is gone
		if err := calc.Call(t.Context(), "push", rpc.Pos("later"), &n); err != nil {
			t.Fatal(err)
		}
		<-heard
	}
}

// TestPythonServer runs call with a server in Python.
func TestPythonServer(t *testing.T) {
	p := foolscaptest.Start(t, `
from twisted.internet import reactor
from foolscap.api import Tub, Referenceable
class Calculator(Referenceable):
    def remote_add(self, a, b):
        return a + b
    def remote_fail(self, message):
        raise ValueError(message)
    def remote_never(self):
        reactor.stop()
        from twisted.internet import defer
        return defer.Deferred()
tub = Tub()
tub.startService()
port = tub.listenOn("tcp:0:interface=127.0.0.1")
tub.setLocation("tcp:127.0.0.1:%d" % port.getPortnum())
print("furl", tub.registerReference(Calculator()), flush=True)
reactor.run()
`)
	furl := p.Expect(t, "furl (.*)")[1]
	for _, tt := range []struct {
		args      []string
		out, errs string
		code      int
	}{
		{[]string{"add", "1", "2"}, "3\n", "", 0},
		{[]string{"fail", `"no"`}, "", "calculator: remote builtins.ValueError: no\n", 1},
		{[]string{"never"}, "", "lost", 1},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"call", furl}, tt.args...), &out, &errs)
		if code != tt.code || out.String() != tt.out || !strings.Contains(errs.String(), tt.errs) {
			t.Errorf("%v: exit %d, %q, %q", tt.args, code, out.String(), errs.String())
		}
	}
}
