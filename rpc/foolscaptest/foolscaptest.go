// Package foolscaptest runs the original Foolscap, which is written in Python, as the
// peer of a test: [Start] runs a Python program, [Tool] finds one of Foolscap's
// commands. Only tests import it.
package foolscaptest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// deadline is how long a test waits for a line of output or for the end of a program. A
// Python program with Twisted needs half a second to start on an idle machine, and
// several when the tests of all packages run at once.
const deadline = 60 * time.Second

// pythons are the interpreters to try: first that of the environment, last Debian's,
// whose packages another python3 on the path does not see.
var pythons = []string{os.Getenv("FLOG_PYTHON"), "python3", "/usr/bin/python3"}

var findPython = sync.OnceValues(func() (string, error) {
	for _, name := range pythons {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if exec.Command(path, "-c", "import foolscap.api").Run() == nil {
			return path, nil
		}
	}
	return "", errors.New("no python3 with the package foolscap (Debian: python3-foolscap)")
})

// Python returns the path of a python3 that has Foolscap. Without one the test is
// skipped, or fails if FLOG_REQUIRE_PEERS=1 is in the environment.
func Python(t testing.TB) string {
	t.Helper()
	path, err := findPython()
	switch {
	case err == nil:
	case os.Getenv("FLOG_REQUIRE_PEERS") == "1":
		t.Fatalf("FLOG_REQUIRE_PEERS=1, and there is %v", err)
	default:
		t.Skipf("there is %v", err)
	}
	return path
}

// Tool returns the path of a command of the original, such as flogtool or flappserver,
// or of twistd. Without it the test is skipped or fails as for Python.
func Tool(t testing.TB, name string) string {
	t.Helper()
	Python(t)
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/bin/" + name)
	}
	switch {
	case err == nil:
	case os.Getenv("FLOG_REQUIRE_PEERS") == "1":
		t.Fatalf("FLOG_REQUIRE_PEERS=1, and there is no command %s", name)
	default:
		t.Skipf("there is no command %s", name)
	}
	return path
}

// A Proc is a running program. Its standard output is read line by line, its standard
// error is shown if the test fails. It is killed at the end of the test.
type Proc struct {
	Stdin io.WriteCloser // of the program

	cmd    *exec.Cmd
	exited chan struct{} // closed when the program has ended and all its output is read

	mu      sync.Mutex
	stderr  bytes.Buffer
	lines   []string      // of standard output, not yet returned
	ended   bool          // the output has ended
	changed chan struct{} // holds a token after a change of lines or ended
}

// Start runs script, the text of a Python program, with Foolscap's Python and
// args. The program is killed at the end of the test.
func Start(t testing.TB, script string, args ...string) *Proc {
	t.Helper()
	python := Python(t)
	file := filepath.Join(t.TempDir(), "peer.py")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, append([]string{"-u", file}, args...)...)
	// The FLOG… variables of the environment must not change what the original logs.
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "FLOG") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "PYTHONWARNINGS=ignore", "PYTHONDONTWRITEBYTECODE=1")
	return Run(t, cmd)
}

// Run is Start for any command. It sets the command's standard streams.
func Run(t testing.TB, cmd *exec.Cmd) *Proc {
	t.Helper()
	p := &Proc{cmd: cmd, exited: make(chan struct{}), changed: make(chan struct{}, 1)}
	cmd.Stderr = (*stderrBuffer)(p)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.Stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the program, which the cleanup kills and waits for
		defer close(p.exited)
		p.readLines(stdout)
		cmd.Wait() // cmd.ProcessState has the exit code
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Logf("standard error of %s:\n%s", strings.Join(cmd.Args[:min(3, len(cmd.Args))], " "), p.stderr.Bytes())
		}
	})
	return p
}

// readLines never waits for the test to take lines: the program could then block while
// the test waits for its end.
func (p *Proc) readLines(r io.Reader) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		p.mu.Lock()
		if line != "" {
			p.lines = append(p.lines, strings.TrimSuffix(line, "\n"))
		}
		p.ended = err != nil
		p.mu.Unlock()
		select {
		case p.changed <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// stderrBuffer is the Proc as the writer of its program's standard error.
type stderrBuffer Proc

func (b *stderrBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stderr.Write(p)
}

// Stderr returns what the program has written to standard error so far.
func (p *Proc) Stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// Line returns the next line of output without its line end. If the output ends or no
// line comes in time, the test fails.
func (p *Proc) Line(t testing.TB) string {
	t.Helper()
	line, ok := p.next(t)
	if !ok {
		t.Fatalf("%s ended its output where a line was expected; standard error:\n%s", p.cmd.Args[0], p.Stderr())
	}
	return line
}

// next returns the next line, or false at the end of the output.
func (p *Proc) next(t testing.TB) (string, bool) {
	t.Helper()
	late := time.After(deadline)
	for {
		p.mu.Lock()
		if len(p.lines) > 0 {
			line := p.lines[0]
			p.lines = p.lines[1:]
			p.mu.Unlock()
			return line, true
		}
		ended := p.ended
		p.mu.Unlock()
		if ended {
			return "", false
		}
		select {
		case <-p.changed:
		case <-late:
			t.Fatalf("%s printed nothing for %v; standard error:\n%s", p.cmd.Args[0], deadline, p.Stderr())
		}
	}
}

// Expect skips lines until one matches the regular expression, and returns the
// match and its groups.
func (p *Proc) Expect(t testing.TB, expr string) []string {
	t.Helper()
	re := regexp.MustCompile(expr)
	var seen []string
	for {
		line, ok := p.next(t)
		if !ok {
			t.Fatalf("no line matched %q before the end of the output; lines:\n%s\nstandard error:\n%s",
				expr, strings.Join(seen, "\n"), p.Stderr())
		}
		if m := re.FindStringSubmatch(line); m != nil {
			return m
		}
		seen = append(seen, line)
	}
}

// Rest returns the remaining lines up to the end of the output.
func (p *Proc) Rest(t testing.TB) []string {
	t.Helper()
	var rest []string
	for {
		line, ok := p.next(t)
		if !ok {
			return rest
		}
		rest = append(rest, line)
	}
}

// Say writes one line to the program's standard input.
func (p *Proc) Say(t testing.TB, line string) {
	t.Helper()
	if _, err := io.WriteString(p.Stdin, line+"\n"); err != nil {
		t.Fatalf("writing to %s: %v", p.cmd.Args[0], err)
	}
}

// Signal sends the program a signal.
func (p *Proc) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill kills the program and waits for its end. It may be called again.
func (p *Proc) Kill() {
	p.cmd.Process.Kill()
	<-p.exited
}

// Wait waits for the program to end by itself and returns its exit code, -1 if
// a signal ended it.
func (p *Proc) Wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(deadline):
		t.Fatalf("%s did not end within %v; standard error:\n%s", p.cmd.Args[0], deadline, p.Stderr())
		return -1
	}
}
