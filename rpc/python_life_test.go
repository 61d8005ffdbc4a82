package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/rpc"
)

// TestWrongFURLsWithPython: a TubID or a name that the other side does not have, in both
// directions.
func TestWrongFURLsWithPython(t *testing.T) {
	_, f := pythonServer(t)
	client := newTub(t, rpc.Config{})
	g := f
	g.Name = "nowhere"
	_, err := client.Connect(within(t), g)
	if !errors.Is(err, rpc.RemoteType("builtins.KeyError")) || !strings.Contains(err.Error(), "starting with 'no'") {
		t.Errorf("a wrong name: %v", err)
	}
	connect(t, client, f) // over the same connection
	g = f
	g.Tub = someTub
	_, err = client.Connect(within(t), g)
	if e, ok := errors.AsType[*rpc.NegotiationError](err); !ok || !e.Remote || e.Text != "unknown TubID "+someTub {
		t.Errorf("a wrong TubID: %v", err)
	}

	server := newServer(t, rpc.Config{})
	ours := register(t, server, newTarget(), "target")
	wrong := ours
	wrong.Tub = someTub
	p := pythonClient(t, ours, true, `
    def failed(f): say("failed", f.type if isinstance(f.type, str) else f.type.__name__, f.getErrorMessage())
    yield tub.getReference(sys.argv[1].replace("/target", "/nowhere")).addErrback(failed)
    yield tub.getReference("`+wrong.String()+`").addErrback(failed)
    v = yield target.callRemote("echo", 5)
    say("echo", v)
`)
	p.Expect(t, `failed KeyError "unable to find reference for name starting with 'no'"`)
	p.Expect(t, "failed BananaError .*unknown TubID "+someTub)
	p.Expect(t, "echo 5")
}

// TestDuplicatesWithPython: a Tub that connects again with another incarnation replaces
// its old connection, whichever side is the master.
func TestDuplicatesWithPython(t *testing.T) {
	for _, master := range []bool{true, false} {
		t.Run(fmt.Sprintf("Python comes twice, master=%v", master), func(t *testing.T) {
			server := newServer(t, rpc.Config{})
			f := register(t, server, newTarget(), "target")
			key, _ := keyFile(t, f.Tub, master)
			body := `
def setup():
    def connected(ref):
        ref.notifyOnDisconnect(say, "replaced")
        ref.callRemote("echo", 5).addCallback(lambda v: say("echo", v))
    newTub(certFile=sys.argv[2]).getReference(sys.argv[1]).addCallback(connected)
run(setup)
`
			first := pythonProgram(t, body, f.String(), key)
			first.Expect(t, "echo 5")
			second := pythonProgram(t, body, f.String(), key)
			second.Expect(t, "echo 5")
			first.Expect(t, "replaced")
			if n := len(server.Connected()); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
		t.Run(fmt.Sprintf("Go comes twice, master=%v", master), func(t *testing.T) {
			_, f := pythonServer(t)
			key, _ := keyFile(t, f.Tub, master)
			first := connect(t, newTub(t, rpc.Config{KeyFile: key}), f)
			second := connect(t, newTub(t, rpc.Config{KeyFile: key}), f)
			<-first.Done()
			if err := first.Call(within(t), "echo", rpc.Pos(1), nil); !errors.Is(err, rpc.ErrDeadReference) {
				t.Errorf("the first: %v", err)
			}
			if v := call(t, second, "echo", 5); v != int64(5) {
				t.Errorf("echo = %v", v)
			}
		})
	}
}

// TestKeepConnectedToPython: a Reconnector finds a Python server that was killed and
// started again with the same FURL.
func TestKeepConnectedToPython(t *testing.T) {
	key, id := keyFile(t, "", true)
	body := `
def setup():
    tub = Tub(certFile=sys.argv[1])
    tub.startService()
    port = tub.listenOn("tcp:%s:interface=127.0.0.1" % sys.argv[2])
    tub.setLocation("tcp:127.0.0.1:%d" % port.getPortnum())
    tub.registerReference(Target(), "target")
    say("port", port.getPortnum())
run(setup)
`
	first := pythonProgram(t, body, key, "0")
	port := first.Expect(t, "port (.*)")[1]
	client := newTub(t, rpc.Config{})
	served := make(chan *rpc.Remote)
	f := rpc.FURL{Tub: id, Hints: []string{"tcp:127.0.0.1:" + port}, Name: "target"}
	rc := client.KeepConnected(f, func(ctx context.Context, r *rpc.Remote) {
		select {
		case served <- r:
		case <-ctx.Done():
		}
		<-ctx.Done()
	})
	defer rc.Stop()
	r := <-served
	call(t, r, "echo", 1)
	first.Kill()
	<-r.Done()
	pythonProgram(t, body, key, port).Expect(t, "port")
	if v := call(t, <-served, "echo", 2); v != int64(2) {
		t.Errorf("echo = %v", v)
	}
}

// TestPythonReadsOurFURLFile: the original can use the furl file that RegisterFile writes,
// with its key file.
func TestPythonReadsOurFURLFile(t *testing.T) {
	dir := t.TempDir()
	key, furl := filepath.Join(dir, "tub.pem"), filepath.Join(dir, "object.furl")
	ours := newServer(t, rpc.Config{KeyFile: key})
	f, err := ours.RegisterFile(newTarget(), furl)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	p := pythonProgram(t, `
def setup():
    tub = newTub(certFile=sys.argv[1])
    say("furl", tub.registerReference(Target(), furlFile=sys.argv[2]))
run(setup)
`, key, furl)
	theirs, err := rpc.ParseFURL(p.Expect(t, "furl (.*)")[1])
	if err != nil || !theirs.Same(f) {
		t.Fatalf("the original made %s of it, %v", theirs.Masked(), err)
	}
	connect(t, newTub(t, rpc.Config{}), theirs)
}
