package appserver_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/appserver"
)

// git runs git and returns what it printed. Git's variables in the environment
// of the test do not reach it: a hook that runs the tests has some, and they name
// the hook's repository.
func git(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	cmd := exec.CommandContext(t.Context(), "git", args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GIT_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func bareRepo(t *testing.T) string {
	t.Helper()
	repo := filepath.Join(t.TempDir(), "repo.git")
	git(t, "init", "-q", "--bare", repo)
	return repo
}

// fakeGit puts a git on PATH that runs script in place of the programs of a
// service, for the length of the test.
func fakeGit(t *testing.T, script string) {
	t.Helper()
	real, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := "#!/bin/sh\ncase $1 in\n*-pack)\n" + script + "\n;;\n*) exec " + real + ` "$@";;` + "\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, "git"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestGitRepoAdd(t *testing.T) {
	d := newDir(t)
	work := filepath.Join(t.TempDir(), "work")
	git(t, "init", "-q", work)
	inside := filepath.Join(work, "inside")
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	git(t, "init", "-q", "--bare", filepath.Join(d.Path(), "near.git"))
	add(t, d, "git-repo", bareRepo(t))
	add(t, d, "git-repo", "--read-only", work)
	add(t, d, "git-repo", "near.git") // relative to the server's directory
	for want, args := range map[string][]string{
		"takes one repository":  {},
		"not recognized":        {"--write-only", work},
		"nosuch\" is not a git": {filepath.Join(work, "nosuch")},
		"inside\" is not a git": {inside},
	} {
		if _, err := d.Add(appserver.Builtin(), "git-repo", args, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Add git-repo %q = %v, want %q", args, err, want)
		}
	}
	t.Setenv("PATH", "")
	if _, err := d.Add(appserver.Builtin(), "git-repo", []string{work}, ""); err == nil || !strings.Contains(err.Error(), "git, which is not installed") {
		t.Errorf("Add git-repo without git = %v", err)
	}
}

// What a client may say of a run is the program and the version, within bounds;
// git gets nothing else of it, and nothing of the FURL.
func TestGitRepoRefuses(t *testing.T) {
	seen := filepath.Join(t.TempDir(), "seen")
	d, repo := newDir(t), bareRepo(t)
	fakeGit(t, `{ echo "$@"; env; } >>`+seen)
	t.Setenv("GIT_DIR", "/elsewhere")
	t.Setenv("GIT_CONFIG_PARAMETERS", "'core.pager=false'")
	// The variables that the server passes on have a value, so that those of the
	// test's own environment make no difference.
	kept := map[string]string{
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_SYSTEM": os.DevNull,
		"GIT_EXEC_PATH": strings.TrimSpace(git(t, "--exec-path")),
	}
	for name, value := range kept {
		t.Setenv(name, value)
	}
	furl := add(t, d, "git-repo", repo)
	readOnly := add(t, d, "git-repo", "--read-only", repo)
	serve(t, d)
	r := connect(t, furl)
	watcher := &rpc.Methods{}
	for _, args := range [][]any{
		{}, {"git-upload-pack"}, {"git-upload-pack", 2}, {"git-upload-pack", 2, watcher, "more"},
		{"git-upload-pack", 3, watcher}, {"git-upload-pack", -1, watcher}, {"git-upload-pack", 1 << 40, watcher},
		{"git-upload-pack", "version=2", watcher}, {"git-upload-pack", "2", watcher}, {"git-upload-pack", "2\nX=y", watcher},
		{"git-upload-pack", 2.5, watcher}, {"git-upload-pack", []any{2}, watcher}, {"git-upload-pack", []byte("2"), watcher},
		{"git-upload-pack", 2, nil}, {"git-upload-pack", 2, "watcher"},
		{"git-upload-archive", 2, watcher}, {"upload-pack", 2, watcher}, {"", 2, watcher}, {nil, 2, watcher},
		{"git-upload-pack --help", 2, watcher}, {"../git-upload-pack", 2, watcher}, {"GIT-UPLOAD-PACK", 2, watcher},
		{strings.Repeat("git-upload-pack", 1<<16), 2, watcher}, {7, 2, watcher},
	} {
		if _, remote := errors.AsType[*rpc.RemoteError](r.Call(t.Context(), "connect", rpc.Pos(args...), nil)); !remote {
			t.Errorf("connect(%.60v) was not refused", args)
		}
	}
	for _, method := range []string{"execute", "putfile", "git-upload-pack", ""} {
		if err := r.Call(t.Context(), method, rpc.Pos(watcher), nil); err == nil {
			t.Errorf("there is a method %q", method)
		}
	}
	_, err := appserver.ConnectGit(t.Context(), connect(t, readOnly), appserver.GitReceivePack, 0, strings.NewReader(""), io.Discard, io.Discard)
	if !errors.Is(err, rpc.RemoteType("builtins.PermissionError")) || !strings.Contains(err.Error(), "this FURL is read-only") {
		t.Errorf("a push to a read-only service ends with %v", err)
	}
	if text, err := os.ReadFile(seen); err == nil {
		t.Errorf("git was run all the same:\n%s", text)
	}

	// What is allowed reaches git as these arguments, and as this one variable.
	for protocol := range 3 {
		if exit, err := appserver.ConnectGit(t.Context(), r, appserver.GitUploadPack, protocol, strings.NewReader(""), io.Discard, io.Discard); err != nil || exit.Code != 0 {
			t.Fatalf("ConnectGit = %+v, %v", exit, err)
		}
	}
	text, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "GIT_") || strings.HasPrefix(line, "upload-pack") {
			got = append(got, line)
		}
		if strings.Contains(line, furl.Name) {
			t.Errorf("git sees the FURL: %s", line)
		}
	}
	slices.Sort(got)
	var want []string
	for protocol := range 3 {
		want = append(want, fmt.Sprintf("GIT_PROTOCOL=version=%d", protocol), "upload-pack "+repo)
		for name, value := range kept {
			want = append(want, name+"="+value)
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("git was run with\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A server that a hook starts serves its own repository, not the hook's.
func TestGitRepoInHook(t *testing.T) {
	hook := filepath.Join(t.TempDir(), "hook")
	git(t, "init", "-q", hook)
	t.Setenv("GIT_DIR", filepath.Join(hook, ".git"))
	t.Setenv("GIT_WORK_TREE", hook)
	t.Setenv("GIT_INDEX_FILE", filepath.Join(hook, ".git", "index"))
	t.Setenv("GIT_PREFIX", "")
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Setenv("GIT_EXEC_PATH", strings.TrimSpace(git(t, "--exec-path")))

	d, repo := newDir(t), bareRepo(t)
	empty := strings.Repeat("0", 40)
	tree := strings.TrimSpace(git(t, "--git-dir", repo, "hash-object", "-t", "tree", "-w", os.DevNull))
	commit := strings.TrimSpace(git(t, "--git-dir", repo, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit-tree", "-m", "first", tree))
	git(t, "--git-dir", repo, "update-ref", "refs/heads/served", commit, empty)
	furl := add(t, d, "git-repo", repo)
	serve(t, d)
	var refs bytes.Buffer
	if _, err := appserver.ConnectGit(t.Context(), connect(t, furl), appserver.GitUploadPack, 0, strings.NewReader("0000"), &refs, io.Discard); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(refs.String(), commit+" refs/heads/served") {
		t.Errorf("the server offers %q, want refs/heads/served at %s", refs.String(), commit)
	}
}

// A program that speaks as much as it is spoken to, at the same time.
func TestGitRepoDuplex(t *testing.T) {
	d, repo := newDir(t), bareRepo(t)
	fakeGit(t, "exec cat")
	furl := add(t, d, "git-repo", repo)
	serve(t, d)
	sent := random(40 << 20)
	var got bytes.Buffer
	exit, err := appserver.ConnectGit(t.Context(), connect(t, furl), appserver.GitReceivePack, 1, bytes.NewReader(sent), &got, io.Discard)
	if err != nil || exit != (appserver.Exit{}) || !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("ConnectGit = %+v, %v, and %d bytes of %d came back", exit, err, got.Len(), len(sent))
	}
}

// A repository that is gone when it is asked for costs an error, with the reason.
func TestGitRepoGone(t *testing.T) {
	d, repo := newDir(t), bareRepo(t)
	furl := add(t, d, "git-repo", repo)
	serve(t, d)
	if err := os.Rename(repo, repo+".away"); err != nil {
		t.Fatal(err)
	}
	var errout bytes.Buffer
	exit, err := appserver.ConnectGit(t.Context(), connect(t, furl), appserver.GitUploadPack, 2, strings.NewReader(""), io.Discard, &errout)
	if err != nil || exit.Code == 0 || errout.Len() == 0 {
		t.Errorf("ConnectGit = %+v, %v, and says %q", exit, err, errout.String())
	}
}
