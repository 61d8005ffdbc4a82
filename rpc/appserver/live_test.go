package appserver_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/internal/testwait"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/appserver"
	"github.com/flogtool/flogtool/rpc/foolscaptest"
)

// newDir makes a server's directory with Create.
func newDir(t *testing.T) *appserver.Dir {
	t.Helper()
	port := testwait.FreePort(t)
	d, _, err := appserver.Create(filepath.Join(t.TempDir(), "fs"), appserver.Options{
		Port:     fmt.Sprintf("tcp:%d:interface=127.0.0.1", port),
		Location: fmt.Sprintf("tcp:127.0.0.1:%d", port),
		Umask:    0o22,
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// originalDir makes a server's directory with the original's tool.
func originalDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "fs")
	port := testwait.FreePort(t)
	tool(t, 0, "flappserver", "create", "-l", fmt.Sprintf("tcp:127.0.0.1:%d", port),
		"-p", fmt.Sprintf("tcp:%d:interface=127.0.0.1", port), dir)
	return dir
}

// tool runs a command of the original and returns what it printed.
func tool(t *testing.T, want int, name string, args ...string) string {
	t.Helper()
	return toolWith(t, nil, want, name, args...)
}

func toolWith(t *testing.T, stdin io.Reader, want int, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, foolscaptest.Tool(t, name), args...)
	var out, errout bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errout
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != want {
		t.Fatalf("%s %q: exit code %d, want %d\n%s%s", name, args, code, want, out.String(), errout.String())
	}
	return out.String()
}

func add(t *testing.T, d *appserver.Dir, typ string, args ...string) rpc.FURL {
	t.Helper()
	e, err := d.Add(appserver.Builtin(), typ, args, "")
	if err != nil {
		t.Fatal(err)
	}
	return e.FURL
}

// serve runs our server until the end of the test or until stop is called.
func serve(t *testing.T, d *appserver.Dir) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{})
	ended := make(chan error, 1)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	go func() {
		ended <- appserver.Run(ctx, appserver.Config{Dir: d, Log: log, Ready: func() { close(ready) }})
		close(ended)
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("Run: %v", err)
	}
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func connect(t *testing.T, furl rpc.FURL) *rpc.Remote {
	t.Helper()
	tub, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tub.Close() })
	r, err := tub.Connect(t.Context(), furl)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

func wantFile(t *testing.T, dir, name string, want []byte, mode os.FileMode) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Error(err)
		return
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, not the %d that were sent", name, len(got), len(want))
	}
	if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().Perm() != mode {
		t.Errorf("%s has mode %o, want %o", name, info.Mode().Perm(), mode)
	}
}

// wantNames fails unless dir has exactly the files names, and so no partial files.
func wantNames(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("directory has %q, want %q", got, names)
	}
}

var sizes = map[string]int{"empty": 0, "one": 1, "block": 1 << 20, "more": 5<<20 + 17}

func TestOriginalClientUploads(t *testing.T) {
	d, target, local := newDir(t), t.TempDir(), t.TempDir()
	furl := add(t, d, "upload-file", "--mode", "0640", target)
	serve(t, d)
	args := []string{"--furl", furl.String(), "upload-file"}
	for name, size := range sizes {
		file := filepath.Join(local, name)
		if err := os.WriteFile(file, random(size), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, file)
	}
	tool(t, 0, "flappclient", args...)
	for name, size := range sizes {
		wantFile(t, target, name, random(size), 0o640)
	}
	wantNames(t, target, "block", "empty", "more", "one")
}

func TestOriginalClientRuns(t *testing.T) {
	d := newDir(t)
	big := random(3 << 20)
	file := filepath.Join(t.TempDir(), "stdin")
	serve(t, d) // services are added while it runs
	for _, c := range []struct {
		name  string
		args  []string
		stdin []byte
		code  int
		out   string
	}{
		{"output", []string{"/", "sh", "-c", "pwd; echo no >&2"}, nil, 0, "/\n"},
		{"nothing sent", []string{"--no-stdout", "/", "sh", "-c", "echo no; exit 3"}, nil, 3, ""},
		{"255", []string{"/", "sh", "-c", "exit 255"}, nil, 255, ""},
		{"signal", []string{"/", "sh", "-c", "kill -9 $$"}, nil, 127, ""},
		{"not there", []string{"/", "/nonexistent/program"}, nil, 1, ""},
		{"stdin", []string{"--accept-stdin", "/", "sh", "-c", "cat >" + file + "; echo stored"}, big, 0, "stored\n"},
		// The original's client exits at the end of the command and loses output that it
		// has not written yet: this must be less than a pipe holds.
		{"stdin to stdout", []string{"--accept-stdin", "/", "cat"}, big[:32<<10], 0, string(big[:32<<10])},
	} {
		t.Run(c.name, func(t *testing.T) {
			furl := add(t, d, "run-command", c.args...)
			got := toolWith(t, bytes.NewReader(c.stdin), c.code, "flappclient", "--furl", furl.String(), "run-command")
			if got != c.out {
				t.Errorf("stdout has %d bytes: %.100q, want %d: %.100q", len(got), got, len(c.out), c.out)
			}
		})
	}
	wantFile(t, filepath.Dir(file), filepath.Base(file), big, 0o644)
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

// A directory of the original is served by the original and then by this package: the FURLs
// and the answers to our client are the same.
func TestOriginalDirectory(t *testing.T) {
	dir, target := originalDir(t), t.TempDir()
	tool(t, 0, "flappserver", "add", dir, "upload-file", target)
	tool(t, 0, "flappserver", "add", "-c", "größer", dir, "run-command", "--accept-stdin", "/", "sh", "-c", "cat; echo to stderr >&2; exit 7")
	d, err := appserver.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := d.Services()
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Fatalf("Services returns %d services, want 2", len(entries))
	}
	exercise := func(t *testing.T) {
		for _, e := range entries {
			r := connect(t, e.FURL)
			if e.Type == "upload-file" {
				for name, size := range sizes {
					if err := appserver.Upload(t.Context(), r, name, bytes.NewReader(random(size)), nil); err != nil {
						t.Fatalf("Upload %s: %v", name, err)
					}
					wantFile(t, target, name, random(size), 0o644)
				}
				continue
			}
			if e.Comment != "größer" {
				t.Errorf("comment is %q", e.Comment)
			}
			var out, errout bytes.Buffer
			sent := random(2 << 20)
			exit, err := appserver.Execute(t.Context(), r, bytes.NewReader(sent), &out, &errout)
			if err != nil || exit.Code != 7 || exit.Signal != 0 {
				t.Errorf("Execute = %v, %v, want exit code 7", exit, err)
			}
			if !bytes.Equal(out.Bytes(), sent) || errout.String() != "to stderr\n" {
				t.Errorf("stdout has %d bytes, want %d; stderr is %q", out.Len(), len(sent), errout.String())
			}
		}
	}
	t.Run("run by the original", func(t *testing.T) {
		p := foolscaptest.Start(t, originalServer, dir)
		p.Expect(t, "^up$")
		exercise(t)
		p.Kill()
	})
	t.Run("run by us", func(t *testing.T) {
		serve(t, d)
		exercise(t)
		more := add(t, d, "run-command", "/", "echo", "ünïcödé")
		var out bytes.Buffer
		if _, err := appserver.Execute(t.Context(), connect(t, more), nil, &out, io.Discard); err != nil || out.String() != "ünïcödé\n" {
			t.Errorf("added service: %q, %v", out.String(), err)
		}
	})
	// The original reads what this package has written.
	if list := tool(t, 0, "flappserver", "list", dir); !strings.Contains(list, "echo ünïcödé") || !strings.Contains(list, "# größer") {
		t.Errorf("the original lists our directory as\n%s", list)
	}
}
