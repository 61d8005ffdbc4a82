package appserver_test

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/appserver"
)

// TestCommandEnvironment: a command gets the variables that it is meant to have, and none of
// the server's own.
func TestCommandEnvironment(t *testing.T) {
	t.Setenv("SERVER_SECRET", "hunter2")
	t.Setenv("WANTED", "yes")
	t.Setenv("LANG", "C.UTF-8")
	d := newDir(t)
	plain := add(t, d, "run-command", "/", "env")
	more := add(t, d, "run-command", "--env", "WANTED", "--env=NOT_THERE", "/", "env")
	merged := add(t, d, "run-command", "--merge", "/", "env")
	serve(t, d)
	for _, c := range []struct {
		furl   rpc.FURL
		wanted bool
	}{{plain, false}, {more, true}, {merged, false}} {
		var stdout strings.Builder
		if _, err := appserver.Execute(t.Context(), connect(t, c.furl), strings.NewReader(""), &stdout, io.Discard); err != nil {
			t.Fatal(err)
		}
		out, wanted := stdout.String(), c.wanted
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if strings.Contains(out, "hunter2") || slices.Contains(lines, "WANTED=yes") != wanted || strings.Contains(out, "NOT_THERE") {
			t.Errorf("the command's environment is %q", lines)
		}
		if !slices.Contains(lines, "LANG=C.UTF-8") || !strings.Contains(out, "PATH=") {
			t.Errorf("the command's environment lacks PATH or LANG: %q", lines)
		}
	}
}
