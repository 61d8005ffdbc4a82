package appserver_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/appserver"
)

func TestUploadRefuses(t *testing.T) {
	d, outer := newDir(t), t.TempDir()
	target := filepath.Join(outer, "in")
	for _, dir := range []string{target, filepath.Join(target, "sub")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("..", filepath.Join(target, "up")); err != nil {
		t.Fatal(err)
	}
	serve(t, d)
	flat := connect(t, add(t, d, "upload-file", target))
	deep := connect(t, add(t, d, "upload-file", "--allow-subdirectories", target))
	upload := func(r *rpc.Remote, name string) error {
		return appserver.Upload(t.Context(), r, name, strings.NewReader("x"), nil)
	}
	for _, name := range []string{
		"", ".", "..", "../x", "/x", "/etc/x", "a/b", "a\x00b", strings.Repeat("n", 10_000), "x.partial", "sub",
	} {
		if err := upload(flat, name); err == nil {
			t.Errorf("upload as %.20q was stored", name)
		}
	}
	for _, name := range []string{"../x", "a/../../x", "/x", "a//b", "up/x", "up/y/z", "sub"} {
		if err := upload(deep, name); err == nil {
			t.Errorf("upload into subdirectories as %.20q was stored", name)
		}
	}
	wantNames(t, outer, "in")
	wantNames(t, target, "sub", "up")
	if err := upload(deep, "a/b/c"); err != nil {
		t.Error(err)
	}
	wantFile(t, target, "a/b/c", []byte("x"), 0o644)
}

// A link under the name of the partial file is replaced, not followed.
func TestUploadFollowsNoLink(t *testing.T) {
	d, target, victim := newDir(t), t.TempDir(), filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"f.partial", "f"} {
		if err := os.Symlink(victim, filepath.Join(target, name)); err != nil {
			t.Fatal(err)
		}
	}
	furl := add(t, d, "upload-file", target)
	serve(t, d)
	if err := appserver.Upload(t.Context(), connect(t, furl), "f", strings.NewReader("theirs"), nil); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Dir(victim), "victim", []byte("mine"), 0o600)
	wantFile(t, target, "f", []byte("theirs"), 0o644)
	wantNames(t, target, "f")
}

type failing struct{ io.Reader }

func (f failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err == io.EOF {
		err = errors.New("the disk is on fire")
	}
	return n, err
}

func TestBrokenUpload(t *testing.T) {
	d, target := newDir(t), t.TempDir()
	furl := add(t, d, "upload-file", target)
	stop := serve(t, d)
	err := appserver.Upload(t.Context(), connect(t, furl), "f", failing{bytes.NewReader(random(3 << 20))}, nil)
	if err == nil || !strings.Contains(err.Error(), "on fire") {
		t.Errorf("Upload = %v, want the source's error", err)
	}
	wantNames(t, target)

	// A server that is stopped during an upload leaves nothing either.
	stalled, resume := make(chan struct{}), make(chan struct{})
	read := func(*rpc.Call) (any, error) {
		close(stalled)
		<-resume
		return []byte{}, nil
	}
	source := &rpc.Methods{Map: map[string]func(*rpc.Call) (any, error){"read": read}}
	p := connect(t, furl).Start("putfile", rpc.Pos("g", source))
	<-stalled
	wantNames(t, target, "g.partial")
	stop()
	close(resume)
	if err := p.Result(nil); err == nil {
		t.Error("an upload was stored without its end")
	}
	wantNames(t, target)
}

// The next start removes the files of a killed server, and nothing else.
func TestStartRemovesLeftPartials(t *testing.T) {
	d, target := newDir(t), t.TempDir()
	add(t, d, "upload-file", target)
	entries, err := d.Services()
	if err != nil {
		t.Fatal(err)
	}
	private := filepath.Join(d.Path(), entries[0].Relative)
	for file, text := range map[string]string{
		filepath.Join(private, "upload-ABC"):   "f.partial",
		filepath.Join(private, "upload-EMPTY"): "",
		filepath.Join(target, "f.partial"):     "half a f",
		filepath.Join(target, "user.partial"):  "not ours",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, d)
	wantNames(t, target, "user.partial")
	wantNames(t, private)
}

// A connected client loses a service that is removed or gets a new FURL.
func TestRemoveAndRotate(t *testing.T) {
	d := newDir(t)
	furl := add(t, d, "run-command", "/", "true")
	serve(t, d)
	r := connect(t, furl)
	if _, err := appserver.Execute(t.Context(), r, nil, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	rotated, err := d.Rotate(furl.Name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := appserver.Execute(t.Context(), r, nil, io.Discard, io.Discard); err == nil {
		t.Error("a rotated FURL is still worth something to who is connected")
	}
	if _, err := appserver.Execute(t.Context(), connect(t, rotated.FURL), nil, io.Discard, io.Discard); err != nil {
		t.Errorf("the new FURL: %v", err)
	}
	if err := d.Remove(rotated.FURL.Name); err != nil {
		t.Fatal(err)
	}
	if entries, err := d.Services(); err != nil || len(entries) != 0 {
		t.Errorf("Services = %v, %v after the last was removed", entries, err)
	}
	if err := d.Remove(rotated.FURL.Name); err == nil {
		t.Error("a service was removed twice")
	}
}

// When the client disconnects, the command and its children are ended.
func TestClientGoneEndsCommand(t *testing.T) {
	d := newDir(t)
	furl := add(t, d, "run-command", "--lock", "/", "sh", "-c", "echo started; sleep 1000 & wait")
	serve(t, d)
	tub, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer tub.Close()
	r, err := tub.Connect(t.Context(), furl)
	if err != nil {
		t.Fatal(err)
	}
	out, in := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _, _ = appserver.Execute(ctx, r, nil, in, io.Discard) }()
	line := make([]byte, len("started\n"))
	if _, err := io.ReadFull(out, line); err != nil {
		t.Fatal(err)
	}
	tub.Close()
	// With --lock a second run starts only after the first has ended with its children.
	second, in2 := io.Pipe()
	r2 := connect(t, furl)
	go func() { _, _ = appserver.Execute(ctx, r2, nil, in2, io.Discard) }()
	if _, err := io.ReadFull(second, line); err != nil || string(line) != "started\n" {
		t.Errorf("second run: %q, %v", line, err)
	}
}

// TestFastInput: more standard input than all queues hold, from memory, through a command
// that is slower.
func TestFastInput(t *testing.T) {
	const size = 120 << 20
	d := newDir(t)
	furl := add(t, d, "run-command", "--accept-stdin", "/", "cat")
	serve(t, d)
	var got atomic.Int64
	exit, err := appserver.Execute(t.Context(), connect(t, furl), io.LimitReader(endless{}, size), counting{&got}, io.Discard)
	if err != nil || exit != (appserver.Exit{}) || got.Load() != size {
		t.Errorf("cat ended as %+v, %v, and gave %d of %d bytes back", exit, err, got.Load(), size)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type counting struct{ n *atomic.Int64 }

func (c counting) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

func TestTimeout(t *testing.T) {
	d := newDir(t)
	furl := add(t, d, "run-command", "--timeout", "50ms", "/", "sleep", "1000")
	serve(t, d)
	exit, err := appserver.Execute(t.Context(), connect(t, furl), nil, io.Discard, io.Discard)
	if err != nil || exit.Signal != 15 {
		t.Errorf("Execute = %+v, %v, want signal 15", exit, err)
	}
}

func TestAddRefuses(t *testing.T) {
	d := newDir(t)
	for want, args := range map[string][]string{
		"unknown service type": {"bogus"},
		"must already exist":   {"upload-file", "/nonexistent"},
		"mode":                 {"upload-file", "--mode", "rwx", "/"},
		"wrong number":         {"run-command", "/"},
		"not recognized":       {"run-command", "--stdin", "/", "true"},
		"needs a value":        {"run-command", "--timeout"},
	} {
		if _, err := d.Add(appserver.Builtin(), args[0], args[1:], ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Add %q = %v, want %q", args, err, want)
		}
	}
	wantNames(t, filepath.Join(d.Path(), "services"))
}

// The layout of servers without services.json.
func TestOldLayout(t *testing.T) {
	d := newDir(t)
	dir := d.Path()
	if err := os.Remove(filepath.Join(dir, "services.json")); err != nil {
		t.Fatal(err)
	}
	service := filepath.Join(dir, "services", "abcdefgh")
	if err := os.Mkdir(service, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"service_type": "run-command\n",
		"service_args": `('--no-stdin', "/", u'printf', 'it\'s %s', u'\xfc', "a'b\n",)` + "\n",
		"comment":      "old\n",
	} {
		if err := os.WriteFile(filepath.Join(service, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := d.Services()
	if err != nil || len(entries) != 1 {
		t.Fatalf("Services = %v, %v", entries, err)
	}
	want := []string{"--no-stdin", "/", "printf", "it's %s", "ü", "a'b\n"}
	if e := entries[0]; e.FURL.Name != "abcdefgh" || e.Comment != "old" || strings.Join(e.Args, "|") != strings.Join(want, "|") {
		t.Errorf("entry is %+v, args %q, want %q", e, e.Args, want)
	}
}
