package main

import (
	"fmt"
	"net"
	"os"
	"testing"

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
// Beside testscript's own commands there are
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
