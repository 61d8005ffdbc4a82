package main

import (
	"net"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"flogtool": main})
}

// TestScript runs testdata/script/*.txtar, which test whole commands: arguments, output, exit
// codes and files. Commands in addition to those of testscript are
//
//	port NAME             set $NAME to a TCP port that is free
//	await FILE PATTERN    wait until the text of FILE matches
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"port": func(ts *testscript.TestScript, _ bool, args []string) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				ts.Check(err)
				_, port, _ := net.SplitHostPort(l.Addr().String())
				ts.Check(l.Close())
				ts.Setenv(args[0], port)
			},
			"await": func(ts *testscript.TestScript, _ bool, args []string) {
				pattern := regexp.MustCompile("(?m)" + args[1])
				var text []byte
				for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
					text, _ = os.ReadFile(ts.MkAbs(args[0]))
					if pattern.Match(text) {
						return
					}
				}
				ts.Fatalf("%s does not match %q:\n%s", args[0], args[1], text)
			},
		},
	})
}
