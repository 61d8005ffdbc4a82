package main

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/flogtool/flogtool/rpc/foolscaptest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"flappserver": main})
}

// TestScript runs testdata/script/*.txtar with the original's client, and with
// directories of the original's server. In addition to testscript's own commands there
// are
//
//	port NAME             set $NAME to a port that is free now
//	original NAME ARGS…   run a command of the original
//	$CLIENT               the original's flappclient
//	keep NAME             set $NAME to the last word of the output: the FURL of an added service
func TestScript(t *testing.T) {
	foolscaptest.Python(t)
	server, client := foolscaptest.Tool(t, "flappserver"), foolscaptest.Tool(t, "flappclient")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("CLIENT", client)
			env.Defer(func() { // a script that fails leaves its servers running
				pids, _ := filepath.Glob(filepath.Join(env.WorkDir, "*", pidFile))
				for _, name := range pids {
					if pid, err := readPID(filepath.Dir(name)); err == nil {
						_ = syscall.Kill(pid, syscall.SIGKILL)
					}
				}
			})
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"port": func(ts *testscript.TestScript, _ bool, args []string) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				ts.Check(err)
				_, port, _ := net.SplitHostPort(l.Addr().String())
				ts.Check(l.Close())
				ts.Setenv(args[0], port)
			},
			"original": func(ts *testscript.TestScript, neg bool, args []string) {
				tool := server
				if args[0] == "flappclient" {
					tool = client
				}
				if err := ts.Exec(tool, args[1:]...); (err != nil) != neg {
					ts.Fatalf("%s: %v", args[0], err)
				}
			},
			"keep": func(ts *testscript.TestScript, _ bool, args []string) {
				words := strings.Fields(ts.ReadFile("stdout"))
				if len(words) == 0 {
					ts.Fatalf("nothing was printed")
				}
				furl := words[len(words)-1]
				ts.Setenv(args[0], furl)
				ts.Setenv(args[0]+"_swissnum", furl[strings.LastIndexByte(furl, '/')+1:])
			},
		},
	})
}
