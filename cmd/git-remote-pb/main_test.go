package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/appserver"
)

// testscript.Main puts this program on PATH as git-remote-pb, where git finds it.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"git-remote-pb": main})
}

// gitVars make git the same everywhere: nobody's configuration, no questions. The
// race detector would let every helper wait for a second at its end.
func gitVars(home string) []string {
	vars := []string{
		"HOME=" + home, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_TERMINAL_PROMPT=0", "LC_ALL=C",
		"GORACE=atexit_sleep_ms=0",
	}
	for _, role := range []string{"AUTHOR", "COMMITTER"} {
		vars = append(vars, "GIT_"+role+"_NAME=Tester", "GIT_"+role+"_EMAIL=tester@example.org", "GIT_"+role+"_DATE=1700000000 +0000")
	}
	return vars
}

// needGit skips the test where git is not installed. It removes git's variables
// from the environment: a hook that runs the tests has some, and with them git
// would write into the hook's repository.
func needGit(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	for _, v := range os.Environ() {
		if name, value, _ := strings.Cut(v, "="); strings.HasPrefix(name, "GIT_") {
			t.Setenv(name, value) // puts it back at the end of the test
			os.Unsetenv(name)
		}
	}
}

// newServer makes and runs a server until stop is called or the test ends.
func newServer(t *testing.T, dir string) (d *appserver.Dir, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	d, _, err = appserver.Create(dir, appserver.Options{
		Port:     fmt.Sprintf("tcp:%d:interface=127.0.0.1", port),
		Location: fmt.Sprintf("tcp:127.0.0.1:%d", port),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	var logged bytes.Buffer
	go func() {
		log := slog.New(slog.NewTextHandler(io.MultiWriter(&logged, t.Output()), nil))
		ended <- appserver.Run(ctx, appserver.Config{Dir: d, Log: log, Ready: func() { close(ready) }})
		close(ended)
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		stop()
		services, err := d.Services()
		if err != nil {
			t.Error(err)
		}
		for _, s := range services {
			if strings.Contains(logged.String(), s.FURL.Name) {
				t.Errorf("the FURL of %q is in the server's log", s.Args)
			}
		}
	})
	return d, stop
}

// serviceFile adds a service and returns a file with its FURL.
func serviceFile(t *testing.T, d *appserver.Dir, args ...string) string {
	t.Helper()
	e, err := d.Add(appserver.Builtin(), "git-repo", args, "")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "repo.furl")
	if err := os.WriteFile(file, []byte("# the repository\n"+e.FURL.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestScript runs testdata/script/*.txtar: git itself, with repositories behind
// FURLs. Beside testscript's own commands there are
//
//	server DIR                    make and run a server
//	service NAME DIR TYPE ARGS…   add a service to it, put its FURL into NAME.furl and into $NAME
//	rotate DIR NAME               give that service a new FURL
func TestScript(t *testing.T) {
	needGit(t)
	for _, v := range gitVars(t.TempDir()) { // the server's
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, gitVars(env.WorkDir)...)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"server": func(ts *testscript.TestScript, _ bool, args []string) { newServer(t, ts.MkAbs(args[0])) },
			"service": func(ts *testscript.TestScript, _ bool, args []string) {
				d, err := appserver.OpenDir(ts.MkAbs(args[1]))
				ts.Check(err)
				e, err := d.Add(appserver.Builtin(), args[2], args[3:], "")
				ts.Check(err)
				ts.Setenv(args[0], e.FURL.String())
				ts.Setenv(args[0]+"_swissnum", e.FURL.Name)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]+".furl"), []byte("# a comment\n\n"+e.FURL.String()+"\n"), 0o600))
			},
			"rotate": func(ts *testscript.TestScript, _ bool, args []string) {
				d, err := appserver.OpenDir(ts.MkAbs(args[0]))
				ts.Check(err)
				_, err = d.Rotate(ts.Getenv(args[1] + "_swissnum"))
				ts.Check(err)
			},
		},
	})
}

// random returns n bytes that cannot be compressed.
func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(data)
	return data
}

// A place is a directory where git runs, with the helper.
type place struct {
	t   *testing.T
	dir string
	env []string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	needGit(t)
	dir := t.TempDir()
	return &place{t, dir, append(os.Environ(), gitVars(dir)...)}
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

// command is a command in the place, which ends with the test.
func (p *place) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(p.t.Context(), name, args...)
	cmd.Dir, cmd.Env = p.dir, p.env
	return cmd
}

// git runs git to its good end and returns what it said on standard output.
func (p *place) git(args ...string) string { return p.gitWith(nil, args...) }

func (p *place) gitWith(in io.Reader, args ...string) string {
	p.t.Helper()
	cmd := p.command("git", args...)
	var out, errout bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &errout
	if err := cmd.Run(); err != nil {
		p.t.Fatalf("git %q: %v\n%s%s", args, err, out.String(), errout.String())
	}
	return strings.TrimSpace(out.String())
}

// init makes a repository which spends no time on compression.
func (p *place) init(name string, args ...string) {
	p.t.Helper()
	p.git(append([]string{"init", "-q", "-b", "main", name}, args...)...)
	p.git("-C", name, "config", "core.compression", "0")
}

// grow adds commits to a branch, each of which changes one of 50 files.
func (p *place) grow(repo, branch string, from, commits int) {
	p.t.Helper()
	var in bytes.Buffer
	for i := from; i < from+commits; i++ {
		fmt.Fprintf(&in, "commit refs/heads/%s\ncommitter T <t@example.org> %d +0000\ndata <<.\ncommit %d\n.\n", branch, 1_700_000_000+i, i)
		if i == from && from > 0 {
			fmt.Fprintf(&in, "from refs/heads/%s^0\n", branch)
		}
		fmt.Fprintf(&in, "M 100644 inline file%d\ndata <<.\nline of commit %d\n.\n\n", i%50, i)
	}
	p.gitWith(&in, "-C", repo, "fast-import", "--quiet")
}

// wantSame fails unless both repositories are sound and have the same n commits
// on the branch.
func (p *place) wantSame(a, b, branch string, n int) {
	p.t.Helper()
	var heads [2]string
	for i, repo := range []string{a, b} {
		p.git("-C", repo, "fsck", "--strict", "--no-dangling")
		heads[i] = p.git("-C", repo, "rev-parse", "refs/heads/"+branch)
		if got := p.git("-C", repo, "rev-list", "--count", "refs/heads/"+branch); got != fmt.Sprint(n) {
			p.t.Errorf("%s has %s commits, want %d", repo, got, n)
		}
	}
	if heads[0] != heads[1] {
		p.t.Errorf("%s is at %s, and %s at %s", a, heads[0], b, heads[1])
	}
}

func TestTenThousandCommits(t *testing.T) {
	p := newPlace(t)
	d, _ := newServer(t, p.path("fs"))
	p.init("original.git", "--bare")
	p.grow("original.git", "main", 0, 10_000)
	address := "pb::" + serviceFile(t, d, p.path("original.git"))

	p.git("clone", "-q", address, "clone")
	p.wantSame("original.git", "clone", "main", 10_000)

	p.grow("original.git", "main", 10_000, 500)
	p.git("-C", "clone", "fetch", "-q")
	p.git("-C", "clone", "merge", "-q", "--ff-only", "origin/main")
	p.wantSame("original.git", "clone", "main", 10_500)

	p.git("-C", "clone", "checkout", "-q", "--detach")
	p.grow("clone", "main", 10_500, 700)
	p.git("-C", "clone", "push", "-q", "origin", "main")
	p.wantSame("original.git", "clone", "main", 11_200)

	p.git("clone", "-q", "--depth=10", "--no-local", address, "shallow")
	if got := p.git("-C", "shallow", "rev-list", "--count", "main"); got != "10" {
		t.Errorf("a clone of depth 10 has %s commits", got)
	}
}

// A large blob goes both ways, while the server's git says how far it is and what
// its hook has to say.
func TestLargeBlob(t *testing.T) {
	p := newPlace(t)
	d, _ := newServer(t, p.path("fs"))
	p.init("original.git", "--bare")
	hook := "#!/bin/sh\nseq 100000 >&2\n"
	if err := os.WriteFile(p.path("original.git/hooks/pre-receive"), []byte(hook), 0o755); err != nil {
		t.Fatal(err)
	}
	address := "pb::" + serviceFile(t, d, p.path("original.git"))

	p.init("work")
	blob := random(50 << 20)
	if err := os.WriteFile(p.path("work/blob"), blob, 0o600); err != nil {
		t.Fatal(err)
	}
	p.git("-C", "work", "add", "blob")
	p.git("-C", "work", "commit", "-q", "-m", "blob")
	push := p.command("git", "-C", "work", "push", "--progress", address, "main")
	said, err := push.CombinedOutput()
	if err != nil || !bytes.Contains(said, []byte("remote: 100000")) {
		t.Fatalf("push: %v\n%.2000s", err, said[max(0, len(said)-2000):])
	}
	p.git("clone", "-q", address, "clone")
	p.wantSame("original.git", "clone", "main", 1)
	if got, err := os.ReadFile(p.path("clone/blob")); err != nil || !bytes.Equal(got, blob) {
		t.Errorf("the blob has %d bytes of %d, %v", len(got), len(blob), err)
	}
}

// quarantine returns where receive-pack keeps what it has not accepted yet.
func quarantine(t *testing.T, repo string) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(repo, "objects", "*incoming*"))
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// wantUntouched fails unless the repository, which was empty, is so.
func (p *place) wantUntouched(repo string) {
	p.t.Helper()
	p.git("-C", repo, "fsck", "--strict")
	if refs := p.git("-C", repo, "for-each-ref"); refs != "" {
		p.t.Errorf("a push without an end has made the refs\n%s", refs)
	}
	if objects := p.git("-C", repo, "count-objects"); !strings.HasPrefix(objects, "0 objects") {
		p.t.Errorf("a push without an end has left %s", objects)
	}
	if dirs := quarantine(p.t, p.path(repo)); len(dirs) != 0 {
		p.t.Errorf("a push without an end has left %q", dirs)
	}
}

// pushable makes an empty repository behind a FURL, and a commit to push.
func (p *place) pushable() (address string, stop func()) {
	d, stop := newServer(p.t, p.path("fs"))
	p.init("original.git", "--bare")
	p.init("work")
	if err := os.WriteFile(p.path("work/blob"), random(30<<20), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.git("-C", "work", "add", "blob")
	p.git("-C", "work", "commit", "-q", "-m", "blob")
	return serviceFile(p.t, d, p.path("original.git")), stop
}

// A client that is killed while the server's hook runs: the hook and its children
// end, and nothing was pushed.
func TestClientGoneInHook(t *testing.T) {
	p := newPlace(t)
	furl, stop := p.pushable()
	fifo := p.path("fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	hook := "#!/bin/sh\nexec 3>" + fifo + "\necho started >&3\nsleep 1000 &\nwait\n"
	if err := os.WriteFile(p.path("original.git/hooks/pre-receive"), []byte(hook), 0o755); err != nil {
		t.Fatal(err)
	}
	open, err := os.OpenFile(fifo, os.O_RDWR, 0) // opened for reading alone it would wait for the hook
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	push := p.command("git", "-C", "work", "push", "-q", "pb::"+furl, "main")
	push.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := push.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("started\n"))
	_ = open.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(open, line); err != nil {
		t.Fatal(err)
	}
	writers, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer writers.Close()
	open.Close()
	if dirs := quarantine(t, p.path("original.git")); len(dirs) != 1 {
		t.Errorf("the push has quarantines %q while its hook runs, want one", dirs)
	}

	_ = syscall.Kill(-push.Process.Pid, syscall.SIGKILL) // git and its helper
	_ = push.Wait()
	_ = writers.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := writers.Read(line); err != io.EOF { // when nobody has it open any more
		t.Errorf("the hook goes on without a client: %v", err)
	}
	stop() // it waits for what runs
	// A signal makes git leave the quarantine to git gc, which does this.
	p.git("-C", "original.git", "prune", "--expire=now")
	p.wantUntouched("original.git")
}

// A client that is killed when it has sent half of a pack.
func TestClientGoneInPack(t *testing.T) {
	p := newPlace(t)
	furl, stop := p.pushable()
	head := p.git("-C", "work", "rev-parse", "main")
	pack := p.git("-C", "work", "pack-objects", "--all", "-q", "pack") // prints the last part of its name
	data, err := os.ReadFile(p.path("work/pack-" + pack + ".pack"))
	if err != nil {
		t.Fatal(err)
	}
	helper := p.command("git-remote-pb", "origin", furl)
	in, err := helper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	helper.Stdout, helper.Stderr = io.Discard, t.Output()
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	request := strings.Repeat("0", len(head)) + " " + head + " refs/heads/main\x00report-status"
	_, err = fmt.Fprintf(in, "connect git-receive-pack\n%04x%s0000", len(request)+4, request)
	if err == nil {
		// Far more than the pipes and queues on the way hold: git has the rest.
		_, err = in.Write(data[:len(data)-1<<20])
	}
	if err != nil {
		t.Fatal(err)
	}
	if dirs := quarantine(t, p.path("original.git")); len(dirs) != 1 {
		t.Errorf("the push has quarantines %q, want one", dirs)
	}
	_ = helper.Process.Kill()
	_ = helper.Wait()
	stop()
	p.wantUntouched("original.git")
}

// What git says to the helper, and what it answers.
func TestHelper(t *testing.T) {
	file := filepath.Join(t.TempDir(), "furl")
	const secret = "pb://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@tcp:127.0.0.1:1/secretname"
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		address, in string
		code        int
		out, errout string
	}{
		{file, "", 0, "", ""},
		{file, "\n", 0, "", ""},
		{secret, "capabilities\n\n", 0, "connect\n\n", ""},
		{file, "capabilities\nconnect git-upload-archive\n\n", 0, "connect\n\nfallback\n", ""},
		{file, "connect ../../bin/sh\n", 0, "fallback\n", ""},
		{file, "connect git-upload-pack\n", codeFailed, "", "connection refused"},
		{secret, "connect git-receive-pack\n", codeFailed, "", "pb://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@…"},
		{file, "list\n", codeFailed, "", `unknown command "list"`},
		{file, "capabilities", codeFailed, "", "ends within a command"},
		{file, strings.Repeat("x", 1<<20) + "\n", codeFailed, "", "longer than 4096 bytes"},
		{file, "\x00\xff\x1b[31mgarbage\n", codeFailed, "", `\x1b[31mgarbage`},
		{"pb://secretname", "", codeFailed, "", "not a FURL"},
		{"pb://$$$@tcp:127.0.0.1:1/secretname", "", codeFailed, "", "not base32"},
		{"pb://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@,/secretname", "", codeFailed, "", "hint"},
		{file + ".no", "", codeFailed, "", "no such file"},
		{os.DevNull, "", codeFailed, "", "not a FURL"},
	} {
		var out, errout bytes.Buffer
		code := run(t.Context(), []string{"origin", c.address}, strings.NewReader(c.in), &out, &errout)
		if code != c.code || out.String() != c.out || !strings.Contains(errout.String(), c.errout) || (code == 0) != (errout.Len() == 0) {
			t.Errorf("%.50q to the helper of %.12q: exit code %d, %q, %q; want %d, %q, %q",
				c.in, c.address, code, out.String(), errout.String(), c.code, c.out, c.errout)
		}
		if strings.Contains(errout.String(), "secretname") {
			t.Errorf("the FURL is in the message %q", errout.String())
		}
	}
	for _, args := range [][]string{{}, {"origin"}, {"a", "b", "c"}} {
		if code := run(t.Context(), args, strings.NewReader(""), io.Discard, io.Discard); code != codeFailed {
			t.Errorf("arguments %q: exit code %d", args, code)
		}
	}
}

// A server that accepts and says nothing does not keep git for ever.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	furl := rpc.FURL{Tub: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Hints: []string{"tcp:" + l.Addr().String()}, Name: "secretname"}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var errout bytes.Buffer
	code := run(ctx, []string{"origin", furl.String()}, strings.NewReader("connect git-upload-pack\n"), io.Discard, &errout)
	want := "git-remote-pb: " + furl.Masked() + ": the server does not answer\n"
	if code != codeFailed || errout.String() != want {
		t.Errorf("exit code %d, %q, want %d, %q", code, errout.String(), codeFailed, want)
	}
}
