package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/flogtool/flogtool/rpc/foolscaptest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"flappclient": main})
}

// originalServer is the original's server of the directory in its argument, in
// the foreground.
const originalServer = `
import os, sys
os.chdir(sys.argv[1])
from twisted.internet import reactor
from foolscap.appserver.server import AppServer
AppServer().startService()
reactor.callWhenRunning(lambda: print("up", flush=True))
reactor.run()
`

// TestScript runs testdata/script/*.txtar against servers of the original.
// In addition to testscript's own commands there are
//
//	server DIR            make and run a server of the original
//	service NAME DIR ARGS…  add a service to it, put its FURL into NAME.furl and into $NAME
func TestScript(t *testing.T) {
	foolscaptest.Python(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"server": func(ts *testscript.TestScript, _ bool, args []string) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				ts.Check(err)
				port := l.Addr().(*net.TCPAddr).Port
				ts.Check(l.Close())
				dir := ts.MkAbs(args[0])
				ts.Check(ts.Exec(foolscaptest.Tool(t, "flappserver"), "create", "-l", fmt.Sprintf("tcp:127.0.0.1:%d", port),
					"-p", fmt.Sprintf("tcp:%d:interface=127.0.0.1", port), dir))
				p := foolscaptest.Start(t, originalServer, dir)
				p.Expect(t, "^up$")
				ts.Defer(p.Kill)
			},
			"service": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(ts.Exec(foolscaptest.Tool(t, "flappserver"), append([]string{"add"}, args[1:]...)...))
				var dir, furl string
				_, err := fmt.Sscanf(ts.ReadFile("stdout"), "Service added in %s\nFURL is %s\n", &dir, &furl)
				ts.Check(err)
				ts.Setenv(args[0], furl)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]+".furl"), []byte("# a comment\n\n"+furl+"\n"), 0o600))
			},
		},
	})
}

// newService returns the FURL of a run-command service of the original, and a function that
// stops all traffic between it and its clients.
func newService(t *testing.T, command ...string) (furl string, freeze func()) {
	t.Helper()
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := backend.Addr().(*net.TCPAddr).Port
	backend.Close()
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "fs")
	tool := func(args ...string) string {
		out, err := exec.Command(foolscaptest.Tool(t, "flappserver"), args...).Output()
		if err != nil {
			t.Fatalf("flappserver %q: %v", args, err)
		}
		return string(out)
	}
	tool("create", "-l", "tcp:"+front.Addr().String(), "-p", fmt.Sprintf("tcp:%d:interface=127.0.0.1", port), dir)
	words := strings.Fields(tool(append([]string{"add", dir, "run-command", "--accept-stdin", "/"}, command...)...))
	foolscaptest.Start(t, originalServer, dir).Expect(t, "^up$")

	frozen, end := make(chan struct{}), make(chan struct{})
	var copies sync.WaitGroup
	t.Cleanup(func() {
		close(end)
		front.Close()
		copies.Wait()
	})
	forward := func(to, from net.Conn) {
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			select {
			case <-frozen: // nothing more is passed on, not even the end
				<-end
			default:
			}
			if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
				to.Close()
				from.Close()
				return
			}
		}
	}
	copies.Go(func() {
		for {
			client, err := front.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				client.Close()
				continue
			}
			context.AfterFunc(t.Context(), func() { client.Close(); server.Close() })
			copies.Go(func() { forward(server, client) })
			copies.Go(func() { forward(client, server) })
		}
	})
	return words[len(words)-1], func() { close(frozen) }
}

// The client gives up on a server that vanishes without closing the connection, but not on
// one whose command is silent for longer.
func TestServerVanishes(t *testing.T) {
	// The command ends with its input, which the server closes at its end.
	furl, freeze := newService(t, "sh", "-c", "sleep 3; echo still here; exec cat")
	input, keep := io.Pipe()
	defer keep.Close()
	out, in := io.Pipe()
	code := make(chan int, 1)
	var errs strings.Builder
	go func() {
		code <- run(t.Context(), []string{"--furl", furl, "--give-up", "1s", "run-command"}, input, in, &errs)
		in.Close()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "still here\n" {
		t.Fatalf("the command printed %q, %v: %s", line, err, errs.String())
	}
	freeze()
	start := time.Now()
	if got := <-code; got != codeLost || !strings.Contains(errs.String(), "silent") {
		t.Errorf("exit code %d, %q; want %d", got, errs.String(), codeLost)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}
