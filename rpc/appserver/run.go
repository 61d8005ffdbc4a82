package appserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/flogtool/flogtool/rpc"
)

const (
	outputBlock = 128 << 10       // bytes of output sent at once at most
	killDelay   = 5 * time.Second // from SIGTERM to SIGKILL
)

// A runner is a run-command service: it runs one command in one directory. The client
// provides standard input, if the service takes it, and nothing else.
//
// Each run is a process group, which is ended with the client's connection.
type runner struct {
	*rpc.Methods
	at   Place
	dir  string
	argv []string

	acceptStdin, sendStdout, sendStderr bool
	logStdin, logStdout, logStderr      bool
	timeout                             time.Duration // of one run; 0: none
	env                                 []string      // names of variables that the command gets too
	grace                               time.Duration // between the end of input and SIGTERM
	turn                                chan struct{} // with --lock: holds a token while a run goes on; otherwise nil
	merge                               bool          // waiting requests share the next run

	stop     context.CancelFunc
	lifetime context.Context // ends with Close
	runs     sync.WaitGroup

	mu       sync.Mutex
	requests int        // guarded by mu; running or waiting
	next     *sharedRun // guarded by mu; the next shared run; nil if no request waits
}

// newRunner makes a service from [options] DIR COMMAND...
func newRunner(at Place, args []string) (Service, error) {
	r := &runner{at: at, sendStdout: true, sendStderr: true, logStderr: true}
	opts := &optionScanner{args: args}
	for opts.next() {
		switch opts.name {
		case "--accept-stdin", "--no-stdin":
			r.acceptStdin = opts.name == "--accept-stdin"
		case "--send-stdout", "--no-stdout":
			r.sendStdout = opts.name == "--send-stdout"
		case "--send-stderr", "--no-stderr":
			r.sendStderr = opts.name == "--send-stderr"
		case "--log-stdin", "--no-log-stdin":
			r.logStdin = opts.name == "--log-stdin"
		case "--log-stdout", "--no-log-stdout":
			r.logStdout = opts.name == "--log-stdout"
		case "--log-stderr", "--no-log-stderr":
			r.logStderr = opts.name == "--log-stderr"
		case "--lock":
			r.turn = make(chan struct{}, 1)
		case "--merge":
			r.merge, r.turn = true, make(chan struct{}, 1)
		case "--timeout":
			r.timeout = opts.duration()
		case "--env":
			r.env = append(r.env, opts.text())
		default:
			opts.unknown()
		}
	}
	if opts.err != nil {
		return nil, opts.err
	}
	if r.merge && r.acceptStdin {
		return nil, errors.New("--merge cannot be combined with --accept-stdin: a shared run has no input")
	}
	if len(opts.args) < 2 {
		return nil, errors.New("wrong number of arguments: run-command takes a directory and a command")
	}
	r.dir, r.argv = opts.args[0], opts.args[1:]
	if !filepath.IsAbs(r.dir) {
		r.dir = filepath.Join(at.Base, r.dir)
	}
	r.lifetime, r.stop = context.WithCancel(context.Background())
	r.Methods = &rpc.Methods{Map: map[string]func(*rpc.Call) (any, error){"execute": r.execute}}
	return r, nil
}

// Close ends all runs and waits for them.
func (r *runner) Close() {
	r.stop()
	r.runs.Wait()
}

// execute(watcher) starts a run of the command.
func (r *runner) execute(c *rpc.Call) (any, error) {
	args, err := c.Require("watcher")
	if err != nil {
		return nil, err
	}
	return r.start(c, args[0], r.argv, r.environment())
}

// environment returns what a command gets of the server's environment, which may hold
// the server's own secrets: PATH, HOME, LANG, and what --env names.
func (r *runner) environment() []string {
	env := []string{}
	for _, name := range append([]string{"PATH", "HOME", "LANG"}, r.env...) {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// start starts a run of argv and answers at once, with None or with an object that takes
// standard input. The watcher receives the output and the end. env is the command's
// environment.
func (r *runner) start(c *rpc.Call, watcher any, argv, env []string) (answer any, err error) {
	w, ok := watcher.(*rpc.Remote)
	if !ok {
		return nil, rpc.Errorf("builtins.TypeError", "watcher is not a reference")
	}
	if err := r.enter(); err != nil {
		return nil, err
	}
	if r.merge {
		r.join(c, w)
		return nil, nil
	}
	p := &process{runner: r, argv: argv, env: env, observer: client{w}, log: r.at.Log.With("peer", c.Peer().TubID())}
	if r.acceptStdin {
		if p.stdin, p.feed, err = os.Pipe(); err != nil {
			r.leave()
			return nil, err
		}
		answer = &rpc.Methods{Borrow: true, Map: map[string]func(*rpc.Call) (any, error){
			"feed_stdin":  p.feedStdin,
			"close_stdin": p.closeStdin,
		}}
	}
	ctx, cancel := context.WithCancel(c.Context())
	unlink := context.AfterFunc(r.lifetime, cancel)
	answered := make(chan struct{})
	c.Then(func() { close(answered) })
	r.runs.Go(func() {
		defer r.leave()
		defer unlink()
		defer cancel()
		select {
		case <-answered: // output must not arrive before the answer
		case <-ctx.Done():
		}
		p.run(ctx)
	})
	return answer, nil
}

// maxRequests bounds the running and waiting requests of one service, each of which may
// be a process. It is a choice.
const maxRequests = 1000

// enter counts a request, until leave.
func (r *runner) enter() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.requests == maxRequests {
		return fmt.Errorf("the service already has %d requests", maxRequests)
	}
	r.requests++
	return nil
}

func (r *runner) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests--
}

// An observer receives what happens in a run: one client, or all clients of a shared run.
type observer interface {
	begin() // the run is about to start

	// stream returns a function that takes the next bytes of stdout or stderr and does
	// not keep them. It blocks while the clients are slow, until ctx is done.
	stream(name string) func(ctx context.Context, data []byte)

	end(signal, code any) // one of the two is nil
}

// A client is the observer for a single client.
type client struct{ watcher *rpc.Remote }

func (client) begin() {}

func (c client) stream(name string) func(context.Context, []byte) {
	var sent window
	return func(ctx context.Context, data []byte) { _ = sent.send(ctx, c.watcher, name, data) }
}

func (c client) end(signal, code any) {
	_ = c.watcher.Send("done", rpc.Pos(signal, code)) // it may have disconnected
}

// A process is one run of a runner's command.
type process struct {
	*runner
	argv, env []string
	observer  observer
	log       *slog.Logger
	stdin     *os.File // the command's end of a pipe; nil without standard input
	feed      *os.File // the other end
}

// feedStdin(data) blocks while the command does not read, and so does the client.
func (p *process) feedStdin(c *rpc.Call) (any, error) {
	args, err := c.Require("data")
	if err != nil {
		return nil, err
	}
	data, ok := args[0].([]byte)
	if !ok {
		return nil, rpc.Errorf("builtins.TypeError", "data is not bytes")
	}
	if p.logStdin {
		p.log.Info("stdin", "data", string(data))
	}
	_, _ = p.feed.Write(data) // fails if the command has ended or has closed its input
	return nil, nil
}

func (p *process) closeStdin(*rpc.Call) (any, error) {
	if p.logStdin {
		p.log.Info("stdin closed")
	}
	_ = p.feed.Close() // may be closed already
	return nil, nil
}

// run runs the command until the command and its output have ended. If ctx is done before
// that, it ends the process group.
func (p *process) run(ctx context.Context) {
	if p.feed != nil {
		defer p.feed.Close()
		defer p.stdin.Close()
		// A feedStdin that is blocked must not outlive the run.
		defer context.AfterFunc(ctx, func() { p.feed.Close() })()
	}
	if p.turn != nil {
		select {
		case p.turn <- struct{}{}:
			defer func() { <-p.turn }()
		case <-ctx.Done():
			return
		}
	}
	if p.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, p.timeout, fmt.Errorf("the command ran longer than %v", p.timeout))
		defer cancel()
	}
	if ctx.Err() != nil {
		return
	}
	p.observer.begin()
	p.observer.end(p.command(ctx))
}

// command starts the command and returns how it ended: with a signal or an exit code. The
// other one is nil.
func (p *process) command(ctx context.Context) (signal, code any) {
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Dir, cmd.Env = p.dir, p.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.stdin != nil {
		cmd.Stdin = p.stdin
	}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		var stderr io.ReadCloser
		if stderr, err = cmd.StderrPipe(); err == nil {
			if err = cmd.Start(); err == nil {
				return p.follow(ctx, cmd, stdout, stderr)
			}
			stderr.Close()
		}
		stdout.Close()
	}
	p.log.Warn("command not started", "dir", p.dir, "argv", p.argv, "err", err)
	if p.sendStderr {
		p.observer.stream("stderr")(ctx, fmt.Appendf(nil, "the command cannot be started: %v\n", err))
	}
	return nil, 1
}

// follow sends a running command's output until it ends.
func (p *process) follow(ctx context.Context, cmd *exec.Cmd, stdout, stderr io.Reader) (signal, code any) {
	p.log.Info("command started", "dir", p.dir, "argv", p.argv)
	if p.stdin != nil {
		p.stdin.Close() // writing to the pipe must fail when the command has ended
	}
	group := -cmd.Process.Pid
	ended := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		p.log.Info("ending the command", "cause", context.Cause(ctx))
		select {
		case <-ended:
			return
		case <-time.After(p.grace):
		}
		_ = syscall.Kill(group, syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(killDelay):
			_ = syscall.Kill(group, syscall.SIGKILL)
		}
	})
	// Wait is called after the end of the output: until then an ended process keeps its
	// ID, so that the killer cannot hit another one.
	var outputs sync.WaitGroup
	outputs.Go(func() { p.copyOutput(ctx, "stdout", stdout, p.sendStdout, p.logStdout) })
	outputs.Go(func() { p.copyOutput(ctx, "stderr", stderr, p.sendStderr, p.logStderr) })
	outputs.Wait()
	err := cmd.Wait()
	close(ended)
	killer.Wait()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case ok && status.Signaled():
		signal = int(status.Signal())
	case ok && status.Exited():
		code = status.ExitStatus()
	default:
		p.log.Warn("exit status unknown", "err", err)
		code = 1
	}
	p.log.Info("process ended", "signal", signal, "rc", code)
	return signal, code
}

// copyOutput reads one stream of the command to its end. Sending blocks while the client
// is slow, and so does the command, until ctx is done. It continues to read after the
// client has disconnected, so that the command can end.
func (p *process) copyOutput(ctx context.Context, name string, from io.Reader, send, log bool) {
	sendTo := p.observer.stream(name)
	buf := make([]byte, outputBlock)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if log {
				p.log.Info(name, "sent", send, "data", string(buf[:n]))
			}
			if send {
				sendTo(ctx, buf[:n])
			}
		}
		if err != nil {
			return
		}
	}
}
