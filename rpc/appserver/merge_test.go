package appserver_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/flogtool/flogtool/internal/testwait"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/appserver"
)

// A sharer is a client of a run that other clients may share.
type sharer struct {
	tub  *rpc.Tub
	lost <-chan struct{}
	done chan string // receives all output and the end

	mu  sync.Mutex
	out strings.Builder // guarded by mu
}

// share requests a run. The server has the request when it returns.
func share(t *testing.T, furl rpc.FURL, output func(stream string, data []byte)) *sharer {
	t.Helper()
	tub, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tub.Close() })
	service, err := tub.Connect(t.Context(), furl)
	if err != nil {
		t.Fatal(err)
	}
	s := &sharer{tub: tub, lost: service.Done(), done: make(chan string, 1)}
	hear := func(c *rpc.Call) (any, error) {
		if output != nil {
			output(c.Method, c.Args.Pos[0].([]byte))
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		fmt.Fprintf(&s.out, "%s %s", c.Method, c.Args.Pos[0])
		return nil, nil
	}
	watcher := &rpc.Methods{Map: methods{"stdout": hear, "stderr": hear, "done": func(c *rpc.Call) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		fmt.Fprint(&s.out, c.Args.Pos...)
		s.done <- s.out.String()
		return nil, nil
	}}}
	if err := service.Call(t.Context(), "execute", rpc.Pos(watcher), nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// A gate is a command that counts its runs and waits in each until it is opened.
type gate struct{ fifo, runs string }

func newGate(t *testing.T) *gate {
	t.Helper()
	dir := t.TempDir()
	g := &gate{fifo: filepath.Join(dir, "gate"), runs: filepath.Join(dir, "runs")}
	if err := syscall.Mkfifo(g.fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

// command prints the number of the run to standard output, what opens the gate
// to standard error, and exits with 3.
func (g *gate) command() []string {
	return []string{"/", "sh", "-c", fmt.Sprintf(`echo $$ >>%s; wc -l <%[1]s; read word <%s; echo "$word" >&2; exit 3`, g.runs, g.fifo)}
}

// open lets one run end.
func (g *gate) open(t *testing.T, word string) {
	t.Helper()
	if err := os.WriteFile(g.fifo, []byte(word+"\n"), 0); err != nil {
		t.Fatal(err)
	}
}

// pid waits for the nth run, from 1, and returns its process.
func (g *gate) pid(t *testing.T, n int) (pid int) {
	t.Helper()
	testwait.Eventually(t, fmt.Sprintf("run %d", n), func() bool {
		text, err := os.ReadFile(g.runs)
		lines := strings.Split(string(text), "\n")
		if err != nil || len(lines) <= n {
			return false
		}
		_, err = fmt.Sscan(lines[n-1], &pid)
		return err == nil
	})
	return pid
}

// Requests that arrive during a run share the next one, and each gets all of its output.
func TestMerge(t *testing.T) {
	d, g := newDir(t), newGate(t)
	furl := add(t, d, "run-command", append([]string{"--merge"}, g.command()...)...)
	serve(t, d)
	first := share(t, furl, nil)
	g.pid(t, 1)
	var waiting []*sharer
	for range 5 {
		waiting = append(waiting, share(t, furl, nil))
	}
	waiting[4].tub.Close() // a client that disconnects does not affect the others
	g.open(t, "one")
	if got, want := <-first.done, "stdout 1\nstderr one\n<nil> 3"; got != want {
		t.Errorf("the first run: %q, want %q", got, want)
	}
	g.pid(t, 2)
	waiting[3].tub.Close() // also not during the run
	late := share(t, furl, nil)
	g.open(t, "two")
	for i, s := range waiting[:3] {
		if got, want := <-s.done, "stdout 2\nstderr two\n<nil> 3"; got != want {
			t.Errorf("client %d of the shared run: %q, want %q", i, got, want)
		}
	}
	g.pid(t, 3)
	g.open(t, "three")
	if got, want := <-late.done, "stdout 3\nstderr three\n<nil> 3"; got != want {
		t.Errorf("the run after: %q, want %q", got, want)
	}
}

// A shared run ends when its last client disconnects, and a later request gets a run of its
// own.
func TestMergeAllGone(t *testing.T) {
	d, g := newDir(t), newGate(t)
	furl := add(t, d, "run-command", append([]string{"--merge"}, g.command()...)...)
	serve(t, d)
	first := share(t, furl, nil)
	pid := g.pid(t, 1)
	share(t, furl, nil).tub.Close()
	first.tub.Close()
	waitGone(t, pid)
	last := share(t, furl, nil)
	g.open(t, "two")
	// The gate is open, so the two streams come in any order.
	if got := <-last.done; !strings.Contains(got, "stderr two\n") || !strings.HasSuffix(got, "\n<nil> 3") {
		t.Errorf("the run after: %q, want its stderr and its exit code", got)
	}
}

// A client of a shared run that reads no output loses its connection, and the others lose
// nothing.
func TestMergeSlowClient(t *testing.T) {
	t.Parallel() // it waits for maxStall
	const size = 20 << 20
	d, g := newDir(t), newGate(t)
	furl := add(t, d, "run-command", "--merge", "/", "sh", "-c",
		fmt.Sprintf("echo $$ >>%s; read word <%s; head -c %d /dev/zero", g.runs, g.fifo, size))
	serve(t, d)
	first := share(t, furl, nil)
	g.pid(t, 1)
	end := make(chan struct{})
	defer close(end)
	slow := share(t, furl, func(string, []byte) { <-end })
	got := 0
	fast := share(t, furl, func(_ string, data []byte) { got += len(data) })
	g.open(t, "one")
	<-first.done
	g.pid(t, 2)
	start := time.Now()
	g.open(t, "two")
	<-fast.done
	if got != size {
		t.Errorf("the fast client got %d of %d bytes", got, size)
	}
	<-slow.lost
	if took := time.Since(start); took < 9*time.Second {
		t.Errorf("the slow client was cut off after %v", took)
	}
}

func TestMergeRefusesInput(t *testing.T) {
	_, err := newDir(t).Add(appserver.Builtin(), "run-command", []string{"--accept-stdin", "--merge", "/", "cat"}, "")
	if err == nil || !strings.Contains(err.Error(), "--accept-stdin") {
		t.Errorf("Add = %v", err)
	}
}
