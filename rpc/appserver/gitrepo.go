package appserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/flogtool/flogtool/rpc"
)

// A GitProgram is a program of git that a git-repo service runs.
type GitProgram string

// The programs.
const (
	GitUploadPack  GitProgram = "git-upload-pack"  // for clone and fetch
	GitReceivePack GitProgram = "git-receive-pack" // for push
)

// maxGitProtocol is the highest version of git's protocol.
const maxGitProtocol = 2

// ConnectGit runs program on the repository of a git-repo service and returns how it
// ended. in, stdout and stderr are as for [Execute]; the program writes first. protocol is
// the version of git's protocol to ask for, 0 to 2.
//
// The error is as for Execute. It is a [*rpc.RemoteError] of type
// builtins.PermissionError if the service is read-only and program is GitReceivePack.
func ConnectGit(ctx context.Context, service *rpc.Remote, program GitProgram, protocol int, in io.Reader, stdout, stderr io.Writer) (Exit, error) {
	return execute(ctx, service, "connect", []any{string(program), protocol}, in, stdout, stderr)
}

// gitGrace is the time for git to end by itself after its client has disconnected. At the
// end of its input it removes an incomplete push; after a signal it leaves that to git gc.
const gitGrace = time.Second

// A gitRepo is a git-repo service: it runs git's own programs on one repository. The
// client chooses the program and the version of the protocol only.
type gitRepo struct {
	*runner
	readOnly bool
}

// newGitRepo makes a service from [--read-only] REPO.
func newGitRepo(at Place, args []string) (Service, error) {
	g := &gitRepo{}
	opts := &optionScanner{args: args}
	for opts.next() {
		switch opts.name {
		case "--read-only":
			g.readOnly = true
		default:
			opts.unknown()
		}
	}
	if opts.err != nil {
		return nil, opts.err
	}
	if len(opts.args) != 1 {
		return nil, errors.New("wrong number of arguments: git-repo takes one repository")
	}
	repo := opts.args[0]
	if !filepath.IsAbs(repo) {
		repo = filepath.Join(at.Base, repo)
	}
	dir, err := gitDir(repo)
	if err != nil {
		return nil, err
	}
	g.runner = &runner{at: at, dir: dir, acceptStdin: true, sendStdout: true, sendStderr: true, logStderr: true, grace: gitGrace}
	g.lifetime, g.stop = context.WithCancel(context.Background())
	g.Methods = &rpc.Methods{Map: map[string]func(*rpc.Call) (any, error){"connect": g.connect}}
	return g, nil
}

// gitDir returns the git directory of repo, which is a bare repository or a working tree.
// A directory inside a working tree is not a repository.
func gitDir(repo string) (string, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return "", errors.New("a git-repo service needs git, which is not installed")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, dir := range []string{filepath.Join(repo, ".git"), repo} {
		cmd := exec.CommandContext(ctx, "git", "rev-parse", "--resolve-git-dir", dir)
		cmd.Env = gitEnv(0)
		if out, err := cmd.Output(); err == nil {
			return strings.TrimSuffix(string(out), "\n"), nil
		}
	}
	return "", fmt.Errorf("%q is not a git repository", repo)
}

// connect(program, protocol, watcher) starts git like execute starts a command.
func (g *gitRepo) connect(c *rpc.Call) (any, error) {
	args, err := c.Require("program", "protocol", "watcher")
	if err != nil {
		return nil, err
	}
	var program string
	var protocol int
	if err := errors.Join(rpc.Convert(args[0], &program), rpc.Convert(args[1], &protocol)); err != nil {
		return nil, err
	}
	switch {
	case program != string(GitUploadPack) && program != string(GitReceivePack):
		return nil, rpc.Errorf("builtins.ValueError", "not a program of this service")
	case protocol < 0 || protocol > maxGitProtocol:
		return nil, rpc.Errorf("builtins.ValueError", "not a version of git's protocol")
	case program == string(GitReceivePack) && g.readOnly:
		g.at.Log.Warn("push refused: the service is read-only", "peer", c.Peer().TubID())
		return nil, rpc.Errorf("builtins.PermissionError", "this FURL is read-only")
	}
	argv := []string{"git", strings.TrimPrefix(program, "git-"), g.dir}
	return g.start(c, args[2], argv, gitEnv(protocol))
}

// gitEnvKept are the variables that say where git's programs and its configuration are.
// Other GIT_ variables may refer to another repository, for example if a hook has started
// the server.
var gitEnvKept = []string{"GIT_EXEC_PATH", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"}

// gitEnv returns the environment for git: that of the server, and the version of the
// protocol.
func gitEnv(protocol int) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "GIT_") && !slices.Contains(gitEnvKept, name)
	})
	return append(env, fmt.Sprintf("GIT_PROTOCOL=version=%d", protocol))
}
