package appserver_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flogtool/flogtool/internal/testwait"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/appserver"
)

// A yard is a server, and files that hostile clients may try to reach outside of the
// directory to which they may write.
type yard struct {
	dir     *appserver.Dir
	top     string // has in, the target directory, and outside
	target  string
	outside map[string]string // content of the files under top, except those in target
	flat    rpc.FURL          // upload-file
	deep    rpc.FURL          // with --allow-subdirectories
}

func newYard(t *testing.T) *yard {
	t.Helper()
	y := &yard{dir: newDir(t), top: t.TempDir()}
	y.target = filepath.Join(y.top, "in")
	for _, dir := range []string{y.target, filepath.Join(y.target, "sub"), filepath.Join(y.top, "outside")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(y.top, "outside", "victim"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"dirlink": "../outside", "filelink": "../outside/victim", "dangling": "../outside/new"} {
		if err := os.Symlink(to, filepath.Join(y.target, name)); err != nil {
			t.Fatal(err)
		}
	}
	y.outside = y.look(t)
	y.flat = add(t, y.dir, "upload-file", y.target)
	y.deep = add(t, y.dir, "upload-file", "--allow-subdirectories", y.target)
	serve(t, y.dir)
	return y
}

// look returns the files outside the target directory, with modes.
func (y *yard) look(t *testing.T) map[string]string {
	t.Helper()
	seen := map[string]string{}
	err := filepath.WalkDir(y.top, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == y.target:
			return fs.SkipDir
		}
		info, err := e.Info()
		if err != nil || e.IsDir() {
			seen[path] = "directory"
			return err
		}
		text, err := os.ReadFile(path)
		seen[path] = fmt.Sprint(info.Mode(), string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// check fails if an attack has left anything, or if the server no longer works.
func (y *yard) check(t *testing.T) {
	t.Helper()
	if now := y.look(t); !maps.Equal(now, y.outside) {
		t.Errorf("outside the target directory there is now %q, and was %q", now, y.outside)
	}
	// A client that has disconnected does not learn when the server is done.
	testwait.Eventually(t, "the end of partial files and marks", func() bool { return len(y.left(t)) == 0 })
	if err := appserver.Upload(t.Context(), connect(t, y.flat), "good", strings.NewReader("good"), nil); err != nil {
		t.Errorf("a good upload afterwards: %v", err)
	}
	wantFile(t, y.target, "good", []byte("good"), 0o644)
}

// left returns the partial files and the marks.
func (y *yard) left(t *testing.T) (names []string) {
	t.Helper()
	walk := func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && (strings.HasSuffix(path, ".partial") || strings.HasPrefix(path, y.dir.Path())) {
			names = append(names, path)
		}
		return err
	}
	if err := errors.Join(filepath.WalkDir(y.target, walk), filepath.WalkDir(filepath.Join(y.dir.Path(), "services"), walk)); err != nil {
		t.Fatal(err)
	}
	return names
}

type methods = map[string]func(*rpc.Call) (any, error)

// source is an object whose read is f, called with 0, 1, 2 ...
func source(f func(n int) (any, error)) *rpc.Methods {
	n := -1
	return &rpc.Methods{Map: methods{"read": func(*rpc.Call) (any, error) { n++; return f(n) }}}
}

// blocks is a source of n blocks; between is called before each of them except the first.
func blocks(n int, between func()) *rpc.Methods {
	return source(func(i int) (any, error) {
		if i >= n {
			return []byte{}, nil
		}
		if i > 0 {
			between()
		}
		return []byte("block"), nil
	})
}

func putfile(t *testing.T, furl rpc.FURL, name, source any) error {
	return connect(t, furl).Call(t.Context(), "putfile", rpc.Pos(name, source), nil)
}

// TestHostileUploads has uploads that a hostile client, or a user of the machine who can
// write to the target directory, may try, with their errors. "" means that the file is
// stored.
func TestHostileUploads(t *testing.T) {
	y := newYard(t)
	limited := add(t, y.dir, "upload-file", "--max-size", "3M", y.target)
	quota := add(t, y.dir, "upload-file", "--quota", "3M", y.target)
	full := smallDisk(t)
	onFull := add(t, y.dir, "upload-file", full)

	named := func(furl rpc.FURL, name any) func(t *testing.T) error {
		return func(t *testing.T) error { return putfile(t, furl, name, blocks(1, nil)) }
	}
	from := func(furl rpc.FURL, f func(n int) (any, error)) func(t *testing.T) error {
		return func(t *testing.T) error { return putfile(t, furl, []byte("f"), source(f)) }
	}
	endlessly := func(int) (any, error) { return make([]byte, 64<<10), nil }
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(y.target, name) }

	for _, c := range []struct {
		name   string
		attack func(t *testing.T) error
		want   string // in the error
	}{
		{"no name", named(y.flat, []byte("")), "InsecurePath"},
		{"dot", named(y.flat, []byte(".")), "InsecurePath"},
		{"dot dot", named(y.flat, []byte("..")), "InsecurePath"},
		{"parent", named(y.flat, []byte("../x")), "InsecurePath"},
		{"absolute", named(y.flat, []byte(filepath.Join(y.top, "x"))), "InsecurePath"},
		{"subdirectory of a service without", named(y.flat, []byte("sub/x")), "InsecurePath"},
		{"NUL", named(y.flat, []byte("a\x00b")), "InsecurePath"},
		{"10 kB", named(y.flat, bytes.Repeat([]byte("n"), 10_000)), "too long"},
		{"longer than names may be", named(y.flat, bytes.Repeat([]byte("n"), 250)), "too long"},
		{"partial", named(y.flat, []byte("x.partial")), "InsecurePath"},
		{"a directory's name", named(y.flat, []byte("sub")), "sub"},
		{"a number for a name", named(y.flat, 7), "Violation"},
		{"a link to a file outside", named(y.flat, []byte("filelink")), ""}, // replaces the link
		{"a link to nothing outside", named(y.flat, []byte("dangling")), ""},

		{"deep: parent", named(y.deep, []byte("../x")), "InsecurePath"},
		{"deep: up and out", named(y.deep, []byte("a/../../x")), "InsecurePath"},
		{"deep: absolute", named(y.deep, []byte(filepath.Join(y.top, "x"))), "InsecurePath"},
		{"deep: empty part", named(y.deep, []byte("a//b")), "InsecurePath"},
		{"deep: dot part", named(y.deep, []byte("a/./b")), "InsecurePath"},
		{"deep: NUL part", named(y.deep, []byte("a/\x00/b")), "InsecurePath"},
		{"deep: 10 kB in parts", named(y.deep, bytes.Repeat([]byte("n/"), 5_000)), "too long"},
		{"deep: partial", named(y.deep, []byte("a/x.partial")), "InsecurePath"},
		{"deep: through a link that leaves", named(y.deep, []byte("dirlink/x")), "escapes"},
		{"deep: below a link that leaves", named(y.deep, []byte("dirlink/y/z")), "escapes"},
		{"deep: through a file", named(y.deep, []byte("good/x")), "not a directory"},

		{"no source", func(t *testing.T) error { return putfile(t, y.flat, []byte("f"), 7) }, "not a reference"},
		{"a source without read", func(t *testing.T) error { return putfile(t, y.flat, []byte("f"), &rpc.Methods{}) }, "no method"},
		{"a source that fails", from(y.flat, func(int) (any, error) { return nil, errors.New("on fire") }), "on fire"},
		{"a source that gives a number", from(y.flat, func(int) (any, error) { return 7, nil }), "Violation"},
		{"a source that gives a list", from(y.flat, func(int) (any, error) { return []any{[]byte("x")}, nil }), "Violation"},
		{"a source that gives more than asked for", from(y.flat, func(int) (any, error) { return make([]byte, 1<<20+1), nil }), "longer than is accepted"},
		{"a source that goes on behind its end", from(y.flat, func(n int) (any, error) {
			if n == 1 {
				return []byte{}, nil
			}
			return []byte("x"), nil
		}), "after its end"},

		{"a client that goes", func(t *testing.T) error {
			r := connect(t, y.flat)
			gone := blocks(3, sync.OnceFunc(func() { r.Peer().Disconnect() }))
			return r.Call(t.Context(), "putfile", rpc.Pos([]byte("f"), gone), nil)
		}, "lost"},

		{"endless, with a limit", from(limited, endlessly), "more than 3145728 bytes"},
		{"endless, with a quota", from(quota, endlessly), "its quota"},
		{"endless, until the disk is full", from(onFull, endlessly), "no space left"},

		{"the directory becomes a link that leaves", func(t *testing.T) error {
			// The file is stored in the directory, whatever its name is now.
			return putfile(t, y.deep, []byte("moving/f"), blocks(3, sync.OnceFunc(func() {
				must(os.Rename(in("moving"), in("moved")))
				must(os.Symlink("../outside", in("moving")))
			})))
		}, ""},
		{"the directory is removed", func(t *testing.T) error {
			return putfile(t, y.deep, []byte("gone/f"), blocks(3, sync.OnceFunc(func() { must(os.RemoveAll(in("gone"))) })))
		}, "no such file"},
		{"the partial file becomes a link that leaves", func(t *testing.T) error {
			return putfile(t, y.flat, []byte("g"), blocks(3, sync.OnceFunc(func() {
				must(os.Remove(in("g.partial")))
				must(os.Symlink("../outside/victim", in("g.partial")))
			})))
		}, "another program has replaced"},
		{"the target becomes a link that leaves", func(t *testing.T) error {
			err := putfile(t, y.flat, []byte("h"), blocks(3, sync.OnceFunc(func() {
				must(os.Rename(y.target, in("../aside")))
				must(os.Symlink("outside", y.target))
			})))
			must(os.Remove(y.target))
			must(os.Rename(in("../aside"), y.target))
			return err
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			switch err := c.attack(t); {
			case c.want == "" && err != nil:
				t.Errorf("got %v, want it stored", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want an error with %q", err, c.want)
			case err != nil && strings.Contains(err.Error(), "\n"):
				t.Errorf("got an error of several lines: %q", err)
			}
			y.check(t)
		})
	}
	wantFile(t, y.target, "filelink", []byte("block"), 0o644)
	wantFile(t, y.target, "moved/f", []byte("blockblockblock"), 0o644)
	wantFile(t, y.target, "h", []byte("blockblockblock"), 0o644)
	wantNames(t, full)
}

// smallDisk returns a directory on a file system of 8 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// Concurrent uploads do not exceed the quota together, and removing a file makes room.
func TestQuota(t *testing.T) {
	const size, fit = 1 << 20, 5
	d, target := newDir(t), t.TempDir()
	furl := add(t, d, "upload-file", "--quota", fmt.Sprint(fit*size+size/2), target)
	serve(t, d)
	var stored atomic.Int32
	var uploads sync.WaitGroup
	for i := range 2 * fit {
		r := connect(t, furl)
		uploads.Go(func() {
			err := appserver.Upload(t.Context(), r, fmt.Sprint(i), bytes.NewReader(random(size)), nil)
			switch {
			case err == nil:
				stored.Add(1)
			case !strings.Contains(err.Error(), "its quota"):
				t.Errorf("Upload = %v", err)
			}
		})
	}
	uploads.Wait()
	if n := stored.Load(); n > fit {
		t.Errorf("%d files of %d bytes were stored with a quota for %d", n, size, fit)
	}
	// There is room for exactly this many uploads, one after the other.
	r := connect(t, furl)
	upload := func(name string) error {
		return appserver.Upload(t.Context(), r, name, bytes.NewReader(random(size)), nil)
	}
	for i := 0; stored.Load() < fit; i++ {
		if err := upload(fmt.Sprint("more", i)); err != nil {
			t.Fatal(err)
		}
		stored.Add(1)
	}
	if err := upload("one too many"); err == nil {
		t.Error("a file over the quota was stored")
	}
	names, err := os.ReadDir(target)
	if err != nil || len(names) != fit {
		t.Fatalf("%d files are there, %v", len(names), err)
	}
	if err := os.Remove(filepath.Join(target, names[0].Name())); err != nil {
		t.Fatal(err)
	}
	if err := upload("one"); err != nil {
		t.Errorf("after a file was removed: %v", err)
	}
}

// An upload whose source sends nothing fails; one whose source is slow does not. The clock
// is that of a bubble.
func TestStallingSource(t *testing.T) {
	place := appserver.Place{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	target := t.TempDir()
	// The garbage collector would run cleanups of a bubble's Tub outside of the bubble.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	synctest.Test(t, func(t *testing.T) {
		svc, err := appserver.Builtin()[0].New(place, []string{target})
		if err != nil {
			t.Fatal(err)
		}
		tub, err := rpc.NewTub(rpc.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer tub.Close()
		if err := tub.SetLocation("tcp:nowhere:1"); err != nil {
			t.Fatal(err)
		}
		furl, err := tub.Register(svc, "")
		if err != nil {
			t.Fatal(err)
		}
		r, err := tub.Connect(t.Context(), furl) // to itself, without a socket
		if err != nil {
			t.Fatal(err)
		}
		slow := blocks(5, func() { time.Sleep(time.Minute) })
		if err := r.Call(t.Context(), "putfile", rpc.Pos([]byte("slow"), slow), nil); err != nil {
			t.Errorf("a block a minute: %v", err)
		}
		started, end := time.Now(), make(chan struct{})
		stalls := blocks(2, func() { <-end })
		err = r.Call(t.Context(), "putfile", rpc.Pos([]byte("stalls"), stalls), nil)
		if took := time.Since(started); err == nil || !strings.Contains(err.Error(), "sent nothing for 2m") || took != 2*time.Minute {
			t.Errorf("a source that stalls: %v after %v, want an error after two minutes", err, took)
		}
		close(end)
	})
	wantNames(t, target, "slow")
	wantNames(t, place.Dir)
}

// TestHostileInput: endless standard input, sent without waiting for answers, to commands
// that do not read it.
func TestHostileInput(t *testing.T) {
	t.Parallel() // it waits for pings
	y := newYard(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	never := add(t, y.dir, "run-command", "--accept-stdin", "/", "sh", "-c", "echo $$ >"+pidFile+"; exec sleep 1000")
	exits := add(t, y.dir, "run-command", "--accept-stdin", "/", "sh", "-c", "exit 5")

	t.Run("a command that exits", func(t *testing.T) {
		exit, err := appserver.Execute(t.Context(), connect(t, exits), endless{}, io.Discard, io.Discard)
		if err != nil || exit.Code != 5 {
			t.Errorf("Execute = %+v, %v, want exit code 5", exit, err)
		}
		y.check(t)
	})
	t.Run("a command that never reads", func(t *testing.T) {
		tub, err := rpc.NewTub(rpc.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer tub.Close()
		r, err := tub.Connect(t.Context(), never)
		if err != nil {
			t.Fatal(err)
		}
		watcher := &rpc.Methods{Map: methods{"stdout": none, "stderr": none, "done": none}}
		var stdin *rpc.Remote
		if err := r.Call(t.Context(), "execute", rpc.Pos(watcher), &stdin); err != nil {
			t.Fatal(err)
		}
		// More than the server, the sockets and the pipe can hold.
		block := make([]byte, 128<<10)
		for range 512 {
			if err := stdin.Send("feed_stdin", rpc.Pos(block)); err != nil {
				t.Fatal(err)
			}
		}
		y.check(t)
		pid := waitPID(t, pidFile)
		tub.Close()
		waitGone(t, pid)
		y.check(t)
	})
}

// A service accepts a limited number of requests at once, since each may be a process.
func TestTooManyRequests(t *testing.T) {
	d := newDir(t)
	furl := add(t, d, "run-command", "--lock", "/", "sleep", "1000")
	serve(t, d)
	r := connect(t, furl)
	watcher := &rpc.Methods{Map: methods{"stdout": none, "stderr": none, "done": none}}
	for i := range 1000 {
		if err := r.Call(t.Context(), "execute", rpc.Pos(watcher), nil); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	err := r.Call(t.Context(), "execute", rpc.Pos(watcher), nil)
	if err == nil || !strings.Contains(err.Error(), "already has 1000 requests") {
		t.Errorf("one request too many: %v", err)
	}
	r.Peer().Disconnect()
	r = connect(t, furl)
	testwait.Eventually(t, "room for another request", func() bool {
		return r.Call(t.Context(), "execute", rpc.Pos(watcher), nil) == nil
	})
}

func none(*rpc.Call) (any, error) { return nil, nil }

// waitPID returns the process ID that a command writes into a file.
func waitPID(t *testing.T, file string) (pid int) {
	t.Helper()
	testwait.Eventually(t, "the command's number", func() bool {
		text, err := os.ReadFile(file)
		n, _ := fmt.Sscanf(string(text), "%d\n", &pid)
		return err == nil && n == 1
	})
	return pid
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	testwait.Eventually(t, "the command's end", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

// Two hundred concurrent clients are served and leave nothing running.
func TestManyClients(t *testing.T) {
	const clients = 200
	y := newYard(t)
	run := add(t, y.dir, "run-command", "--accept-stdin", "/", "cat")
	y.check(t)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	content := random(100_000)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			tub, err := rpc.NewTub(rpc.Config{})
			if err != nil {
				t.Error(err)
				return
			}
			defer tub.Close()
			upload, err := tub.Connect(t.Context(), y.flat)
			if err != nil {
				t.Error(err)
				return
			}
			if err := appserver.Upload(t.Context(), upload, fmt.Sprint("many", i), bytes.NewReader(content), nil); err != nil {
				t.Errorf("upload: %v", err)
			}
			same := appserver.Upload(t.Context(), upload, "same", bytes.NewReader(content), nil)
			if same != nil && !strings.Contains(same.Error(), "another upload of") {
				t.Errorf("upload under the name of others: %v", same)
			}
			command, err := tub.Connect(t.Context(), run)
			if err != nil {
				t.Error(err)
				return
			}
			var out bytes.Buffer
			exit, err := appserver.Execute(t.Context(), command, bytes.NewReader(content), &out, io.Discard)
			if err != nil || exit != (appserver.Exit{}) || !bytes.Equal(out.Bytes(), content) {
				t.Errorf("cat: %+v, %v, %d bytes", exit, err, out.Len())
			}
		})
	}
	all.Wait()
	for i := range clients {
		wantFile(t, y.target, fmt.Sprint("many", i), content, 0o644)
	}
	wantFile(t, y.target, "same", content, 0o644)
	testwait.Eventually(t, "the end of all goroutines and files", func() bool {
		runtime.GC() // runs cleanups
		return runtime.NumGoroutine() <= goroutines+10 && openFiles(t) <= files
	})
	y.check(t)
}

// openFiles returns the number of open files of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// TestFailedUploadsLeaveNothing: uploads that fail, into directories that they create, leave
// no directory, and do not slow down those that follow.
func TestFailedUploadsLeaveNothing(t *testing.T) {
	target := t.TempDir()
	d := newDir(t)
	furl := add(t, d, "upload-file", "--allow-subdirectories", "--quota", "1M", target)
	serve(t, d)
	fails := func(t *testing.T, name string) error {
		return putfile(t, furl, []byte(name), source(func(int) (any, error) { return nil, errors.New("no") }))
	}
	if err := os.MkdirAll(filepath.Join(target, "kept", "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		name := fmt.Sprintf("%d/%s/x", i, strings.Repeat("d/", 25)+"e")
		if err := fails(t, name); err == nil {
			t.Fatal("the upload did not fail")
		}
	}
	if err := fails(t, strings.Repeat("d/", 40)+"x"); err == nil || !strings.Contains(err.Error(), "more than 32 directories") {
		t.Errorf("a name with 40 directories: %v", err)
	}
	fails(t, "kept/new/x")
	var left []string
	filepath.WalkDir(target, func(path string, _ os.DirEntry, err error) error {
		left = append(left, path)
		return err
	})
	if len(left) != 3 {
		t.Errorf("%d entries are left: %.5q", len(left), left)
	}
}
